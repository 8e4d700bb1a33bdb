"""Figures 3 and 14: heat maps of the cosine similarity between the states of the layers."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from painters.figures.data import Data
from painters.figures.output import Drawing, documents_of
from painters.figures.score_table import FigureError, NothingToDraw
from painters.figures.style import canvas, styled, titled
from painters.plan import Plan
from painters.results.similarity_record import SimilarityRecord
from painters.similarity import MODES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from numpy.typing import NDArray

MOST_MAPS = 4
"""Largest number of maps in one figure."""
COLUMNS = "model mode state other label other_label cosine".split()
DIFFERENCE_COLUMNS = ["difference", "stderr"]


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
    missing = [f"{data.name_of(r.model)} in mode flat ({r.mode} is shown)" for r in records if r.mode != "flat"]
    missing += [f"the map of {data.name_of(model)}" for model in dict.fromkeys(scored) if model not in chosen]
    missing += [
        f"the map of {data.name_of(model)} (one figure has room for {MOST_MAPS})" for model in ordered[MOST_MAPS:]
    ]
    maps = [StateMap(record, data.name_of(record.model)) for record in records]
    return _drawing(_cosine_maps(maps), maps, [], missing)


def modes(data: Data) -> Drawing:
    """Draw figure 14: all modes of one model on the same documents (the decoder, where it was measured)."""
    by_model = _of_intact_models(data.similarities, None)
    if not by_model:
        raise NothingToDraw("no similarities of an intact model: `painters similarity` measures them")
    decoder = data.decoder.model if data.decoder else None
    model = max(by_model, key=lambda model: (model == decoder, len(by_model[model])))
    records = [by_model[model][mode] for mode in MODES if mode in by_model[model]]
    missing = [f"mode {mode}" for mode in MODES if mode not in by_model[model]]
    name = data.name_of(model)
    flat = by_model[model].get("flat")
    if flat is None or len(records) == 1:
        maps = [StateMap(record, name) for record in records]
        return _drawing(_cosine_maps(maps), maps, [], missing)
    maps = [StateMap(record, name, None if record is flat else flat) for record in _flat_first(records)]
    missing += [
        f"the errors of {shown.record.mode} - flat (`painters similarity --mode all` measures them)"
        for shown in maps[1:]
        if shown.record.flat_error is None
    ]
    return _drawing(_difference_maps(maps), maps, [_DIFFERENCES], missing)


_DIFFERENCES = (
    "The first map shows the cosines of mode flat. The others show the cosines of another mode minus those of flat, "
    "paired by document. White dots mark differences within two standard errors of zero; the table has the errors "
    "(stderr)."
)


@dataclass(frozen=True, slots=True, eq=False)
class StateMap:
    """A map of one record: its cosines, or its differences from the cosines of mode flat where `flat` is given."""

    record: SimilarityRecord
    name: str
    flat: SimilarityRecord | None = None

    @property
    def cosines(self) -> NDArray[np.float64]:
        """The cosines, [states, states]; NaN where a state was not finite."""
        return np.array(self.record.cosines, dtype=np.float64)

    @property
    def differences(self) -> NDArray[np.float64] | None:
        """The cosines less those of mode flat; None for a map of cosines."""
        return None if self.flat is None else self.cosines - np.array(self.flat.cosines, dtype=np.float64)

    @property
    def errors(self) -> NDArray[np.float64] | None:
        """The standard errors of the differences; None where they are not known."""
        return None if self.record.flat_error is None else np.array(self.record.flat_error, dtype=np.float64)


def _flat_first(records: Sequence[SimilarityRecord]) -> list[SimilarityRecord]:
    """Return the records, that of mode flat first."""
    return sorted(records, key=lambda record: record.mode != "flat")


def _cosine_maps(maps: Sequence[StateMap]) -> Figure:
    """Draw the cosines of each record, all on one colour scale."""
    lowest = min(0.0, *(float(np.nanmin(shown.cosines)) for shown in maps))
    with styled():
        figure, axes = canvas(len(maps), _map_height(maps), width=_map_width(maps))
        for panel, shown in zip(axes, maps, strict=True):
            image = _paint(panel, shown.cosines, "viridis", (lowest, 1.0))
            titled(panel, shown.name, f"states in mode {shown.record.mode}")
        figure.colorbar(image, ax=axes, shrink=0.9, pad=0.02, label="cosine similarity")
    return figure


def _difference_maps(maps: Sequence[StateMap]) -> Figure:
    """Draw the cosines of mode flat, and beside them the differences of the other modes on one scale around zero."""
    first, *others = maps
    differences = [shown.differences for shown in others if shown.differences is not None]
    reach = max(float(np.nanmax(np.abs(table))) for table in differences) or 1.0
    with styled():
        figure, axes = canvas(len(maps), _map_height(maps), width=_map_width(maps) + 0.7)
        image = _paint(axes[0], first.cosines, "viridis", (min(0.0, float(np.nanmin(first.cosines))), 1.0))
        titled(axes[0], first.name, "states in mode flat")
        figure.colorbar(image, ax=axes[0], shrink=0.9, pad=0.03, label="cosine similarity")
        for panel, shown, table in zip(axes[1:], others, differences, strict=True):
            image = _paint(panel, table, "PuOr", (-reach, reach))
            titled(panel, first.name, f"{shown.record.mode} − flat")
            figure.colorbar(image, ax=panel, shrink=0.9, pad=0.03, label="difference of cosines")
            if shown.errors is not None:
                near = np.abs(table) <= 2 * shown.errors
                size = (72 * 0.5 * _map_width(maps) / len(table) * 0.35) ** 2
                ys, xs = np.nonzero(near & ~np.eye(len(table), dtype=bool))
                panel.scatter(xs, ys, s=min(size, 30), color="white", edgecolor="#444444", linewidth=0.5)
    return figure


def _map_width(maps: Sequence[StateMap]) -> float:
    """Return the inches of a panel, more for a deep model."""
    return min(max(4.9, 0.16 * max(len(shown.record.labels) for shown in maps) + 1.2), 8.0)


def _map_height(maps: Sequence[StateMap]) -> float:
    """Return the inches of a panel's height."""
    return _map_width(maps) - 0.3


