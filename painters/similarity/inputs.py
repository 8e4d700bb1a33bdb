"""The documents whose hidden states are compared: a task's, a text file's, or given texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from painters.errors import SimilarityError

__all__ = ["Text", "read_inputs", "sentence_tasks"]

Text: TypeAlias = str | tuple[str, str]
"""A text, or a pair of texts that an encoder reads as two segments."""

_SENTENCES = Path(__file__).parents[1] / "nano" / "glue"


def read_inputs(inputs: str | Path | Sequence[Text], limit: int | None) -> tuple[str, list[Text]]:
    """Return the name that records give `inputs`, and their first `limit` documents.

    What ends in .txt is a file with a document on every line that is not blank. Any other name is that of a task: a
    bundled one for encoders, whose validation documents are read, a bundled one for decoders, or one of lm-eval's.
    Given texts are named "texts". Raise SimilarityError where there is no document, or one is no text.
    """
    if isinstance(inputs, str | Path):
        name = Path(inputs).name if str(inputs).endswith(".txt") else str(inputs)
        return name, _named_documents(str(inputs), limit)
    texts = list(inputs)[:limit]
    if not texts:
        raise SimilarityError("no inputs: give the name of a task, a .txt file, or a list with one text or more")
    for number, text in enumerate(texts, 1):
        if not (isinstance(text, str) or (isinstance(text, tuple) and list(map(type, text)) == [str, str])):
            raise SimilarityError(f"text {number} is {text!r:.60}: give a text, or two as a tuple")
    return "texts", texts


def sentence_tasks() -> dict[str, Path]:
    """Return the bundled tasks for encoders: name -> file of validation documents."""
    return {path.parent.name: path for path in sorted(_SENTENCES.glob("*/validation.jsonl"))}


def _named_documents(name: str, limit: int | None) -> list[Text]:
    """Return the first `limit` documents of a .txt file or a task."""
    if name.endswith(".txt"):
        return _lines_of(Path(name), limit)
    bundled = sentence_tasks()
    if name in bundled:
        return _sentences_of(bundled[name], limit)
    from painters.harness import TaskError, texts
    from painters.tasks import TaskUnavailableError

    try:
        return list(texts(name, limit=limit))
    except TaskUnavailableError:
        raise
    except TaskError as error:
        raise SimilarityError(
            f"{error} (inputs may also be an encoder's task, {', '.join(bundled)}, or a .txt file)"
        ) from error


def _lines_of(path: Path, limit: int | None) -> list[Text]:
    """Return the first `limit` lines of a text file that are not blank."""
    if not path.is_file():
        raise SimilarityError(f"inputs {path}: there is no such file. A text file holds a document on each line")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise SimilarityError(f"inputs {path}: byte {error.start} is not UTF-8; save it as UTF-8 text") from error
    documents: list[Text] = [line for line in lines if line.strip()]
    if not documents:
        raise SimilarityError(f"inputs {path}: every line is blank. A text file holds a document on each line")
    return documents[:limit]


def _sentences_of(path: Path, limit: int | None) -> list[Text]:
    """Return the sentence, or the pair of sentences, of the first `limit` documents of a bundled task for encoders."""
    documents = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:limit]]
    return [
        document["sentence"] if "sentence" in document else (document["sentence1"], document["sentence2"])
        for document in documents
    ]
