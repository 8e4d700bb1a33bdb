"""The scores of one model, with one protocol for each task."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from painters.errors import PaintersError
from painters.figures.bands import Draws, Estimate, mean
from painters.models.naming import display_name
from painters.plan import Plan
from painters.results import Record
from painters.results.record import NOT_IN_KEY
from painters.results.scoring import normalised, paired_interval


class FigureError(PaintersError, ValueError):
    """A figure that does not exist, or records from which no figure can be drawn."""

    exit_code = 2


class NothingToDraw(FigureError):
    """No records for one figure. Other figures may have some."""

    exit_code = 1


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """The scores of one model (for an encoder: after one way of fine-tuning), primary metrics only.

    A task that was scored under several protocols is shown under the one with the most documents. The records of its
    other protocols are described in `left_out`. FigureError where several protocols have the most documents. Of
    several records of one cell the latest counts.
    """

    model: str
    num_layers: int
    tuning: str | None
    """The fine-tuning protocol of an encoder; None for a decoder."""
    records: tuple[Record, ...]
    left_out: tuple[str, ...] = ()
    not_finite: tuple[Record, ...] = ()
    """Records without a value, because some answers were NaN or infinite."""
    name: str = ""
    """The name by which the model is shown."""
    _draws: Draws = field(init=False, default_factory=Draws)
    _raw: dict[tuple[str, str, str], Estimate] = field(init=False, default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[Record], name: str = "") -> ScoreTable:
        """Make the table from records of one model and one way of fine-tuning; at least one must have a value.

        `name` is the name by which the model is shown; by default it is made from that in the records.
        """
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
        name = name or display_name(first.model)
        return cls(first.model, first.num_layers, tuning, tuple(kept), tuple(left_out), tuple(not_finite), name)

    @property
    def is_encoder(self) -> bool:
        """Whether the model is an encoder, which is fine-tuned before it is scored."""
        return self.tuning is not None

    @property
    def title(self) -> str:
        """The model, and an encoder's fine-tuning protocol."""
        return f"{self.name}, {self.tuning}" if self.tuning else self.name

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """The tasks with a score, sorted by name."""
        return tuple(sorted({record.task for record in self.records}))

    @cached_property
    def identity(self) -> str:
        """The text of the intact model's plan."""
        return str(Plan.identity(self.num_layers))

    @cached_property
    def comparable(self) -> tuple[str, ...]:
        """The tasks on which the intact model is better than chance."""
        return tuple(task for task in self.tasks if self._scale(task) is not None)

    @cached_property
    def intact_mean(self) -> float | None:
        """The intact model's mean score over the tasks; None where some task lacks it."""
        scores = [score for task in self.tasks if (score := self.raw(task, self.identity))]
        return mean(scores).value if len(scores) == len(self.tasks) else None

    @cached_property
    def chance_mean(self) -> float | None:
        """The mean score of guessing over the tasks; None where it is unknown for some task."""
        known = {record.task: record.chance for record in self.records if record.chance is not None}
        return sum(known.values()) / len(known) if len(known) == len(self.tasks) else None

    def find(self, task: str, plan: Plan | str, kv: str = "exact") -> Record | None:
        """Return the latest record of this cell, or None."""
        return self._by_cell.get((task, str(plan), kv))

    def was_asked(self, plan: Plan, variant: str, **params: int) -> bool:
        """Return whether a plan was scored as a plan of this variant, or as a plan that no variant is known of.

        Variants may build equal plans: some orders of shuffle are the intact model, and skipping a window of one layer
        is skipping that layer. A record that names another variant is no sign that this one was asked for, nor is one
        of the intact model.

        Args:
            plan: The plan.
            variant: The name of the variant.
            **params: Parameters that the record must name, too; `loops` is 1 where it names none.
        """
        text = str(plan)
        if text == self.identity:
            return False
        return any(
            record.variant is None
            or (record.variant == variant and params.items() <= ({"loops": 1} | (record.params or {})).items())
            for task in self.tasks
            for kv in ("exact", "averaged")
            if (record := self.find(task, text, kv))
        )

    def task_like(self, word: str) -> str | None:
        """Return the first task whose name contains `word`, such as "lambada", or None."""
        return next((task for task in self.tasks if word in task), None)

    def has_kv(self, task: str, kv: str) -> bool:
        """Return whether any plan was scored on `task` with this kind of cache."""
        return any(name == task and kind == kv for name, _, kind in self._by_cell)

    def raw(self, task: str, plan: Plan | str, kv: str = "exact") -> Estimate | None:
        """Return the score as it was measured, or None where there is no record."""
        key = (task, str(plan), kv)
        if key not in self._by_cell:
            return None
        if key not in self._raw:
            self._raw[key] = self._draws.estimate(self._by_cell[key])
        return self._raw[key]

    def over_orders(self, task: str, plans: Mapping[int, Plan], window: int) -> Estimate | None:
        """Return the mean score of the orders of shuffle that have a record; None where there are none.

        Where all seeds came to one order, as in a window of one layer, the estimate is that of its score.

        Args:
            task: The task.
            plans: The plan of each seed.
            window: The number of the window.
        """
        cells = {seed: (task, str(plan), "exact") for seed, plan in plans.items()}
        records = {seed: self._by_cell[cell] for seed, cell in cells.items() if cell in self._by_cell}
        if len({record.plan for record in records.values()}) > 1:
            return self._draws.over_orders(records, window)
        return next((self.raw(task, record.plan) for record in records.values()), None)

    def scaled(self, task: str, plan: Plan | str, kv: str = "exact") -> Estimate | None:
        """Return the score normalised in every draw, so that 0 is chance and 1 the intact model.

        None where the score, chance or the intact model's score is unknown, or the intact model is no better than
        chance.
        """
        return self.normalise(task, self.raw(task, plan, kv))

    def normalise(self, task: str, score: Estimate | None) -> Estimate | None:
        """Return a score of `task` normalised as in `scaled`; None where that is None."""
        scale = self._scale(task)
        if score is None or scale is None:
            return None
        intact, chance = scale
        value = normalised(score.value, intact.value, chance)
        assert value is not None
        if score.samples is None or intact.samples is None:
            return Estimate(value)
        with np.errstate(divide="ignore", invalid="ignore"):
            samples = (score.samples - chance) / (intact.samples - chance)
        samples[intact.samples <= chance] = np.nan  # in such draws there is nothing to normalise by
        return Estimate(value, samples, is_over_orders=score.is_over_orders)

    def difference(self, record: Record, other: Record) -> Estimate:
        """Return the difference of two scores of one task, with its interval paired by document."""
        assert record.value is not None
        assert other.value is not None
        if record is other:
            return Estimate(0.0, limits=(0.0, 0.0))
        known = record.outcomes is not None and other.outcomes is not None
        limits = paired_interval(record.outcomes, other.outcomes, record.aggregation) if known else None  # type: ignore[arg-type]
        return Estimate(record.value - other.value, limits=limits)

    @cached_property
    def _by_cell(self) -> Mapping[tuple[str, str, str], Record]:
        """The latest record of every (task, plan, kv)."""
        ordered = sorted(self.records, key=lambda record: record.date)
        return {(record.task, record.plan, record.kv): record for record in ordered}

    def _scale(self, task: str) -> tuple[Estimate, float] | None:
        """Return the intact model's score and chance; None where the task cannot be normalised."""
        intact, record = self.raw(task, self.identity), self.find(task, self.identity)
        if intact is None or record is None or record.chance is None or intact.value <= record.chance:
            return None
        return intact, record.chance


