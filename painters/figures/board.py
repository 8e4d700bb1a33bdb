"""The scores of one model, for each task under one protocol."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from painters.errors import PaintersError
from painters.figures.bands import Bootstrap, Estimate, mean
from painters.plan import Plan
from painters.results import Record
from painters.results.record import NOT_IN_KEY
from painters.results.scoring import normalised


class FigureError(PaintersError, ValueError):
    """A figure that does not exist, or records of which it cannot be drawn."""

    exit_code = 2


class NothingToDraw(FigureError):
    """No records for a figure, where others may have some."""

    exit_code = 1


@dataclass(frozen=True, eq=False)
class Board:
    """The scores of one model, an encoder's after one way of fine-tuning. Primary metrics only.

    Where a task was scored under several protocols, that of the most documents counts and the others are `left_out`; of
    several with as many documents none is chosen: FigureError. A cell that was scored again counts as scored last.
    """

    model: str
    num_layers: int
    tuning: str | None  # the protocol of an encoder
    records: tuple[Record, ...]
    left_out: tuple[str, ...] = ()
    not_finite: tuple[Record, ...] = ()  # without a value, for answers that are NaN or infinite
    _bootstrap: Bootstrap = field(init=False, default_factory=Bootstrap)
    _raw: dict[tuple[str, str, str], Estimate] = field(init=False, default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[Record]) -> Board:
        """The board of the records of one model and one way of fine-tuning, at least one of them with a value."""
        by_task: dict[str, list[Record]] = defaultdict(list)
        not_finite: list[Record] = []
        for record in records:
            if record.primary and record.not_finite:  # older records have a value all the same
                not_finite.append(record)
            elif record.primary and record.value is not None:
                by_task[record.task].append(record)
        kept: list[Record] = []
        left_out: list[str] = []
        for task in sorted(by_task):
            chosen, others = _one_protocol(by_task[task])
            kept += chosen
            left_out += others
        _check_one_model(kept)
        first = kept[0]
        tuning = first.tuning.protocol if first.tuning else None
        return cls(first.model, first.num_layers, tuning, tuple(kept), tuple(left_out), tuple(not_finite))

    @property
    def is_encoder(self) -> bool:
        return self.tuning is not None

    @property
    def title(self) -> str:
        return f"{self.model}, {self.tuning}" if self.tuning else self.model

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        return tuple(sorted({record.task for record in self.records}))

    @cached_property
    def identity(self) -> str:
        return str(Plan.identity(self.num_layers))

    @cached_property
    def comparable(self) -> tuple[str, ...]:
        """The tasks on which the intact model is better than chance."""
        return tuple(task for task in self.tasks if self._scale(task) is not None)

    @cached_property
    def intact_mean(self) -> float | None:
        """The intact model's mean over the tasks; None where it was not scored on all."""
        scores = [score for task in self.tasks if (score := self.raw(task, self.identity))]
        return mean(scores).value if len(scores) == len(self.tasks) else None

    @cached_property
    def chance_mean(self) -> float | None:
        """The mean of chance over the tasks; None where it is not known for all."""
        known = {record.task: record.chance for record in self.records if record.chance is not None}
        return sum(known.values()) / len(known) if len(known) == len(self.tasks) else None

    def find(self, task: str, plan: Plan | str, kv: str = "exact") -> Record | None:
        return self._found.get((task, str(plan), kv))

    def task_like(self, word: str) -> str | None:
        """The task whose name holds `word`, such as lambada."""
        return next((task for task in self.tasks if word in task), None)

    def has_kv(self, task: str, kv: str) -> bool:
        """Whether any plan was scored on `task` with this kind of cache."""
        return any(name == task and kind == kv for name, _, kind in self._found)

    def raw(self, task: str, plan: Plan | str, kv: str = "exact") -> Estimate | None:
        """The score itself."""
        key = (task, str(plan), kv)
        if key not in self._found:
            return None
        if key not in self._raw:
            self._raw[key] = self._bootstrap.estimate(self._found[key])
        return self._raw[key]

    def scaled(self, task: str, plan: Plan | str, kv: str = "exact") -> Estimate | None:
        """The score with chance as 0 and the intact model as 1, in every draw; None where one of them is not known."""
        score, scale = self.raw(task, plan, kv), self._scale(task)
        if score is None or scale is None:
            return None
        intact, chance = scale
        value = normalised(score.value, intact.value, chance)
        assert value is not None
        if score.samples is None or intact.samples is None:
            return Estimate(value)
        with np.errstate(divide="ignore", invalid="ignore"):
            return Estimate(value, (score.samples - chance) / (intact.samples - chance))

    @cached_property
    def _found(self) -> Mapping[tuple[str, str, str], Record]:
        ordered = sorted(self.records, key=lambda record: record.date)
        return {(record.task, record.plan, record.kv): record for record in ordered}

    def _scale(self, task: str) -> tuple[Estimate, float] | None:
        intact, record = self.raw(task, self.identity), self.find(task, self.identity)
        if intact is None or record is None or record.chance is None or intact.value <= record.chance:
            return None
        return intact, record.chance


# Device, attention and libraries may differ between records that are compared: the caption names them.
_FREE = frozenset({*NOT_IN_KEY, "plan", "kv", "batching", "device", "attention", "versions"})


def _one_protocol(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """The records of one task under the protocol of the most documents, and the others in words."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        fields = record.model_dump(mode="json", exclude=set(_FREE))
        groups[json.dumps(fields, sort_keys=True)].append(record)
    most = max(record.documents for record in records)
    best = [group for group in groups.values() if group[0].documents == most]
    first = best[0][0]
    if len(best) > 1:
        raise FigureError(
            f"records of {first.model} on {first.task} under {len(best)} protocols, {most} documents each: "
            f"{' or '.join(_apart(best))}. A figure does not mix them: draw from files that hold one of them"
        )
    others = [
        f"{len(group)} records of {first.task} with {group[0].documents} documents"
        for group in groups.values()
        if group[0].documents < most
    ]
    return best[0], others


def _check_one_model(records: Sequence[Record]) -> None:
    """Nothing; FigureError where one name stands for several models."""
    tasks = {(record.num_layers, record.revision, record.weights, record.dtype): record.task for record in records}
    if len(tasks) > 1:
        found = " or ".join(
            f"{layers} layers, {f'revision {revision}, ' if revision else ''}weights {weights}, {dtype} ({task})"
            for (layers, revision, weights, dtype), task in tasks.items()
        )
        raise FigureError(
            f"records of {len(tasks)} models that are all called {records[0].model}: {found}. A figure does not mix "
            f"them: draw from files that hold one of them"
        )


def _apart(groups: Sequence[Sequence[Record]]) -> list[str]:
    """What tells each of these protocols from the others, with the number of its plans."""
    facts = [_facts(group[0]) for group in groups]
    names = [name for name in facts[0] if len({str(fact.get(name)) for fact in facts}) > 1]
    # The digest of the requests follows from everything else, and says little.
    told = [name for name in names if name != "requests"] or names
    return [
        ", ".join(f"{name} {fact.get(name)}" for name in told) + f" ({len({record.plan for record in group})} plans)"
        for group, fact in zip(groups, facts, strict=True)
    ]


def _facts(record: Record) -> dict[str, Any]:
    """The fields of the protocol, those of the tuning among them."""
    fields = record.model_dump(mode="json", exclude=set(_FREE))
    tuning = fields.pop("tuning") or {}
    return fields | {f"tuning {name}": value for name, value in tuning.items()}
