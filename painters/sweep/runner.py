"""Score the missing cells of experiments into a store.

A sweep may end at any moment, by an error, a signal or a power cut: each chunk of cells is on the disk as soon as it is
scored, and so are the answers to every few documents until then (`painters.results.partial`). The next sweep asks what
is missing, in the same batches, so its records are those of a sweep that nothing interrupted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from painters.errors import PaintersError
from painters.experiment import Cell, Experiment, ExperimentError, Model, cells
from painters.models import bundled
from painters.progress import ProgressBar, progress_callback
from painters.ranks import ranks
from painters.results import Record, Store, command
from painters.results.partial import Partials
from painters.sweep.chunks import Chunks, groups
from painters.sweep.estimate import Forecast, forecast
from painters.sweep.eta import EtaEstimator, Progress, recorded
from painters.sweep.facts import MODELS, TFLOPS, Documents
from painters.sweep.local import Engine, Local
from painters.sweep.scorers import LoadedModel, format_error, model_key
from painters.sweep.summary import Failure, Summary

Experiments = Experiment | Sequence[Experiment]


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
    """Score every cell of `experiments` that `store` has no record of, and append the records to it.

    A record counts if its weights and requests are the very ones that are there today; other cells are scored anew. A
    cell that fails does not keep the others from running. A model that cannot be loaded is tried once. In a program
    launched as several processes, each of them has to make this call, and the main one writes (`painters.ranks`).

    Args:
        experiments: One experiment or several.
        store: Where records are read and written.
        device: Where models go, such as "cuda:1"; None takes the best device at hand.
        engine: "local" scores in this process, "ray" on the workers of a cluster (`painters.sweep.ray`).
        workers: With the engine "ray": how many models score at once. None takes one for each GPU, or core.
        fail_fast: End the sweep at the first cell that fails.
        progress: Called with each `Progress`; True shows a bar, False nothing. None shows a bar in notebooks.

    Returns:
        What was found, done and failed.

    Raises:
        PaintersError: The cells of no experiment are known, or the engine cannot be used.
        OSError: Records cannot be written.

    Examples:
        >>> from painters import sweep
        >>> from painters.experiment import Experiment
        >>> from painters.results import Store
        >>> experiment = Experiment.model_validate(
        ...     {
        ...         "title": "a layer less",
        ...         "models": "nano-llama",
        ...         "tasks": "nano_lambada",
        ...         "variants": [{"plan": "0-4 6-11"}],
        ...         "protocol": {"limit": 2},
        ...     }
        ... )
        >>> summary = sweep.run(experiment, Store("records"))  # the intact model and one plan
        >>> summary.cells, summary.done, summary.lacks
        (2, 2, False)
        >>> sweep.run(experiment, Store("records")).found
        2
    """
    with progress_callback(progress) as on_progress:
        report: Callable[[Progress], None] | None
        if isinstance(on_progress, ProgressBar):
            bar = on_progress

            def report(now: Progress) -> None:
                bar(now.done, now.total, now.what)
        else:
            report = on_progress
        return _run(experiments, store, _Options(device, engine, workers, fail_fast), report)


def plan(experiments: Experiments, store: Store, *, tflops: float = TFLOPS) -> Forecast:
    """Estimate what `run` would cost, from records and stated facts alone.

    Neither weights nor documents are read, nor the network used.

    Args:
        experiments: One experiment or several.
        store: Where records are read; the folder need not be there.
        tflops: The peak of the device, for models that neither the store nor the tables know the seconds of.

    Returns:
        The missing cells, their layer runs, and an estimate of hours.

    Raises:
        PaintersError: The number of layers of a model is not known.

    Examples:
        >>> from painters import sweep
        >>> from painters.experiment import load
        >>> from painters.results import Store
        >>> forecast = sweep.plan(load("paper/fig4"), Store("records"))
        >>> forecast.missing, forecast.plans
        (267, 30)
        >>> forecast.total.hours < forecast.total.hours_alone
        True
    """
    every = cells(experiments, _layers_planned)
    records = store.records()
    documents = Documents(records)
    rates = recorded(records, documents.training)
    missing = store.missing(every)
    several = () if isinstance(experiments, Experiment) or len(experiments) < 2 else experiments
    left = set(missing)
    by_name = [(one.name, [cell for cell in cells(one, _layers_planned) if cell in left]) for one in several]
    return forecast(every, missing, rates, documents, tflops, by_name)


@dataclass(frozen=True, slots=True)
class _Options:
    device: str | None
    engine: str
    workers: int | None
    fail_fast: bool


def _run(
    experiments: Experiments, store: Store, options: _Options, on_progress: Callable[[Progress], None] | None
) -> Summary:
    """Score the missing cells, model by model."""
    every, unknown = ranks().same(_cells_and_unknown(experiments))
    if unknown and not every:
        raise PaintersError("; ".join(unknown.values()))
    summary = Summary(store.folder, len(every), unknown=unknown)
    if ranks().is_main:
        store.check_writable()
    records = ranks().same(store.records())
    documents = Documents(records)
    eta = EtaEstimator(recorded(records, documents.training), documents.work, on_progress, documents.scored)
    missing = ranks().same({cell.key for cell in store.answers(every).missing})
    eta.expect(cell for cell in every if cell.key in missing)
    partials = Partials(store.partial_files, ranks().same(store.partial_files.read()))
    with contextlib.closing(_engine(options)) as engine:
        eta.workers = engine.workers
        several = [experiments] if isinstance(experiments, Experiment) else experiments
        names = {model: name for experiment in several for model, name in experiment.names.items()}
        sweep = _Sweep(store, engine, eta, summary, missing, partials, options.fail_fast, names)
        for group in _by_model(every):
            if options.fail_fast and summary.failures:
                summary.untried += sum(cell.key in missing for cell in group)
            else:
                sweep.score(group)
        if ranks().is_main and not summary.lacks:
            partials.close()
        summary.notes.update(engine.notes)
    summary.seconds = eta.elapsed
    return summary


def _cells_and_unknown(experiments: Experiments) -> tuple[tuple[Cell, ...], dict[str, str]]:
    """Return the cells, and model -> reason for the models whose number of layers is not known."""
    unknown: dict[str, str] = {}

    def layers_of(model: Model) -> int | None:
        try:
            return _layers_of(model)
        except PaintersError as error:  # where the experiment states it, each cell will fail for this reason
            if model.num_layers is None:
                unknown[model.name] = str(error)
            return model.num_layers

    return cells(experiments, layers_of), unknown


def _layers_of(model: Model) -> int:
    """Return the number of layers by the model's configuration."""
    count = bundled.num_layers(model.name) if model.stack is None else None
    if count is None:
        from painters.models import num_layers

        count = num_layers(model.name, revision=model.revision, stack=model.stack)
    return count


