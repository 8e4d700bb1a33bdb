"""What `painters sweep` does between its arguments and its table."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from painters import _cli_stop, sweep
from painters._cli_stop import Stops
from painters.experiment import Experiment, ExperimentError, find, load
from painters.sweep import Cost, Forecast, Progress, Summary

EVERY = 10.0  # seconds between two lines of progress in a file
SHOWN = 5  # reasons for failures
_SHARED = (
    "what plans have in common is run once: where log-likelihoods are asked, and of encoders whose weights stay "
    "(frozen, operated). Alone: each plan by itself, as texts are generated and encoders retuned in any case. Requests "
    "count whole in both, also where those of a document begin alike."
)


def experiments(
    names: Sequence[str],
    *,
    model: str | None,
    encoder: str | None,
    encoders: bool,
    quick: bool,
    limit: int | None,
    dtype: str | None,
    exact_batching: bool = False,
    data: Path | None = None,
) -> list[Experiment]:
    """The experiments as asked for; ExperimentError where an option finds nothing to change."""
    found = [load(name) for name in names]
    if quick:
        found = [one.quickened() for one in found]
    if not encoders:
        found = [one.without_encoders() for one in found]
    if data is not None:
        found = [one.with_data(data) for one in found]
    for option, given, kind in (("--model", model, False), ("--encoder", encoder, True)):
        if given is not None and not any(one.asks(encoders=kind) for one in found):
            raise ExperimentError(f"{option} {given}: {', '.join(names)} asks nothing of such a model: leave it out")
    if model is not None:
        found = [one.with_model(model) for one in found]
    if encoder is not None:
        found = [one.with_encoder(encoder) for one in found]
    if limit is not None:
        found = [one.with_limit(limit) for one in found]
    if exact_batching:
        found = [one.with_exact_batching() for one in found]
    return found if dtype is None else [one.with_dtype(dtype) for one in found]


def folder(names: Sequence[str]) -> Path:
    """Where the records of these experiments go: a folder with the name of the one, or one for several."""
    if len(set(names)) > 1:
        return Path("runs/sweep")
    name = names[0] if not names[0].endswith((".yaml", ".yml")) else find(names[0]).stem
    return Path("runs") / name.replace("/", "-")


def stoppable(out: Path) -> AbstractContextManager[Stops]:
    """What hears signals, which end the block with what is kept in `out` and the command to go on."""
    return _cli_stop.stoppable(f"The records of finished cells are kept in {out}")


@contextlib.contextmanager
def showing(console: Console | None) -> Iterator[Callable[[Progress], None] | None]:
    """A function that shows progress: a bar in a terminal, lines elsewhere, and nothing without a console."""
    if console is None:
        yield None
        return
    if not console.is_terminal:
        console.print("Loading libraries and models", soft_wrap=True)
        yield _Lines(console)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[cells]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        task = bars.add_task("Loading libraries and models", total=None, cells="", left="")

        def tell(now: Progress) -> None:
            bars.update(
                task,
                completed=now.done + now.share,
                total=now.total,
                description=now.what,
                cells=f"{now.done}/{now.total} cells",
                left=_left(now),
            )

        yield tell


class _Lines:
    """Prints a line for a cell, and none for those that follow within seconds."""

    def __init__(self, console: Console) -> None:
        self._console, self._last = console, -EVERY

    def __call__(self, now: Progress) -> None:
        last = now.done == now.total
        if last or time.monotonic() - self._last >= EVERY:
            self._last = time.monotonic()
            width = len(str(now.total))
            what = "done" if last else now.what
            times = f"{clock(now.elapsed)} elapsed" + ("" if last else f", {_left(now)}")
            line = f"[{now.done:{width}d}/{now.total}] {what}; {times}"
            self._console.print(line, markup=False, soft_wrap=True)


def _left(now: Progress) -> str:
    return "time left not known yet" if now.left is None else f"about {clock(now.left)} left"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, as 1:02:03."""
    return str(timedelta(seconds=round(seconds)))


def summary_table(summary: Summary, asked: Sequence[Experiment]) -> RenderableType:
    """What was found, done and failed, where the records are, and what to do with them."""
    rows = {
        "cells": f"{summary.cells}",
        "found": f"{summary.found}",
        "done": f"{summary.done}",
        "failed": f"{len(summary.failures)}",
        "time": clock(summary.seconds),
        "store": str(summary.folder),
    }
    lines: list[RenderableType] = [_table(rows)]
    for reason, count in summary.refused.items():
        lines.append(Text(f"{_counted(count, 'scoring')} in the store did not count: {reason}"))
    for what, reason in summary.unchecked.items():
        lines.append(Text(f"Records found for {what} were not compared with what is here: {reason}"))
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
        lines.append(Text(f"Failed: every cell of {model}, however many: {reason}", style="red"))
    if summary.untried:
        lines.append(Text(f"Not tried after the failure: {_counted(summary.untried, 'cell')}", style="red"))
    if asked and (summary.found or summary.done):
        numbers = sorted({one.figure for one in asked if one.figure is not None})
        plot = ["painters", "plot", *map(str, numbers), "--from", str(summary.folder)]
        lines.append(Text(f"Next: {shlex.join(plot)}"))
    return Group(*lines)


