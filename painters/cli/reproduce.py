"""`painters reproduce`: records where they are missing, then figures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.text import Text

from painters.cli import sweep as sweeping
from painters.cli._console import progress, tell
from painters.cli._errors import FAILURE, UsageError
from painters.cli._loading import spare_cores
from painters.cli._options import (
    MODEL,
    OUTPUT,
    SCORE,
    DeviceOption,
    Engine,
    EngineOption,
    ExactBatchingOption,
    FailFastOption,
    FileDtypeOption,
    JsonOption,
    LimitOption,
    NumbersArgument,
    PlanOnlyOption,
    QuietOption,
    TflopsOption,
    WorkersOption,
    check_workers,
    named_model,
)
from painters.cli._progress import bar, showing
from painters.cli.plot import Plotted
from painters.errors import PaintersError
from painters.models import bundled

if TYPE_CHECKING:
    from painters.experiment import Experiment
    from painters.sweep import Forecast, Summary
    from painters.sweep.similarity import Question

COMMITTED, QUICK = Path("results"), Path("runs/quick")


def reproduce(
    numbers: NumbersArgument = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer documents, windows and seeds.", rich_help_panel=SCORE)
    ] = False,
    limit: LimitOption = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with documents of one's own: for the task NAME in NAME/, a .jsonl for each split.",
            rich_help_panel=SCORE,
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Compare records with today's weights and tasks.", rich_help_panel=SCORE),
    ] = False,
    paper: Annotated[
        bool, typer.Option("--paper", help="The paper's own models and tasks.", rich_help_panel=MODEL)
    ] = False,
    model: Annotated[str | None, named_model("Another decoder; the paper's tasks unless bundled.")] = None,
    encoder: Annotated[str | None, named_model("Another encoder; the paper's tasks unless bundled.")] = None,
    dtype: FileDtypeOption = None,
    device: DeviceOption = None,
    exact_batching: ExactBatchingOption = False,
    engine: EngineOption = Engine.local,
    workers: WorkersOption = None,
    fail_fast: FailFastOption = False,
    to: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder of records; figures go to figures/ in it. Default: results, runs/quick, or runs/MODEL.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    plan_only: PlanOnlyOption = False,
    tflops: TflopsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Draw the paper's figures, and score first what their records lack. Run it again after any interruption.

    painters reproduce all --quick
    """
    from painters import sweep as sweeps

    check_workers(engine, workers)
    if tflops is not None and not plan_only:
        raise UsageError("--tflops belongs to --plan-only: a sweep measures what it takes")
    if data is not None and not data.is_dir():
        raise UsageError(f"--data {data}: there is no such folder")
    asked = request(
        numbers or [],
        paper=paper,
        model=model,
        encoder=encoder,
        quick=quick,
        limit=limit,
        dtype=None if dtype is None else str(dtype),
        exact_batching=exact_batching,
        data=data,
        out=to,
    )
    if plan_only:
        from painters.cli.forecast import forecast_json, forecast_table

        found, left = forecast(asked, tflops or sweeps.TFLOPS)
        similarities = f"Similarities to measure: {len(left)}, each one pass over 100 documents or so."
        if as_json:
            tell({**forecast_json(found), "similarities": len(left)})
        else:
            tell(forecast_table(found))
            tell(similarities)
        return
    spare_cores()
    result = reproduced(
        asked,
        device=device,
        engine=engine,
        workers=workers,
        fail_fast=fail_fast,
        check=check,
        console=progress(quiet, as_json),
    )
    tell(result.as_json() if as_json else result.table())
    if result.failed:
        raise typer.Exit(FAILURE)


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be reproduced, and where its records and figures go."""

    numbers: Sequence[int]
    experiments: Sequence[Experiment]
    out: Path

    @property
    def names(self) -> tuple[str | None, str | None]:
        """The decoder and the encoder to draw, None for one that no experiment asks."""
        decoders = [model.name for one in self.experiments for model in _models(one, encoders=False)]
        encoders = [model.name for one in self.experiments for model in _models(one, encoders=True)]
        return next(iter(decoders), None), next(iter(encoders), None)


@dataclass(frozen=True, slots=True)
class Reproduced:
    """What became of the sweep (None: nothing was missing), of the similarities, and of the figures."""

    summary: Summary | None
    measured: int
    failures: Sequence[str]
    plotted: Plotted
    folder: Path

    @property
    def failed(self) -> bool:
        """Whether a cell or a similarity could not be had, or a figure not drawn."""
        cells = self.summary is not None and self.summary.lacks
        return cells or bool(self.failures) or self.plotted.failed

    def table(self) -> RenderableType:
        """The sweep, if there was one, and one row per figure."""
        lines: list[RenderableType] = []
        if self.summary is not None:
            lines += [sweeping.summary_table(self.summary, ()), Text()]
        lines += [Text(f"Failed: {failure}", style="red") for failure in self.failures]
        return Group(*lines, self.plotted.table(), Text(f"\nThe figures are in {self.folder}"))

    def as_json(self) -> dict[str, Any]:
        """Everything in the table."""
        return {
            "sweep": None if self.summary is None else sweeping.summary_json(self.summary),
            "similarities_measured": self.measured,
            "similarities_failed": list(self.failures),
            "figures": self.plotted.as_json(),
            "folder": str(self.folder),
        }


def request(
    names: Sequence[str],
    *,
    paper: bool,
    model: str | None,
    encoder: str | None,
    quick: bool,
    limit: int | None,
    dtype: str | None,
    exact_batching: bool,
    data: Path | None,
    out: Path | None,
) -> Request:
    """The request that the arguments make; the paper's experiments for models that are not bundled."""
    from painters import figures
    from painters.experiment import shipped

    numbers = figures.numbers(names)
    paper = paper or any(name is not None and name not in bundled.models() for name in (model, encoder))
    known = shipped()
    wanted = [name for number in numbers if (name := f"{'paper/' if paper else ''}fig{number}") in known]
    found = sweeping.asked_for(
        wanted,
        model=model,
        encoder=encoder,
        encoders=True,
        quick=quick,
        limit=limit,
        dtype=dtype,
        exact_batching=exact_batching,
        data=data,
    )
    if out is None:
        # Of the folder that is meant: "." and ".." have no name of their own.
        folders = [Path(os.path.normpath(Path.cwd() / name)) for name in (model, encoder) if name]
        made = "-".join(folder.name for folder in folders) or ("paper" if paper else "")
        out = Path("runs", made + ("-quick" if quick else "")) if made else QUICK if quick else COMMITTED
    return Request(numbers, found, out)


