"""The result of `painters run`, as tables and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from painters import results
from painters.cli import remarks
from painters.cli._console import unbroken
from painters.plan import Plan
from painters.results import Record, scoring
from painters.results.intervals import interval
from painters.results.shares import is_share

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class RunResult:
    """The records of a plan and of the intact model, and the tables made of them.

    Attributes:
        plan: The plan.
        variant: The name of the variant that built it; None for a plan given as text.
        model: The name by which the model is shown; records hold what it was loaded as.
        num_layers: The number of its layers.
        records: The records of both, one for each task and metric.
        out: The file of the records.
        notes: What else a user should know.
        frame: One row for each task and metric of the plan, as `results.frame` makes them.
    """

    plan: Plan
    variant: str | None
    model: str
    num_layers: int
    records: Sequence[Record]
    out: Path
    notes: Sequence[str] = ()
    frame: pd.DataFrame = field(init=False)

    def __post_init__(self) -> None:
        table = results.frame(self.records)
        object.__setattr__(self, "frame", table[table["plan"] == str(self.plan)].reset_index(drop=True))

    @property
    def _of_plan(self) -> dict[tuple[str, str], Record]:
        """The plan's records by task and metric."""
        return {(record.task, record.metric): record for record in self.records if record.plan == str(self.plan)}

    @property
    def _intact(self) -> dict[tuple[str, str], Record]:
        """The intact model's records by task and metric."""
        return {(record.task, record.metric): record for record in self.records if record.is_intact}

    @property
    def median(self) -> float | None:
        """The paper's aggregate: the median of the normalised primary metrics."""
        normalised = [row.normalised for row in self.frame.itertuples() if row.primary and _is_number(row.normalised)]
        return statistics.median(normalised) if normalised else None

    def seconds(self, plan: Plan) -> float:
        """Return the seconds that scoring `plan` took, over all tasks."""
        cells = {(r.task, r.date): r.seconds for r in self.records if r.plan == str(plan)}
        return sum(cells.values())

    def _is_share(self, task: str, metric: str) -> bool:
        """Return whether the table shows this metric in per cent."""
        records = [records[task, metric] for records in (self._of_plan, self._intact) if (task, metric) in records]
        return is_share(metric, records[0].aggregation, [record.value for record in records])

    def as_json(self) -> dict[str, Any]:
        """Return everything in the table and under it, numbers unrounded; missing numbers are None."""
        columns = (
            *("task", "metric", "primary", "documents", "shots", "chance"),
            *(
                "intact",
                "value",
                "stderr",
                "low",
                "high",
                "difference",
                "difference_stderr",
                "normalised",
                "not_finite",
            ),
        )
        of_plan, intact = self._of_plan, self._intact
        rows = [
            {name: _plain(getattr(row, name)) for name in columns}
            | remarks.comparison(of_plan[row.task, row.metric], intact.get((row.task, row.metric)))
            for row in self.frame.itertuples()
        ]
        identity = Plan.identity(self.num_layers)
        return {
            "plan": str(self.plan),
            "variant": self.variant,
            "model": self.records[0].model,
            "name": self.model,
            "num_layers": self.num_layers,
            "stack": self.records[0].stack,
            "kv": self.records[0].kv,
            "sample_seed": next((r.sample_seed for r in self.records if r.sample_seed is not None), None),
            "chat": None if self.records[0].chat is None else self.records[0].chat.model_dump(),
            "layer_runs": self.plan.layer_runs,
            "depth": self.plan.depth,
            "seconds": round(self.seconds(self.plan), 3),
            "seconds_intact": round(self.seconds(identity), 3),
            "median_normalised": self.median,
            "rows": rows,
            "bootstrap": {"seed": scoring.BOOTSTRAP_SEED, "draws": scoring.DRAWS},
            "notes": list(self.notes),
            "records": str(self.out),
        }

    def table(self, all_metrics: bool = False) -> RenderableType:
        """Return a row per task: the intact model, the plan, their paired difference, the normalised value.

        Args:
            all_metrics: Whether to add a row for each further metric of a task.
        """
        table = Table(box=None, pad_edge=False, padding=(0, 1), collapse_padding=True, header_style="bold underline")
        for name in ("task", "metric"):  # in a narrow terminal they break, so that no digit is lost
            table.add_column(name, min_width=6, overflow="fold")
        for name in ("chance", "intact", "plan", "difference", "norm."):
            table.add_column(name, justify="right", no_wrap=True)
        of_plan, intact = self._of_plan, self._intact
        for row in self.frame.itertuples():
            if not row.primary and not all_metrics:
                continue
            base, record = intact.get((row.task, row.metric)), of_plan[row.task, row.metric]
            scale = 100.0 if self._is_share(row.task, row.metric) else 1.0
            table.add_row(
                row.task if row.primary else "",
                row.metric,
                _number(row.chance, None, scale),
                _number(row.intact, base.stderr if base else None, scale, interval(base) if base else None)
                + _mark(base),
                _number(row.value, row.stderr, scale, interval(record)) + _mark(record),
                _number(
                    row.difference, row.difference_stderr, scale, _interval_of_difference(record, base), signed=True
                ),
                f"{row.normalised:.2f}" if _is_number(row.normalised) else "–",
                style=None if row.primary else "dim",
            )
        if self.median is not None:
            table.add_row()
            table.add_row("median", "", "", "", "", "", f"{self.median:.2f}", style="bold")
        return table

    def header(self) -> RenderableType:
        """Return a line that names the model, the plan and the number of documents."""
        counts = sorted({record.documents for record in self.records})
        documents = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        seeds = sorted({record.sample_seed for record in self.records if record.sample_seed is not None})
        drawn, seed = (" drawn", f", seed {', '.join(map(str, seeds))}") if seeds else ("", "")
        named = f" ({self.variant})" if self.variant else ""
        stack = f", {self.records[0].stack}" if self.records[0].stack else ""
        cache = "" if self.records[0].kv == "exact" else f", kv {self.records[0].kv}"
        return Text(
            f"{self.model}{stack} under {self.plan}{named}{cache}, {documents}{drawn} documents a task{seed}",
            style="bold",
        )

    def footer(self, all_metrics: bool = False) -> RenderableType:
        """Return what the plan costs, what to beware of, how to read the table, and where the records are.

        Args:
            all_metrics: Whether the table shows every metric, so that each is checked for too few documents.
        """
        identity = Plan.identity(self.num_layers)
        cost = (
            f"layer runs {self.plan.layer_runs} (intact {identity.layer_runs}), "
            f"depth {self.plan.depth} (intact {identity.depth}), "
            f"seconds {self.seconds(self.plan):.1f} (intact {self.seconds(identity):.1f})"
        )
        shown = [record for record in self.records if record.primary or all_metrics]
        others = sorted({record.metric for record in shown if not self._is_share(record.task, record.metric)})
        unit = "Per cent" if not others else f"Per cent, but {', '.join(others)} as measured,"
        certain = any(record.stderr == 0 for record in shown) or bool((self.frame["difference_stderr"] == 0).any())
        legend = (
            f"{unit} ± standard error; differences are paired by document.\n"
            + ("In brackets: the 95 % limit, where all documents agree.\n" if certain else "")
            + "norm.: 0 is chance, 1 the intact model; – where that one is at chance."
        )
        if any(record.chance is None for record in shown):
            legend += "\nchance and norm.: – where what guessing scores is not known."
        notes = [Text(note) for note in (*self.notes, *remarks.not_finite(self.records))]
        if few := list(remarks.too_few(shown)):
            notes.append(Text("\n".join(("Too few documents to tell whether there is a difference:", *few))))
        return Group(Text(cost), *notes, Text(legend, style="dim"), unbroken(f"Records: {self.out}", style="dim"))


