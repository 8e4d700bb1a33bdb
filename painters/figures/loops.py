"""Figure 10: how many loops are best for a window of this width."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from painters import variants
from painters.figures.bands import Estimate, median
from painters.figures.board import Board, NothingToDraw
from painters.figures.data import Data
from painters.figures.output import Drawing, bands_note, numbers, provenance, short
from painters.figures.style import BLUE, RED, canvas, styled, whole_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = "model affected loops median low high best best_low best_high".split()


def loops(data: Data) -> Drawing:
    """The median over loops and width, the best loop count of each width framed; and that count's line."""
    board = data.decoder
    cells = _cells(board) if board else {}
    if board is None or not any(count > 1 for _, count in cells):
        raise NothingToDraw("no records of looped parallel windows on all tasks")
    widths = sorted({width for width, _ in cells})
    counts = sorted({count for _, count in cells})
    best = {width: _best({n: cells[width, n] for n in counts if (width, n) in cells}) for width in widths}
    rows = [
        {"model": board.model, "affected": width, "loops": n, "best": n == best[width][0]}
        | numbers(estimate, "median", "low", "high")
        | ({"best_low": best[width][1], "best_high": best[width][2]} if n == best[width][0] else {})
        for (width, n), estimate in sorted(cells.items())
    ]
    with styled():
        figure, [left, right] = canvas(2, 5.0, width=6.2)
        _paint_cells(left, cells, widths, counts, {width: found[0] for width, found in best.items()})
        left.set_title(f"{board.model}, median of {len(board.comparable)} tasks")
        _paint_best(right, widths, counts, best)
    about = [
        "Left: normalised median of a window of M layers run in parallel R times, its mean fed back; the best R of "
        "each M is framed, of equal ones the smallest. Right: that R against M.",
        "M = 1 is one layer repeated. Bars on the right: 95 % of the draws have their best R within.",
        provenance(board, board.comparable),
        bands_note([board]),
    ]
    return Drawing(figure, rows, COLUMNS, about, _missing(board, cells, counts))


def _missing(board: Board, cells: dict[tuple[int, int], Estimate], counts: list[int]) -> list[str]:
    widths = sorted(len(variants.window(board.num_layers, start)) for start in variants.windows(board.num_layers))
    holes = {width: [n for n in counts if (width, n) not in cells] for width in widths}
    return [f"R = {short(absent, 30)} at M = {width}" for width, absent in holes.items() if absent]


def _cells(board: Board) -> dict[tuple[int, int], Estimate]:
    """(width, loops) -> median over the tasks, where all tasks were scored."""
    most = max([3, *(int((record.params or {}).get("loops", 1)) for record in board.records)])
    found: dict[tuple[int, int], Estimate] = {}
    for start in variants.windows(board.num_layers):
        width = len(variants.window(board.num_layers, start))
        for count in range(1, most + 1):
            plan = variants.parallel(num_layers=board.num_layers, start=start, loops=count)
            scores = [score for task in board.comparable if (score := board.scaled(task, plan))]
            if scores and len(scores) == len(board.comparable):
                found[width, count] = median(scores)
    return found


def _best(column: dict[int, Estimate]) -> tuple[int, int | None, int | None]:
    """The best loop count, and where 95 % of the draws have it."""
    counts = sorted(column)
    best = max(counts, key=lambda count: (column[count].value, -count))
    samples = [column[count].samples for count in counts]
    known = [sample for sample in samples if sample is not None]
    if len(known) < len(counts) or np.isnan(np.stack(known)).any():
        return best, None, None
    winners = np.array(counts)[np.stack(known).argmax(axis=0)]
    low, high = np.percentile(winners, [2.5, 97.5], method="nearest")
    return best, int(min(low, best)), int(max(high, best))


def _paint_cells(
    axes: Axes, cells: dict[tuple[int, int], Estimate], widths: list[int], counts: list[int], best: dict[int, int]
) -> None:
    from matplotlib.patches import Rectangle

    table = np.array([[cells[w, n].value if (w, n) in cells else np.nan for w in widths] for n in counts])
    image = axes.imshow(
        table, cmap="cividis", origin="lower", aspect="auto", vmin=min(0.0, float(np.nanmin(table))),
        vmax=max(1.0, float(np.nanmax(table))),
    )  # fmt: skip
    for place, width in enumerate(widths):
        y = counts.index(best[width])
        for color, thickness in (("white", 5.0), (RED, 2.8)):
            frame = Rectangle((place - 0.44, y - 0.44), 0.88, 0.88, fill=False, edgecolor=color, linewidth=thickness)
            axes.add_patch(frame)
    axes.spines[["top", "right"]].set_visible(True)
    for axis, values in ((axes.xaxis, widths), (axes.yaxis, counts)):
        step = -(-len(values) // 14)
        axis.set_ticks(range(0, len(values), step), labels=[str(value) for value in values[::step]])
    axes.set(xlabel="layers affected, M", ylabel="loops, R")
    axes.figure.colorbar(image, ax=axes, label="normalised score, median", pad=0.02)


def _paint_best(
    axes: Axes, widths: list[int], counts: list[int], best: dict[int, tuple[int, int | None, int | None]]
) -> None:
    for width in widths:
        _, low, high = best[width]
        if low is not None and high is not None:
            axes.plot([width, width], [low, high], color=BLUE, alpha=0.35, linewidth=6, solid_capstyle="butt", zorder=2)
    axes.plot(
        widths, [best[width][0] for width in widths], color=BLUE, marker="o", markersize=7, linewidth=2.4, zorder=3
    )
    whole_ticks(axes, widths)
    step = -(-len(counts) // 14)
    axes.set_yticks(counts[::step])
    axes.set_ylim(min(counts) - 0.6, max(counts) + 0.6)
    axes.set(xlabel="layers affected, M", ylabel="best number of loops, R", title="best R, 95 % bars")
