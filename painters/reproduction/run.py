"""Reproduce figures: score the cells and measure the similarities that have no record, then draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from painters import figures as drawn_figures
from painters import sweep
from painters.figures import Drawn
from painters.progress import OnProgress, progress_callback
from painters.ranks import ranks
from painters.reproduction.figure_request import FigureRequest
from painters.results import Store
from painters.sweep import TFLOPS, Forecast, Overrides, Progress, Summary
from painters.sweep.scorers import format_error
from painters.sweep.similarity import Question, measure, missing, questions


class ProgressDisplay(Protocol):
    """Shows progress by one display for the cells of a sweep and one for the documents of similarities.

    A display is open only while there is something to show, so that nothing is shown where nothing is missing.
    """

    def cells(self) -> AbstractContextManager[Callable[[Progress], None] | bool | None]:
        """Open the display of a sweep; the context's value is what `sweep.run` takes as `progress`."""

    def similarities(self) -> AbstractContextManager[OnProgress | None]:
        """Open the display of one model's similarities; the context's value is called with the documents done."""


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What was scored and drawn, and what is missing.

    Attributes:
        out: The folder of the records.
        forecast: What was missing, and what it was estimated to cost; None with `check`, which scores in any case.
        similarities_missing: The number of similarities that had no record when the call began.
        summary: What the sweep did; None if no cell was missing, or with `plan_only`.
        similarities_measured: The number of similarities that were measured.
        similarities_failed: Why each of the others could not be measured.
        figures: The figures in order of their numbers, with the files of each and what it lacks.

    Examples:
        >>> import painters
        >>> result = painters.reproduce([1, 2], out="here", plan_only=True)
        >>> result.forecast.missing, result.similarities_missing, result.figures
        (24, 0, ())
    """

    out: Path
    forecast: Forecast | None
    similarities_missing: int
    summary: Summary | None = None
    similarities_measured: int = 0
    similarities_failed: Sequence[str] = ()
    figures: Sequence[Drawn] = ()

    @property
    def folder(self) -> Path:
        """The folder of the figures."""
        return self.out / "figures"

    @property
    def failed(self) -> bool:
        """Whether a cell could not be scored, a similarity not measured, or a figure not drawn."""
        has_all_cells = self.summary is None or not self.summary.lacks
        return not (has_all_cells and not self.similarities_failed and all(figure.files for figure in self.figures))

    @property
    def missing(self) -> list[str]:
        """What could not be scored, measured or drawn, with the reasons; empty where everything was."""
        lines = []
        if self.summary is not None:
            for reason, failures in self.summary.reasons.items():
                others = f" and {len(failures) - 1} more" if len(failures) > 1 else ""
                lines.append(f"{failures[0]}{others}: {reason}")
            lines += [f"every cell of {model}: {reason}" for model, reason in self.summary.unknown.items()]
            lines += [f"{self.summary.untried} cells: not tried after a failure"] if self.summary.untried else []
        lines += self.similarities_failed
        return lines + [f"figure {figure.number}: {text}" for figure in self.figures for text in figure.missing]


def reproduce(  # noqa: PLR0913 - the options of `painters reproduce`, by their names
    figures: int | str | Iterable[int | str] = "all",
    *,
    quick: bool = False,
    limit: int | float | None = None,
    sample: int | None = None,
    sample_seed: int | None = None,
    data: str | Path | None = None,
    names: str | Sequence[str] = (),
    check: bool = False,
    paper: bool = False,
    model: str | None = None,
    encoder: str | None = None,
    dtype: str | None = None,
    device: str | None = None,
    exact_batching: bool = False,
    engine: str = "local",
    workers: int | None = None,
    fail_fast: bool = False,
    out: str | Path | None = None,
    plan_only: bool = False,
    tflops: float = TFLOPS,
    progress: ProgressDisplay | bool | None = None,
) -> Reproduction:
    """Draw the paper's figures, after scoring and measuring what their records lack.

    Records are kept as soon as they are there, so the call can be made again after any interruption. Where nothing is
    missing, no model and no torch is loaded. A cell that fails does not keep the others from running, nor figures from
    being drawn. In a program launched as several processes, each has to make this call: all of them score, and the main
    one measures and draws (`painters.ranks`).

    Args:
        figures: Numbers of figures, such as 4 or [4, 11], or their names, such as "fig4"; "all" is every figure.
        quick: Take the smaller grids: fewer documents, windows and seeds.
        limit: Score at most this many documents of each task, or this share of them, such as 0.1.
        sample: Draw this many documents of each task at random instead, where documents are scored or measured.
        sample_seed: The seed of the draw; None for 0.
        data: A folder with documents of one's own: for the task NAME in NAME/, a .jsonl file for each split.
        names: What figures call the models: `NAME`, for the only decoder, or `MODEL=NAME`, or several of these.
        check: Compare the records with the weights and tasks that are there today, and score again what differs. By
            default records are taken as they are.
        paper: Take the paper's own models and tasks instead of the bundled ones.
        model: Another decoder, on the paper's tasks unless it is bundled.
        encoder: Another encoder, on the paper's tasks unless it is bundled.
        dtype: The number type of the weights; None takes the experiments' own.
        device: Where models go, such as "cuda:1"; None takes the best device at hand.
        exact_batching: Score decoders in lm-eval's own batches, which gives its numbers to the last digit.
        engine: "local" scores in this process, "ray" on the workers of a cluster.
        workers: With the engine "ray": how many models score at once. None takes one for each GPU, or core.
        fail_fast: Stop scoring at the first cell that fails.
        out: The folder of the records; figures go to `figures/` in it. None takes `default_folder`.
        plan_only: Score and draw nothing; only state what is missing and what it would cost, in `forecast`.
        tflops: The peak of the device that a forecast assumes.
        progress: True shows bars, False nothing. None shows bars in notebooks. Or a display of one's own.

    Returns:
        What was scored and drawn, and what is missing.

    Raises:
        PaintersError: A figure, model, file or option is wrong, or the models of no experiment can be read.
        OSError: Records or figures cannot be written.

    Examples:
        >>> import painters
        >>> result = painters.reproduce(1, out="here")  # figure 1 is drawn from plans: it needs no records
        >>> [(figure.number, [path.name for path in figure.files]) for figure in result.figures]
        [(1, ['fig01.svg', 'fig01.png', 'fig01.csv', 'fig01.md'])]
        >>> result.failed, result.missing
        (False, [])
        >>> forecast = painters.reproduce("fig4", paper=True, plan_only=True).forecast
        >>> forecast.missing, forecast.total.hours < forecast.total.hours_alone
        (267, True)
    """
    changes = Overrides(
        model=model,
        encoder=encoder,
        quick=quick,
        limit=limit,
        sample=sample,
        sample_seed=sample_seed,
        dtype=dtype,
        exact_batching=exact_batching,
        data=None if data is None else Path(data),
        names=[names] if isinstance(names, str) else names,
    )
    request = FigureRequest.of(figures, changes, paper=paper, out=out)
    store, summary = Store(request.out), None
    display = _Bars(progress) if progress is None or isinstance(progress, bool) else progress
    forecast = None if check and not plan_only else sweep.plan(request.experiments, store, tflops=tflops)
    if plan_only:
        return Reproduction(request.out, forecast, len(missing(questions(request.experiments), request.out)))
    if ranks().same(forecast is None or forecast.missing > 0):
        with display.cells() as on_progress:
            summary = sweep.run(
                request.experiments,
                store,
                device=device,
                engine=engine,
                workers=workers,
                fail_fast=fail_fast,
                progress=on_progress,
            )
    if not ranks().is_main:
        return Reproduction(request.out, forecast, 0, summary)
    todo = missing(questions(request.experiments), request.out)
    failures = _measure(todo, request.out, device, display)
    return Reproduction(request.out, forecast, len(todo), summary, len(todo) - len(failures), failures, _draw(request))


class _Bars:
    """A bar for each thing that takes long, or none: what `progress_callback` makes of `progress`."""

    def __init__(self, progress: bool | None) -> None:
        self._progress = progress

    def cells(self) -> AbstractContextManager[bool | None]:
        return nullcontext(self._progress)

    def similarities(self) -> AbstractContextManager[OnProgress | None]:
        return progress_callback(self._progress)


def _measure(todo: Sequence[Question], out: Path, device: str | None, display: ProgressDisplay) -> list[str]:
    """Measure similarities model by model, and return the reason for each that failed."""
    failures = []
    for model in dict.fromkeys(question.model for question in todo):
        of_model = [question for question in todo if question.model == model]
        try:
            with display.similarities() as on_progress:
                measure(of_model, out, device=device, on_progress=on_progress)
        except Exception as error:
            failures += [f"similarity of {model.name}: {format_error(error)}"] * len(of_model)
    return failures


def _draw(request: FigureRequest) -> list[Drawn]:
    """Draw the figures from all records in the folder; of several models those of the experiments."""
    has_records = any(request.out.rglob("*.jsonl"))
    records, similarities = drawn_figures.read([request.out]) if has_records else ([], [])
    scored = {record.model for record in records} | {record.model for record in similarities}
    data = drawn_figures.Data.of(
        records,
        similarities,
        names={model: name for experiment in request.experiments for model, name in experiment.names.items()},
        model=request.model if request.model in scored else None,
        encoder=request.encoder if request.encoder in scored else None,
    )
    return drawn_figures.draw_all(data, request.out / "figures", request.numbers)
