"""`painters sweep`: the missing cells of experiments."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from painters.cli import _complete
from painters.cli._console import print_result, progress, two_columns
from painters.cli._errors import FAILURE, UsageError
from painters.cli._options import (
    MODEL,
    OUTPUT,
    SCORE,
    ChatTemplateOption,
    DataOption,
    DeviceOption,
    Engine,
    EngineOption,
    ExactBatchingOption,
    FailFastOption,
    FileDtypeOption,
    JsonOption,
    LimitOption,
    MultiturnOption,
    NamesOption,
    PlanOnlyOption,
    QuietOption,
    SampleOption,
    SampleSeedOption,
    StackOption,
    SystemOption,
    TemplateNameOption,
    TflopsOption,
    WorkersOption,
    chat_fields,
    check_tflops,
    check_workers,
    named_model,
)
from painters.cli._progress import clock, showing
from painters.cli._stop import stoppable

if TYPE_CHECKING:
    from painters.experiment import Experiment
    from painters.sweep import Summary

SHOWN = 5  # reasons for failures


# long: one line or more for each option
def sweep(  # noqa: PLR0913 - the options of the command
    experiments: Annotated[
        list[str],
        typer.Argument(
            metavar="EXPERIMENT",
            help="Figures, such as 4 or fig4; names, such as paper/fig4; or YAML files.",
            autocompletion=_complete.experiment_names,
        ),
    ],
    model: Annotated[str | None, named_model("Score this decoder instead of the experiment's.")] = None,
    stack: StackOption = None,
    encoder: Annotated[str | None, named_model("Score this encoder instead of the experiment's.")] = None,
    no_encoder: Annotated[
        bool, typer.Option("--no-encoder", help="Leave the encoders out.", rich_help_panel=MODEL)
    ] = False,
    dtype: FileDtypeOption = None,
    device: DeviceOption = None,
    exact_batching: ExactBatchingOption = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="The smaller grid that the file defines.", rich_help_panel=SCORE)
    ] = False,
    limit: LimitOption = None,
    sample: SampleOption = None,
    sample_seed: SampleSeedOption = None,
    apply_chat_template: ChatTemplateOption = False,
    chat_template: TemplateNameOption = None,
    system_instruction: SystemOption = None,
    fewshot_as_multiturn: MultiturnOption = None,
    data: DataOption = None,
    engine: EngineOption = Engine.local,
    workers: WorkersOption = None,
    fail_fast: FailFastOption = False,
    to: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of records. Default: runs/EXPERIMENT.", rich_help_panel=OUTPUT),
    ] = None,
    plan_only: PlanOnlyOption = False,
    tflops: TflopsOption = None,
    name: NamesOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score the missing cells of experiments, and keep their records. Run it again after any interruption.

    painters sweep fig4 --quick
    """
    from painters import sweep as sweeps
    from painters.cli.forecast import forecast_json, forecast_table
    from painters.results import Store

    check_workers(engine, workers)
    if encoder is not None and no_encoder:
        raise UsageError("--encoder and --no-encoder: give one of the two")
    if stack is not None and model is None:
        raise UsageError(f"--stack {stack} belongs to --model: in an experiment, a model's entry says its own stack")
    check_tflops(tflops, plan_only)
    overrides = sweeps.Overrides(
        model=model,
        stack=stack,
        encoder=encoder,
        encoders=not no_encoder,
        quick=quick,
        limit=limit,
        sample=sample,
        sample_seed=sample_seed,
        chat=chat_fields(apply_chat_template, chat_template, system_instruction, fewshot_as_multiturn),
        dtype=None if dtype is None else str(dtype),
        exact_batching=exact_batching,
        names=name or (),
        data=data,
    )
    selected = sweeps.load_experiments(experiments, overrides)
    store = Store(to or sweeps.records_folder(experiments))
    if plan_only:
        forecast = sweeps.plan(selected, store, tflops=tflops or sweeps.TFLOPS)
        print_result(forecast_json(forecast) if as_json else forecast_table(forecast))
        return
    with stoppable(lambda: kept_records(store.folder)) as stops, showing(progress(quiet, as_json)) as on_progress:
        summary = sweeps.run(
            selected,
            store,
            device=device,
            engine=engine,
            workers=workers,
            fail_fast=fail_fast,
            progress=stops.watching(on_progress),
        )
    print_result(summary_json(summary) if as_json else summary_table(summary, () if quiet else selected))
    if summary.lacks:
        if summary.failures and os.environ.get("PAINTERS_TRACEBACK"):
            raise summary.failures[0].error
        raise typer.Exit(FAILURE)


