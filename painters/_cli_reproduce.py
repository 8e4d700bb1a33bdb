"""What `painters reproduce` does between its arguments and its table: records where they are missing, then figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from painters import _cli_sweep as sweeping
from painters import bundled, figures, sweep
from painters._cli_plot import Plotted
from painters._cli_run import _bar
from painters._sweep_similarity import Question, measure, missing, questions
from painters.errors import PaintersError
from painters.experiment import Experiment, shipped
from painters.results import Store
from painters.sweep import Forecast, Summary

COMMITTED, QUICK = Path("results"), Path("runs/quick")


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
    numbers = figures.numbers(names)
    paper = paper or any(name is not None and name not in bundled.models() for name in (model, encoder))
    known = shipped()
    wanted = [name for number in numbers if (name := f"{'paper/' if paper else ''}fig{number}") in known]
    found = sweeping.experiments(
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
        made = "-".join(Path(name).name for name in (model, encoder) if name) or ("paper" if paper else "")
        out = Path("runs", made + ("-quick" if quick else "")) if made else QUICK if quick else COMMITTED
    return Request(numbers, found, out)


def forecast(asked: Request, tflops: float) -> tuple[Forecast, list[Question]]:
    """The cost of the missing cells, and the missing similarities."""
    found = sweep.plan(asked.experiments, Store(asked.out), tflops=tflops)
    return found, missing(questions(asked.experiments), asked.out)


def reproduce(
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
    must be of the very weights and requests that are here today.
    """
    store, summary = Store(asked.out), None
    with sweeping.stoppable(asked.out) as stops:
        if check or sweep.plan(asked.experiments, store).missing:
            with sweeping.showing(console) as progress:
                summary = sweep.run(
                    asked.experiments,
                    store,
                    device=device,
                    engine=engine,
                    workers=workers,
                    fail_fast=fail_fast,
                    progress=stops.watching(progress),
                )
        todo = missing(questions(asked.experiments), asked.out)
        failures = _measure(todo, asked.out, device, console) if todo else []
        folder = asked.out / "figures"
        return Reproduced(summary, len(todo) - len(failures), failures, _draw(asked, folder), folder)


def _measure(todo: Sequence[Question], out: Path, device: str | None, console: Console | None) -> list[str]:
    """Why similarities could not be measured, one model's failure not keeping the others from it."""
    failures = []
    for model in dict.fromkeys(question.model for question in todo):
        try:
            with _bar(console) as tell:
                measure([question for question in todo if question.model == model], out, device=device, tell=tell)
        except Exception as error:  # as in a sweep, one model must not sink the rest
            told = str(error) if isinstance(error, PaintersError) else f"{type(error).__name__}: {error}"
            failures += [f"similarity of {model.name}: {told}"] * sum(one.model == model for one in todo)
    return failures


def _draw(asked: Request, folder: Path) -> Plotted:
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
