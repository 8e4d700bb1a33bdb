"""Figure 2: one layer left out, or exchanged with the next, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from painters import variants
from painters.figures.bands import Estimate
from painters.figures.data import Data
from painters.figures.output import Drawing, bands_note, estimate_columns, records_note, short
from painters.figures.score_table import NothingToDraw, ScoreTable
from painters.figures.style import (
    BLUE,
    ORANGE,
    canvas,
    hollow,
    line,
    reference,
    shared_legend,
    spread,
    styled,
    titled,
    whole_ticks,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABELS = {"skip-layer": "layer skipped", "swap": "layer swapped with the next"}
LOOKS = {"skip-layer": (BLUE, "-", "o"), "swap": (ORANGE, (0, (5, 1.5)), "s")}
COLUMNS = "model task series layer plan score low high difference difference_low difference_high".split()
ZOOMED = "the same, near the intact model"
MOST_ZOOMED = 0.5
"""Largest part of the axis that is worth a panel of its own."""

Lines = dict[str, dict[int, Estimate]]
"""Name of the variant -> layer -> score."""


def single_layers(data: Data) -> Drawing:
    """Draw accuracy on LAMBADA against the layer; points that may equal the intact model are hollow."""
    scores = data.decoder
    task = scores.task_like("lambada") if scores else None
    if scores is None or task is None:
        raise NothingToDraw("no records of a decoder on LAMBADA")
    lines = {name: _points(scores, task, name) for name in LABELS}
    if not any(lines.values()):
        raise NothingToDraw(f"no records of {scores.name} on {task} with one layer skipped or swapped")
    intact = scores.raw(task, scores.identity)
    record = scores.find(task, scores.identity)
    chance = record.chance if record else None
    levels = {"intact": intact.value if intact else None, "chance": chance}
    unclear = {name: _unclear(scores, task, name, points) for name, points in lines.items()}
    zoom = _zoom(lines, levels)
    with styled():
        figure, axes = canvas(2 if zoom else 1, 4.9, width=6.4 if zoom else 7.4)
        for panel, limits in zip(axes, (None, zoom), strict=False):
            _paint(panel, lines, levels, limits)
            for name, points in unclear.items():
                hollow(panel, points, LOOKS[name])
            whole_ticks(panel, range(scores.num_layers), most=12)
            panel.set(xlabel="layer (index from 0)", ylabel=f"{task}, accuracy")
            titled(panel, *((scores.name, "one layer skipped or swapped") if limits is None else (ZOOMED,)))
        shared_legend(figure, axes, 2)
    about = [
        "x: the layer that is left out, or exchanged with the one after it. y: accuracy. The dashed line is the intact "
        "model.",
        *(["Right: the same points, without those far below the intact model."] if zoom else []),
        "Hollow points: the 95 % interval of the difference from the intact model, paired by document, holds zero, so "
        "that the choice of documents may explain the difference. In the table it is difference_low to "
        "difference_high. A band is that of the score alone, so it may touch the line of the intact model where the "
        "paired difference is clear.",
        records_note(scores, [task]),
        bands_note([scores], are_computed=False),
    ]
    return Drawing(figure, _rows(scores, task, lines, intact), COLUMNS, about, _missing(scores, lines, intact))


def _paint(
    axes: Axes,
    lines: Lines,
    levels: Mapping[str, float | None],
    limits: tuple[float, float] | None,
) -> None:
    """Draw the lines and the levels of the intact model and of chance, between `limits` if given."""
    for name, points in lines.items():
        line(axes, list(points.items()), LOOKS[name], LABELS[name])
    low, high = limits or (float("-inf"), float("inf"))
    for (label, level), dashes in zip(levels.items(), ((0, (4, 3)), (0, (1, 2))), strict=True):
        if level is not None and low <= level <= high:
            reference(axes, level, label, dashes)
    if limits is None:
        spread(axes, [*_edges(lines), *(level for level in levels.values() if level is not None)])
    else:
        axes.set_ylim(low, high)


def _edges(lines: Lines) -> list[float]:
    """Return the heights of all points, and of the ends of their bands."""
    return [edge for points in lines.values() for e in points.values() for edge in (e.value, *(e.band or ()))]


def _zoom(lines: Lines, levels: Mapping[str, float | None]) -> tuple[float, float] | None:
    """Return the limits of a panel of the points near the intact model; None where the whole axis shows them well."""
    values = [estimate.value for points in lines.values() for estimate in points.values()]
    known = [level for level in levels.values() if level is not None]
    top = max(values) if levels["intact"] is None else levels["intact"]
    bottom = min(*values, *known, top)
    near: Lines = {
        name: {layer: estimate for layer, estimate in points.items() if estimate.value > (top + bottom) / 2}
        for name, points in lines.items()
    }
    heights = [*_edges(near), top]
    margin = 0.12 * (max(heights) - min(heights))
    limits = min(heights) - margin, max(heights) + margin
    return limits if 0 < limits[1] - limits[0] < MOST_ZOOMED * (max(*values, *known) - bottom) else None


def _points(scores: ScoreTable, task: str, name: str) -> dict[int, Estimate]:
    """Return layer -> score."""
    points: dict[int, Estimate] = {}
    plans = {layer: variants.build(name, scores.num_layers, layer=layer) for layer in _layers(scores, name)}
    if not any(scores.was_asked(plan, name) for plan in plans.values()):
        return points
    for layer, plan in plans.items():
        if score := scores.raw(task, plan):
            points[layer] = score
    return points


def _difference(scores: ScoreTable, task: str, plan: str) -> Estimate | None:
    """Return the difference of the plan from the intact model; None where that is missing."""
    record, intact = scores.find(task, plan), scores.find(task, scores.identity)
    return scores.difference(record, intact) if record and intact else None


def _unclear(scores: ScoreTable, task: str, name: str, points: dict[int, Estimate]) -> list[tuple[int, float]]:
    """Return (layer, score) of the points whose difference from the intact model may be zero."""
    unclear = []
    for layer, estimate in points.items():
        difference = _difference(scores, task, str(variants.build(name, scores.num_layers, layer=layer)))
        if difference and difference.band and difference.band[0] <= 0 <= difference.band[1]:
            unclear.append((layer, estimate.value))
    return unclear


def _layers(scores: ScoreTable, name: str) -> range:
    """Return the layers that the variant `name` applies to: the last one has no next to be swapped with."""
    return range(scores.num_layers - (name == "swap"))


def _rows(scores: ScoreTable, task: str, lines: Lines, intact: Estimate | None) -> list[dict[str, Any]]:
    """Return the rows of the table: every point, and the intact model."""
    rows: list[dict[str, Any]] = []
    for name, points in lines.items():
        for layer, estimate in points.items():
            plan = str(variants.build(name, scores.num_layers, layer=layer))
            shared = {"model": scores.name, "task": task, "series": name, "layer": layer, "plan": plan}
            difference = _difference(scores, task, plan)
            rows.append(
                shared
                | estimate_columns(estimate, "score", "low", "high")
                | estimate_columns(difference, "difference", "difference_low", "difference_high")
            )
    if intact:
        shared = {"model": scores.name, "task": task, "series": "intact", "plan": scores.identity}
        rows.append(shared | estimate_columns(intact, "score", "low", "high"))
    return rows


def _missing(scores: ScoreTable, lines: Lines, intact: Estimate | None) -> list[str]:
    """Describe the layers without a record, and the intact model where it has none."""
    missing = [
        f"{LABELS[name]}: layers {short(absent, 40)}"
        for name, points in lines.items()
        if (absent := sorted(set(_layers(scores, name)) - set(points)))
    ]
    return missing if intact else [*missing, "the intact model, and with it the differences"]
