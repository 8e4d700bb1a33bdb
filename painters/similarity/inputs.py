"""The documents whose hidden states are compared: of a task, of a text file, or given as texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from painters.results.similarity_record import SimilarityError

Text: TypeAlias = str | tuple[str, str]
"""A text, or a pair that an encoder reads as two segments."""

_SENTENCES = Path(__file__).parents[1] / "nano" / "glue"


def read_inputs(inputs: str | Path | Sequence[Text], limit: int | None) -> tuple[str, list[Text]]:
    """The name that records give `inputs`, and their first `limit` documents.

    A name is that of a bundled task for encoders, whose validation documents are read, of a bundled task for decoders
    or of one of lm-eval; what ends in .txt is a file with a document on every line that is not blank.
    """
    if isinstance(inputs, str | Path):
        name = Path(inputs).name if str(inputs).endswith(".txt") else str(inputs)
        return name, _of_name(str(inputs), limit)
    texts = list(inputs)[:limit]
    if not texts:
        raise SimilarityError("no inputs: give the name of a task, a .txt file, or a list with one text or more")
    for number, text in enumerate(texts, 1):
        if not (isinstance(text, str) or (isinstance(text, tuple) and list(map(type, text)) == [str, str])):
            raise SimilarityError(f"text {number} is {text!r:.60}: give a text, or two as a tuple")
    return "texts", texts


def sentence_tasks() -> dict[str, Path]:
    """Name -> file of validation documents of the bundled tasks for encoders."""
    return {path.parent.name: path for path in sorted(_SENTENCES.glob("*/validation.jsonl"))}


def _of_name(name: str, limit: int | None) -> list[Text]:
    if name.endswith(".txt"):
        return _of_file(Path(name), limit)
    ours = sentence_tasks()
    if name in ours:
        return _of_sentences(ours[name], limit)
    from painters.harness import TaskError, texts
    from painters.tasks import TaskUnavailableError

    try:
        return list(texts(name, limit=limit))
    except TaskUnavailableError:
        raise
    except TaskError as error:
        raise SimilarityError(
            f"{error} (inputs may also be an encoder's task, {', '.join(ours)}, or a .txt file)"
        ) from error


def _of_file(path: Path, limit: int | None) -> list[Text]:
    if not path.is_file():
        raise SimilarityError(f"inputs {path}: there is no such file. A text file holds a document on each line")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise SimilarityError(f"inputs {path}: byte {error.start} is not UTF-8; save it as UTF-8 text") from error
    found: list[Text] = [line for line in lines if line.strip()]
    if not found:
        raise SimilarityError(f"inputs {path}: every line is blank. A text file holds a document on each line")
    return found[:limit]


def _of_sentences(path: Path, limit: int | None) -> list[Text]:
    documents = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:limit]]
    return [
        document["sentence"] if "sentence" in document else (document["sentence1"], document["sentence2"])
        for document in documents
    ]