def _paint(panel: Axes, table: NDArray[np.float64], colors: str, limits: tuple[float, float]) -> AxesImage:
    """Draw a table [states, states]; states that are not finite are hatched."""
    panel.set_facecolor("#e8e8e8")
    panel.patch.set(hatch="////", edgecolor="#b5b5b5", linewidth=0)
    image = panel.imshow(table, cmap=colors, vmin=limits[0], vmax=limits[1], origin="upper")
    step = -(-len(table) // 13)
    ticks = range(0, len(table), step)
    panel.set(xlabel="state", ylabel="state (0: embeddings)", xticks=ticks, yticks=ticks)
    panel.spines[["top", "right"]].set_visible(True)
    return image


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


def _drawing(figure: Figure, maps: Sequence[StateMap], notes: Sequence[str], missing: list[str]) -> Drawing:
    """Return the finished figure with its table and its caption; `notes` are paragraphs of its own."""
    for shown in maps:
        if holes := int(np.isnan(shown.cosines).sum()):
            missing.append(f"{shown.name}, {shown.record.mode}: {holes} cosines that are not finite")
    about = [
        "State 0 is the embeddings, state k the output of layer k - 1; all come before the final norm.",
        *notes,
        *dict.fromkeys(f"Mode {shown.record.mode}: {MODES.get(shown.record.mode, 'unknown')}." for shown in maps),
        *dict.fromkeys(_record_note(shown) for shown in maps),
        "No seeds: nothing is drawn at random.",
    ]
    has_differences = any(shown.flat for shown in maps)
    rows = [row for shown in maps for row in _rows(shown)]
    return Drawing(figure, rows, COLUMNS + (DIFFERENCE_COLUMNS if has_differences else []), about, missing)


def _rows(shown: StateMap) -> list[dict[str, Any]]:
    """Return a row for every pair of states."""
    cosines, differences = shown.cosines, shown.differences
    errors = None if differences is None else shown.errors
    labels = shown.record.labels
    return [
        {"model": shown.name, "mode": shown.record.mode, "state": i, "other": j}
        | {"label": labels[i], "other_label": labels[j], "cosine": cosines[i, j]}
        | ({} if differences is None else {"difference": differences[i, j]})
        | ({} if errors is None else {"stderr": errors[i, j]})
        for i in range(len(cosines))
        for j in range(len(cosines))
    ]


def _record_note(shown: StateMap) -> str:
    """Return the caption's paragraph on the model and the inputs."""
    record = shown.record
    documents = documents_of(record) + ("" if record.sample_seed is None else ",")
    return (
        f"Model: {shown.name} ({record.revision or f'weights {record.weights}'}), {record.num_layers} layers, "
        f"intact, {record.dtype} on {record.device}. Inputs: {documents} of {record.inputs}, "
        f"{record.tokens} tokens, batches of {record.batch_size}."
    )