def _is_number(value: Any) -> bool:
    """Return whether `value` is neither None nor NaN."""
    return value is not None and value == value


def _plain(value: Any) -> Any:
    """Return a number of numpy as one of Python, and NaN as None."""
    value = value.item() if hasattr(value, "item") else value
    return value if _is_number(value) else None


def _mark(record: Record | None) -> str:
    """Return the mark of a record without a value; a line under the table explains it."""
    return remarks.MARK if record is not None and record.not_finite else ""


def _interval_of_difference(record: Record, base: Record | None) -> tuple[float, float] | None:
    """Return the 95 % interval of a difference; None where the two are of the same plan, or cannot be compared."""
    if base is None or record.plan == base.plan:
        return None
    limits: tuple[float, float] | None = remarks.comparison(record, base)["interval"]
    return limits


def _number(
    value: Any, error: Any, scale: float, limits: tuple[float, float] | None = None, *, signed: bool = False
) -> str:
    """Return `value` times `scale` as text, with its standard error where there is one; a dash for none.

    A standard error of zero says nothing of how far the score may be off: the limits of the interval replace it.
    """
    if not _is_number(value):
        return "–"
    digits = 1 if scale != 1.0 or abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    sign = "+" if signed else ""
    text = f"{scale * value:{sign}.{digits}f}"
    if not _is_number(error):
        return text
    if error > 0 or limits is None:
        return f"{text} ± {scale * error:.{digits}f}" if error > 0 or signed else text
    low, high = (f"{scale * limit:{sign}.{digits}f}" for limit in limits)
    whole = f"{scale * value:{sign}.0f}"
    if limits[0] == value:
        return f"{whole} (≤{high})"
    if limits[1] == value:
        return f"{whole} (≥{low})"
    return f"{text} (±{high.lstrip('+')})" if value == 0 else f"{text} ({low} to {high})"
