"""The encoder's tasks, drawn from a seed and written as JSONL.

A task has 2,000 documents to train on and 500 to validate. Fields and labels are those of the tasks of GLUE (in
`nano_rte` 0 is entailment); `kind` names the rule behind a document. All texts are `reserved`: pretraining never sees
them. No text occurs twice in a task, in whichever of its files, and each label is as frequent as the others.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from painters.nano.documents import reserved
from painters.nano.pairs import Pair, entailment, likeness, paraphrase
from painters.nano.sentences import opinion, twins

FOLDER = Path(__file__).parent / "glue"
SPLITS = {"train.jsonl": 2000, "validation.jsonl": 500}

Document = dict[str, Any]


def cola(draw: random.Random, i: int) -> tuple[str, Document]:
    """Return an acceptable sentence (1) or one with a single fault (0)."""
    pair = twins(draw)
    return pair.sound, {"sentence": pair.sound if i % 2 else pair.broken, "label": i % 2, "kind": pair.kind}


def sst2(draw: random.Random, i: int) -> tuple[str, Document]:
    """Return an opinion that ends in praise (1) or blame (0)."""
    drawn = opinion(draw, good=i % 2 == 1)
    return drawn.text, {"sentence": drawn.text, "label": i % 2, "kind": drawn.kind}


def rte(draw: random.Random, i: int) -> tuple[str, Document]:
    """Return a premise and a hypothesis that follows from it (0) or does not (1)."""
    return _pair(entailment(draw, holds=i % 2 == 0), i % 2)


def mrpc(draw: random.Random, i: int) -> tuple[str, Document]:
    """Return two sentences that say the same (1) or do not (0)."""
    return _pair(paraphrase(draw, same=i % 2 == 1), i % 2)


def stsb(draw: random.Random, i: int) -> tuple[str, Document]:
    """Return two sentences and how alike they are, from 0 to 5."""
    pair = likeness(draw, i % 9)
    return _pair(pair, round(pair.label, 3))


def _pair(pair: Pair, label: float) -> tuple[str, Document]:
    document = {"sentence1": pair.first, "sentence2": pair.second, "label": label, "kind": pair.kind}
    return f"{pair.first} {pair.second}", document


# Task -> maker of a document. It takes the source of randomness and the document's number, which fixes the label, and
# returns the text that has to be reserved, and the document.
TASKS: dict[str, Callable[[random.Random, int], tuple[str, Document]]] = {
    "nano_cola": cola,
    "nano_sst2": sst2,
    "nano_rte": rte,
    "nano_paraphrase": mrpc,
    "nano_sts": stsb,
}


def write_glue(folder: Path = FOLDER, seed: int = 2025) -> Iterator[Path]:
    """Write the files of all tasks; yield each path written."""
    for task in TASKS:
        seen: set[str] = set()
        for name, count in SPLITS.items():
            path = folder / task / name
            path.parent.mkdir(parents=True, exist_ok=True)
            documents = draw_documents(task, count, random.Random(f"{seed}/{task}/{name}"), seen)
            path.write_text("".join(json.dumps(document) + "\n" for document in documents), encoding="utf-8")
            yield path


def draw_documents(task: str, count: int, draw: random.Random, seen: set[str]) -> list[Document]:
    """Return `count` shuffled documents none of whose texts is in `seen`; add their texts to it."""
    documents: list[Document] = []
    while len(documents) < count:
        text, document = TASKS[task](draw, len(documents))
        shown = {text} | {str(document[key]) for key in ("sentence", "sentence1", "sentence2") if key in document}
        if reserved(text) and not shown & seen:
            seen |= shown
            documents.append(document)
    draw.shuffle(documents)
    return documents
