"""The look of figures: colours that colour-blind readers can distinguish, large text, legends outside the data."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from numpy.typing import NDArray

    from painters.figures.bands import Estimate

# Okabe and Ito's palette without its yellow, which is too light for a line on white.
BLACK, ORANGE, SKY, GREEN, BLUE, RED, PINK = "#000000 #E69F00 #56B4E9 #009E73 #0072B2 #D55E00 #CC79A7".split()
COLORS = (BLUE, ORANGE, GREEN, RED, PINK, SKY, BLACK)
MARKERS = "osD^vPX"
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1.5, 1.5)), (0, (8, 2)), "-", "-.")
GREY = "#6b6b6b"
SIZE = 13
"""Points of the text, in panels of about 5 inches: legible at half the size."""
WIDTH = 5.2
"""Inches of a panel."""
SMALLEST = 6
"""Points of the smallest number in a cell of a heat map."""
LETTERS = 9
"""Letters of a title in an inch."""
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": SIZE,
    "axes.titlesize": SIZE,
    "axes.labelsize": SIZE,
    "xtick.labelsize": SIZE - 1,
    "ytick.labelsize": SIZE - 1,
    "legend.fontsize": SIZE - 1,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 1.0,
    "text.parse_math": False,  # a dollar sign in a model's name is no mathematics
    "svg.hashsalt": "painters",
    "svg.fonttype": "path",
}


def styled() -> AbstractContextManager[None]:
    """Return a context in which matplotlib has the style of this module, whatever the user's own style is."""
    import matplotlib

    return matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE, "backend": matplotlib.rcParams["backend"]})


def canvas(panels: int, height: float, width: float = WIDTH) -> tuple[Figure, list[Axes]]:
    """Return a figure and its panels: up to three in a row, four in two rows.

    The figure is in no window and in no global state of matplotlib. `height` and `width` are inches of a panel.
    """
    from matplotlib.figure import Figure

    columns = panels if panels <= 3 else 2
    rows = -(-panels // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # type: ignore[union-attr,call-arg]
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in axes[panels:]:
        unused.remove()
    return figure, axes[:panels]


def look(number: int) -> tuple[str, Any, str]:
    """Return the colour, dashes and marker of the line `number`, from 0."""
    return COLORS[number % len(COLORS)], DASHES[number % len(DASHES)], MARKERS[number % len(MARKERS)]


def reference(axes: Axes, height: float, label: str, dashes: Any = (0, (4, 3))) -> None:
    """Draw a horizontal line with its label beyond the right edge."""
    axes.axhline(height, color=GREY, linewidth=1.4, linestyle=dashes, zorder=1)
    axes.annotate(
        label,
        (1.0, height),
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        color=GREY,
        va="center",
        fontsize=SIZE - 1,
        annotation_clip=False,
    )


def line(
    axes: Axes, points: Sequence[tuple[float, Estimate]], style: tuple[str, Any, str], label: str,
    *, width: float = 2.8, faint: float = 0.18,
) -> None:  # fmt: skip
    """Draw a line through `points` (x, estimate) and their bands; `faint` is the opacity of the bands, 0 for none."""
    xs, ys = [x for x, _ in points], [estimate.value for _, estimate in points]
    color, dashes, marker = style
    bold = width > 2
    axes.plot(
        xs, ys, color=color, linestyle=dashes, marker=marker, linewidth=width,
        markersize=6.5 if bold else 5, label=label, zorder=4 if bold else 3,
    )  # fmt: skip
    bands = [(x, *band) for x, estimate in points if (band := estimate.band)]
    if bands and faint:
        band_xs, lows, highs = zip(*bands, strict=True)
        axes.fill_between(band_xs, lows, highs, color=color, alpha=faint, linewidth=0, zorder=2)


def hollow(axes: Axes, points: Sequence[tuple[float, float]], style: tuple[str, Any, str]) -> None:
    """Draw hollow markers over those of a bold line at `points` (x, y)."""
    color, _, marker = style
    axes.plot(
        [x for x, _ in points], [y for _, y in points], linestyle="", marker=marker, markersize=6.5,
        markerfacecolor="white", markeredgecolor=color, zorder=5,
    )  # fmt: skip


def whole_ticks(axes: Axes, values: Sequence[int], most: int = 12) -> None:
    """Put ticks at the values that occur, at most about `most` of them."""
    ordered = sorted(set(values))
    step = -(-len(ordered) // most)
    axes.set_xticks(ordered[::step])


def legend_below(axes: Axes, columns: int) -> None:
    """Put the legend under the x axis, where it hides no data."""
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.17),
        ncols=columns,
        frameon=False,
        columnspacing=1.2,
        handlelength=2.6,
        handletextpad=0.5,
    )


def titled(axes: Axes, *parts: str) -> None:
    """Give the panel a title of these parts, on one line where they fit its width, else on a line each."""
    room = int(_figure(axes).get_figwidth() / _grid(axes)[0] * LETTERS)
    one_line = ", ".join(parts)
    lines = [one_line] if len(one_line) <= room else list(parts)
    axes.set_title("\n".join(_shortened(text, room) for text in lines))


def width_label(axes: Axes, num_layers: int) -> None:
    """Name the x axis of a panel over the width of the window."""
    axes.set_xlabel(f"layers affected, $M$ (of {num_layers})", parse_math=True)


def write_cells(axes: Axes, image: AxesImage, table: NDArray[np.float64], *, first: tuple[int, int] = (0, 0)) -> None:
    """Write the numbers of a heat map into its cells, where they are legible there.

    `first` is the place (x, y) of the first cell.
    """
    import numpy as np

    rows, columns = table.shape
    figure = _figure(axes)
    across, down = _grid(axes)
    width, height = figure.get_figwidth() / across, figure.get_figheight() / down
    # About 0.7 of a panel is the map itself, and a number of four signs is 2.6 times as wide as its size.
    size = min(SIZE - 1, 72 * 0.7 * width / columns / 2.6, 72 * 0.75 * height / rows / 1.1)
    if size < SMALLEST:
        return
    for y, x in zip(*np.nonzero(np.isfinite(table)), strict=True):
        red, green, blue, _ = image.to_rgba(table[y, x])
        ink = "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else "black"
        label = f"{table[y, x]:.2f}".replace("-0.00", "0.00").replace("-", "−")
        axes.text(x + first[0], y + first[1], label, ha="center", va="center", color=ink, fontsize=size)


def _figure(axes: Axes) -> Figure:
    """Return the figure of a panel."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure


def _grid(axes: Axes) -> tuple[int, int]:
    """Return how many panels the figure has side by side and above one another."""
    grid = axes.get_subplotspec().get_gridspec()  # type: ignore[union-attr]
    return grid.ncols, grid.nrows


def _shortened(text: str, room: int) -> str:
    """Return the text, its middle left out where it is longer than `room` characters."""
    half = (room - 1) // 2
    return text if len(text) <= room else f"{text[:half]}…{text[-half:]}"


def shared_legend(figure: Figure, panels: Sequence[Axes], columns: int) -> None:
    """Put one legend under all panels, for lines that mean the same in each."""
    handles: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=columns, frameon=False, handlelength=3.2
    )


def spread(axes: Axes, heights: Sequence[float]) -> None:
    """Set the limits of the y axis around `heights`, with a margin for markers."""
    margin = 0.06 * max(max(heights) - min(heights), 0.1)
    axes.set_ylim(min(heights) - margin, max(heights) + margin)
