"""What missing cells would cost, for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from painters import sweep
from painters.cli._console import two_columns
from painters.sweep import Cost, Forecast

SHOWN = 5  # models without an estimate
_SHARED = (
    "what plans have in common is run once: where log-likelihoods are asked, and of encoders whose weights stay "
    "(frozen, operated). Alone: each plan by itself, as texts are generated and encoders retuned in any case. Requests "
    "count whole in both, also where those of a document begin alike."
)


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
    lines: list[RenderableType] = [two_columns(rows)]
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
    table.add_column("\nmissing", style="bold", overflow="fold")
    for name in ("\ncells", "layer runs\nalone", "\nshared", "\ntimes", "hours\nalone", "\nshared"):
        table.add_column(name, justify="right", no_wrap=True)
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