def summary_json(summary: Summary) -> dict[str, Any]:
    """Everything in the table, each failed cell by itself."""
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


def forecast_table(found: Forecast) -> RenderableType:
    """The cost of what is missing, with what the estimate is made of."""
    total, ratio = found.total, _ratio(found.total)
    alone = f" shared, {total.layer_runs_alone:,} alone ({ratio} times)" if ratio else ""
    rows = {
        "cells": f"{found.cells:,}",
        "found": f"{found.found:,}",
        "missing": f"{found.missing:,}",
        "distinct plans": f"{found.plans:,}",
        "layer runs": f"{total.layer_runs:,}{alone}",
        "hours": _told_hours(found),
    }
    lines: list[RenderableType] = [_table(rows)]
    experiments = [(name, cost) for name, cost in found.experiments if cost.cells]
    kinds = found.kinds if len(found.kinds) > 1 else ()
    if experiments or kinds:
        lines += [Text(), _costs(experiments, ("all", total), kinds), Text()]
    if experiments:
        lines.append(Text("Cells that experiments have in common count for each of them, and once in all."))
    lines.append(Text("Layer runs are per document, summed over the missing cells; training is not in them."))
    if ratio:
        lines.append(Text(f"Shared: {_SHARED}"))
    if count := found.by_basis["records"]:
        lines.append(Text(f"Hours of {count:,} cells by the seconds of this store's records of their model and task."))
        if ratio:
            lines.append(Text("  They hold what sharing saved, where it did: no more is taken off."))
    if count := found.by_basis["bundled"]:
        lines.append(Text(f"Hours of {count:,} cells of bundled models as one processor core took them elsewhere."))
    if count := found.by_basis["parameters"]:
        assumed = f"{found.tflops:g} TFLOPS, utilisation {sweep.UTILISATION}, decoding step {sweep.STEP * 1000:g} ms"
        lines.append(Text(f"Hours of {count:,} cells are an estimate from parameters ({assumed}; one device):"))
        lines.append(Text(f"  {sweep.FORMULA}"))
        lines.append(Text("  Embeddings, output head and loading are left out. --tflops states your device's peak."))
    if found.unknown:
        more = f" and {len(found.unknown) - SHOWN} more" if len(found.unknown) > SHOWN else ""
        named = ", ".join(found.unknown[:SHOWN]) + more
        lines.append(Text(f"No estimate for {named}: score a few cells, and records will tell."))
    return Group(*lines)


def _costs(parts: Sequence[tuple[str, Cost]], whole: tuple[str, Cost], kinds: Sequence[tuple[str, Cost]]) -> Table:
    """One row for each cost and its name."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("\nmissing", style="bold")
    for name in ("\ncells", "layer runs\nalone", "\nshared", "\ntimes", "hours\nalone", "\nshared"):
        table.add_column(name, justify="right")
    for name, cost in (*parts, whole, *kinds):
        if (name, cost) == whole and parts:
            table.add_row()
        hours = [_hours(cost.hours_alone), _hours(cost.hours)] if cost.hours else ["", ""]
        runs = [f"{cost.layer_runs_alone:,}", f"{cost.layer_runs:,}", _ratio(cost)]
        table.add_row(Text(name), f"{cost.cells:,}", *runs, *hours)
    return table


def forecast_json(found: Forecast) -> dict[str, Any]:
    """Everything in the table, numbers unrounded."""
    known = bool(found.by_basis) or not found.missing
    return {
        "cells": found.cells,
        "found": found.found,
        "missing": found.missing,
        "plans": found.plans,
        "layer_runs": found.total.layer_runs,
        "layer_runs_alone": found.total.layer_runs_alone,
        "hours": found.total.hours if known else None,
        "hours_alone": found.total.hours_alone if known else None,
        "experiments": [{"experiment": name, **asdict(cost)} for name, cost in found.experiments],
        "kinds": [{"kind": name, **asdict(cost)} for name, cost in found.kinds],
        "cells_by_basis": dict(found.by_basis),
        "no_estimate": list(found.unknown),
        "tflops": found.tflops,
        "utilisation": sweep.UTILISATION,
        "decoding_step_seconds": sweep.STEP,
        "formula": sweep.FORMULA,
    }


def _told_hours(found: Forecast) -> str:
    if not found.missing:
        return "0"
    if not found.by_basis:
        return "not known"
    hours, alone = _hours(found.total.hours), _hours(found.total.hours_alone)
    both = hours if hours == alone else f"{hours} shared, {alone} alone"
    return f"about {both}" + (" and what has no estimate" if found.unknown else "")


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.2g}"


def _ratio(cost: Cost) -> str:
    """How many times as many layer runs the plans take alone; nothing where they share none."""
    shares = cost.layer_runs_alone > cost.layer_runs
    return f"{cost.layer_runs_alone / cost.layer_runs:.2f}" if shares else ""


def _table(rows: dict[str, str]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, value in rows.items():
        table.add_row(Text(name, style="bold"), Text(value, overflow="fold"))
    return table


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
