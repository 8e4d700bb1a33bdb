"""`painters reproduce`: records where they are missing, then figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.text import Text

from painters.cli._console import print_result, progress, unbroken
from painters.cli._errors import FAILURE
from painters.cli._options import (
    MODEL,
    OUTPUT,
    SCORE,
    DataOption,
    DeviceOption,
    Engine,
    EngineOption,
    ExactBatchingOption,
    FailFastOption,
    FileDtypeOption,
    JsonOption,
    LimitOption,
    NamesOption,
    NumbersArgument,
    PlanOnlyOption,
    QuietOption,
    SampleOption,
    SampleSeedOption,
    TflopsOption,
    WorkersOption,
    check_tflops,
    check_workers,
    named_model,
)
from painters.cli._progress import bar, showing
from painters.cli._stop import Stops, stoppable
from painters.cli.plot import Plotted
from painters.cli.sweep import kept_records, summary_json, summary_table
from painters.progress import OnProgress

if TYPE_CHECKING:
    from painters.reproduction import Reproduction
    from painters.sweep import Progress


# long: one line or more for each option
def reproduce(  # noqa: PLR0913 - the options of the command
    numbers: NumbersArgument = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer documents, windows and seeds.", rich_help_panel=SCORE)
    ] = False,
    limit: LimitOption = None,
    sample: SampleOption = None,
    sample_seed: SampleSeedOption = None,
    data: DataOption = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Score again where today's weights or tasks differ.", rich_help_panel=SCORE),
    ] = False,
    paper: Annotated[
        bool, typer.Option("--paper", help="The paper's own models and tasks.", rich_help_panel=MODEL)
    ] = False,
    model: Annotated[str | None, named_model("Another decoder; unless bundled, on the paper's tasks.")] = None,
    encoder: Annotated[str | None, named_model("Another encoder; unless bundled, on the paper's tasks.")] = None,
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
    name: NamesOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Draw the paper's figures, scoring first what records lack. Run it again after any interruption.

    painters reproduce all --quick
    """
    from painters import reproduction
    from painters.sweep import TFLOPS

    check_workers(engine, workers)
    check_tflops(tflops, plan_only)
    out = to or reproduction.default_folder(model=model, encoder=encoder, paper=paper, quick=quick)
    with stoppable(lambda: "" if plan_only else kept_records(out)) as stops:
        result = reproduction.reproduce(
            numbers or "all",
            quick=quick,
            limit=limit,
            sample=sample,
            sample_seed=sample_seed,
            data=data,
            names=name or (),
            check=check,
            paper=paper,
            model=model,
            encoder=encoder,
            dtype=None if dtype is None else str(dtype),
            device=device,
            exact_batching=exact_batching,
            engine=engine,
            workers=workers,
            fail_fast=fail_fast,
            out=out,
            plan_only=plan_only,
            tflops=tflops or TFLOPS,
            progress=_Display(progress(quiet, as_json), stops),
        )
    if plan_only:
        _print_forecast(result, as_json)
    else:
        print_result(_json(result) if as_json else _table(result))
    if result.failed:
        raise typer.Exit(FAILURE)


@dataclass(frozen=True, slots=True)
class _Display:
    """Shows progress on the console, and ends it where a signal came."""

    console: Console | None
    stops: Stops

    @contextmanager
    def cells(self) -> Iterator[Callable[[Progress], None]]:
        """Open the bar or the lines of a sweep."""
        with showing(self.console) as on_progress:
            yield self.stops.watching(on_progress)

    def similarities(self) -> AbstractContextManager[OnProgress]:
        """Open the bar or the lines of a measurement."""
        return bar(self.console)


def _print_forecast(result: Reproduction, as_json: bool) -> None:
    """Print what is missing and what it would cost."""
    from painters.cli.forecast import forecast_json, forecast_table

    assert result.forecast is not None
    count = result.similarities_missing
    if as_json:
        print_result({**forecast_json(result.forecast), "similarities": count})
    else:
        print_result(forecast_table(result.forecast))
        print_result(f"Similarities to measure: {count}, each one pass over 100 documents or so.")


def _table(result: Reproduction) -> RenderableType:
    """Return what became of the cells, if some were missing, and one row for each figure."""
    lines: list[RenderableType] = []
    if result.summary is not None:
        lines += [summary_table(result.summary, ()), Text()]
    lines += [Text(f"Failed: {failure}", style="red") for failure in result.similarities_failed]
    return Group(*lines, _plotted(result).table(), unbroken(f"\nThe figures are in {result.folder}"))


def _json(result: Reproduction) -> dict[str, Any]:
    """Return everything in the table."""
    return {
        "sweep": None if result.summary is None else summary_json(result.summary),
        "similarities_measured": result.similarities_measured,
        "similarities_failed": list(result.similarities_failed),
        "figures": _plotted(result).as_json(),
        "folder": str(result.folder),
    }


def _plotted(result: Reproduction) -> Plotted:
    return Plotted(result.figures, by_number=True)
