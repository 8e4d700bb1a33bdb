"""The layout of a drawing with boxes and arrows, in the manner of the paper's Figure 1.

The shapes of a plan become parts that know their size. The parts are put in rows, with the stack as a strip below, and
drawn on one of the canvases. All lengths are in units of the drawing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from painters.drawing.parts import GAP, Canvas, DrawingPart, part_of
from painters.plan import Plan
from painters.plan.shapes import fold

ROW_WIDTH = 17.0
"""The width at which a row is full."""
MAX_NOTE = 110
"""The most characters of the note below the stack."""
COLUMN_GAP = 0.8
"""The space between two columns of a gallery."""
SLIDE = 16 / 9
"""The width over the height that a gallery comes as near to as it can."""
TITLE = 0.62
"""The height of a name in a gallery."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A drawing that is laid out.

    Attributes:
        width: Its width.
        height: Its height.
        paint: Draws it on a canvas.
    """

    width: float
    height: float
    paint: Callable[[Canvas], None]


def lay_out(plan: Plan, num_layers: int, title: str | None, never_run: str) -> Sheet:
    """Return the sheet of a plan.

    Args:
        plan: The plan.
        num_layers: The number of layers in the stack, by which the layers are coloured.
        title: The title above the drawing.
        never_run: The line that names the layers that never run, or "".
    """
    shapes = fold(plan.steps)
    rows = _rows([part_of(shape, longest=12) for shape in shapes])
    if len(rows) > 1:
        rows = _rows([part_of(shape, longest=4) for shape in shapes])
    note = "layers of the stack" + (f"; {never_run}" if never_run else "")
    note = note if len(note) <= MAX_NOTE else note[: MAX_NOTE - 1] + "…"
    rows_width = max(sum(part.width + GAP for part in row) + GAP for row in rows)
    # The note and the title are at most about this wide: a drawing of a single box must not cut them off.
    width = 1.0 + max(rows_width, 0.5 + 0.115 * len(note), 0.16 * len(title or ""))
    height = sum(_height(row) for row in rows) + 1.5 + (0.6 if title else 0.0)

    def paint(canvas: Canvas) -> None:
        top = height - 0.25
        if title:
            canvas.note(0.5, top, title, 11, "top")
            top -= 0.6
        for number, row in enumerate(rows):
            y = top - max(part.up for part in row)
            _paint_row(canvas, row, 0.5, y, more=number < len(rows) - 1)
            top -= _height(row)
        _paint_stack(canvas, plan, num_layers, note, width)

    return Sheet(width, height, paint)


def lay_out_gallery(plans: Mapping[str, Plan], num_layers: int) -> Sheet:
    """Return a sheet of plans in columns, each with its name above, and the stack once at the foot."""
    parts = {name: [part_of(shape, longest=12) for shape in fold(plan.steps)] for name, plan in plans.items()}
    if any(sum(part.width + GAP for part in row) > ROW_WIDTH for row in parts.values()):
        parts = {name: [part_of(shape, longest=4) for shape in fold(plan.steps)] for name, plan in plans.items()}
    drawings = [_Drawing(name, _rows(row)) for name, row in parts.items()]
    columns = min(_column_choices(drawings), key=lambda columns: abs(math.log(_ratio(columns) / SLIDE)))
    width, height = _size(columns)

    def paint(canvas: Canvas) -> None:
        left = 0.5
        for column in columns:
            top = height - 0.2
            for drawing in column:
                canvas.note(left, top, drawing.name, 13, "top")
                top -= TITLE
                for number, row in enumerate(drawing.rows):
                    more = number < len(drawing.rows) - 1
                    _paint_row(canvas, row, left, top - max(part.up for part in row), more=more)
                    top -= _height(row)
            left += max(drawing.width for drawing in column) + COLUMN_GAP
        _paint_stack(canvas, Plan.identity(num_layers), num_layers, "layers of the stack", width, fontsize=12)

    return Sheet(width, height, paint)


@dataclass(frozen=True, slots=True)
class _Drawing:
    """A plan of a gallery: its name and its rows."""

    name: str
    rows: Sequence[Sequence[DrawingPart]]

    @property
    def width(self) -> float:
        return max(sum(part.width + GAP for part in row) + GAP for row in self.rows)

    @property
    def height(self) -> float:
        return TITLE + sum(map(_height, self.rows))


_Columns = Sequence[Sequence[_Drawing]]


def _column_choices(drawings: Sequence[_Drawing]) -> Iterator[_Columns]:
    """Yield the drawings in one column, in two and in three, in their order and about equally high."""
    for count in range(1, min(3, len(drawings)) + 1):
        cuts = combinations(range(1, len(drawings)), count - 1)
        choices = [[drawings[a:b] for a, b in pairwise((0, *cut, len(drawings)))] for cut in cuts]
        yield min(choices, key=lambda columns: _size(columns)[1])


def _size(columns: _Columns) -> tuple[float, float]:
    """Return the width and the height of a sheet with these columns."""
    widths = [max(drawing.width for drawing in column) for column in columns]
    height = max(sum(drawing.height for drawing in column) for column in columns)
    return 1.0 + sum(widths) + COLUMN_GAP * (len(columns) - 1), 1.6 + height


def _ratio(columns: _Columns) -> float:
    """Return the width of a sheet with these columns over its height."""
    width, height = _size(columns)
    return width / height


def _paint_stack(canvas: Canvas, plan: Plan, num_layers: int, note: str, width: float, fontsize: int = 8) -> None:
    """Draw the stack as a strip of cells at the foot, with a note below.

    Layers that never run have no colour.
    """
    cell = min(0.3, (width - 2.0) / num_layers)
    used = set(plan.layers)
    for layer in range(num_layers):
        edge, empty = (0.5, None) if cell > 0.1 else (0.0, "#e4e4e4")
        color = canvas.colors[layer] if layer in used else empty
        canvas.rectangle(1.0 + layer * cell, 0.75, cell, 0.25, color, edge=edge)
    canvas.note(0.9, 0.87, "0", fontsize, "right")
    canvas.note(1.1 + num_layers * cell, 0.87, str(num_layers - 1), fontsize)
    canvas.note(1.0, 0.42, note, fontsize)


def _rows(parts: Sequence[DrawingPart]) -> list[list[DrawingPart]]:
    """Return the parts in rows, none wider than `ROW_WIDTH` unless it holds a single part."""
    rows: list[list[DrawingPart]] = [[]]
    used = 0.0
    for part in parts:
        if rows[-1] and used + part.width + GAP > ROW_WIDTH:
            rows.append([])
            used = 0.0
        rows[-1].append(part)
        used += part.width + GAP
    return rows


def _height(row: Sequence[DrawingPart]) -> float:
    """Return the height of a row and the space around it."""
    return max(part.up for part in row) + max(part.down for part in row) + 0.4


def _paint_row(canvas: Canvas, row: Sequence[DrawingPart], x: float, y: float, more: bool) -> None:
    """Draw a row from `x` on, with the stream at height `y`; `more` says that another row follows."""
    for part in row:
        canvas.arrow((x, y), (x + GAP, y))
        part.paint(canvas, x + GAP, y)
        x += GAP + part.width
    canvas.arrow((x, y), (x + GAP, y))
    if more:
        canvas.note(x + GAP + 0.15, y, "…", 11)
