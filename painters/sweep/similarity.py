"""The similarities that experiments ask for: which a folder of records has, and how the others are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from painters.experiment import Experiment, Model
from painters.plan import Plan
from painters.results import command
from painters.results import similarity_record as kept
from painters.results.similarity_record import SimilarityRecord

Tell = Callable[[int, int, str], None]
"""Called now and then with the documents done, how many there will be, and what is measured."""


@dataclass(frozen=True, slots=True)
class Question:
    """The states of one intact model on one set of documents, compared in one mode."""

    model: Model
    inputs: str
    mode: str
    limit: int
    batch_size: int
    dtype: str

    def is_answered_by(self, record: SimilarityRecord) -> bool:
        """Whether `record` is of this very question; what `auto` came to, and the weights, it does not ask."""
        return (
            record.plan == str(Plan.identity(record.num_layers))
            and (record.model, record.mode, record.documents) == (self.model.name, self.mode, self.limit)
            and (record.inputs, record.batch_size) == (_name_of(self.inputs), self.batch_size)
            and self.model.revision in (None, record.revision)
            and self.dtype in ("auto", record.dtype)
        )


def questions(experiments: Iterable[Experiment]) -> list[Question]:
    """What the experiments ask, each once."""
    return list(
        dict.fromkeys(
            Question(model, part.inputs, mode, part.limit, part.batch_size, part.dtype)
            for experiment in experiments
            for part in experiment.similarities
            for model in (*part.models, *part.encoders)
            for mode in part.modes
        )
    )


def missing(asked: Sequence[Question], folder: str | Path) -> list[Question]:
    """The questions without an answer in the folder of records."""
    records = [one for path in sorted((Path(folder) / "similarity").glob("*.jsonl")) for one in kept.read(path)]
    return [question for question in asked if not any(question.is_answered_by(record) for record in records)]


def measure(
    asked: Sequence[Question], folder: str | Path, *, device: str | None = None, tell: Tell | None = None
) -> None:
    """Nothing; each answer is in the folder as soon as it is there. A model is loaded once, its modes share a pass."""
    from painters.models import load_model
    from painters.similarity import measure as measured

    for group in _together(asked):
        one = group[0]
        model, tokenizer = load_model(
            one.model.name, revision=one.model.revision, dtype=one.dtype, device=device, encoders=True
        )
        what = f"states of {one.model.name} on {_name_of(one.inputs)}"
        records = measured(
            model,
            one.inputs,
            modes=[question.mode for question in group],
            tokenizer=tokenizer,
            batch_size=one.batch_size,
            limit=one.limit,
            progress=None if tell is None else lambda done, total, what=what: tell(done, total, what),  # type: ignore[misc]
        )
        named = {"model": one.model.name, "inputs": _name_of(one.inputs), "command": command()}
        kept.keep(folder, [record.model_copy(update=named) for record in records])


def _together(asked: Sequence[Question]) -> Iterator[list[Question]]:
    """The questions that differ in their mode alone."""
    groups: dict[tuple[object, ...], list[Question]] = {}
    for one in asked:
        groups.setdefault((one.model, one.inputs, one.limit, one.batch_size, one.dtype), []).append(one)
    yield from groups.values()


def _name_of(inputs: str) -> str:
    """A task's name, also where it is given by path."""
    return Path(inputs).stem if "/" in inputs else inputs
