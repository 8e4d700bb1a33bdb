"""Figure 10: the best number of loops for each width of the window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from painters import variants
from painters.figures.bands import ROUNDING, Estimate, median
from painters.figures.data import Data
from painters.figures.output import Drawing, bands_note, estimate_columns, records_note, short
from painters.figures.score_table import NothingToDraw, ScoreTable
from painters.figures.style import BLUE, RED, canvas, styled, titled, whole_ticks, write_cells

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW, COLUMN = 0.32, 0.62
"""Inches of a row and of a column of the heat map, in which its numbers are legible."""
COLUMNS = "model affected loops median low high best best_low best_high".split()


@dataclass(frozen=True, slots=True)
class BestLoops:
    """The best number of loops for one width, and the range of those that may be as good (None: unknown)."""

    loops: int
    low: int | None
    high: int | None


def loops(data: Data) -> Drawing:
    """Draw the median score over width and loops with the best of each width framed, and a line of the best."""
    scores = data.decoder
    medians = _medians(scores) if scores else {}
    if scores is None or not any(count > 1 for _, count in medians):
        raise NothingToDraw("no records of looped parallel windows on all tasks")
    widths = sorted({width for width, _ in medians})
    counts = sorted({count for _, count in medians})
    best = {width: best_loops({n: medians[width, n] for n in counts if (width, n) in medians}) for width in widths}
    rows = [
        {"model": scores.name, "affected": width, "loops": n, "best": n == best[width].loops}
        | estimate_columns(estimate, "median", "low", "high")
        | ({"best_low": best[width].low, "best_high": best[width].high} if n == best[width].loops else {})
        for (width, n), estimate in sorted(medians.items())
    ]
    with styled():
        height = min(max(5.0, ROW * max(counts) + 1.3), 10.0)
        figure, [left, right] = canvas(2, height, width=max(6.2, COLUMN * len(widths) + 1.8))
        _paint_medians(left, medians, widths, counts)
        _frame_best(left, widths, best)
        titled(left, scores.name, "middle layers in parallel R times")
        _paint_best(right, widths, counts, best)
    about = [
        "Left: the normalised median of a window of M layers run in parallel R times, each time on the mean of the "
        "time before. The best R for each M is framed (of equal ones the smallest). Right: the best R against M.",
        *(["Hatched numbers of loops were not scored."] if len(counts) < max(counts) else []),
        "M = 1 is one layer repeated. Bars on the right: from the smallest to the largest R that may be "
        "as good as the best, since the 95 % interval of the difference, in the same draws, holds zero.",
        records_note(scores, scores.comparable),
        bands_note([scores]),
    ]
    return Drawing(figure, rows, COLUMNS, about, _missing(scores, medians, counts))


def _missing(scores: ScoreTable, medians: dict[tuple[int, int], Estimate], counts: list[int]) -> list[str]:
    """Describe the loop counts that are missing at each width."""
    widths = sorted(len(variants.window(scores.num_layers, start)) for start in variants.windows(scores.num_layers))
    absent = {width: [n for n in counts if (width, n) not in medians] for width in widths}
    return [f"R = {short(missing, 30)} at M = {width}" for width, missing in absent.items() if missing]


def _medians(scores: ScoreTable) -> dict[tuple[int, int], Estimate]:
    """Return (width, loops) -> median over the tasks, for plans that were scored on all tasks."""
    most = max([3, *(int((record.params or {}).get("loops", 1)) for record in scores.records)])
    medians: dict[tuple[int, int], Estimate] = {}
    asked = False
    for start in variants.windows(scores.num_layers):
        width = len(variants.window(scores.num_layers, start))
        for count in range(1, most + 1):
            plan = variants.parallel(num_layers=scores.num_layers, start=start, loops=count)
            asked = asked or (count > 1 and scores.was_asked(plan, "parallel", loops=count))
            scaled = [score for task in scores.comparable if (score := scores.scaled(task, plan))]
            if scaled and len(scaled) == len(scores.comparable):
                medians[width, count] = median(scaled)
    return medians if asked else {}


def best_loops(column: dict[int, Estimate]) -> BestLoops:
    """Return the best loop count of one width, the smallest of equal ones, and the range of those that may be as good.

    The range holds the truly best one as often as the interval of a difference holds the truth. Percentiles of the best
    one of each draw hold it too seldom where many are about equal.
    """
    counts = sorted(column)
    highest = max(estimate.value for estimate in column.values())
    best = min(count for count in counts if column[count].value >= highest - ROUNDING)
    samples = [column[count].samples for count in counts]
    known = [sample for sample in samples if sample is not None]
    if len(known) < len(counts):
        return BestLoops(best, None, None)
    draws = np.stack(known)
    draws = draws[:, np.isfinite(draws).all(axis=0)]
    if draws.shape[1] < 0.975 * len(known[0]):
        return BestLoops(best, None, None)
    behind = np.percentile(draws - draws[counts.index(best)], 97.5, axis=1)
    able = [count for count, most in zip(counts, behind, strict=True) if most >= -ROUNDING]
    return BestLoops(best, min(able), max(able))


def _paint_medians(axes: Axes, medians: dict[tuple[int, int], Estimate], widths: list[int], counts: list[int]) -> None:
    """Draw the medians as a heat map with a row for every number of loops up to the highest, hatched if not scored."""
    rows = range(1, max(counts) + 1)
    table = np.array([[medians[w, n].value if (w, n) in medians else np.nan for w in widths] for n in rows])
    axes.set_facecolor("#e8e8e8")
    axes.patch.set(hatch="////", edgecolor="#b5b5b5", linewidth=0)
    image = axes.imshow(
        table, cmap="cividis", origin="lower", aspect="auto", vmin=min(0.0, float(np.nanmin(table))),
        vmax=max(1.0, float(np.nanmax(table))), extent=(-0.5, len(widths) - 0.5, 0.5, max(counts) + 0.5),
    )  # fmt: skip
    write_cells(axes, image, table, first=(0, 1))
    axes.spines[["top", "right"]].set_visible(True)
    step = -(-len(widths) // 14)
    axes.set_xticks(range(0, len(widths), step), labels=[str(width) for width in widths[::step]])
    _loop_axis(axes, counts)
    axes.set_xlabel("layers affected, $M$", parse_math=True)
    axes.set_ylabel("loops, $R$", parse_math=True)
    axes.figure.colorbar(image, ax=axes, label="normalised score, median over tasks", pad=0.02)


def _frame_best(axes: Axes, widths: list[int], best: dict[int, BestLoops]) -> None:
    """Frame the best number of loops of each width in the heat map."""
    from matplotlib.patches import Rectangle

    for x, width in enumerate(widths):
        for color, thickness in (("white", 5.0), (RED, 2.8)):
            corner = x - 0.45, best[width].loops - 0.45
            axes.add_patch(Rectangle(corner, 0.9, 0.9, fill=False, edgecolor=color, linewidth=thickness))


def _loop_axis(axes: Axes, counts: list[int]) -> None:
    """Give both panels the same y axis: whole numbers of loops, equally far apart."""
    step = -(-max(counts) // 16)
    axes.set_yticks([1, *range(step, max(counts) + 1, step)] if step > 1 else range(1, max(counts) + 1))
    axes.set_ylim(0.5, max(counts) + 0.5)


def _paint_best(axes: Axes, widths: list[int], counts: list[int], best: dict[int, BestLoops]) -> None:
    """Draw the best loop count against the width, with bars for the draws."""
    for width in widths:
        low, high = best[width].low, best[width].high
        if low is not None and high is not None:
            axes.plot([width, width], [low, high], color=BLUE, alpha=0.35, linewidth=6, solid_capstyle="butt", zorder=2)
    axes.plot(
        widths, [best[width].loops for width in widths], color=BLUE, marker="o", markersize=7, linewidth=2.4, zorder=3
    )
    whole_ticks(axes, widths)
    _loop_axis(axes, counts)
    axes.set_title("best $R$ with 95 % bars", parse_math=True)
    axes.set_xlabel("layers affected, $M$", parse_math=True)
    axes.set_ylabel("best number of loops, $R$", parse_math=True)
