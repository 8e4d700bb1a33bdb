"""Figure 2: one layer left out, or exchanged with the next, layer by layer."""

from __future__ import annotations

from typing import Any

from painters import variants
from painters.figures.bands import Estimate
from painters.figures.data import Data
from painters.figures.output import Drawing, bands_note, estimate_columns, records_note, short
from painters.figures.score_table import NothingToDraw, ScoreTable
from painters.figures.style import BLUE, ORANGE, canvas, legend_below, line, reference, spread, styled, whole_ticks

LABELS = {"skip-layer": "layer skipped", "swap": "layer swapped with the next"}
LOOKS = {"skip-layer": (BLUE, "-", "o"), "swap": (ORANGE, (0, (5, 1.5)), "s")}
COLUMNS = "model task series layer plan score low high".split()


def single_layers(data: Data) -> Drawing:
    """Draw accuracy on LAMBADA against the layer; bands are those of the difference from the intact model."""
    scores = data.decoder
    task = scores.task_like("lambada") if scores else None
    if scores is None or task is None:
        raise NothingToDraw("no records of a decoder on LAMBADA")
    lines = {name: _points(scores, task, name) for name in LABELS}
    if not any(lines.values()):
        raise NothingToDraw(f"no records of {scores.model} on {task} with one layer skipped or swapped")
    intact = scores.raw(task, scores.identity)
    record = scores.find(task, scores.identity)
    chance = record.chance if record else None
    with styled():
        figure, [axes] = canvas(1, 5.2, width=7.4)
        for name, points in lines.items():
            line(axes, list(points.items()), LOOKS[name], LABELS[name])
        heights = [edge for points in lines.values() for e in points.values() for edge in (e.value, *(e.band or ()))]
        for level, label, dashes in (
            (intact.value if intact else None, "intact", (0, (4, 3))),
            (chance, "random", (0, (1, 2))),
        ):
            if level is not None:
                reference(axes, level, label, dashes)
                heights.append(level)
        spread(axes, heights)
        whole_ticks(axes, range(scores.num_layers), most=17)
        axes.set(xlabel="layer (index from 0)", ylabel=f"{task}, accuracy", title=scores.model)
        legend_below(axes, 2)
    about = [
        "x: the layer that is left out, or exchanged with the one after it. y: accuracy. The dashed line is the intact "
        "model.",
        "Bands are those of the paired difference from the intact model, drawn around the score. Where a band does not "
        "touch the line, the choice of documents does not explain the difference.",
        records_note(scores, [task]),
        bands_note([scores]),
    ]
    return Drawing(figure, _rows(scores, task, lines, intact), COLUMNS, about, _missing(scores, lines, intact))


def _points(scores: ScoreTable, task: str, name: str) -> dict[int, Estimate]:
    """Return layer -> score, with the band of its difference from the intact model (no band where that is missing)."""
    points: dict[int, Estimate] = {}
    intact = scores.raw(task, scores.identity)
    for layer in _layers(scores, name):
        score = scores.raw(task, variants.build(name, scores.num_layers, layer=layer))
        if score is not None:
            points[layer] = (score - intact).shifted(intact.value) if intact else Estimate(score.value)
    return points


def _layers(scores: ScoreTable, name: str) -> range:
    """Return the layers that the variant `name` applies to: the last one has no next to be swapped with."""
    return range(scores.num_layers - (name == "swap"))


def _rows(
    scores: ScoreTable, task: str, lines: dict[str, dict[int, Estimate]], intact: Estimate | None
) -> list[dict[str, Any]]:
    """Return the rows of the table: every point, and the intact model."""
    rows: list[dict[str, Any]] = []
    for name, points in lines.items():
        for layer, estimate in points.items():
            plan = str(variants.build(name, scores.num_layers, layer=layer))
            shared = {"model": scores.model, "task": task, "series": name, "layer": layer, "plan": plan}
            rows.append(shared | estimate_columns(estimate, "score", "low", "high"))
    if intact:
        shared = {"model": scores.model, "task": task, "series": "intact", "plan": scores.identity}
        rows.append(shared | {"score": intact.value})
    return rows


def _missing(scores: ScoreTable, lines: dict[str, dict[int, Estimate]], intact: Estimate | None) -> list[str]:
    """Describe the layers without a record, and the intact model where it has none."""
    missing = [
        f"{LABELS[name]}: layers {short(absent, 40)}"
        for name, points in lines.items()
        if (absent := sorted(set(_layers(scores, name)) - set(points)))
    ]
    return missing if intact else [*missing, "the intact model, and with it the bands"]