def forecast(asked: Request, tflops: float) -> tuple[Forecast, list[Question]]:
    """The cost of the missing cells, and the missing similarities."""
    from painters import sweep
    from painters.results import Store
    from painters.sweep.similarity import missing, questions

    found = sweep.plan(asked.experiments, Store(asked.out), tflops=tflops)
    return found, missing(questions(asked.experiments), asked.out)


def reproduced(
    asked: Request,
    *,
    device: str | None,
    engine: str = "local",
    workers: int | None = None,
    fail_fast: bool = False,
    check: bool,
    console: Console | None,
) -> Reproduced:
    """Everything that is missing scored and measured, and the figures drawn.

    Where nothing is missing no model is loaded, and the records are taken as they are unless `check` is set: then they
    must be of the very weights and requests that are here today. Launched as several processes, all of them score, and
    the main one measures and draws.
    """
    from painters import sweep
    from painters.ranks import ranks
    from painters.results import Store
    from painters.sweep.similarity import missing, questions

    store, summary, folder = Store(asked.out), None, asked.out / "figures"
    with sweeping.stoppable(asked.out) as stops:
        if ranks().same(check or sweep.plan(asked.experiments, store).missing > 0):
            with showing(console) as moved:
                summary = sweep.run(
                    asked.experiments,
                    store,
                    device=device,
                    engine=engine,
                    workers=workers,
                    fail_fast=fail_fast,
                    progress=stops.watching(moved),
                )
        if not ranks().is_main:
            return Reproduced(summary, 0, [], Plotted([], by_number=True), folder)
        todo = missing(questions(asked.experiments), asked.out)
        failures = _measure(todo, asked.out, device, console) if todo else []
        return Reproduced(summary, len(todo) - len(failures), failures, _draw(asked, folder), folder)


def _measure(todo: Sequence[Question], out: Path, device: str | None, console: Console | None) -> list[str]:
    """Why similarities could not be measured, one model's failure not keeping the others from it."""
    from painters.sweep.similarity import measure

    failures = []
    for model in dict.fromkeys(question.model for question in todo):
        try:
            with bar(console) as moved:
                measure([question for question in todo if question.model == model], out, device=device, tell=moved)
        except Exception as error:  # as in a sweep, one model must not sink the rest
            told = str(error) if isinstance(error, PaintersError) else f"{type(error).__name__}: {error}"
            failures += [f"similarity of {model.name}: {told}"] * sum(one.model == model for one in todo)
    return failures


def _draw(asked: Request, folder: Path) -> Plotted:
    from painters import figures

    records, similarities = figures.read([asked.out]) if any(asked.out.rglob("*.jsonl")) else ([], [])
    model, encoder = asked.names
    scored = {record.model for record in records} | {record.model for record in similarities}
    data = figures.Data.of(
        records,
        similarities,
        model=model if model in scored else None,
        encoder=encoder if encoder in scored else None,
    )
    return Plotted(figures.draw_all(data, folder, asked.numbers), by_number=True)


def _models(experiment: Experiment, *, encoders: bool) -> list[Any]:
    """The models that are asked, decoders or encoders."""
    scored = [model for part in experiment.parts if bool(part.tunings[0]) is encoders for model in part.models]
    return scored + [model for one in experiment.similarities for model in (one.encoders if encoders else one.models)]
