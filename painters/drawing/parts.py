"""The parts of a plan's figure: shapes that know their size and draw themselves on a canvas.

The line that stands for the residual stream enters a part on its left and leaves it on its right, at the same height.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol, TypeAlias

from painters.plan import Half
from painters.plan.shapes import ParallelShape, Repeat, Shape, Span

MAX_BRANCHES = 8
"""The most branches of a group that are all drawn; of more, only the first three and the last two are."""
MAX_STEPS = 24
"""The most shapes in a repeat or branch that are all drawn; of more, only as many are, half from each end."""
MAX_NESTING = 4
"""The most groups and repeats inside one another that are drawn; a deeper one is shown by its text."""

BOX_WIDTH, BOX_HEIGHT, GAP = 0.86, 0.72, 0.42
"""The size of a layer's box and the length of the arrow between two, in units of the drawing."""

Color: TypeAlias = tuple[float, float, float]
"""Red, green and blue, each from 0 to 1."""
Align: TypeAlias = Literal["left", "right", "top"]
"""What a note has at its point: its left edge or right edge, half-way up, or for "top" its upper left corner."""


@dataclass(frozen=True, slots=True)
class DrawingPart:
    """Something with a size that can be drawn anywhere.

    Attributes:
        width: Its width.
        up: How far it extends above the stream.
        down: How far it extends below the stream.
        paint: Draws it on a canvas, with its left edge at `x` and the stream at height `y`.
    """

    width: float
    up: float
    down: float
    paint: Callable[[Canvas, float, float], None]