def _layers_planned(model: Model) -> int:
    """Return the number of layers, by the experiment or the table of models where they state it."""
    stated = model.num_layers or (MODELS[model.name].num_layers if model.name in MODELS else None)
    known = None if model.stack is not None else bundled.num_layers(model.name)
    return known or stated or _layers_of(model)


def _by_model(every: Sequence[Cell]) -> Iterator[list[Cell]]:
    """Yield the cells of each loaded model together, in order of the first cell of a model."""
    order = list(dict.fromkeys(model_key(cell) for cell in every))
    for _, group in groupby(sorted(every, key=lambda cell: order.index(model_key(cell))), key=model_key):
        yield list(group)


def _engine(options: _Options) -> Engine:
    """Return the engine of this name, or raise ExperimentError for options that do not go together."""
    if options.engine == "ray":
        if ranks().size > 1:
            raise ExperimentError("engine ray in several processes: Ray starts its own, so launch one")
        from painters.sweep.ray import Ray

        return Ray(options.workers, options.device)
    if options.engine != "local":
        raise ExperimentError(f"engine {options.engine!r}: there is no such engine; choose local or ray")
    if options.workers is not None:
        raise ExperimentError(
            f"workers={options.workers} with the engine local, which is one process: choose engine ray"
        )
    return Local(options.device)


