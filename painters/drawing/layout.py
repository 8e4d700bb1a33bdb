"""A plan drawn as boxes and arrows, in the manner of the paper's Figure 1.

Shapes become parts that know their size; parts are placed in rows, with the stack as a strip below them,
and painted on one of the canvases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from painters.drawing.parts import GAP, Canvas, Part, part_of
from painters.plan import Plan
from painters.plan.shapes import fold

ROW_WIDTH = 17.0
MAX_NOTE = 110
TITLE = 0.62  # the height of a name in a gallery


@dataclass(frozen=True, slots=True)
class Sheet:
    """A plan laid out: its size, and what paints it."""

    width: float
    height: float
    paint: Callable[[Canvas], None]


def lay_out(plan: Plan, num_layers: int, title: str | None, never_run: str) -> Sheet:
    """The plan on a sheet; layers are coloured by their place in a stack of `num_layers`."""
    shapes = fold(plan.steps)
    rows = _rows([part_of(shape, longest=12) for shape in shapes])
    if len(rows) > 1:
        rows = _rows([part_of(shape, longest=4) for shape in shapes])
    note = "layers of the stack" + (f"; {never_run}" if never_run else "")
    note = note if len(note) <= MAX_NOTE else note[: MAX_NOTE - 1] + "…"
    drawn = max(sum(part.width + GAP for part in row) + GAP for row in rows)
    # The words are at most about this wide; a drawing of one box must not cut them off.
    width = 1.0 + max(drawn, 0.5 + 0.115 * len(note), 0.16 * len(title or ""))
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
    """Several plans under one another, each with its name above, and the stack's colours once at the foot."""
    drawn = {name: [part_of(shape, longest=12) for shape in fold(plan.steps)] for name, plan in plans.items()}
    wide = any(sum(part.width + GAP for part in parts) > ROW_WIDTH for parts in drawn.values())
    if wide:
        drawn = {name: [part_of(shape, longest=4) for shape in fold(plan.steps)] for name, plan in plans.items()}
    rows = {name: _rows(parts) for name, parts in drawn.items()}
    width = 1.0 + max(sum(part.width + GAP for part in row) + GAP for lines in rows.values() for row in lines)
    height = 1.6 + sum(TITLE + sum(_height(row) for row in lines) for lines in rows.values())

    def paint(canvas: Canvas) -> None:
        top = height - 0.2
        for name, lines in rows.items():
            canvas.note(0.5, top, name, 13, "top")
            top -= TITLE
            for number, row in enumerate(lines):
                _paint_row(canvas, row, 0.5, top - max(part.up for part in row), more=number < len(lines) - 1)
                top -= _height(row)
        _paint_stack(canvas, Plan.identity(num_layers), num_layers, "layers of the stack", width, fontsize=12)

    return Sheet(width, height, paint)


def _paint_stack(canvas: Canvas, plan: Plan, num_layers: int, note: str, width: float, fontsize: int = 8) -> None:
    """The stack as a strip at the foot: a colour where a layer runs, an empty cell where it does not."""
    cell = min(0.3, (width - 2.0) / num_layers)
    used = set(plan.layers)
    for layer in range(num_layers):
        edge, empty = (0.5, None) if cell > 0.1 else (0.0, "#e4e4e4")
        color = canvas.colors[layer] if layer in used else empty
        canvas.rectangle(1.0 + layer * cell, 0.75, cell, 0.25, color, edge=edge)
    canvas.note(0.9, 0.87, "0", fontsize, "right")
    canvas.note(1.1 + num_layers * cell, 0.87, str(num_layers - 1), fontsize)
    canvas.note(1.0, 0.42, note, fontsize)


def _rows(parts: Sequence[Part]) -> list[list[Part]]:
    rows: list[list[Part]] = [[]]
    used = 0.0
    for part in parts:
        if rows[-1] and used + part.width + GAP > ROW_WIDTH:
            rows.append([])
            used = 0.0
        rows[-1].append(part)
        used += part.width + GAP
    return rows


def _height(row: Sequence[Part]) -> float:
    return max(part.up for part in row) + max(part.down for part in row) + 0.4


def _paint_row(canvas: Canvas, row: Sequence[Part], x: float, y: float, more: bool) -> None:
    for part in row:
        canvas.arrow((x, y), (x + GAP, y))
        part.paint(canvas, x + GAP, y)
        x += GAP + part.width
    canvas.arrow((x, y), (x + GAP, y))
    if more:
        canvas.note(x + GAP + 0.15, y, "…", 11)