class Canvas(Protocol):
    """A surface to draw on.

    Lengths are in units of the drawing, `y` counts upwards, and sizes of type are in points. The canvas chooses the
    colour of lines, of edges, and of words outside of boxes.
    """

    colors: Sequence[Color]  # of the layers of the stack

    def rectangle(
        self, x: float, y: float, width: float, height: float, fill: Color | str | None, *,
        edge: float = 0.8, radius: float = 0.0,
    ) -> None:  # fmt: skip
        """Draw a rectangle with its lower left corner at (x, y). No edge is drawn if `edge`, its width, is 0."""

    def circle(self, x: float, y: float, radius: float) -> None:
        """Draw a white circle around (x, y)."""

    def frame(self, x: float, y: float, width: float, height: float) -> None:
        """Draw a shaded frame behind everything else, with its lower left corner at (x, y)."""

    def line(self, *points: tuple[float, float]) -> None:
        """Draw a line through the points."""

    def arrow(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Draw a straight arrow, either horizontal or vertical."""

    def text(self, x: float, y: float, label: str, size: float, ink: str = "black") -> None:
        """Write a label, of one or more lines, centred on (x, y)."""

    def note(self, x: float, y: float, label: str, size: float, align: Align = "left") -> None:
        """Write a line of words beside (x, y)."""

    def pill(self, x: float, y: float, label: str, size: float, *, badge: bool = False) -> None:
        """Write a label centred on (x, y), on a white background; a badge is bold and has an edge."""


def _box(
    canvas: Canvas, x: float, y: float, width: float, fill: Color | str, label: str, ink: str, size: float
) -> None:
    """Draw a box with a label, its left edge at `x` and its middle at height `y`."""
    canvas.rectangle(x, y - BOX_HEIGHT / 2, width, BOX_HEIGHT, fill, radius=0.1)
    canvas.text(x + width / 2, y, label, size, ink)


def part_of(shape: Shape, longest: int, nesting: int = 0) -> DrawingPart:
    """Return the part that draws a shape.

    Args:
        shape: The shape.
        longest: The most consecutive layers that get a box each; more of them become one shaded box.
        nesting: The number of groups and repeats around the shape.
    """
    if isinstance(shape, Span):
        return _boxes(shape) if len(shape.layers) <= longest else _strip(shape)
    if nesting == MAX_NESTING:
        return _words(shape.text)
    if isinstance(shape, Repeat):
        return _loop(_chain(shape.body, longest, nesting + 1), shape.times)
    branches = [_chain(branch, longest, nesting + 1) for branch in _drawn_branches(shape)]
    if len(shape.branches) > MAX_BRANCHES:
        branches.insert(3, _words(f"{len(shape.branches) - 5} more"))
    return _fork(branches, shape.merge)


def _drawn_branches(group: ParallelShape) -> Sequence[Sequence[Shape]]:
    """Return the branches of a group that are drawn."""
    few = len(group.branches) <= MAX_BRANCHES
    return group.branches if few else group.branches[:3] + group.branches[-2:]


def _label(layer: int, half: Half | None) -> str:
    """Return the label of a layer's box."""
    return f"{layer}" if half is None else f"{layer}\n{half}"


def _ink(color: Color) -> str:
    """Return the colour of words that can be read on `color`."""
    red, green, blue = color
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else "black"


def _boxes(span: Span) -> DrawingPart:
    """Return a part with one box for each layer."""

    def paint(canvas: Canvas, x: float, y: float) -> None:
        for number, layer in enumerate(span.layers):
            if number:
                canvas.arrow((x - GAP, y), (x, y))
            color = canvas.colors[layer]
            size = 10 if span.half is None else 8
            _box(canvas, x, y, BOX_WIDTH, color, _label(layer, span.half), _ink(color), size)
            x += BOX_WIDTH + GAP

    count = len(span.layers)
    return DrawingPart(count * BOX_WIDTH + (count - 1) * GAP, BOX_HEIGHT / 2, BOX_HEIGHT / 2, paint)


def _strip(span: Span) -> DrawingPart:
    """Return a part with one box that shades from the colour of the first layer to that of the last."""
    width = 3 * BOX_WIDTH

    def paint(canvas: Canvas, x: float, y: float) -> None:
        shades = min(len(span.layers), 60)
        for shade in range(shades):
            color = canvas.colors[span.layers[round(shade * (len(span.layers) - 1) / (shades - 1))]]
            left = x + shade * width / shades
            overlap = 0.01 if shade < shades - 1 else 0.0  # else a thin line of the page shows between two shades
            canvas.rectangle(left, y - BOX_HEIGHT / 2, width / shades + overlap, BOX_HEIGHT, color, edge=0)
        canvas.rectangle(x, y - BOX_HEIGHT / 2, width, BOX_HEIGHT, None)
        canvas.pill(x + width / 2, y, f"{span.first} … {span.last}" + (f" {span.half}" if span.half else ""), 9.5)

    return DrawingPart(width, BOX_HEIGHT / 2, BOX_HEIGHT / 2, paint)


def _words(text: str) -> DrawingPart:
    """Return a part with a white box and a text, for what is not drawn in full."""
    text = text if len(text) <= 24 else text[:23] + "…"
    width = 0.4 + 0.13 * max(len(text), 4)

    def paint(canvas: Canvas, x: float, y: float) -> None:
        _box(canvas, x, y, width, "white", text, "black", 8)

    return DrawingPart(width, BOX_HEIGHT / 2, BOX_HEIGHT / 2, paint)


def _chain(shapes: Sequence[Shape], longest: int, nesting: int) -> DrawingPart:
    """Return a part of shapes one after another, without the lines into the first and out of the last."""
    if len(shapes) > MAX_STEPS:
        ends = MAX_STEPS // 2
        parts = [part_of(shape, longest, nesting) for shape in (*shapes[:ends], *shapes[-ends:])]
        parts.insert(ends, _words(f"{len(shapes) - MAX_STEPS} steps"))
    else:
        parts = [part_of(shape, longest, nesting) for shape in shapes]

    def paint(canvas: Canvas, x: float, y: float) -> None:
        for number, part in enumerate(parts):
            if number:
                canvas.arrow((x - GAP, y), (x, y))
            part.paint(canvas, x, y)
            x += part.width + GAP

    width = sum(part.width for part in parts) + GAP * (len(parts) - 1)
    return DrawingPart(width, max(part.up for part in parts), max(part.down for part in parts), paint)


def _loop(body: DrawingPart, times: int) -> DrawingPart:
    """Return a part with a frame around the body and an arrow back over it that says how often it runs."""
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

    return DrawingPart(body.width + 2 * pad, body.up + rise + 0.25, body.down + 0.2, paint)


def _fork(branches: Sequence[DrawingPart], merge: str) -> DrawingPart:
    """Return a part with the branches above one another, between a split and a merge."""
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
    return DrawingPart(width, heights[0] + branches[0].up, branches[-1].down - heights[-1], paint)
