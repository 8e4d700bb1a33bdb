"""Heat maps of how alike the states of the layers are: Figures 3 and 14."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from painters.figures.board import FigureError, NothingToDraw
from painters.figures.data import Data
from painters.figures.output import Drawing
from painters.figures.style import canvas, styled
from painters.plan import Plan
from painters.results.similarity_record import SimilarityRecord
from painters.similarity import MODES

MOST = 4  # maps in one figure
COLUMNS = "model mode state other label other_label cosine".split()


def states(data: Data) -> Drawing:
    """Figure 3: the paper's map (mode flat) of each intact model; of another mode where there is no flat one."""
    chosen: dict[str, SimilarityRecord] = {}
    for mode in ("flat", *MODES):
        for model, by_mode in _intact(data.similarities, mode).items():
            if mode in by_mode:
                chosen.setdefault(model, by_mode[mode])
    if not chosen:
        raise NothingToDraw("no similarities of an intact model: `painters similarity` measures them")
    first = [board.model for board in data.boards]
    ordered = sorted(chosen, key=lambda model: (first.index(model) if model in first else len(first), model))
    records = [chosen[model] for model in ordered[:MOST]]
    missing = [f"{record.model} in mode flat ({record.mode} is shown)" for record in records if record.mode != "flat"]
    missing += [f"the map of {model}" for model in dict.fromkeys(first) if model not in chosen]
    missing += [f"the map of {model}, for want of room" for model in ordered[MOST:]]
    return _maps(records, [f"{record.model}, {record.mode}" for record in records], missing)


def modes(data: Data) -> Drawing:
    """Figure 14: the four modes of one model on the same documents; of the decoder where it was measured."""
    found = _intact(data.similarities, None)
    if not found:
        raise NothingToDraw("no similarities of an intact model: `painters similarity` measures them")
    wanted = data.decoder.model if data.decoder else None
    of_one = max(found, key=lambda model: (model == wanted, len(found[model])))
    records = [found[of_one][mode] for mode in MODES if mode in found[of_one]]
    missing = [f"mode {mode}" for mode in MODES if mode not in found[of_one]]
    return _maps(records, [f"{of_one}, {record.mode}" for record in records], missing)


def _intact(records: Iterable[SimilarityRecord], mode: str | None) -> dict[str, dict[str, SimilarityRecord]]:
    """Model -> mode -> record, of intact models, each measured in one way: that of the most documents.

    With `mode` only ways that have it count, without those of the most modes. FigureError where several are left.
    """
    groups: dict[str, dict[str, list[SimilarityRecord]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if record.plan == str(Plan.identity(record.num_layers)):
            groups[record.model][_protocol(record)].append(record)

    def rank(some: Sequence[SimilarityRecord]) -> tuple[int, int]:
        return 0 if mode else len({record.mode for record in some}), some[0].documents

    found = {}
    for model in sorted(groups):
        able = [some for some in groups[model].values() if mode is None or mode in {record.mode for record in some}]
        if able:
            best = [some for some in able if rank(some) == max(map(rank, able))]
            if len(best) > 1:
                raise FigureError(
                    f"similarities of {model} measured in {len(best)} ways over {best[0][0].documents} documents each: "
                    f"{' or '.join(_way(some[0]) for some in best)}. A figure does not mix them: draw from files that "
                    f"hold one of them"
                )
            found[model] = {record.mode: record for record in sorted(best[0], key=lambda record: record.date)}
    return found


_KEY = ("inputs", "documents", "texts", "revision", "weights", "dtype", "batch_size")


def _protocol(record: SimilarityRecord) -> str:
    return json.dumps([getattr(record, name) for name in _KEY])


def _way(record: SimilarityRecord) -> str:
    return ", ".join(f"{name} {getattr(record, name)}" for name in _KEY if getattr(record, name) is not None)


def _maps(records: Sequence[SimilarityRecord], titles: Sequence[str], missing: list[str]) -> Drawing:
    tables = [record.frame().to_numpy() for record in records]
    lowest = min(0.0, *(float(np.nanmin(table)) for table in tables))
    with styled():
        figure, axes = canvas(len(records), 4.8)
        for place, table, title in zip(axes, tables, titles, strict=True):
            image = place.imshow(table, cmap="viridis", vmin=lowest, vmax=1.0, origin="upper")
            step = -(-len(table) // 9)
            ticks = range(0, len(table), step)
            place.set(title=title, xlabel="state (0: embeddings)", ylabel="state (k: after layer k - 1)")
            place.set(xticks=ticks, yticks=ticks)
        figure.colorbar(image, ax=axes, shrink=0.9, pad=0.02, label="cosine similarity")
    for record, table in zip(records, tables, strict=True):
        if holes := int(np.isnan(table).sum()):
            missing.append(f"{record.model}, {record.mode}: {holes} cosines that are not finite")
    about = [
        "State 0 is the embeddings, state k the output of layer k - 1; all come before the final norm.",
        *dict.fromkeys(f"Mode {record.mode}: {MODES.get(record.mode, 'unknown')}." for record in records),
        *dict.fromkeys(_provenance(record) for record in records),
        "No seeds and no bands: nothing is drawn at random.",
    ]
    rows = [row for record, table in zip(records, tables, strict=True) for row in _rows(record, table)]
    return Drawing(figure, rows, COLUMNS, about, missing)


def _rows(record: SimilarityRecord, table: Any) -> list[dict[str, Any]]:
    return [
        {"model": record.model, "mode": record.mode, "state": i, "other": j}
        | {"label": record.labels[i], "other_label": record.labels[j], "cosine": table[i, j]}
        for i in range(len(table))
        for j in range(len(table))
    ]


def _provenance(record: SimilarityRecord) -> str:
    return (
        f"Model: {record.model} ({record.revision or f'weights {record.weights}'}), {record.num_layers} layers, "
        f"intact, {record.dtype} on {record.device}. Inputs: {record.documents} documents of {record.inputs}, "
        f"{record.tokens} tokens, batches of {record.batch_size}."
    )
