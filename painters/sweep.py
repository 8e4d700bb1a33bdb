"""Sweeps: the missing cells of experiments, scored into a store.

A sweep may end at any moment, by an error, a signal or a power cut: each cell is on the disk as soon as it is scored,
and the next sweep scores what is missing. Importing this loads no torch.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from painters import bundled
from painters._sweep_benches import Bench, answer, free, load
from painters._sweep_chunks import Chunks, groups
from painters._sweep_estimate import FORMULA, MODELS, STEP, TFLOPS, UTILISATION, Cost, Documents, Forecast, forecast
from painters._sweep_pace import Pace, Progress, recorded
from painters.errors import PaintersError
from painters.experiment import Cell, Experiment, Model, cells
from painters.progress import Bar, shown
from painters.ranks import ranks
from painters.results import Record, Store

__all__ = [
    "FORMULA",
    "STEP",
    "TFLOPS",
    "UTILISATION",
    "Cost",
    "Failure",
    "Forecast",
    "Progress",
    "Summary",
    "plan",
    "run",
]

Experiments = Experiment | Sequence[Experiment]


@dataclass(frozen=True, slots=True)
class Failure:
    """A cell that could not be scored, and why."""

    cell: Cell
    reason: str
    error: Exception = field(compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.cell.model}, {self.cell}"


@dataclass(slots=True)
class Summary:
    """What a sweep did."""

    folder: Path
    cells: int = 0  # asked for
    found: int = 0  # answered by the store before
    done: int = 0
    failures: list[Failure] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)  # why scorings in the store did not count -> how many
    unchecked: dict[str, str] = field(default_factory=dict)  # model -> why what was found could not be compared with it
    seconds: float = 0.0


def run(
    experiments: Experiments,
    store: Store,
    *,
    device: str | None = None,
    progress: Callable[[Progress], None] | bool | None = None,
) -> Summary:
    """What was found, done and failed, once every cell that `store` did not answer was tried.

    A scoring in the store counts if it is of the very weights and requests that are there today. A cell that fails does
    not keep the others from running. `progress` is told where the sweep stands; True shows a bar instead, False
    nothing, and by default notebooks show one. OSError where records cannot be written. Launched as several processes,
    all have to call this; the main one writes (`painters.ranks`).
    """
    with shown(progress) as tell:
        if isinstance(tell, Bar):
            return _run(experiments, store, device, lambda at: tell(at.done, at.total, at.what))
        return _run(experiments, store, device, tell)


def _run(
    experiments: Experiments, store: Store, device: str | None, progress: Callable[[Progress], None] | None
) -> Summary:
    wanted = cells(experiments, _layers_of)
    if ranks().is_main:
        store.check_writable()
    records = ranks().same(store.records())
    documents = Documents(records)
    pace = Pace(recorded(records, documents.training), documents.work, progress)
    missing = ranks().same({cell.key for cell in store.answers(wanted).missing})
    pace.expect(cell for cell in wanted if cell.key in missing)
    summary = Summary(store.folder, len(wanted))
    bench = None
    for group in _by_model(wanted):
        if bench is not None:
            bench = None
            free()
        bench = _bench(group, missing, device, pace, summary)
        if bench is not None:
            todo = ranks().same(_to_do(group, store, bench, summary))
            pace.expect(cell for cell in todo if cell.key not in missing)
            for together in groups(todo, _grouping(bench)):
                _score(together, bench, store, pace, summary)
    summary.seconds = pace.elapsed
    return summary


def plan(experiments: Experiments, store: Store, *, tflops: float = TFLOPS) -> Forecast:
    """What `run` would have to do, from records and stated facts alone: no weights, no documents, no network."""
    wanted = cells(experiments, _layers_planned)
    records = store.records()
    documents = Documents(records)
    rates = recorded(records, documents.training)
    missing = store.missing(wanted)
    several = () if isinstance(experiments, Experiment) or len(experiments) < 2 else experiments
    left = set(missing)
    by_name = [(one.name, [cell for cell in cells(one, _layers_planned) if cell in left]) for one in several]
    return forecast(wanted, missing, rates, documents, tflops, by_name)


def _layers_of(model: Model) -> int:
    """The number of layers by the model's configuration."""
    count = bundled.num_layers(model.name)
    if count is None:
        from painters.models import num_layers

        count = num_layers(model.name, revision=model.revision)
    return count


