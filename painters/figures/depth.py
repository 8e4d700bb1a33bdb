"""Figure 13: the score of every plan against its depth, the length of its longest chain of layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from painters.figures.bands import ROUNDING, Estimate, median
from painters.figures.data import Data
from painters.figures.output import Drawing, bands_note, estimate_columns, records_note, short
from painters.figures.score_table import NothingToDraw, ScoreTable
from painters.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    RED,
    SKY,
    canvas,
    legend_below,
    reference,
    styled,
    titled,
    whole_ticks,
)
from painters.plan import Plan

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = "model plan kind depth layer_runs median low high front".split()


@dataclass(frozen=True, slots=True)
class Spot:
    """A plan that was scored on all tasks; `front` says whether it is on the Pareto front."""

    plan: str
    kind: str
    depth: int
    layer_runs: int
    score: Estimate
    front: bool = False


# kind -> label, colour, marker
KINDS = {
    "intact": ("intact", BLACK, "*"),
    "skip": ("skip", BLUE, "o"),
    "skip-layer": ("skip one layer", SKY, "<"),
    "swap": ("swap", BLACK, "x"),
    "middle-repeat": ("middle repeat", ORANGE, "s"),
    "reverse": ("reverse", GREEN, "D"),
    "shuffle": ("shuffle", RED, "^"),
    "parallel": ("parallel", PINK, "v"),
    "looped": ("looped parallel", SKY, "P"),
    "other": ("other plans", GREY, "h"),
}


def depths(data: Data) -> Drawing:
    """Draw the median score of every plan against its depth, and the Pareto front of score and depth."""
    scores = data.decoder
    spots, partial = _spots(scores) if scores else ([], 0)
    if scores is None or len(spots) < 2:
        raise NothingToDraw("no two plans were scored on all tasks")
    front = [spot for spot in spots if spot.front]
    with styled():
        figure, [axes] = canvas(1, 6.0, width=9.6)
        _paint(axes, spots, front)
        axes.set(xlabel="depth: layers on the longest chain", ylabel="normalised score, median over tasks")
        titled(axes, scores.name, "every plan, by its depth")
    rows: list[dict[str, Any]] = [
        {"model": scores.name, "plan": spot.plan, "kind": spot.kind, "depth": spot.depth}
        | {"layer_runs": spot.layer_runs, "front": spot.front}
        | estimate_columns(spot.score, "median", "low", "high")
        for spot in spots
    ]
    about = [
        "Every plan that was scored on all tasks with the exact cache. y: the normalised median over tasks. The "
        "Pareto front: no plan of the same or smaller depth scores higher.",
        "The front was chosen by these same scores, so its plans look better than they are: read it with its bars.",
        f"On the front: {short([f'{spot.plan} (depth {spot.depth})' for spot in front], 20)}.",
        records_note(scores, scores.comparable),
        bands_note([scores]),
    ]
    missing = [f"{partial} plans that were scored on some of the tasks only"] if partial else []
    return Drawing(figure, rows, COLUMNS, about, missing)


def _paint(axes: Axes, spots: Sequence[Spot], front: Sequence[Spot]) -> None:
    """Draw the spots by kind, the front as a staircase with the bars of its plans, and the legend."""
    ends = [*(spot.depth for spot in front), max(spot.depth for spot in spots)]
    heights = [*(spot.score.value for spot in front), front[-1].score.value]
    axes.step(ends, heights, where="post", color=GREY, linewidth=2, zorder=2)
    for kind, (label, color, marker) in KINDS.items():
        of_kind = [spot for spot in spots if spot.kind == kind]
        if of_kind:
            intact = kind == "intact"
            edges: dict[str, Any] = {} if marker == "x" else {"edgecolor": "white", "linewidth": 0.5}
            axes.scatter(
                [spot.depth for spot in of_kind], [spot.score.value for spot in of_kind], s=200 if intact else 46,
                color=color, marker=marker, alpha=0.85, label=label, zorder=5 if intact else 4, **edges,
            )  # fmt: skip
    for spot in front:
        if spot.score.band:
            axes.plot([spot.depth] * 2, spot.score.band, color=GREY, linewidth=1.4, zorder=3)
    axes.plot([], [], color=GREY, linewidth=2, label="front, 95 % bars")
    reference(axes, 1.0, "intact")
    reference(axes, 0.0, "chance", (0, (1, 2)))
    depths = [spot.depth for spot in spots]
    whole_ticks(axes, range(min(depths), max(depths) + 1), most=14)
    legend_below(axes, 4)


def _spots(scores: ScoreTable) -> tuple[list[Spot], int]:
    """Return the plans that were scored on all tasks, sorted by depth, and the number of other plans."""
    plans = {record.plan: record for record in scores.records if record.kv == "exact"}
    kinds = _kinds(scores)
    spots = []
    for text, record in plans.items():
        scaled = [score for task in scores.comparable if (score := scores.scaled(task, text))]
        if scaled and len(scaled) == len(scores.comparable):
            kind = kinds.get(text, "other")
            spots.append(Spot(text, kind, record.depth, record.layer_runs, median(scaled)))
    spots.sort(key=lambda spot: (spot.depth, -spot.score.value, spot.layer_runs, spot.plan))
    return _with_front(spots), len(plans) - len(spots)


def _with_front(spots: Sequence[Spot]) -> list[Spot]:
    """Mark the Pareto front of spots sorted by depth: all than which none of the same or smaller depth scores more."""
    best: dict[int, float] = {}
    for spot in spots:
        best[spot.depth] = max(spot.score.value, *best.values()) if best else spot.score.value
    return [replace(spot, front=spot.score.value >= best[spot.depth] - ROUNDING) for spot in spots]


def _kinds(scores: ScoreTable) -> dict[str, str]:
    """Return plan -> kind (a key of KINDS), from the variant that the record names."""
    kinds = {}
    for record in scores.records:
        loops = int((record.params or {}).get("loops", 1))
        kind = "looped" if record.variant == "parallel" and loops > 1 else record.variant
        kinds[record.plan] = kind if kind in KINDS else "other"
    return kinds | {str(Plan.identity(scores.num_layers)): "intact"}
