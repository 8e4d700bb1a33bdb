"""The data of the page's tables and comparisons: records as columns, with every repeated value stored once."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from painters import results
from painters.drawing import plan_svg
from painters.plan import Plan, PlanError
from painters.results import Record
from painters.results.record import NOT_IN_KEY
from painters.results.shares import is_share

__all__ = [
    "GROUP",
    "DistinctValues",
    "PackedOutcomes",
    "Payload",
    "describe_plan",
    "limit_of",
    "pack",
    "payload",
    "variant",
]

MOST_DRAWN = 3000
"""How many plans have a drawing, of about five kilobytes each."""
MOST_OUTCOMES = 24_000_000
"""How many characters all packed outcomes may take."""

GROUP = ("model", "revision", "weights", "num_layers", "dtype", "tuning")
"""The fields that make a group, a model with its fine-tuning: plans of the same group are compared."""


@dataclass(slots=True)
class Payload:
    """What the scripts of the page read, as JSON takes it, and what was left out to keep it small."""

    content: dict[str, Any]
    left_out: list[str] = field(default_factory=list)


class DistinctValues:
    """Distinct values, numbered from 0 in the order in which they first occur."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[Hashable, int] = {}

    def number(self, key: Hashable, value: Any) -> int:
        """Return the number of `key`; where it is new, keep `value` under the next number."""
        if key not in self._numbers:
            self._numbers[key] = len(self.values)
            self.values.append(value)
        return self._numbers[key]


def payload(records: Sequence[Record]) -> Payload:
    """Return the records as the scripts of the page read them; numbers that do not exist are null.

    `content` holds:

    - `plans`: each distinct plan, described by `describe_plan`.
    - `groups`: the models with their fine-tuning, fields of `GROUP`.
    - `settings`: everything else that rows share, with the number of its group.
    - `outcomes`: the packed outcomes by document.
    - `rows`: columns with an entry for each record; `plan`, `setting` and `outcomes` are numbers into the lists above.
    """
    tables = _Tables()
    rows = [
        tables.row(record, compared)
        for record, compared in zip(records, results.frame(records).to_dict("records"), strict=True)
    ]
    settings = tables.settings.values
    _mark_shares(settings, rows)
    plans = tables.plans.values
    return Payload(
        {
            "plans": [describe_plan(*plan, draw=number < MOST_DRAWN) for number, plan in enumerate(plans)],
            "settings": settings,
            "groups": tables.groups.values,
            "outcomes": tables.outcomes.values,
            "rows": {name: _column([_nan_as_none(row[name]) for row in rows]) for name in (rows[0] if rows else ())},
        },
        list(_left_out(len(plans), tables.outcomes.refused)),
    )


class _Tables:
    """Lists of distinct values, which the rows of the page refer to by index."""

    def __init__(self) -> None:
        self.plans, self.settings, self.groups = DistinctValues(), DistinctValues(), DistinctValues()
        self.outcomes = PackedOutcomes()

    def row(self, record: Record, compared: dict[Hashable, Any]) -> dict[str, Any]:
        """Return the row of a record; `compared` is its row in the table of `painters.results.frame`."""
        plan = record.plan, record.num_layers
        setting = self._setting(record)
        return {
            "plan": self.plans.number(plan, plan),
            "setting": self.settings.number(_sorted_json(setting), setting),
            "variant": variant(record),
            "value": record.value,
            "stderr": record.stderr,
            "low": compared["low"],
            "high": compared["high"],
            "not_finite": record.not_finite,
            "intact": compared["intact"],
            "difference": compared["difference"],
            "error": compared["difference_stderr"],
            "normalised": compared["normalised"],
            "outcomes": self.outcomes.number(record),
            "seconds": round(record.seconds, 2),
            "date": record.date,
        }

    def _setting(self, record: Record) -> dict[str, Any]:
        """Return what a record shares with those that it may be compared with, its group by number."""
        setting = _protocol(record)
        group = {name: setting.pop(name) for name in GROUP}
        return setting | {
            "group": self.groups.number(_sorted_json(group), group),
            "aggregation": record.aggregation,
            "higher": record.higher_is_better,
            "primary": record.primary,
            "chance": record.chance,
            "limit": limit_of(record),
            "layers": record.num_layers,
        }


def _left_out(plans: int, refused: int) -> Iterator[str]:
    """Yield what was left out of a page with so many plans, where the outcomes of `refused` records had no room."""
    if plans > MOST_DRAWN:
        yield f"drawings of {plans - MOST_DRAWN} plans; {MOST_DRAWN} are drawn"
    if refused:
        yield (
            f"the outcomes by document of {refused} records, so that their plans cannot be compared pairwise: "
            f"they would make the page too large. Report fewer records at a time to have them"
        )


