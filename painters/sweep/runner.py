"""Sweeps: the missing cells of experiments, scored into a store.

A sweep may end at any moment, by an error, a signal or a power cut: each cell is on the disk as soon as it is scored,
and the next sweep scores what is missing. Importing this loads no torch.
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from painters.errors import PaintersError
from painters.experiment import Cell, Experiment, ExperimentError, Model, cells
from painters.models import bundled
from painters.progress import ProgressBar, progress_callback
from painters.ranks import ranks
from painters.results import Record, Store, command
from painters.sweep.chunks import Chunks, groups
from painters.sweep.estimate import FORMULA, MODELS, STEP, TFLOPS, UTILISATION, Cost, Documents, Forecast, forecast
from painters.sweep.eta import Pace, Progress, recorded
from painters.sweep.local import Engine, Local
from painters.sweep.scorers import Loaded, loaded, told

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
    unknown: dict[str, str] = field(default_factory=dict)  # model -> why not even its cells are known
    untried: int = 0  # cells after the first that failed, where the sweep was to end there
    notes: Counter[str] = field(default_factory=Counter)  # what else happened to workers -> how often
    not_finite: Counter[str] = field(default_factory=Counter)  # task of a model -> cells without a value for NaN
    seconds: float = 0.0

    def count(self, cell: Cell, records: Sequence[Record]) -> None:
        """Nothing; a cell whose answers are not all finite numbers, so that it has no value, is counted."""
        if any(record.not_finite and record.value is None for record in records):
            self.not_finite[f"{cell.task} of {cell.model} ({records[0].dtype})"] += 1

    @property
    def lacks(self) -> bool:
        """Whether anything that was asked for is missing."""
        return bool(self.failures or self.unknown or self.untried)

    @property
    def reasons(self) -> dict[str, list[Failure]]:
        """The failures by their reason, those of most cells first."""
        found: dict[str, list[Failure]] = defaultdict(list)
        for failure in self.failures:
            found[failure.reason].append(failure)
        return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def run(
    experiments: Experiments,
    store: Store,
    *,
    device: str | None = None,
    engine: str = "local",
    workers: int | None = None,
    fail_fast: bool = False,
    progress: Callable[[Progress], None] | bool | None = None,
) -> Summary:
    """What was found, done and failed, once every cell that `store` did not answer was tried.

    A scoring in the store counts if it is of the very weights and requests that are there today. A cell that fails does
    not keep the others from running, unless `fail_fast` ends the sweep there; a model that cannot be loaded is tried
    once. `progress` is told where the sweep stands; True shows a bar instead, False nothing, and by default notebooks
    show one. OSError where records cannot be written.

    `engine` "ray" scores on so many `workers` of Ray's at once (`painters.sweep.ray`), into the same store. Launched
    as several processes, all have to call this; the main one writes (`painters.ranks`).
    """
    with progress_callback(progress) as on_progress:
        if isinstance(on_progress, ProgressBar):
            bar = on_progress
            return _run(
                experiments, store, device, engine, workers, fail_fast, lambda at: bar(at.done, at.total, at.what)
            )
        return _run(experiments, store, device, engine, workers, fail_fast, on_progress)


def _run(
    experiments: Experiments,
    store: Store,
    device: str | None,
    engine: str,
    workers: int | None,
    fail_fast: bool,
    progress: Callable[[Progress], None] | None,
) -> Summary:
    wanted, unknown = ranks().same(_wanted(experiments))
    if unknown and not wanted:
        raise PaintersError("; ".join(unknown.values()))
    summary = Summary(store.folder, len(wanted), unknown=unknown)
    if ranks().is_main:
        store.check_writable()
    records = ranks().same(store.records())
    documents = Documents(records)
    pace = Pace(recorded(records, documents.training), documents.work, progress)
    missing = ranks().same({cell.key for cell in store.answers(wanted).missing})
    pace.expect(cell for cell in wanted if cell.key in missing)
    with contextlib.closing(_engine(engine, workers, device)) as scoring:
        pace.workers = scoring.workers
        for group in _by_model(wanted):
            if fail_fast and summary.failures:
                summary.untried += sum(cell.key in missing for cell in group)
            else:
                _score(group, missing, scoring, store, pace, summary, fail_fast)
        summary.notes.update(scoring.notes)
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


def _wanted(experiments: Experiments) -> tuple[tuple[Cell, ...], dict[str, str]]:
    """The cells; and the models of which nobody knows how many layers they have, so that they have none, with why."""
    unknown: dict[str, str] = {}

    def layers_of(model: Model) -> int | None:
        try:
            return _layers_of(model)
        except PaintersError as error:  # where the experiment states it, each cell will fail for this reason
            if model.num_layers is None:
                unknown[model.name] = str(error)
            return model.num_layers

    return cells(experiments, layers_of), unknown


def _layers_planned(model: Model) -> int:
    """The number of layers, as the experiment or the table of models states it where no folder is at hand."""
    stated = model.num_layers or (MODELS[model.name].num_layers if model.name in MODELS else None)
    return bundled.num_layers(model.name) or stated or _layers_of(model)


def _by_model(wanted: Sequence[Cell]) -> Iterator[list[Cell]]:
    """The cells that one loaded model scores, model by model in order."""

    order = list(dict.fromkeys(loaded(cell) for cell in wanted))
    for _, group in groupby(sorted(wanted, key=lambda cell: order.index(loaded(cell))), key=loaded):
        yield list(group)


def _engine(name: str, workers: int | None, device: str | None) -> Engine:
    """The engine of this name."""
    if name == "ray":
        if ranks().size > 1:
            raise ExperimentError("engine ray in several processes: Ray starts its own, so launch one")
        from painters.sweep.ray import Ray

        return Ray(workers, device)
    if name != "local":
        raise ExperimentError(f"engine {name!r}: there is no such engine; choose local or ray")
    if workers is not None:
        raise ExperimentError(f"workers={workers} with the engine local, which is one process: choose engine ray")
    return Local(device)


def _bench(group: Sequence[Cell], missing: set[str], engine: Engine, pace: Pace, summary: Summary) -> Loaded | None:
    """The model of these cells, or None: then those that are missing have failed."""
    todo = [cell for cell in group if cell.key in missing]
    try:
        return engine.load(group[0], len(todo))
    except Exception as error:  # no such weights, or too little memory: other models go on
        summary.found += len(group) - len(todo)
        if len(todo) < len(group):
            summary.unchecked[group[0].model] = told(error)
        for cell in todo:
            summary.failures.append(Failure(cell, told(error), error))
            pace.finish(cell, None)
        return None


def _to_do(group: Sequence[Cell], store: Store, bench: Loaded, summary: Summary) -> list[Cell]:
    """The cells without a scoring of these weights and requests."""

    def objection(cell: Cell, record: Record) -> str | None:
        if record.weights != bench.weights:
            return f"{cell.model}: scored with other weights ({record.weights}; here {bench.weights})"
        try:
            requests = bench.requests(cell)
        except Exception as error:  # whatever a task's own code says
            summary.unchecked[cell.task] = told(error)
            return None
        if record.requests != requests:
            return f"{cell.task}: scored on other requests ({record.requests}; here {requests})"
        return None

    answers = store.answers(group, objection)
    summary.found += len(group) - len(answers.missing)
    summary.refused.update(reason for _, reason in answers.refused)
    for cell in group:
        summary.count(cell, answers.of(cell))
    return answers.missing


def _grouping(bench: Loaded) -> Callable[[Cell], Hashable]:
    """The bench's grouping; a cell whose task cannot be had stands alone, and fails alone."""

    def group(cell: Cell) -> Hashable:
        try:
            return bench.group(cell)
        except Exception:  # it is met again, and told, when the cell is scored
            return cell.key

    return group


