"""Figures 3 and 14: heat maps of the cosine similarity between the states of the layers."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from painters.figures.data import Data
from painters.figures.output import Drawing, documents_of
from painters.figures.score_table import FigureError, NothingToDraw
from painters.figures.style import canvas, styled
from painters.plan import Plan
from painters.results.similarity_record import SimilarityRecord
from painters.similarity import MODES

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_MAPS = 4
"""Largest number of maps in one figure."""
COLUMNS = "model mode state other label other_label cosine".split()


def states(data: Data) -> Drawing:
    """Draw figure 3: a map of each intact model, in the paper's mode (flat) where that was measured."""
    chosen: dict[str, SimilarityRecord] = {}
    for mode in ("flat", *MODES):
        for model, by_mode in _of_intact_models(data.similarities, mode).items():
            if mode in by_mode:
                chosen.setdefault(model, by_mode[mode])
    if not chosen:
        raise NothingToDraw("no similarities of an intact model: `painters similarity` measures them")
    scored = [scores.model for scores in data.score_tables]
    ordered = sorted(chosen, key=lambda model: (scored.index(model) if model in scored else len(scored), model))
    records = [chosen[model] for model in ordered[:MOST_MAPS]]
    missing = [f"{record.model} in mode flat ({record.mode} is shown)" for record in records if record.mode != "flat"]
    missing += [f"the map of {model}" for model in dict.fromkeys(scored) if model not in chosen]
    missing += [f"the map of {model} (one figure has room for {MOST_MAPS})" for model in ordered[MOST_MAPS:]]
    return _maps(records, [f"{record.model}, {record.mode}" for record in records], missing)


def modes(data: Data) -> Drawing:
    """Draw figure 14: all modes of one model on the same documents (the decoder, where it was measured)."""
    by_model = _of_intact_models(data.similarities, None)
    if not by_model:
        raise NothingToDraw("no similarities of an intact model: `painters similarity` measures them")
    decoder = data.decoder.model if data.decoder else None
    model = max(by_model, key=lambda model: (model == decoder, len(by_model[model])))
    records = [by_model[model][mode] for mode in MODES if mode in by_model[model]]
    missing = [f"mode {mode}" for mode in MODES if mode not in by_model[model]]
    return _maps(records, [f"{model}, {record.mode}" for record in records], missing)


def _of_intact_models(records: Iterable[SimilarityRecord], mode: str | None) -> dict[str, dict[str, SimilarityRecord]]:
    """Return model -> mode -> record of intact models, each model measured in one way.

    With `mode`, that is the way with the most documents among those that have this mode. Without, it is the way with
    the most modes, and of equal ones that with the most documents. FigureError where several ways are left.
    """
    groups: dict[str, dict[str, list[SimilarityRecord]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if record.plan == str(Plan.identity(record.num_layers)):
            groups[record.model][_protocol(record)].append(record)

    def rank(group: Sequence[SimilarityRecord]) -> tuple[int, int]:
        return 0 if mode else len({record.mode for record in group}), group[0].documents

    chosen = {}
    for model in sorted(groups):
        able = [group for group in groups[model].values() if mode is None or mode in {record.mode for record in group}]
        if able:
            best = [group for group in able if rank(group) == max(map(rank, able))]
            if len(best) > 1:
                raise FigureError(
                    f"similarities of {model} measured in {len(best)} ways over {best[0][0].documents} documents each: "
                    f"{' or '.join(_described(group[0]) for group in best)}. A figure does not mix them: draw from "
                    f"files that hold one of them"
                )
            chosen[model] = {record.mode: record for record in sorted(best[0], key=lambda record: record.date)}
    return chosen


_PROTOCOL_FIELDS = ("inputs", "documents", "sample_seed", "texts", "revision", "weights", "dtype", "batch_size")


def _protocol(record: SimilarityRecord) -> str:
    """Return a key that is equal for records measured in the same way."""
    return json.dumps([getattr(record, name) for name in _PROTOCOL_FIELDS])


def _described(record: SimilarityRecord) -> str:
    """Describe the way in which the record was measured."""
    values = {name: getattr(record, name) for name in _PROTOCOL_FIELDS}
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)


def _maps(records: Sequence[SimilarityRecord], titles: Sequence[str], missing: list[str]) -> Drawing:
    """Draw one map for each record, all on one colour scale."""
    tables = [record.frame().to_numpy() for record in records]
    lowest = min(0.0, *(float(np.nanmin(table)) for table in tables))
    with styled():
        figure, axes = canvas(len(records), 4.8)
        for panel, table, title in zip(axes, tables, titles, strict=True):
            image = panel.imshow(table, cmap="viridis", vmin=lowest, vmax=1.0, origin="upper")
            step = -(-len(table) // 9)
            ticks = range(0, len(table), step)
            panel.set(title=title, xlabel="state (0: embeddings)", ylabel="state (k: after layer k - 1)")
            panel.set(xticks=ticks, yticks=ticks)
        figure.colorbar(image, ax=axes, shrink=0.9, pad=0.02, label="cosine similarity")
    for record, table in zip(records, tables, strict=True):
        if holes := int(np.isnan(table).sum()):
            missing.append(f"{record.model}, {record.mode}: {holes} cosines that are not finite")
    about = [
        "State 0 is the embeddings, state k the output of layer k - 1; all come before the final norm.",
        *dict.fromkeys(f"Mode {record.mode}: {MODES.get(record.mode, 'unknown')}." for record in records),
        *dict.fromkeys(_record_note(record) for record in records),
        "No seeds and no bands: nothing is drawn at random.",
    ]
    rows = [row for record, table in zip(records, tables, strict=True) for row in _rows(record, table)]
    return Drawing(figure, rows, COLUMNS, about, missing)


def _rows(record: SimilarityRecord, table: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Return a row for every pair of states; `table` holds their cosines, `[states, states]`."""
    return [
        {"model": record.model, "mode": record.mode, "state": i, "other": j}
        | {"label": record.labels[i], "other_label": record.labels[j], "cosine": table[i, j]}
        for i in range(len(table))
        for j in range(len(table))
    ]


def _record_note(record: SimilarityRecord) -> str:
    """Return the caption's paragraph on the model and the inputs."""
    documents = documents_of(record) + ("" if record.sample_seed is None else ",")
    return (
        f"Model: {record.model} ({record.revision or f'weights {record.weights}'}), {record.num_layers} layers, "
        f"intact, {record.dtype} on {record.device}. Inputs: {documents} of {record.inputs}, "
        f"{record.tokens} tokens, batches of {record.batch_size}."
    )
