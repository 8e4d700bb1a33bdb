"""What missing cells would cost, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    "Shared: common prefixes of plans run once (log-likelihood tasks; frozen or pre-tuned encoders). Alone: each plan "
    "separately. Both count every request in full, also where requests of one document begin alike."
)


def forecast_table(forecast: Forecast) -> RenderableType:
    """Return the cost of what is missing, and what the estimate is made of."""
    total, ratio = forecast.total, _ratio(forecast.total)
    alone = f" shared, {total.layer_runs_alone:,} alone ({ratio} times)" if ratio else ""
    rows = {
        "cells": f"{forecast.cells:,}",
        "found": f"{forecast.found:,}",
        "missing": f"{forecast.missing:,}",
        "distinct plans": f"{forecast.plans:,}",
        "layer runs": f"{total.layer_runs:,}{alone}",
        "hours": _all_hours(forecast),
    }
    lines: list[RenderableType] = [two_columns(rows)]
    experiments = [(name, cost) for name, cost in forecast.experiments if cost.cells]
    kinds = forecast.kinds if len(forecast.kinds) > 1 else ()
    if experiments or kinds:
        lines += [Text(), _costs(experiments, ("all", total), kinds), Text()]
    if experiments:
        lines.append(Text("A cell of several experiments counts in each of them, and once in all."))
    lines.append(Text("Layer runs are those of each plan times its documents, training not counted."))
    if ratio:
        lines.append(Text(_SHARED))
    return Group(*lines, *map(Text, _bases(forecast)))


def _bases(forecast: Forecast) -> Iterator[str]:
    """Yield what the hours are estimated from, and what has no estimate."""
    if count := forecast.by_basis["records"]:
        yield f"Hours of {count:,} cells: from the seconds of this store's records of the same model and task."
        if _ratio(forecast.total):
            yield "  Those seconds already include what sharing saved: nothing more is taken off."
    if count := forecast.by_basis["bundled"]:
        yield f"Hours of {count:,} cells: as measured for the bundled models on one processor core."
    if count := forecast.by_basis["parameters"]:
        assumed = f"{forecast.tflops:g} TFLOPS, utilisation {sweep.UTILISATION}, decoding step {sweep.STEP * 1000:g} ms"
        yield f"Hours of {count:,} cells are an estimate from parameters ({assumed}; one device):"
        yield f"  {sweep.FORMULA}"
        yield "  Embeddings, output head and loading are left out. --tflops states your device's peak."
    if forecast.unknown:
        more = f" and {len(forecast.unknown) - SHOWN} more" if len(forecast.unknown) > SHOWN else ""
        named = ", ".join(forecast.unknown[:SHOWN]) + more
        yield f"No estimate for {named}: score a few cells first, and later estimates use their records."


def _costs(parts: Sequence[tuple[str, Cost]], whole: tuple[str, Cost], kinds: Sequence[tuple[str, Cost]]) -> Table:
    """Return a table with one row for each name and cost: the parts, the whole, then the kinds."""
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


def forecast_json(forecast: Forecast) -> dict[str, Any]:
    """Return everything in the table, numbers unrounded."""
    is_known = bool(forecast.by_basis) or not forecast.missing
    return {
        "cells": forecast.cells,
        "found": forecast.found,
        "missing": forecast.missing,
        "plans": forecast.plans,
        "layer_runs": forecast.total.layer_runs,
        "layer_runs_alone": forecast.total.layer_runs_alone,
        "hours": forecast.total.hours if is_known else None,
        "hours_alone": forecast.total.hours_alone if is_known else None,
        "experiments": [{"experiment": name, **asdict(cost)} for name, cost in forecast.experiments],
        "kinds": [{"kind": name, **asdict(cost)} for name, cost in forecast.kinds],
        "cells_by_basis": dict(forecast.by_basis),
        "no_estimate": list(forecast.unknown),
        "tflops": forecast.tflops,
        "utilisation": sweep.UTILISATION,
        "decoding_step_seconds": sweep.STEP,
        "formula": sweep.FORMULA,
    }


def _all_hours(forecast: Forecast) -> str:
    """Return the hours of all missing cells in words."""
    if not forecast.missing:
        return "0"
    if not forecast.by_basis:
        return "not known"
    shared, alone = _hours(forecast.total.hours), _hours(forecast.total.hours_alone)
    both = shared if shared == alone else f"{shared} shared, {alone} alone"
    return f"about {both}" + (", plus the cells without an estimate" if forecast.unknown else "")


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.2g}"


def _ratio(cost: Cost) -> str:
    """Return how many times as many layer runs the plans take alone; an empty text where they share none."""
    is_shared = cost.layer_runs_alone > cost.layer_runs
    return f"{cost.layer_runs_alone / cost.layer_runs:.2f}" if is_shared else ""
