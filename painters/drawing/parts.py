"""The parts of a plan's figure: shapes that know their size and paint themselves where they are placed.

A part's stream enters on its left at height `y` and leaves on its right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol, TypeAlias

from painters.plan import Half
from painters.plan.shapes import ParallelShape, Repeat, Shape, Span

MAX_BRANCHES = 8
"""Branches of a group that are drawn one by one; of more, the first three and the last two."""
MAX_STEPS = 24
"""Shapes inside a bracket or branch that are drawn; of more, as many from both ends."""
MAX_NESTING = 4
"""Groups and repeats inside one another that are drawn; a deeper one is shown by its text."""

BOX_WIDTH, BOX_HEIGHT, GAP = 0.86, 0.72, 0.42
Color: TypeAlias = tuple[float, float, float]
Align: TypeAlias = Literal["left", "right", "top"]  # the last: of the left upper corner


@dataclass(frozen=True, slots=True)
class Part:
    """Something with a size that can be painted at a place: `up` and `down` are measured from the stream."""

    width: float
    up: float
    down: float
    paint: Callable[[Canvas, float, float], None]


class Canvas(Protocol):
    """What parts paint on: lengths in units of the drawing, y upwards, sizes of type in points.

    Lines, edges and words outside of boxes are in the canvas's own ink.
    """

    colors: Sequence[Color]

    def rectangle(
        self, x: float, y: float, width: float, height: float, fill: Color | str | None, *,
        edge: float = 0.8, radius: float = 0.0,
    ) -> None: ...  # fmt: skip

    def circle(self, x: float, y: float, radius: float) -> None: ...

    def frame(self, x: float, y: float, width: float, height: float) -> None: ...

    def line(self, *points: tuple[float, float]) -> None: ...

    def arrow(self, start: tuple[float, float], end: tuple[float, float]) -> None: ...

    def text(self, x: float, y: float, label: str, size: float, ink: str = "black") -> None: ...

    def note(self, x: float, y: float, label: str, size: float, align: Align = "left") -> None: ...

    def pill(self, x: float, y: float, label: str, size: float, *, badge: bool = False) -> None: ...


def _box(
    canvas: Canvas, x: float, y: float, width: float, fill: Color | str, label: str, ink: str, size: float
) -> None:
    """Nothing; a box with a label is painted, its left edge at `x`, its middle at `y`."""
    canvas.rectangle(x, y - BOX_HEIGHT / 2, width, BOX_HEIGHT, fill, radius=0.1)
    canvas.text(x + width / 2, y, label, size, ink)


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


def _drawn(group: ParallelShape) -> Sequence[Sequence[Shape]]:
    """The branches of a group that are drawn one by one."""
    few = len(group.branches) <= MAX_BRANCHES
    return group.branches if few else group.branches[:3] + group.branches[-2:]


def _label(layer: int, half: Half | None) -> str:
    return f"{layer}" if half is None else f"{layer}\n{half}"


def _ink(color: Color) -> str:
    red, green, blue = color
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else "black"


def _boxes(span: Span) -> Part:
    """One box per layer."""

    def paint(canvas: Canvas, x: float, y: float) -> None:
        for place, layer in enumerate(span.layers):
            if place:
                canvas.arrow((x - GAP, y), (x, y))
            color = canvas.colors[layer]
            size = 10 if span.half is None else 8
            _box(canvas, x, y, BOX_WIDTH, color, _label(layer, span.half), _ink(color), size)
            x += BOX_WIDTH + GAP

    count = len(span.layers)
    return Part(count * BOX_WIDTH + (count - 1) * GAP, BOX_HEIGHT / 2, BOX_HEIGHT / 2, paint)


def _strip(span: Span) -> Part:
    """A long run as one box that shades from the colour of its first layer to that of its last."""
    width = 3 * BOX_WIDTH

    def paint(canvas: Canvas, x: float, y: float) -> None:
        shades = min(len(span.layers), 60)
        for place in range(shades):
            color = canvas.colors[span.layers[round(place * (len(span.layers) - 1) / (shades - 1))]]
            left = x + place * width / shades
            over = 0.01 if place < shades - 1 else 0.0  # no hairline of the page between two of them
            canvas.rectangle(left, y - BOX_HEIGHT / 2, width / shades + over, BOX_HEIGHT, color, edge=0)
        canvas.rectangle(x, y - BOX_HEIGHT / 2, width, BOX_HEIGHT, None)
        canvas.pill(x + width / 2, y, f"{span.first} … {span.last}" + (f" {span.half}" if span.half else ""), 9.5)

    return Part(width, BOX_HEIGHT / 2, BOX_HEIGHT / 2, paint)


def _words(text: str) -> Part:
    """A white box with a text: for what is not drawn in full."""
    text = text if len(text) <= 24 else text[:23] + "…"
    width = 0.4 + 0.13 * max(len(text), 4)

    def paint(canvas: Canvas, x: float, y: float) -> None:
        _box(canvas, x, y, width, "white", text, "black", 8)

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
        left, right = x + 0.12, x + body.width + 2 * pad - 0.12
        bottom, top = y - body.down - 0.16, y + body.up + rise
        canvas.frame(x, bottom, body.width + 2 * pad, top - bottom)
        canvas.line((x, y), (x + pad, y))
        canvas.line((x + pad + body.width, y), (x + body.width + 2 * pad, y))
        canvas.line((right, y), (right, top), (left, top))
        canvas.arrow((left, top), (left, y))
        canvas.pill((left + right) / 2, top, f"×{times}", 9, badge=True)
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
        canvas.circle(center, y, node)
        canvas.text(center, y, merge, 8)

    width = 2 * lead + inner - 0.1 + 0.3 + 2 * node
    return Part(width, heights[0] + branches[0].up, branches[-1].down - heights[-1], paint)
