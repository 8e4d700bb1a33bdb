"""Figure 12: the averaged cache of the paper's released code against the exact one."""

from __future__ import annotations

from typing import Any

from painters import variants
from painters.figures.bands import Estimate
from painters.figures.board import Board, NothingToDraw
from painters.figures.data import Data
from painters.figures.output import Drawing, bands_note, numbers, provenance
from painters.figures.style import BLUE, RED, canvas, legend_below, line, reference, spread, styled, whole_ticks
from painters.plan import Plan

WAYS = {1: "parallel", 3: "looped parallel ×3"}
LOOKS = {"exact": (BLUE, "-", "o"), "averaged": (RED, (0, (5, 1.5)), "s")}
COLUMNS = "model task series kv start affected plan score low high change change_low change_high".split()


def caches(data: Data) -> Drawing:
    """gsm8k with a cache slot for each executed step, and with the released code's averaged slots."""
    board = data.decoder
    task = board.task_like("gsm8k") if board else None
    if board is None or task is None:
        raise NothingToDraw("no records of a decoder on gsm8k, the one task that decodes with a cache")
    if not board.has_kv(task, "averaged"):
        raise NothingToDraw(f"no records of {board.model} on {task} with the averaged cache (--kv averaged)")
    rows: list[dict[str, Any]] = []
    missing: list[str] = []
    lines: dict[tuple[int, str], list[tuple[float, Estimate]]] = {(n, kv): [] for n in WAYS for kv in LOOKS}
    for loops, kv in lines:
        for start in reversed(variants.windows(board.num_layers)):
            plan = variants.parallel(num_layers=board.num_layers, start=start, loops=loops)
            width = len(variants.window(board.num_layers, start))
            score = _score(board, task, plan, kv, width)
            if score is None:
                missing.append(f"{WAYS[loops]}, {kv} cache, M = {width}")
                continue
            lines[loops, kv].append((width, score))
            exact = board.raw(task, plan) if kv == "averaged" else None
            rows.append(
                {"model": board.model, "task": task, "series": WAYS[loops], "kv": kv, "start": start}
                | {"affected": width, "plan": str(plan)}
                | numbers(score, "score", "low", "high")
                | numbers(score - exact if exact else None, "change", "change_low", "change_high")
            )
    intact = board.raw(task, board.identity)
    if intact is None:
        missing.append("the intact model")
    heights = [edge for points in lines.values() for _, e in points for edge in (e.value, *(e.band or ()))]
    heights += [0.0, *([intact.value] if intact else [])]
    widths = [len(variants.window(board.num_layers, start)) for start in variants.windows(board.num_layers)]
    with styled():
        figure, axes = canvas(2, 5.2, width=5.8)
        for place, (loops, label) in zip(axes, WAYS.items(), strict=True):
            for kv, style in LOOKS.items():
                line(place, lines[loops, kv], style, f"{kv} cache")
            if intact:
                reference(place, intact.value, "intact")
            spread(place, heights)
            whole_ticks(place, widths)
            place.set_xlim(min(widths) - 0.6, max(widths) + 0.6)
            place.set(title=f"{board.model}, {label}", xlabel=f"layers affected, M (of {board.num_layers})")
            place.set_ylabel(f"{task}, exact match")
            legend_below(place, 2)
    about = [
        "exact: one cache slot for each executed step, which decodes as without a cache. averaged: the paper's "
        "released code, which keeps one slot for each pass of the group and averages its layers' keys and values.",
        "The columns change to change_high of the table are averaged less exact, paired by document.",
        provenance(board, [task]),
        bands_note([board]),
    ]
    return Drawing(figure, rows, COLUMNS, about, missing)


def _score(board: Board, task: str, plan: Plan, kv: str, width: int) -> Estimate | None:
    # One layer is no group: nothing is averaged in its slot, so its plan is scored once.
    return board.raw(task, plan, kv) or (board.raw(task, plan) if width == 1 else None)
