"""The documents whose hidden states are compared: a task's, a text file's, or given texts."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from painters.documents import ALL_DOCUMENTS, DocumentSelection
from painters.errors import PaintersWarning, SimilarityError
from painters.tasks import task_name

__all__ = ["Inputs", "Text", "read_inputs", "sentence_tasks"]

Text: TypeAlias = str | tuple[str, str]
"""A text, or a pair of texts that an encoder reads as two segments."""

_SENTENCES = Path(__file__).parents[1] / "nano" / "glue"


@dataclass(frozen=True, slots=True)
class Inputs:
    """The texts that a model reads, and what records say of them."""

    name: str
    texts: Sequence[Text]
    sample_seed: int | None
    """The seed by which the texts were drawn; None where they are the first ones, or all."""
    asked: int | float | None
    """The number or share of documents that was asked for; None where the number of texts says it."""


def read_inputs(inputs: str | Path | Sequence[Text], selection: DocumentSelection = ALL_DOCUMENTS) -> Inputs:
    """Return the selected documents of `inputs`.

    What ends in .txt is a file with a document on every line that is not blank. Any other name is that of a task: a
    bundled one for encoders, whose validation documents are read, a bundled one for decoders, one of lm-eval's, or the
    path of one, whose record has the name without the folder: a digest tells documents apart. Given texts are named
    "texts". Raise SimilarityError where there is no document, or one is no text. A PaintersWarning says where there
    are fewer documents than were to be drawn.
    """
    if isinstance(inputs, str | Path):
        path = Path(inputs)
        is_path = "/" in str(inputs) or path.suffix in (".yaml", ".yml")
        name = path.name if path.suffix == ".txt" else task_name(path) if is_path else str(inputs)
        return _inputs(name, selection, *_named_documents(str(inputs), selection))
    texts = list(inputs)
    if not texts:
        raise SimilarityError("no inputs: give the name of a task, a .txt file, or a list with one text or more")
    for number, text in enumerate(texts, 1):
        if not (isinstance(text, str) or (isinstance(text, tuple) and list(map(type, text)) == [str, str])):
            raise SimilarityError(f"text {number} is {text!r:.60}: give a text, or two as a tuple")
    return _inputs("texts", selection, *_selected("texts", texts, selection))


def _inputs(
    name: str, selection: DocumentSelection, texts: Sequence[Text], seed: int | None, notes: Iterable[str]
) -> Inputs:
    """Return the inputs of these texts, drawn by `seed`; warn of the notes."""
    for note in notes:
        warnings.warn(note, PaintersWarning, stacklevel=3)
    asked = selection.limit if selection.sample is None else selection.sample
    return Inputs(name, texts, seed, None if asked == len(texts) else asked)


def _selected(
    name: str, documents: Sequence[Text], selection: DocumentSelection
) -> tuple[list[Text], int | None, list[str]]:
    """Return the selected ones of all documents, the seed that drew them, and notes on their number."""
    total = len(documents)
    note = selection.note(total, name)
    return selection.of(documents), selection.drawn_by(total), [note] if note else []


def sentence_tasks() -> dict[str, Path]:
    """Return the bundled tasks for encoders: name -> file of validation documents."""
    return {path.parent.name: path for path in sorted(_SENTENCES.glob("*/validation.jsonl"))}


def _named_documents(name: str, selection: DocumentSelection) -> tuple[Sequence[Text], int | None, Sequence[str]]:
    """Return the selected documents of a .txt file or a task, the seed that drew them, and notes on their number."""
    if name.endswith(".txt"):
        return _selected(Path(name).name, _lines_of(Path(name)), selection)
    bundled = sentence_tasks()
    if name in bundled:
        return _selected(name, _sentences_of(bundled[name]), selection)
    from painters.harness.task_texts import TaskError, selected_texts
    from painters.tasks import TaskUnavailableError

    try:
        return selected_texts(name, selection)
    except TaskUnavailableError:
        raise
    except TaskError as error:
        raise SimilarityError(
            f"{error} (inputs may also be an encoder's task, {', '.join(bundled)}, or a .txt file)"
        ) from error


def _lines_of(path: Path) -> list[Text]:
    """Return the lines of a text file that are not blank."""
    if not path.is_file():
        raise SimilarityError(f"inputs {path}: there is no such file. A text file holds a document on each line")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise SimilarityError(f"inputs {path}: byte {error.start} is not UTF-8; save it as UTF-8 text") from error
    documents: list[Text] = [line for line in lines if line.strip()]
    if not documents:
        raise SimilarityError(f"inputs {path}: every line is blank. A text file holds a document on each line")
    return documents


def _sentences_of(path: Path) -> list[Text]:
    """Return the sentence, or the pair of sentences, of each document of a bundled task for encoders."""
    documents = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        document["sentence"] if "sentence" in document else (document["sentence1"], document["sentence2"])
        for document in documents
    ]
