"""Figure 2: one layer left out, or exchanged with the next, layer by layer."""

from __future__ import annotations

from typing import Any

from painters import variants
from painters.figures.bands import Estimate
from painters.figures.board import Board, NothingToDraw
from painters.figures.data import Data
from painters.figures.output import Drawing, bands_note, numbers, provenance, short
from painters.figures.style import BLUE, ORANGE, canvas, legend_below, line, reference, spread, styled, whole_ticks

LABELS = {"skip-layer": "layer skipped", "swap": "layer swapped with the next"}
LOOKS = {"skip-layer": (BLUE, "-", "o"), "swap": (ORANGE, (0, (5, 1.5)), "s")}
COLUMNS = "model task series layer plan score low high".split()


def single_layers(data: Data) -> Drawing:
    """Accuracy on LAMBADA against the index of the layer; bands are those of the difference from the intact model."""
    board = data.decoder
    task = board.task_like("lambada") if board else None
    if board is None or task is None:
        raise NothingToDraw("no records of a decoder on LAMBADA")
    lines = {name: _points(board, task, name) for name in LABELS}
    if not any(lines.values()):
        raise NothingToDraw(f"no records of {board.model} on {task} with one layer skipped or swapped")
    intact = board.raw(task, board.identity)
    record = board.find(task, board.identity)
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
        whole_ticks(axes, range(board.num_layers), most=17)
        axes.set(xlabel="layer (index from 0)", ylabel=f"{task}, accuracy", title=board.model)
        legend_below(axes, 2)
    about = [
        "x: the layer that is left out, or exchanged with the one after it. y: accuracy. The dashed line is the intact "
        "model.",
        "A band is that of the paired difference from the intact model, placed around the score: where it misses the "
        "line, the difference is more than the choice of documents explains.",
        provenance(board, [task]),
        bands_note([board]),
    ]
    return Drawing(figure, _rows(board, task, lines, intact), COLUMNS, about, _missing(board, lines, intact))


def _points(board: Board, task: str, name: str) -> dict[int, Estimate]:
    """Layer -> score, with the band of its difference from the intact model; no band where that is missing."""
    points: dict[int, Estimate] = {}
    intact = board.raw(task, board.identity)
    for layer in _layers(board, name):
        score = board.raw(task, variants.build(name, board.num_layers, layer=layer))
        if score is not None:
            points[layer] = (score - intact).shifted(intact.value) if intact else Estimate(score.value)
    return points


def _layers(board: Board, name: str) -> range:
    return range(board.num_layers - (name == "swap"))


def _rows(board: Board, task: str, lines: dict[str, dict[int, Estimate]], intact: Estimate | None) -> list[Any]:
    rows: list[dict[str, Any]] = []
    for name, points in lines.items():
        for layer, estimate in points.items():
            plan = str(variants.build(name, board.num_layers, layer=layer))
            shared = {"model": board.model, "task": task, "series": name, "layer": layer, "plan": plan}
            rows.append(shared | numbers(estimate, "score", "low", "high"))
    if intact:
        shared = {"model": board.model, "task": task, "series": "intact", "plan": board.identity}
        rows.append(shared | {"score": intact.value})
    return rows


def _missing(board: Board, lines: dict[str, dict[int, Estimate]], intact: Estimate | None) -> list[str]:
    missing = [
        f"{LABELS[name]}: layers {short(absent, 40)}"
        for name, points in lines.items()
        if (absent := sorted(set(_layers(board, name)) - set(points)))
    ]
    return missing if intact else [*missing, "the intact model, and with it the bands"]
