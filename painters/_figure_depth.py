"""Figure 13: what depth costs, the longest chain of layers of every plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from painters._figure_bands import Estimate, median
from painters._figure_board import Board, NothingToDraw
from painters._figure_data import Data
from painters._figure_output import Drawing, bands_note, numbers, provenance, short
from painters._figure_style import BLACK, COLORS, GREY, MARKERS, canvas, legend_below, reference, styled, whole_ticks
from painters.plan import Plan

COLUMNS = "model plan kind depth layer_runs median low high front".split()


@dataclass(frozen=True, slots=True)
class Spot:
    """A plan that was scored on all tasks."""

    plan: str
    kind: str
    depth: int
    layer_runs: int
    score: Estimate
    front: bool = False


KINDS = {
    "intact": "intact",
    "skip": "skip",
    "skip-layer": "skip one layer",
    "swap": "swap",
    "middle-repeat": "middle repeat",
    "reverse": "reverse",
    "shuffle": "shuffle",
    "parallel": "parallel",
    "looped": "looped parallel",
    "other": "other plans",
}


def depths(data: Data) -> Drawing:
    """Figure 13: the median of every plan against its longest chain of layers, and the plans that none beats."""
    board = data.decoder
    spots, partial = _spots(board) if board else ([], 0)
    if board is None or len(spots) < 2:
        raise NothingToDraw("no two plans were scored on all tasks")
    front = [spot for spot in spots if spot.front]
    with styled():
        figure, [axes] = canvas(1, 6.4, width=7.6)
        edge = [*front, Spot("", "", max(spot.depth for spot in spots), 0, front[-1].score)]
        axes.step(
            [s.depth for s in edge], [s.score.value for s in edge], where="post", color=GREY, linewidth=2, zorder=2
        )
        for number, (kind, label) in enumerate(KINDS.items()):
            some = [spot for spot in spots if spot.kind == kind]
            if some:
                color, marker = (COLORS[number % 6], MARKERS[number % 7]) if kind != "intact" else (BLACK, "*")
                size = 190 if kind == "intact" else 46
                axes.scatter(
                    [s.depth for s in some], [s.score.value for s in some], s=size, color=color, marker=marker,
                    alpha=0.8, edgecolor="white", linewidth=0.6, label=label, zorder=5 if kind == "intact" else 4,
                )  # fmt: skip
        for spot in front:
            if spot.score.band:
                axes.plot([spot.depth] * 2, spot.score.band, color=GREY, linewidth=1.2, zorder=3)
        reference(axes, 1.0, "intact")
        reference(axes, 0.0, "random", (0, (1, 2)))
        whole_ticks(axes, [spot.depth for spot in spots], most=14)
        axes.set(xlabel="depth: layers on the longest chain", ylabel="normalised score, median", title=board.model)
        axes.plot([], [], color=GREY, linewidth=2, label="front, 95 % bars")
        legend_below(axes, 3)
    rows: list[dict[str, Any]] = [
        {"model": board.model, "plan": spot.plan, "kind": spot.kind, "depth": spot.depth}
        | {"layer_runs": spot.layer_runs, "front": spot.front}
        | numbers(spot.score, "median", "low", "high")
        for spot in spots
    ]
    about = [
        "Every plan that was scored on all tasks with the exact cache. y: the normalised median over tasks. On the "
        "front are the plans than which no other of their depth or less scores more.",
        "The front was picked from these very scores, so its upper end is flattered: read it with its bars.",
        f"On the front: {short([f'{spot.plan} (depth {spot.depth})' for spot in front], 20)}.",
        provenance(board, board.comparable),
        bands_note(),
    ]
    missing = [f"{partial} plans that were scored on some of the tasks only"] if partial else []
    return Drawing(figure, rows, COLUMNS, about, missing)


def _spots(board: Board) -> tuple[list[Spot], int]:
    """The plans scored on all tasks, by depth, and how many others there are."""
    plans = {record.plan: record for record in board.records if record.kv == "exact"}
    kinds = _kinds(board)
    spots = []
    for text, record in plans.items():
        scores = [score for task in board.comparable if (score := board.scaled(task, text))]
        if scores and len(scores) == len(board.comparable):
            kind = kinds.get(text, "other")
            spots.append(Spot(text, kind, record.depth, record.layer_runs, median(scores)))
    spots.sort(key=lambda spot: (spot.depth, -spot.score.value, spot.layer_runs, spot.plan))
    return _with_front(spots), len(plans) - len(spots)


def _with_front(spots: Sequence[Spot]) -> list[Spot]:
    """The spots in order of depth, marked where no spot before scores as much."""
    best, marked = float("-inf"), []
    for spot in spots:
        marked.append(replace(spot, front=spot.score.value > best))
        best = max(best, spot.score.value)
    return marked


def _kinds(board: Board) -> dict[str, str]:
    """Plan -> kind: by the rule that the records name."""
    found = {}
    for record in board.records:
        loops = int((record.params or {}).get("loops", 1))
        kind = "looped" if record.variant == "parallel" and loops > 1 else record.variant
        found[record.plan] = kind if kind in KINDS else "other"
    return found | {str(Plan.identity(board.num_layers)): "intact"}