def _score(
    group: Sequence[Cell],
    missing: set[str],
    engine: Engine,
    store: Store,
    pace: Pace,
    summary: Summary,
    fail_fast: bool,
) -> None:
    """Nothing; the records of the cells, which ask for one model, are in the store, or failures in the summary."""
    bench = _bench(group, missing, engine, pace, summary)
    if bench is None:
        return
    todo = ranks().same(_to_do(group, store, bench, summary))
    pace.expect(cell for cell in todo if cell.key not in missing)
    chunks, left = Chunks(groups(todo, _grouping(bench)), engine.workers), len(todo)
    for chunk, found, seconds in engine.scored(chunks, pace):
        if not isinstance(found, Exception):
            if ranks().is_main:
                by = {"command": command()}
                store.append(record.model_copy(update=by) for records in found for record in records)
            summary.done += len(chunk)
            left -= len(chunk)
            chunks.took(chunk, seconds)
            for cell, records in zip(chunk, found, strict=True):
                summary.count(cell, records)
                pace.finish(cell, records[0].seconds)
        elif len(chunk) > 1:  # one of them failed: each has to be tried by itself
            pace.stop(*chunk)
            chunks.again(*((cell,) for cell in chunk))
        else:
            summary.failures.append(Failure(chunk[0], told(found), found))
            left -= 1
            pace.finish(chunk[0], None)
            if fail_fast:
                summary.untried += left
                return
