"""The parts of a plan's figure: shapes that know their size and paint themselves where they are placed.

A part's stream enters on its left at height `y` and leaves on its right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

from painters._plan_fold import Group, Repeat, Shape, Span
from painters.plan import Half

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_BRANCHES = 8
"""Branches of a group that are drawn one by one; of more, the first three and the last two."""
MAX_STEPS = 24
"""Shapes inside a bracket or branch that are drawn; of more, as many from both ends."""
MAX_NESTING = 4
"""Groups and repeats inside one another that are drawn; a deeper one is shown by its text."""

BOX_WIDTH, BOX_HEIGHT, GAP = 0.86, 0.72, 0.42
LINE = "#444444"
FRAME = "#f2f2f2"
Color: TypeAlias = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Part:
    """Something with a size that can be painted at a place: `up` and `down` are measured from the stream."""

    width: float
    up: float
    down: float
    paint: Callable[[Canvas, float, float], None]


@dataclass(frozen=True, slots=True)
class Canvas:
    """The axes and what every mark on it shares."""

    axes: Axes
    colors: Sequence[Color]

    def box(self, x: float, y: float, width: float, color: Color | str, label: str, ink: str, size: float) -> None:
        from matplotlib.patches import FancyBboxPatch

        style = "round,pad=0,rounding_size=0.1"
        corner = (x, y - BOX_HEIGHT / 2)
        self.axes.add_patch(
            FancyBboxPatch(corner, width, BOX_HEIGHT, boxstyle=style, facecolor=color, edgecolor=LINE, linewidth=0.8)
        )
        self.text(x + width / 2, y, label, size, ink)

    def text(self, x: float, y: float, label: str, size: float, ink: str = "black") -> None:
        self.axes.text(x, y, label, ha="center", va="center", fontsize=size, color=ink, linespacing=0.95)

    def line(self, *points: tuple[float, float]) -> None:
        xs, ys = zip(*points, strict=True)
        self.axes.plot(xs, ys, color=LINE, linewidth=1.1, solid_capstyle="butt", zorder=1)

    def arrow(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        look = {
            "arrowstyle": "-|>",
            "color": LINE,
            "linewidth": 1.1,
            "shrinkA": 0,
            "shrinkB": 0,
            "mutation_scale": 8,
        }
        self.axes.annotate("", xy=end, xytext=start, arrowprops=look, zorder=1)


def part_of(shape: Shape, longest: int, nesting: int = 0) -> Part:
    """The part that draws `shape`; runs of more than `longest` layers become one shaded box."""
    if isinstance(shape, Span):
        return _boxes(shape) if len(shape.layers) <= longest else _strip(shape)
    if nesting == MAX_NESTING:
        return _words(shape.text)
    if isinstance(shape, Repeat):
        return _loop(_chain(shape.body, longest, nesting + 1), shape.times)
    branches = [_chain(branch, longest, nesting + 1) for branch in _drawn(shape)]
    if len(shape.branches) > MAX_BRANCHES:
        branches.insert(3, _words(f"{len(shape.branches) - 5} more"))
    return _fork(branches, shape.merge)


def _drawn(group: Group) -> Sequence[Sequence[Shape]]:
    """The branches of a group that are drawn one by one."""
    few = len(group.branches) <= MAX_BRANCHES
    return group.branches if few else group.branches[:3] + group.branches[-2:]


def _label(layer: int, half: Half | None) -> str:
    return f"{layer}" if half is None else f"{layer}\n{half}"


def _ink(color: Color) -> str:
    red, green, blue, _ = color
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else "black"


def _boxes(span: Span) -> Part:
    """One box per layer."""

    def paint(canvas: Canvas, x: float, y: float) -> None:
        for place, layer in enumerate(span.layers):
            if place:
                canvas.arrow((x - GAP, y), (x, y))
            color = canvas.colors[layer]
            size = 10 if span.half is None else 8
            canvas.box(x, y, BOX_WIDTH, color, _label(layer, span.half), _ink(color), size)
            x += BOX_WIDTH + GAP

    count = len(span.layers)
    return Part(count * BOX_WIDTH + (count - 1) * GAP, BOX_HEIGHT / 2, BOX_HEIGHT / 2, paint)


def _strip(span: Span) -> Part:
    """A long run as one box that shades from the colour of its first layer to that of its last."""
    width = 3 * BOX_WIDTH

    def paint(canvas: Canvas, x: float, y: float) -> None:
        from matplotlib.patches import Rectangle

        shades = [span.layers[round(place * (len(span.layers) - 1) / 59)] for place in range(60)]
        for place, layer in enumerate(shades):
            corner = (x + place * width / 60, y - BOX_HEIGHT / 2)
            canvas.axes.add_patch(
                Rectangle(corner, width / 60 + 0.01, BOX_HEIGHT, facecolor=canvas.colors[layer], edgecolor="none")
            )
        canvas.axes.add_patch(
            Rectangle((x, y - BOX_HEIGHT / 2), width, BOX_HEIGHT, facecolor="none", edgecolor=LINE, linewidth=0.8)
        )
        label = f"{span.first} … {span.last}" + (f" {span.half}" if span.half else "")
        pill = {"facecolor": "white", "edgecolor": "none", "boxstyle": "round,pad=0.25"}
        canvas.axes.text(x + width / 2, y, label, ha="center", va="center", fontsize=9.5, bbox=pill)

    return Part(width, BOX_HEIGHT / 2, BOX_HEIGHT / 2, paint)


def _words(text: str) -> Part:
    """A white box with a text: for what is not drawn in full."""
    text = text if len(text) <= 24 else text[:23] + "…"
    width = 0.4 + 0.13 * max(len(text), 4)

    def paint(canvas: Canvas, x: float, y: float) -> None:
        canvas.box(x, y, width, "white", text, "black", 8)

    return Part(width, BOX_HEIGHT / 2, BOX_HEIGHT / 2, paint)


def _chain(shapes: Sequence[Shape], longest: int, nesting: int) -> Part:
    """Parts one after another, without the lines into the first and out of the last."""
    if len(shapes) > MAX_STEPS:
        ends = MAX_STEPS // 2
        parts = [part_of(shape, longest, nesting) for shape in (*shapes[:ends], *shapes[-ends:])]
        parts.insert(ends, _words(f"{len(shapes) - MAX_STEPS} steps"))
    else:
        parts = [part_of(shape, longest, nesting) for shape in shapes]

    def paint(canvas: Canvas, x: float, y: float) -> None:
        for place, part in enumerate(parts):
            if place:
                canvas.arrow((x - GAP, y), (x, y))
            part.paint(canvas, x, y)
            x += part.width + GAP

    width = sum(part.width for part in parts) + GAP * (len(parts) - 1)
    return Part(width, max(part.up for part in parts), max(part.down for part in parts), paint)


def _loop(body: Part, times: int) -> Part:
    """A frame around the body and an arrow back over it that says how often."""
    pad, rise = 0.3, 0.42

    def paint(canvas: Canvas, x: float, y: float) -> None:
        from matplotlib.patches import FancyBboxPatch

        left, right = x + 0.12, x + body.width + 2 * pad - 0.12
        bottom, top = y - body.down - 0.16, y + body.up + rise
        frame = FancyBboxPatch(
            (x, bottom), body.width + 2 * pad, top - bottom, boxstyle="round,pad=0,rounding_size=0.12"
        )
        frame.set(facecolor=FRAME, edgecolor="#bbbbbb", linewidth=0.6, alpha=0.6, zorder=0)
        canvas.axes.add_patch(frame)
        canvas.line((x, y), (x + pad, y))
        canvas.line((x + pad + body.width, y), (x + body.width + 2 * pad, y))
        canvas.line((right, y), (right, top), (left, top))
        canvas.arrow((left, top), (left, y))
        badge = {"facecolor": "white", "edgecolor": LINE, "linewidth": 0.8, "boxstyle": "round,pad=0.2"}
        canvas.axes.text(
            (left + right) / 2,
            top,
            f"×{times}",
            ha="center",
            va="center",
            fontsize=9,
            fontweight="bold",
            bbox=badge,
        )
        body.paint(canvas, x + pad, y)

    return Part(body.width + 2 * pad, body.up + rise + 0.25, body.down + 0.2, paint)


def _fork(branches: Sequence[Part], merge: str) -> Part:
    """Branches above one another between a split and a merge."""
    lead, node = 0.35, 0.36
    inner = max(branch.width for branch in branches)
    heights = [0.0]
    for above, below in pairwise(branches):
        heights.append(heights[-1] - above.down - 0.2 - below.up)
    middle = (heights[0] + heights[-1]) / 2
    heights = [height - middle for height in heights]

    def paint(canvas: Canvas, x: float, y: float) -> None:
        from matplotlib.patches import Circle

        start, end = x + 0.1, x + 2 * lead + inner - 0.1
        canvas.line((x, y), (start, y))
        canvas.line((start, y + heights[0]), (start, y + heights[-1]))
        canvas.line((end, y + heights[0]), (end, y + heights[-1]))
        for branch, height in zip(branches, heights, strict=True):
            shift = (inner - branch.width) / 2
            canvas.arrow((start, y + height), (x + lead + shift, y + height))
            branch.paint(canvas, x + lead + shift, y + height)
            canvas.line((x + lead + shift + branch.width, y + height), (end, y + height))
        center = end + 0.3 + node
        canvas.arrow((end, y), (center - node, y))
        canvas.axes.add_patch(Circle((center, y), node, facecolor="white", edgecolor=LINE, linewidth=1.0))
        canvas.text(center, y, merge, 8)

    width = 2 * lead + inner - 0.1 + 0.3 + 2 * node
    return Part(width, heights[0] + branches[0].up, branches[-1].down - heights[-1], paint)