# Fields that may differ between records that are compared. Captions name the device and the libraries.
_FREE = frozenset({*NOT_IN_KEY, "plan", "kv", "batching", "device", "attention", "versions"})


def _one_protocol(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """Return the records of one task under the protocol with the most documents, and a description of the others."""
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
            f"{' or '.join(_differences(best))}. A figure does not mix them: draw from files that hold one of them"
        )
    others = [
        f"{len(group)} records of {first.task} with {group[0].documents} documents"
        for group in groups.values()
        if group[0].documents < most
    ]
    return best[0], others


def _check_one_model(records: Sequence[Record]) -> None:
    """Raise FigureError where one name stands for several models."""
    tasks = {(record.num_layers, record.revision, record.weights, record.dtype): record.task for record in records}
    if len(tasks) > 1:
        models = " or ".join(
            f"{layers} layers, {f'revision {revision}, ' if revision else ''}weights {weights}, {dtype} ({task})"
            for (layers, revision, weights, dtype), task in tasks.items()
        )
        raise FigureError(
            f"records of {len(tasks)} models that are all called {records[0].model}: {models}. A figure does not mix "
            f"them: draw from files that hold one of them"
        )


def _differences(groups: Sequence[Sequence[Record]]) -> list[str]:
    """Return for each protocol the fields in which it differs from the others, and its number of plans."""
    protocols = [_protocol_fields(group[0]) for group in groups]
    differing = [name for name in protocols[0] if len({str(fields.get(name)) for fields in protocols}) > 1]
    # The digest of the requests follows from the other fields and means little to people.
    names = [name for name in differing if name != "requests"] or differing
    return [
        ", ".join(f"{name} {fields.get(name)}" for name in names) + f" ({len({record.plan for record in group})} plans)"
        for group, fields in zip(groups, protocols, strict=True)
    ]


def _protocol_fields(record: Record) -> dict[str, Any]:
    """Return the fields of the protocol by name, those of the fine-tuning included."""
    fields = record.model_dump(mode="json", exclude=set(_FREE))
    tuning = fields.pop("tuning") or {}
    return fields | {f"tuning {name}": value for name, value in tuning.items()}
