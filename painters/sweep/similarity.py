"""The similarities that experiments need: which of them a folder has records of, and how the others are measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from painters.documents import DocumentSelection
from painters.experiment import Experiment, Model
from painters.plan import Plan
from painters.progress import OnProgress
from painters.results import command, similarity_record
from painters.results.similarity_record import SimilarityRecord
from painters.tasks import task_name


@dataclass(frozen=True, slots=True)
class Question:
    """The states of one intact model on one set of documents, compared in one mode."""

    model: Model
    inputs: str
    mode: str
    selection: DocumentSelection
    batch_size: int
    dtype: str

    def is_answered_by(self, record: SimilarityRecord) -> bool:
        """Return whether `record` was measured as this question says.

        The weights are not compared, nor the number type where the question leaves it to the model ("auto").
        """
        return (
            record.plan == str(Plan.identity(record.num_layers))
            and (record.model, record.mode) == (self.model.name, self.mode)
            and self._selects_those_of(record)
            and (record.inputs, record.batch_size) == (_name_of(self.inputs), self.batch_size)
            and self.model.revision in (None, record.revision)
            and self.dtype in ("auto", record.dtype)
        )

    def _selects_those_of(self, record: SimilarityRecord) -> bool:
        """Return whether the documents of `record` are those that are asked for.

        Where more documents were to be drawn than there are, the record states no seed.
        """
        asked = record.documents if record.asked is None else record.asked
        if self.selection.sample is None:
            return asked == self.selection.limit and record.sample_seed is None
        all_of_them = record.asked is not None and record.asked > record.documents
        return asked == self.selection.sample and (all_of_them or record.sample_seed == self.selection.seed)


def questions(experiments: Iterable[Experiment]) -> list[Question]:
    """Return the similarities that the experiments need, each once."""
    return list(
        dict.fromkeys(
            Question(model, part.inputs, mode, part.selection, part.batch_size, part.dtype)
            for experiment in experiments
            for part in experiment.similarities
            for model in (*part.models, *part.encoders)
            for mode in part.modes
        )
    )


def missing(every: Sequence[Question], folder: str | Path) -> list[Question]:
    """Return the questions that no record in `folder` answers."""
    paths = sorted((Path(folder) / "similarity").glob("*.jsonl"))
    records = [record for path in paths for record in similarity_record.read(path)]
    return [question for question in every if not any(question.is_answered_by(record) for record in records)]


def measure(
    every: Sequence[Question],
    folder: str | Path,
    *,
    device: str | None = None,
    on_progress: OnProgress | None = None,
) -> None:
    """Measure each similarity and append its record to `folder` as soon as it is there.

    Args:
        every: What to measure. Each model is loaded once, and its modes share one pass over the documents.
        folder: Where the records go.
        device: Where models go; None takes the best device at hand.
        on_progress: Called with the documents done, how many there are, and what is measured.
    """
    from painters.models import load_model
    from painters.similarity import measure as measure_states

    for group in _by_pass(every):
        first = group[0]
        model, tokenizer = load_model(
            first.model.name, revision=first.model.revision, dtype=first.dtype, device=device, encoders=True
        )
        description = f"states of {first.model.name} on {_name_of(first.inputs)}"
        records = measure_states(
            model,
            first.inputs,
            modes=[question.mode for question in group],
            tokenizer=tokenizer,
            batch_size=first.batch_size,
            limit=first.selection.limit,
            sample=first.selection.sample,
            sample_seed=first.selection.seed,
            progress=None if on_progress is None else partial(_described, on_progress, description),
        )
        named = {
            "model": first.model.name,
            "inputs": _name_of(first.inputs),
            "command": command(),
            "name": first.model.shown,
        }
        similarity_record.keep(folder, [record.model_copy(update=named) for record in records])


def _described(on_progress: OnProgress, description: str, done: int, total: int, _what: str = "") -> None:
    """Report progress with `description` in place of what the measurement calls itself."""
    on_progress(done, total, description)


def _by_pass(every: Sequence[Question]) -> Iterator[list[Question]]:
    """Yield the questions that one pass over the documents answers: they differ in their mode alone."""
    groups: dict[tuple[object, ...], list[Question]] = {}
    for question in every:
        key = (question.model, question.inputs, question.selection, question.batch_size, question.dtype)
        groups.setdefault(key, []).append(question)
    yield from groups.values()


def _name_of(inputs: str) -> str:
    """Return the name of a task, also where it is given by path."""
    return task_name(Path(inputs)) if "/" in inputs else inputs
