"""Figures from records alone, without torch: the paper's 1 to 11, and three more.

`draw` writes each as SVG and PNG, with the very numbers drawn (CSV) and a caption (Markdown).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from painters.figures.board import FigureError, NothingToDraw
from painters.figures.caches import caches
from painters.figures.curves import every_variant, one_variant
from painters.figures.data import Data, read
from painters.figures.depth import depths
from painters.figures.layers import single_layers
from painters.figures.loops import loops
from painters.figures.output import Drawing, svg, write
from painters.figures.plans import strategies
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
    """A row of FIGURES: its function, its title, and the records that it needs, in words."""

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
    """What became of a figure: its files, none where it could not be drawn, and what is missing in it."""

    number: int
    title: str
    files: Sequence[Path]
    missing: Sequence[str]


def drawing(number: int, data: Data) -> Drawing:
    """The figure before it is written; NothingToDraw says which records are not there."""
    if number not in FIGURES:
        raise FigureError(f"there is no figure {number}: the figures are {min(FIGURES)} to {max(FIGURES)}, or all")
    figure = FIGURES[number]
    try:
        return figure.function(data)
    except NothingToDraw as error:
        raise NothingToDraw(f"{error}. Figure {number} needs {figure.needs}") from error


def draw(number: int, data: Data, folder: str | Path) -> Drawn:
    """The figure in four files in `folder`; NothingToDraw says which records are not there."""
    made = drawing(number, data)
    title = FIGURES[number].title
    return Drawn(number, title, write(made, number, title, Path(folder)), made.missing)


def draw_all(data: Data, folder: str | Path, numbers: Iterable[int] = tuple(FIGURES)) -> list[Drawn]:
    """Each figure; of one that cannot be drawn the reason is what is missing."""
    drawn = []
    for number in numbers:
        try:
            drawn.append(draw(number, data, folder))
        except NothingToDraw as error:
            drawn.append(Drawn(number, FIGURES[number].title, (), (str(error),)))
    return drawn


def numbers(names: Iterable[str]) -> list[int]:
    """The figures that these words name, in order: numbers, as `4` or `fig4`, or `all`; all where there are no words."""
    names = list(names) or ["all"]
    found: set[int] = set()
    for name in names:
        number = name.removeprefix("fig")
        if name != "all" and not (number.isdecimal() and int(number) in FIGURES):
            raise FigureError(f"there is no figure {name!r}: the figures are {min(FIGURES)} to {max(FIGURES)}, or all")
        found |= set(FIGURES) if name == "all" else {int(number)}
    return sorted(found)