def variant(record: Record) -> str:
    """Return the rule that made the plan with its parameters, as `parallel start=3 loops=3`; empty if not known."""
    parameters = (f"{name}={value}" for name, value in (record.params or {}).items())
    return " ".join((record.variant, *parameters)) if record.variant else ""


def describe_plan(text: str, num_layers: int, *, draw: bool = True) -> dict[str, Any]:
    """Return a plan with its cost and its drawing, or only its text where it is no plan of that many layers."""
    try:
        plan = Plan.parse(text)
        plan.check(num_layers)
    except PlanError:
        return {"text": text, "layers": num_layers, "intact": False}
    return {
        "text": text,
        "layers": num_layers,
        "intact": text == str(Plan.identity(num_layers)),
        "runs": plan.layer_runs,
        "depth": plan.depth,
        "distinct": len(plan.layers),
    } | ({"svg": plan_svg(plan, num_layers)} if draw else {})


class PackedOutcomes:
    """The outcomes by document in base64, equal ones stored once, as long as they fit on the page."""

    def __init__(self) -> None:
        self._packed = DistinctValues()
        self._size = 0
        self.refused = 0

    @property
    def values(self) -> list[Any]:
        """The packed outcomes, in the order of their numbers."""
        return self._packed.values

    def number(self, record: Record) -> int | None:
        """Return the number of the record's outcomes; None where it has none, or they no longer fit on the page."""
        if record.outcomes is None:
            return None
        packed = pack(record.outcomes)
        if self._size + len(packed[1]) > MOST_OUTCOMES:
            self.refused += 1
            return None
        before = len(self.values)
        number = self._packed.number(packed, packed)
        self._size += len(packed[1]) if len(self.values) > before else 0
        return number


def pack(outcomes: Sequence[float]) -> tuple[int, str]:
    """Return the number of outcomes, and the outcomes in base64.

    Where all are 0 or 1 they are packed as bits, the first in the highest bit. Otherwise they are little-endian floats
    of 32 bits, and the number is negative.
    """
    if all(outcome in (0, 1) for outcome in outcomes):
        bits = "".join("1" if outcome else "0" for outcome in outcomes)
        padded = bits.ljust(-(-len(bits) // 8) * 8, "0")
        data = int(padded or "0", 2).to_bytes(len(padded) // 8, "big")
        return len(outcomes), base64.b64encode(data).decode()
    return -len(outcomes), base64.b64encode(struct.pack(f"<{len(outcomes)}f", *outcomes)).decode()


def limit_of(record: Record) -> int | float | str | None:
    """Return how many documents, or which share of them, were asked for; None where that is not recorded, or all."""
    if record.asked is not None and record.asked.sample is not None:
        return f"{record.asked.sample} drawn, seed {record.asked.sample_seed}"
    if record.sample_seed is not None:
        return f"drawn, seed {record.sample_seed}"
    return None if record.asked is None else record.asked.limit


def _protocol(record: Record) -> dict[str, Any]:
    """Return the fields that can change the number, without the plan."""
    fields = record.model_dump(mode="json", exclude={*NOT_IN_KEY, "plan"} - {"num_layers"})
    fields["tuning"] = record.tuning.model_dump() if record.tuning else None
    return fields


def _mark_shares(settings: Sequence[dict[str, Any]], rows: Iterable[dict[str, Any]]) -> None:
    """Add to each setting whether its numbers are shares, which the page shows in per cent."""
    values: list[list[float | None]] = [[] for _ in settings]
    for row in rows:
        values[row["setting"]].append(row["value"])
    for setting, measured in zip(settings, values, strict=True):
        setting["share"] = is_share(setting["metric"], setting["aggregation"], measured)


def _column(values: list[Any]) -> dict[str, Any] | list[Any]:
    """Return the values of a column; texts as the distinct ones and the number of each."""
    if not all(isinstance(value, str) for value in values):
        return values
    texts = DistinctValues()
    numbers = [texts.number(value, value) for value in values]
    return {"texts": texts.values, "numbers": numbers}


def _sorted_json(fields: dict[str, Any]) -> str:
    """Return one text for equal fields, whatever their order."""
    return json.dumps(fields, sort_keys=True)


def _nan_as_none(value: Any) -> Any:
    """Return `value`, or None where it is NaN."""
    return None if value != value else value
