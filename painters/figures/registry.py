"""Figures from records alone, without torch: the paper's figures 1 to 11, and three more.

`draw` writes each as SVG and PNG, with the very numbers drawn (CSV) and a caption (Markdown).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from painters.experiment import figure_names
from painters.figures.caches import caches
from painters.figures.curves import every_variant, one_variant
from painters.figures.data import Data, read
from painters.figures.depth import depths
from painters.figures.layers import single_layers
from painters.figures.loops import loops
from painters.figures.output import Drawing, svg, write
from painters.figures.plans import strategies
from painters.figures.score_table import FigureError, NothingToDraw
from painters.figures.states import modes, states

__all__ = [
    "FIGURES",
    "Data",
    "Drawing",
    "Drawn",
    "Figure",
    "FigureError",
    "NothingToDraw",
    "draw",
    "draw_all",
    "drawing",
    "numbers",
    "read",
    "svg",
]


@dataclass(frozen=True, slots=True)
class Figure:
    """A row of `FIGURES`: a figure that can be drawn.

    Attributes:
        number: Its number; 1 to 11 are the paper's.
        function: Makes the drawing from data.
        title: Its title.
        needs: The records that it needs, in words.

    Examples:
        >>> from painters import figures
        >>> figures.FIGURES[13].title
        'Score against depth'
        >>> figures.FIGURES[13].needs
        'any plans on every task, and the intact model'
    """

    number: int
    function: Callable[[Data], Drawing]
    title: str
    needs: str


_WINDOWS = "over all windows, every task, and the intact model"

FIGURES: Mapping[int, Figure] = MappingProxyType(
    {
        figure.number: figure
        for figure in (
            Figure(1, strategies, "Ways to run the layers of a window", "nothing; the model's depth if there is one"),
            Figure(2, single_layers, "One layer skipped or swapped", "skip-layer and swap of each layer on LAMBADA"),
            Figure(3, states, "How alike the states of the layers are", "similarities of intact models, mode flat"),
            Figure(4, partial(one_variant, name="skip"), "Skipping the window", f"skip {_WINDOWS}"),
            Figure(
                5,
                partial(one_variant, name="middle-repeat"),
                "Repeating the middle layer in the window's place",
                f"middle-repeat {_WINDOWS}",
            ),
            Figure(6, partial(one_variant, name="reverse"), "The window in reverse order", f"reverse {_WINDOWS}"),
            Figure(
                7,
                partial(one_variant, name="shuffle"),
                "The window in random order",
                f"shuffle, seeds 0 to 9, {_WINDOWS}",
            ),
            Figure(8, partial(one_variant, name="parallel"), "The window in parallel", f"parallel {_WINDOWS}"),
            Figure(
                9,
                partial(one_variant, name="parallel-3"),
                "The window in parallel, three times over",
                f"parallel with 3 loops {_WINDOWS}",
            ),
            Figure(10, loops, "Loops against the width of the window", f"parallel with 1, 2, 3, ... loops {_WINDOWS}"),
            Figure(11, every_variant, "Every variant", "what figures 4 to 9 need"),
            Figure(
                12,
                caches,
                "The exact cache against the averaged one",
                "parallel and parallel with 3 loops on gsm8k, with kv exact and averaged",
            ),
            Figure(13, depths, "Score against depth", "any plans on every task, and the intact model"),
            Figure(14, modes, "Four ways to measure similarity", "similarities of an intact model in four modes"),
        )
    }
)
"""The figures by number."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """The result of drawing a figure.

    Attributes:
        number: The figure's number.
        title: Its title.
        files: The files written, none where the figure could not be drawn.
        missing: Descriptions of the records that are missing, or the reason why nothing was drawn.

    Examples:
        >>> from painters import figures
        >>> [drawn] = figures.draw_all(figures.Data(), "figures", [3])
        >>> drawn.files
        ()
        >>> drawn.missing[0]
        'no similarities of an intact model: `painters similarity` measures them. Figure 3 needs similarities of ...'
    """

    number: int
    title: str
    files: Sequence[Path]
    missing: Sequence[str]


def drawing(number: int, data: Data) -> Drawing:
    """Make a figure without writing it.

    Args:
        number: A key of `FIGURES`.
        data: The scores and similarities to draw.

    Returns:
        The figure, its numbers and its caption.

    Raises:
        FigureError: There is no figure of this number, or the records cannot be drawn together.
        NothingToDraw: The data has no records for this figure. The message says which ones it needs.

    Examples:
        >>> from painters import figures
        >>> finished = figures.drawing(1, figures.Data())
        >>> finished.about[-1]
        'loop ×2, block by block: `0-3 (4-8)*2 9-11`'
    """
    if number not in FIGURES:
        raise FigureError(f"there is no figure {number}: the figures are {min(FIGURES)} to {max(FIGURES)}, or all")
    figure = FIGURES[number]
    try:
        return figure.function(data)
    except NothingToDraw as error:
        raise NothingToDraw(f"{error}. Figure {number} needs {figure.needs}") from error


def draw(number: int, data: Data, folder: str | Path) -> Drawn:
    """Draw a figure and write it to four files: SVG, PNG, its numbers as CSV, its caption as Markdown.

    The same records give the same bytes.

    Args:
        number: A key of `FIGURES`.
        data: The scores and similarities to draw.
        folder: Where the files are written; it is made where it does not exist.

    Returns:
        The paths of the files, and what is missing in the figure.

    Raises:
        FigureError: There is no figure of this number, or the records cannot be drawn together.
        NothingToDraw: The data has no records for this figure. Then nothing is written.

    Examples:
        >>> from painters import figures
        >>> [path.name for path in figures.draw(1, figures.Data(), "figures").files]
        ['fig01.svg', 'fig01.png', 'fig01.csv', 'fig01.md']
    """
    finished = drawing(number, data)
    title = FIGURES[number].title
    return Drawn(number, title, write(finished, number, title, Path(folder)), finished.missing)


def draw_all(data: Data, folder: str | Path, numbers: Iterable[int] = tuple(FIGURES)) -> list[Drawn]:
    """Draw several figures and write them, leaving out those without records.

    Args:
        data: The scores and similarities to draw.
        folder: Where the files are written; it is made where it does not exist.
        numbers: Keys of `FIGURES`; all by default.

    Returns:
        A result for each figure. One that could not be drawn has no files, and `missing` holds the reason.

    Raises:
        FigureError: There is no figure of one of the numbers, or the records cannot be drawn together.

    Examples:
        >>> from painters import figures
        >>> for drawn in figures.draw_all(figures.Data(), "figures", [1, 4]):
        ...     print(drawn.number, drawn.title, len(drawn.files))
        1 Ways to run the layers of a window 4
        4 Skipping the window 0
    """
    drawn = []
    for number in numbers:
        try:
            drawn.append(draw(number, data, folder))
        except NothingToDraw as error:
            drawn.append(Drawn(number, FIGURES[number].title, (), (str(error),)))
    return drawn


def numbers(names: Iterable[str]) -> list[int]:
    """Return the figures that the words of a command line name.

    Args:
        names: Numbers, as "4", "fig4", "fig04" or "figure 4", or "all". No names mean all figures.

    Returns:
        The numbers of the figures, ascending, each once.

    Raises:
        FigureError: A name is neither "all" nor the number of a figure.

    Examples:
        >>> from painters import figures
        >>> figures.numbers(["13", "fig4"])
        [4, 13]
        >>> len(figures.numbers(["all"]))
        14
    """
    names = figure_names(names) or ["all"]
    chosen: set[int] = set()
    for name in names:
        number = name.removeprefix("fig")
        if name != "all" and not (number.isdecimal() and int(number) in FIGURES):
            shown = number if number.isdecimal() else name
            raise FigureError(f"there is no figure {shown!r}: the figures are {min(FIGURES)} to {max(FIGURES)}, or all")
        chosen |= set(FIGURES) if name == "all" else {int(number)}
    return sorted(chosen)