def _layers_planned(model: Model) -> int:
    """The number of layers, as the experiment or the table of models states it where no folder is at hand."""
    stated = model.num_layers or (MODELS[model.name].num_layers if model.name in MODELS else None)
    return bundled.num_layers(model.name) or stated or _layers_of(model)


def _by_model(wanted: Sequence[Cell]) -> Iterator[list[Cell]]:
    """The cells that one loaded model scores, model by model in order."""

    def loaded(cell: Cell) -> tuple[str, str, str, bool]:
        return cell.model, cell.revision or "", cell.dtype, cell.tuning is not None

    order = list(dict.fromkeys(loaded(cell) for cell in wanted))
    for _, group in groupby(sorted(wanted, key=lambda cell: order.index(loaded(cell))), key=loaded):
        yield list(group)


def _bench(group: Sequence[Cell], missing: set[str], device: str | None, pace: Pace, summary: Summary) -> Bench | None:
    """The model of these cells, or None: then those that are missing have failed."""
    try:
        return load(group[0], device or ranks().device)
    except Exception as error:  # no such weights, or too little memory: other models go on
        told = _told(error)
        todo = [cell for cell in group if cell.key in missing]
        summary.found += len(group) - len(todo)
        if len(todo) < len(group):
            summary.unchecked[group[0].model] = told
        for cell in todo:
            summary.failures.append(Failure(cell, told, error))
            pace.finish(cell, None)
        return None


def _to_do(group: Sequence[Cell], store: Store, bench: Bench, summary: Summary) -> list[Cell]:
    """The cells without a scoring of these weights and requests."""

    def objection(cell: Cell, record: Record) -> str | None:
        if record.weights != bench.weights:
            return f"{cell.model}: scored with other weights ({record.weights}; here {bench.weights})"
        try:
            requests = bench.requests(cell)
        except PaintersError as error:
            summary.unchecked[cell.task] = str(error)
            return None
        if record.requests != requests:
            return f"{cell.task}: scored on other requests ({record.requests}; here {requests})"
        return None

    answers = store.answers(group, objection)
    summary.found += len(group) - len(answers.missing)
    summary.refused.update(reason for _, reason in answers.refused)
    return answers.missing


def _grouping(bench: Bench) -> Callable[[Cell], Hashable]:
    """The bench's grouping; a cell whose task cannot be had stands alone, and fails alone."""

    def group(cell: Cell) -> Hashable:
        try:
            return bench.group(cell)
        except PaintersError:
            return cell.key

    return group


def _score(cells: Sequence[Cell], bench: Bench, store: Store, pace: Pace, summary: Summary) -> None:
    """Nothing; the records of the cells, which are one group, are in the store, or their failures in the summary."""
    chunks = Chunks(cells)
    for chunk in chunks:
        began = time.perf_counter()
        if not _score_chunk(chunk, bench, store, pace, summary):
            for cell in chunk:
                _score_chunk([cell], bench, store, pace, summary)
        chunks.took(ranks().same(time.perf_counter() - began))


def _score_chunk(chunk: Sequence[Cell], bench: Bench, store: Store, pace: Pace, summary: Summary) -> bool:
    """Whether that is settled; if one of several cells failed, each has to be tried by itself."""
    pace.start(*chunk)
    try:
        scored = [answer(cell, records) for cell, records in zip(chunk, bench.score(chunk, pace.within), strict=True)]
    except Exception as error:  # a plan, a task or a metric of others that breaks: one cell must not sink the rest
        if len(chunk) > 1:
            return False
        summary.failures.append(Failure(chunk[0], _told(error), error))
        pace.finish(chunk[0], None)
        return True
    if ranks().is_main:
        store.append(record for records in scored for record in records)
    summary.done += len(chunk)
    for cell, records in zip(chunk, scored, strict=True):
        pace.finish(cell, records[0].seconds)
    return True


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, PaintersError) else f"{type(error).__name__}: {error}".strip()