def kept_records(folder: Path) -> str:
    """Return what a sweep that was stopped says of the records in `folder`; nothing where there are none."""
    from painters.results import Store

    has_some = any(folder.glob("*.jsonl")) or bool(Store(folder).partial_files.paths())
    return f"What is scored so far is kept in {folder}" if has_some else ""


def summary_table(summary: Summary, experiments: Sequence[Experiment]) -> RenderableType:
    """Return what was found, done and failed, and where the records are.

    Args:
        summary: What the sweep did.
        experiments: What it scored, for the hint how to plot it; empty for no hint.
    """
    rows = {
        "cells": f"{summary.cells}",
        "found": f"{summary.found}",
        "done": f"{summary.done}",
        "failed": f"{len(summary.failures)}",
        "time": clock(summary.seconds),
        "store": str(summary.folder),
    }
    lines: list[RenderableType] = [two_columns(rows)]
    for reason, count in summary.refused.items():
        lines.append(Text(f"{_counted(count, 'scoring')} in the store did not count: {reason}"))
    for what, reason in summary.unchecked.items():
        lines.append(Text(f"The records of {what} were not checked against the model and task at hand: {reason}"))
    for note, count in summary.notes.items():
        lines.append(Text(note if count == 1 else f"{note} ({count} times)"))
    for what, count in summary.not_finite.items():
        lines.append(Text(f"No value: {_counted(count, 'cell')} on {what}: answers were not finite (NaN or infinite)"))
    reasons = summary.reasons
    for reason, failures in list(reasons.items())[:SHOWN]:
        more = f" and {_counted(len(failures) - 1, 'other cell')}" if len(failures) > 1 else ""
        lines.append(Text(f"Failed: {failures[0]}{more}: {reason}", style="red"))
    if len(reasons) > SHOWN:
        lines.append(Text(f"Failed for {len(reasons) - SHOWN} other reasons: --json lists them", style="red"))
    for model, reason in summary.unknown.items():
        lines.append(Text(f"Failed: every cell of {model}, whose layers are not known: {reason}", style="red"))
    if summary.untried:
        lines.append(Text(f"Not tried after the failure: {_counted(summary.untried, 'cell')}", style="red"))
    if experiments and (summary.found or summary.done):
        numbers = sorted({experiment.figure for experiment in experiments if experiment.figure is not None})
        plot = ["painters", "plot", *map(str, numbers), "--from", str(summary.folder)]
        lines.append(Text(f"Next: {shlex.join(plot)}"))
    return Group(*lines)


def summary_json(summary: Summary) -> dict[str, Any]:
    """Return everything in the table, each failed cell by itself."""
    failures = [
        {
            "model": failure.cell.model,
            "plan": str(failure.cell.plan),
            "kv": failure.cell.kv,
            "task": failure.cell.task,
            "tuning": failure.cell.tuning.model_dump() if failure.cell.tuning else None,
            "reason": failure.reason,
        }
        for failure in summary.failures
    ]
    return {
        "cells": summary.cells,
        "found": summary.found,
        "done": summary.done,
        "failed": len(summary.failures),
        "seconds": round(summary.seconds, 3),
        "store": str(summary.folder),
        "refused": dict(summary.refused),
        "unchecked": summary.unchecked,
        "notes": dict(summary.notes),
        "not_finite": dict(summary.not_finite),
        "untried": summary.untried,
        "missing": [
            {"reason": reason, "cells": len(failures), "such_as": str(failures[0])}
            for reason, failures in summary.reasons.items()
        ],
        "models_unknown": summary.unknown,
        "failures": failures,
    }


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
