"""Drawings of plans with characters.

The residual stream is a line from left to right, branches lie above one another, and repeats are in brackets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from painters.plan import Plan
from painters.plan.shapes import ParallelShape, Repeat, Shape, Span, fold

MAX_BRANCHES = 8
"""The most branches of a group that are all drawn; of more, only the first three and the last two are."""
MAX_ROWS = 30
"""The most rows of a shape; a taller one is shown by its text."""
MIN_WIDTH = 20
"""The narrowest drawing, in characters."""
MIN_ROOM = 6
"""The fewest columns in which a shape is drawn; in fewer it is shown by its text."""

_ASCII = str.maketrans("─│┌┐└┘├┤┬┴┼╞╡╔╗╚╝║╠╣▶×⋮┄…", "-|" + "+" * 9 + "[][][]|[]>x:~~")
_CORNERS = {  # (up, down, left, right): the character with lines in these directions
    (False, True, False, True): "┌",
    (False, True, True, False): "┐",
    (True, False, False, True): "└",
    (True, False, True, False): "┘",
    (True, True, False, True): "├",
    (True, True, True, False): "┤",
    (False, True, True, True): "┬",
    (True, False, True, True): "┴",
    (True, True, True, True): "┼",
    (True, True, False, False): "│",
}


@dataclass(frozen=True, slots=True)
class Block:
    """A drawing of characters.

    Attributes:
        rows: Lines of equal width.
        axis: The number of the row on which the stream enters and leaves.
    """

    rows: tuple[str, ...]
    axis: int

    @property
    def width(self) -> int:
        """The width in columns."""
        return len(self.rows[0])


def draw_text(plan: Plan, width: int, ascii_only: bool) -> str:
    """Return the drawing in lines of at most `width` characters; below 20 counts as 20."""
    width = max(width, MIN_WIDTH)
    lines: list[list[Block]] = [[]]
    used = 0
    for shape in fold(plan.steps):
        block = _block(shape, width - 6)
        if lines[-1] and used + block.width + 1 > width - 5:
            lines.append([])
            used = 0
        lines[-1].append(block)
        used += block.width + 1
    pieces: list[str] = []
    for number, line in enumerate(lines):
        head = "──" if number == 0 else "┄─"
        tail = "─▶" if number == len(lines) - 1 else "─┄"
        block = _side_by_side([_leaf(head), _joined(line), _leaf(tail)])
        pieces += [row.rstrip() for row in block.rows]
    text = "\n".join(pieces)
    return text.translate(_ASCII) if ascii_only else text


def _block(shape: Shape, room: int) -> Block:
    """Return the drawing of a shape in at most `room` columns, or its text if it does not fit."""
    if room >= MIN_ROOM:
        if isinstance(shape, Span):
            block = _span(shape)
        elif isinstance(shape, Repeat):
            block = _repeat(shape, room)
        else:
            block = _group(shape, room)
        if block.width <= room and len(block.rows) <= MAX_ROWS:
            return block
    return _leaf(f" {_shortened(shape.text, max(room - 2, 1))} ")


def _span(span: Span) -> Block:
    """Return the drawing of a span: its layers, or only the ends if there are more than three."""
    half = f".{span.half}" if span.half else ""
    names = [f"{layer}{half}" for layer in span.layers]
    return _leaf(f" {names[0]} … {names[-1]} " if len(names) > 3 else " " + " ─ ".join(names) + " ")


def _repeat(repeat: Repeat, room: int) -> Block:
    """Return the drawing of a repeat: its body in brackets, and how often it runs."""
    times = f"×{repeat.times}"
    body = _sequence(repeat.body, room - 2 - len(times))
    height = len(body.rows)
    left = _column(height, body.axis, "╔║╚╠╞")
    right = _column(height, body.axis, "╗║╝╣╡")
    label = Block(tuple(times if row == body.axis else " " * len(times) for row in range(height)), body.axis)
    return _side_by_side([left, body, right, label])


def _column(height: int, axis: int, glyphs: str) -> Block:
    """Return a bracket of one column.

    `glyphs` are its characters: top, side, bottom, the row of the stream, and a bracket of a single row.
    """
    if height == 1:
        return Block((glyphs[4],), 0)
    rows = [glyphs[1]] * height
    rows[0], rows[-1] = glyphs[0], glyphs[2]
    rows[axis] = glyphs[3]
    return Block(tuple(rows), axis)


def _group(group: ParallelShape, room: int) -> Block:
    """Return the drawing of a parallel group: its branches between a split and a merge."""
    merge = f" {group.merge} "
    inner = room - 4 - len(merge)
    count = len(group.branches)
    if count <= MAX_BRANCHES:
        branches = [_sequence(branch, inner) for branch in group.branches]
    else:
        omitted = _leaf(f" ⋮ {count - 5} more ")
        branches = [_sequence(branch, inner) for branch in group.branches[:3] + group.branches[-2:]]
        branches.insert(3, omitted)
    width = max(branch.width for branch in branches)
    rows: list[str] = []
    entries: list[int] = []
    for branch in branches:
        entries.append(len(rows) + branch.axis)
        rows += _padded(branch, width).rows
    axis = (entries[0] + entries[-1]) // 2
    split, join = [], []
    for row in range(len(rows)):
        up, down = entries[0] < row <= entries[-1], entries[0] <= row < entries[-1]
        split.append(_CORNERS.get((up, down, row == axis, row in entries), " "))
        join.append(_CORNERS.get((up, down, row in entries, row == axis), " "))
    stream = ["─" if row in entries else " " for row in range(len(rows))]
    drawn = [a + line + b + c + d for a, line, b, c, d in zip(split, stream, rows, stream, join, strict=True)]
    label = [merge if row == axis else " " * len(merge) for row in range(len(rows))]
    return Block(tuple(a + b for a, b in zip(drawn, label, strict=True)), axis)


def _sequence(shapes: Sequence[Shape], room: int) -> Block:
    """Return the drawing of shapes one after another; those in the middle are left out if they do not fit."""
    whole = _joined(_block(shape, room) for shape in shapes)
    if whole.width <= room:
        return whole
    for kept in range(min(len(shapes) // 2, room), 0, -1):
        omitted = len(shapes) - 2 * kept
        if omitted < 1:
            continue
        middle = _leaf(f" … {omitted} steps … ")
        ends = [_block(shape, room) for shape in (*shapes[:kept], *shapes[-kept:])]
        block = _joined([*ends[:kept], middle, *ends[kept:]])
        if block.width <= room:
            return block
    return _leaf(f" {_shortened(' '.join(shape.text for shape in shapes), max(room - 2, 1))} ")


def _joined(blocks: Iterable[Block]) -> Block:
    """Return blocks one after another, with the stream drawn between them."""
    linked: list[Block] = []
    for block in blocks:
        linked += [_leaf("─"), block] if linked else [block]
    return _side_by_side(linked)


def _side_by_side(blocks: Sequence[Block]) -> Block:
    """Return blocks side by side, with their axes on one row."""
    above = max(block.axis for block in blocks)
    below = max(len(block.rows) - block.axis for block in blocks)
    columns = []
    for block in blocks:
        blank = (" " * block.width,)
        over, under = above - block.axis, below - (len(block.rows) - block.axis)
        columns.append(blank * over + block.rows + blank * under)
    return Block(tuple("".join(row) for row in zip(*columns, strict=True)), above)


def _padded(block: Block, width: int) -> Block:
    """Return the block extended to `width` columns, its stream drawn to the end."""
    missing = width - block.width
    return Block(
        tuple(row + ("─" if number == block.axis else " ") * missing for number, row in enumerate(block.rows)),
        block.axis,
    )


def _leaf(text: str) -> Block:
    """Return a block of one row."""
    return Block((text,), 0)


def _shortened(text: str, room: int) -> str:
    """Return the text, cut to `room` characters."""
    return text if len(text) <= room else text[: room - 1] + "…"
