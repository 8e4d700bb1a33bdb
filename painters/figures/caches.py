"""Figure 12: the averaged cache of the paper's released code against the exact one."""

from __future__ import annotations

from typing import Any

from painters import variants
from painters.figures.bands import Estimate
from painters.figures.data import Data
from painters.figures.output import Drawing, bands_note, estimate_columns, records_note
from painters.figures.score_table import NothingToDraw, ScoreTable
from painters.figures.style import (
    BLUE,
    RED,
    canvas,
    legend_below,
    line,
    reference,
    spread,
    styled,
    titled,
    whole_ticks,
    width_label,
)
from painters.plan import Plan

SERIES = {1: "parallel", 3: "looped parallel ×3"}
"""Number of loops -> what the table calls it."""
TITLES = {1: "middle layers in parallel", 3: "middle layers in parallel ×3"}
"""Number of loops -> title of its panel."""
LOOKS = {"exact": (BLUE, "-", "o"), "averaged": (RED, (0, (5, 1.5)), "s")}
"""Kind of cache -> colour, dashes and marker of its line."""
COLUMNS = "model task series kv start affected plan score low high change change_low change_high".split()

Lines = dict[tuple[int, str], list[tuple[float, Estimate]]]
"""(loops, kind of cache) -> points (width of the window, score)."""


def caches(data: Data) -> Drawing:
    """Draw gsm8k scores with one cache slot for each executed step, and with the released code's averaged slots."""
    scores = data.decoder
    task = scores.task_like("gsm8k") if scores else None
    if scores is None or task is None:
        raise NothingToDraw("no records of a decoder on gsm8k, the one task that decodes with a cache")
    if not scores.has_kv(task, "averaged"):
        raise NothingToDraw(f"no records of {scores.name} on {task} with the averaged cache (--kv averaged)")
    lines, rows, missing = _lines(scores, task)
    intact = scores.raw(task, scores.identity)
    if intact is None:
        missing.append("the intact model")
    heights = [edge for points in lines.values() for _, e in points for edge in (e.value, *(e.band or ()))]
    heights += [0.0, *([intact.value] if intact else [])]
    widths = [len(variants.window(scores.num_layers, start)) for start in variants.windows(scores.num_layers)]
    with styled():
        figure, axes = canvas(2, 5.2, width=5.8)
        for panel, (loops, label) in zip(axes, TITLES.items(), strict=True):
            for kv, style in LOOKS.items():
                line(panel, lines[loops, kv], style, f"{kv} cache")
            if intact:
                reference(panel, intact.value, "intact")
            spread(panel, heights)
            whole_ticks(panel, widths)
            panel.set_xlim(min(widths) - 0.6, max(widths) + 0.6)
            titled(panel, scores.name, label)
            width_label(panel, scores.num_layers)
            panel.set_ylabel(f"{task}, exact match")
            legend_below(panel, 2)
    about = [
        "exact: one cache slot for each executed step, so that decoding equals decoding without a cache. averaged: one "
        "slot for each pass of the group, which holds the mean of its layers' keys and values, as in the paper's "
        "released code.",
        "In the table, change, change_low and change_high are the averaged score minus the exact one, paired by "
        "document.",
        records_note(scores, [task]),
        bands_note([scores], are_computed=False),
    ]
    return Drawing(figure, rows, COLUMNS, about, missing)


def _lines(scores: ScoreTable, task: str) -> tuple[Lines, list[dict[str, Any]], list[str]]:
    """Return the points of every line, the rows of the table, and descriptions of the missing points."""
    rows: list[dict[str, Any]] = []
    missing: list[str] = []
    lines: Lines = {(loops, kv): [] for loops in SERIES for kv in LOOKS}
    for loops, kv in lines:
        for start in reversed(variants.windows(scores.num_layers)):
            plan = variants.parallel(num_layers=scores.num_layers, start=start, loops=loops)
            width = len(variants.window(scores.num_layers, start))
            score = _score(scores, task, plan, kv, width)
            if score is None:
                missing.append(f"{SERIES[loops]}, {kv} cache, M = {width}")
                continue
            lines[loops, kv].append((width, score))
            exact = scores.find(task, plan)
            averaged = scores.find(task, plan, kv) or exact
            change = scores.difference(averaged, exact) if kv == "averaged" and averaged and exact else None
            rows.append(
                {"model": scores.name, "task": task, "series": SERIES[loops], "kv": kv, "start": start}
                | {"affected": width, "plan": str(plan)}
                | estimate_columns(score, "score", "low", "high")
                | estimate_columns(change, "change", "change_low", "change_high")
            )
    return lines, rows, missing


def _score(scores: ScoreTable, task: str, plan: Plan, kv: str, width: int) -> Estimate | None:
    """Return the score of `plan` with this kind of cache, or None."""
    # A window of one layer has no group, so nothing is averaged in its slot and its plan is scored only once.
    return scores.raw(task, plan, kv) or (scores.raw(task, plan) if width == 1 else None)