@dataclass(frozen=True, slots=True)
class _Sweep:
    """What a sweep works with: the store, the engine, and where it notes what became of the cells."""

    store: Store
    engine: Engine
    eta: EtaEstimator
    summary: Summary
    missing: set[str]  # keys of the cells without a record
    partials: Partials
    fail_fast: bool
    names: Mapping[str, str]  # what figures and reports call models, by their names

    def score(self, group: Sequence[Cell]) -> None:
        """Score the cells of one model: their records go to the store, failures into the summary."""
        scorer = self._load(group)
        if scorer is None:
            return
        todo = ranks().same(self._to_do(group, scorer))
        self.eta.expect(cell for cell in todo if cell.key not in self.missing)
        chunks, left = Chunks(groups(todo, _grouping(scorer)), self.engine.workers), len(todo)
        for chunk, outcome, seconds in self.engine.scored(chunks, self.eta, self.partials):
            if not isinstance(outcome, Exception):
                if ranks().is_main:
                    by = {"command": command(), "name": self.names.get(chunk[0].model)}
                    self.store.append(record.model_copy(update=by) for records in outcome for record in records)
                ranks().same(None)  # the others wait until the records are on the disk
                self.partials.drop((str(cell.plan) for cell in chunk), others=ranks().is_main)
                self.summary.done += len(chunk)
                left -= len(chunk)
                chunks.record_seconds(chunk, seconds)
                for cell, records in zip(chunk, outcome, strict=True):
                    self.summary.count(cell, records)
                    self.eta.finish(cell, records[0].seconds)
            elif len(chunk) > 1:  # one of them failed: each has to be tried by itself
                self.eta.stop(*chunk)
                chunks.retry(*((cell,) for cell in chunk))
            else:
                self._fail(chunk[0], outcome)
                left -= 1
                if self.fail_fast:
                    self.summary.untried += left
                    return

    def _load(self, group: Sequence[Cell]) -> LoadedModel | None:
        """Load the model of these cells; where it cannot be loaded, note that the missing ones failed."""
        todo = [cell for cell in group if cell.key in self.missing]
        try:
            return self.engine.load(group[0], len(todo))
        except Exception as error:  # no such weights, or too little memory: other models go on
            self.summary.found += len(group) - len(todo)
            if len(todo) < len(group):
                self.summary.unchecked[group[0].model] = format_error(error)
            for cell in todo:
                self._fail(cell, error)
            return None

    def _fail(self, cell: Cell, error: Exception) -> None:
        self.summary.failures.append(Failure(cell, format_error(error), error))
        self.eta.finish(cell, None)

    def _to_do(self, group: Sequence[Cell], scorer: LoadedModel) -> list[Cell]:
        """Return the cells without a record of these weights and requests, and count the others."""

        def objection(cell: Cell, record: Record) -> str | None:
            if record.weights != scorer.weights:
                return f"{cell.model}: scored with other weights ({record.weights}; here {scorer.weights})"
            try:
                requests = scorer.requests(cell)
            except Exception as error:  # whatever a task's own code says
                self.summary.unchecked[cell.task] = format_error(error)
                return None
            if record.requests != requests:
                return f"{cell.task}: scored on other requests ({record.requests}; here {requests})"
            return None

        answers = self.store.answers(group, objection)
        self.summary.found += len(group) - len(answers.missing)
        self.summary.refused.update(reason for _, reason in answers.refused)
        for cell in group:
            self.summary.count(cell, answers.of(cell))
        return answers.missing


def _grouping(scorer: LoadedModel) -> Callable[[Cell], Hashable]:
    """Return the scorer's grouping; a cell whose task cannot be prepared is a group by itself."""

    def group(cell: Cell) -> Hashable:
        try:
            return scorer.group(cell)
        except Exception:  # raised again, and reported, when the cell is scored
            return cell.key

    return group
