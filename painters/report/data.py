"""What the page's tables and comparisons are made of: records as columns, with everything that repeats said once."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from painters import results
from painters.drawing import plan_svg
from painters.plan import Plan, PlanError
from painters.results import Record
from painters.results.record import NOT_IN_KEY

MOST_DRAWN = 3000  # plans with a drawing, of about five kilobytes each
MOST_OUTCOMES = 24_000_000  # characters that all outcomes may take

# A model and its fine-tuning: within one of them plans are compared.
GROUP = ("model", "revision", "weights", "num_layers", "dtype", "tuning")


@dataclass(slots=True)
class Payload:
    """What the scripts of the page read, as JSON takes it, and what had to be left out of it."""

    content: dict[str, Any]
    left_out: list[str] = field(default_factory=list)


class Table:
    """Distinct values, each with its number."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[Hashable, int] = {}

    def number(self, key: Hashable, value: Any) -> int:
        """The number of `key`; `value` is kept where it is new."""
        if key not in self._numbers:
            self._numbers[key] = len(self.values)
            self.values.append(value)
        return self._numbers[key]


def payload(records: Sequence[Record]) -> Payload:
    """The records as the page has them. Numbers that could not be had are null."""
    plans, settings, groups, outcomes = Table(), Table(), Table(), Outcomes()
    left_out = []
    rows: list[dict[str, Any]] = []
    for record, compared in zip(records, results.frame(records).to_dict("records"), strict=True):
        protocol = _protocol(record)
        group = {name: protocol.pop(name) for name in GROUP}
        protocol |= {
            "group": groups.number(_text(group), group),
            "aggregation": record.aggregation,
            "higher": record.higher_is_better,
            "primary": record.primary,
            "chance": record.chance,
            "limit": record.asked.limit if record.asked else None,
            "layers": record.num_layers,
        }
        rows.append(
            {
                "plan": plans.number((record.plan, record.num_layers), (record.plan, record.num_layers)),
                "setting": settings.number(_text(protocol), protocol),
                "variant": variant(record),
                "value": record.value,
                "stderr": record.stderr,
                "not_finite": record.not_finite,
                "intact": compared["intact"],
                "difference": compared["difference"],
                "error": compared["difference_stderr"],
                "normalised": compared["normalised"],
                "outcomes": outcomes.number(record),
                "seconds": round(record.seconds, 2),
                "date": record.date,
            }
        )
    if len(plans.values) > MOST_DRAWN:
        left_out.append(f"drawings of {len(plans.values) - MOST_DRAWN} plans; {MOST_DRAWN} are drawn")
    if outcomes.refused:
        left_out.append(
            f"the outcomes by document of {outcomes.refused} records, so that their plans cannot be compared pairwise: "
            f"they would make the page too large. Report fewer records at a time to have them"
        )
    _scale(settings.values, rows)
    return Payload(
        {
            "plans": [described(*plan, draw=place < MOST_DRAWN) for place, plan in enumerate(plans.values)],
            "settings": settings.values,
            "groups": groups.values,
            "outcomes": outcomes.values,
            "rows": {name: _column([_plain(row[name]) for row in rows]) for name in (rows[0] if rows else ())},
        },
        left_out,
    )


def variant(record: Record) -> str:
    """The rule that made the plan with its parameters, such as `parallel start=3 loops=3`; empty if not known."""
    parameters = (f"{name}={value}" for name, value in (record.params or {}).items())
    return " ".join((record.variant, *parameters)) if record.variant else ""


def described(text: str, num_layers: int, *, draw: bool = True) -> dict[str, Any]:
    """A plan with its cost and its drawing; only its text where that is no plan of such a stack."""
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


class Outcomes:
    """Outcomes by document, each list once: bits where all are 0 or 1, else floats of 32 bits, in base64."""

    def __init__(self) -> None:
        self._table = Table()
        self._size = 0
        self.refused = 0

    @property
    def values(self) -> list[Any]:
        return self._table.values

    def number(self, record: Record) -> int | None:
        """The number of the record's outcomes; None where it has none, or they no longer fit on the page."""
        if record.outcomes is None:
            return None
        packed = pack(record.outcomes)
        if self._size + len(packed[1]) > MOST_OUTCOMES:
            self.refused += 1
            return None
        before = len(self.values)
        number = self._table.number(packed, packed)
        self._size += len(packed[1]) if len(self.values) > before else 0
        return number


def pack(outcomes: Sequence[float]) -> tuple[int, str]:
    """How many there are, negative where they are packed as floats, and the packed outcomes."""
    if all(outcome in (0, 1) for outcome in outcomes):
        bits = "".join("1" if outcome else "0" for outcome in outcomes)
        padded = bits.ljust(-(-len(bits) // 8) * 8, "0")
        data = int(padded or "0", 2).to_bytes(len(padded) // 8, "big")
        return len(outcomes), base64.b64encode(data).decode()
    return -len(outcomes), base64.b64encode(struct.pack(f"<{len(outcomes)}f", *outcomes)).decode()


def _protocol(record: Record) -> dict[str, Any]:
    """Everything that can change the number, but for the plan."""
    fields = record.model_dump(mode="json", exclude={*NOT_IN_KEY, "plan"} - {"num_layers"})
    fields["tuning"] = record.tuning.model_dump() if record.tuning else None
    return fields


def _scale(settings: Sequence[dict[str, Any]], rows: Iterable[dict[str, Any]]) -> None:
    """Nothing; each setting says whether its numbers are shares, which are shown in per cent."""
    shares = [not setting["metric"].startswith("perplexity") for setting in settings]
    for row in rows:
        shares[row["setting"]] &= row["value"] is None or -1 <= row["value"] <= 1
    for setting, share in zip(settings, shares, strict=True):
        setting["share"] = share


def _column(values: list[Any]) -> dict[str, Any] | list[Any]:
    """The values; where they are texts that come again, the distinct ones and the number of each."""
    if not all(isinstance(value, str) for value in values):
        return values
    table = Table()
    numbers = [table.number(value, value) for value in values]
    return {"texts": table.values, "numbers": numbers}


def _text(fields: dict[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True)


def _plain(value: Any) -> Any:
    """NaN as None."""
    return None if value != value else value
