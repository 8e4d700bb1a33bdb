"""The settings under which records were scored: a line for captions, and tables for the page's last section."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from painters.experiment.tuning import Tuning
from painters.report.data import GROUP, limit_of
from painters.results import Record
from painters.results.similarity_record import SimilarityRecord

__all__ = ["COLUMNS", "ModelSettings", "by_model", "renamed", "settings_line", "similarity_settings_line"]


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """The settings of one model, an encoder with one way of fine-tuning.

    Attributes:
        name: The model's name, with the protocol of its fine-tuning.
        facts: Name and value of each setting that all tasks share.
        tasks: A row for each task and protocol; `COLUMNS` names the cells.
    """

    name: str
    facts: Sequence[tuple[str, str]]
    tasks: Sequence[Sequence[str]]


COLUMNS = (
    *("task", "version", "metric", "chance", "documents", "limit", "shots", "seed", "batch size", "batching", "kv"),
    *("prompts", "plans"),
)
"""The columns of the table of tasks."""


R = TypeVar("R", Record, SimilarityRecord)


def renamed(records: Iterable[R], shown: Mapping[str, str]) -> list[R]:
    """Return the records with their models called as they are shown."""
    return [record.model_copy(update={"model": shown[record.model]}) for record in records]


def by_model(records: Iterable[Record]) -> list[ModelSettings]:
    """Return the settings of each model in the records, in their order."""
    groups: dict[Any, list[Record]] = defaultdict(list)
    for record in records:
        groups[tuple(getattr(record, name) for name in GROUP)].append(record)
    return [_of_model(group) for group in groups.values()]


def settings_line(records: Sequence[Record]) -> str:
    """Return one line for a caption: every setting of these records, several values separated by commas."""
    facts: list[tuple[str, list[Any]]] = [
        ("model", [_model(record) for record in records]),
        ("dtype", [record.dtype for record in records]),
        ("device", [record.device for record in records]),
        ("attention", [record.attention or "unknown" for record in records]),
        ("tasks", [record.task for record in records]),
        ("documents", [record.documents for record in records]),
        ("limit", [_limit(record) for record in records]),
        ("shots", [_shots(record) for record in records]),
        ("seed", [record.seed for record in records]),
        ("batch size", [record.batch_size for record in records]),
        ("batching", [record.batching for record in records]),
        ("kv", [record.kv for record in records]),
        ("versions", [_versions(record) for record in records]),
    ]
    return "; ".join(f"{name} {_listed(values)}" for name, values in facts)


def similarity_settings_line(records: Sequence[SimilarityRecord]) -> str:
    """Return the same line for similarities, which have neither metrics nor shots."""
    names = ("model", "dtype", "device", "attention", "inputs", "documents", "batch_size", "mode")
    facts = [f"{name.replace('_', ' ')} {_listed(getattr(record, name) for record in records)}" for name in names]
    seeds = {record.sample_seed for record in records if record.sample_seed is not None}
    facts += [f"drawn by seed {_listed(sorted(seeds))}"] if seeds else []
    return "; ".join((*facts, f"versions {_listed(map(_versions, records))}"))


def _of_model(records: Sequence[Record]) -> ModelSettings:
    """Return the settings of the records of one model."""
    first = records[0]
    facts = [
        ("Model", first.model),
        ("Revision", first.revision or "none: a local or bundled model"),
        ("Digest of the weights", first.weights or "unknown"),
        ("Layers", str(first.num_layers)),
        ("dtype", first.dtype),
        ("Device", _listed(record.device for record in records)),
        ("Attention", _listed(record.attention or "unknown" for record in records)),
        *([("Fine-tuning", _tuned(first.tuning))] if first.tuning else []),
        ("Versions", _listed((_versions(record) for record in records), "; or ")),
        ("Scored", _days(sorted(record.date[:10] for record in records))),
        ("Records", f"{len(records):,}"),
    ]
    return ModelSettings(_model(first), facts, _tasks(records))


def _tasks(records: Sequence[Record]) -> list[list[str]]:
    """Return a row for each task and protocol, with the number of its plans last."""
    plans: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for record in records:
        chance = "unknown" if record.chance is None else f"{record.chance:.4g}"
        row = (
            *(record.task, record.task_version or "unknown", record.metric, chance, str(record.documents)),
            *(_limit(record), _shots(record), str(record.seed), str(record.batch_size), record.batching, record.kv),
            record.requests,
        )
        plans[row].add(record.plan)
    return [[*row, str(len(plans_of_row))] for row, plans_of_row in sorted(plans.items())]


def _model(record: Record) -> str:
    """Return the model's name, with the protocol of its fine-tuning."""
    return f"{record.model} ({record.tuning.protocol})" if record.tuning else record.model


def _limit(record: Record) -> str:
    """Return how many documents an experiment asked for; a run outside of experiments does not record it."""
    limit = limit_of(record)
    if limit is None:
        return "not recorded" if record.asked is None else "none"
    return str(limit)


def _shots(record: Record) -> str:
    """Return the number of examples, and how prompts were made into conversations."""
    if record.chat is None:
        return str(record.shots)
    fields = record.chat.model_dump(exclude_defaults=True)
    return "; ".join((str(record.shots), *(f"{name} {value!r:.60}" for name, value in fields.items())))


def _versions(record: Record | SimilarityRecord) -> str:
    """Return the libraries with their versions."""
    return ", ".join(f"{library} {version}" for library, version in record.versions.items()) or "unknown"


def _tuned(tuning: Tuning) -> str:
    """Return all settings of a fine-tuning."""
    return ", ".join(f"{name} {'all' if value is None else value}" for name, value in tuning.model_dump().items())


def _days(days: Sequence[str]) -> str:
    """Return the first and the last of sorted days, or the only one."""
    return days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"


def _listed(values: Iterable[object], joint: str = ", ") -> str:
    """Return the distinct values, in order."""
    return joint.join(dict.fromkeys(str(value) for value in values))
