"""A plan drawn with characters: the stream runs left to right, branches are stacked, repeats bracketed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from painters.plan import Plan
from painters.plan.shapes import ParallelShape, Repeat, Shape, Span, fold

MAX_BRANCHES = 8
"""Branches of a group that are drawn one by one; of more, the first three and the last two."""
MAX_ROWS = 30
"""Rows of a group that are drawn inside another shape; a taller one is shown by its text."""
MIN_WIDTH = 20
MIN_ROOM = 6

_ASCII = str.maketrans("─│┌┐└┘├┤┬┴┼╞╡╔╗╚╝║╠╣▶×⋮┄…", "-|" + "+" * 9 + "[][][]|[]>x:~~")
_CORNERS = {  # (up, down, left, right) -> the line that goes there
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
    """Rows of equal width; the stream enters and leaves on row `axis`."""

    rows: tuple[str, ...]
    axis: int

    @property
    def width(self) -> int:
        return len(self.rows[0])


def draw_text(plan: Plan, width: int, ascii_only: bool) -> str:
    """The drawing in lines of at most `width` characters (at least 20)."""
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
        block = _beside([_leaf(head), _joined(line), _leaf(tail)])
        pieces += [row.rstrip() for row in block.rows]
    text = "\n".join(pieces)
    return text.translate(_ASCII) if ascii_only else text


def _block(shape: Shape, room: int) -> Block:
    """The drawing of one shape in at most `room` columns, or its text where it does not fit."""
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
    half = f".{span.half}" if span.half else ""
    names = [f"{layer}{half}" for layer in span.layers]
    return _leaf(f" {names[0]} … {names[-1]} " if len(names) > 3 else " " + " ─ ".join(names) + " ")


def _repeat(repeat: Repeat, room: int) -> Block:
    times = f"×{repeat.times}"
    body = _sequence(repeat.body, room - 2 - len(times))
    height = len(body.rows)
    left = _column(height, body.axis, "╔║╚╠╞")
    right = _column(height, body.axis, "╗║╝╣╡")
    label = Block(tuple(times if row == body.axis else " " * len(times) for row in range(height)), body.axis)
    return _beside([left, body, right, label])


def _column(height: int, axis: int, glyphs: str) -> Block:
    """A tall bracket; `glyphs` are its top, side, bottom, the row of the stream, and a bracket of one row."""
    if height == 1:
        return Block((glyphs[4],), 0)
    rows = [glyphs[1]] * height
    rows[0], rows[-1] = glyphs[0], glyphs[2]
    rows[axis] = glyphs[3]
    return Block(tuple(rows), axis)


def _group(group: ParallelShape, room: int) -> Block:
    merge = f" {group.merge} "
    inner = room - 4 - len(merge)
    count = len(group.branches)
    if count <= MAX_BRANCHES:
        branches = [_sequence(branch, inner) for branch in group.branches]
    else:
        more = _leaf(f" ⋮ {count - 5} more ")
        branches = [_sequence(branch, inner) for branch in group.branches[:3] + group.branches[-2:]]
        branches.insert(3, more)
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
    """Shapes one after another, the middle ones left out where they do not fit."""
    whole = _joined(_block(shape, room) for shape in shapes)
    if whole.width <= room:
        return whole
    for kept in range(min(len(shapes) // 2, room), 0, -1):
        left_out = len(shapes) - 2 * kept
        if left_out < 1:
            continue
        middle = _leaf(f" … {left_out} steps … ")
        ends = [_block(shape, room) for shape in (*shapes[:kept], *shapes[-kept:])]
        block = _joined([*ends[:kept], middle, *ends[kept:]])
        if block.width <= room:
            return block
    return _leaf(f" {_shortened(' '.join(shape.text for shape in shapes), max(room - 2, 1))} ")


def _joined(blocks: Iterable[Block]) -> Block:
    """Blocks one after another with the stream drawn between them."""
    linked: list[Block] = []
    for block in blocks:
        linked += [_leaf("─"), block] if linked else [block]
    return _beside(linked)


def _beside(blocks: Sequence[Block]) -> Block:
    """Blocks side by side, their axes on one row."""
    above = max(block.axis for block in blocks)
    below = max(len(block.rows) - block.axis for block in blocks)
    columns = []
    for block in blocks:
        blank = (" " * block.width,)
        over, under = above - block.axis, below - (len(block.rows) - block.axis)
        columns.append(blank * over + block.rows + blank * under)
    return Block(tuple("".join(row) for row in zip(*columns, strict=True)), above)


def _padded(block: Block, width: int) -> Block:
    missing = width - block.width
    return Block(
        tuple(row + ("─" if place == block.axis else " ") * missing for place, row in enumerate(block.rows)),
        block.axis,
    )


def _leaf(text: str) -> Block:
    return Block((text,), 0)


def _shortened(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"
