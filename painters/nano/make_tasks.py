"""The documents of the five bundled tasks, drawn from a seed and written as JSONL beside their YAML.

Every document comes from the reserved part of the makers' output (`documents.reserved`), or asks a held-out fact: none
of them occurs in training text. `kind` names the rule behind a document, `hops` how many steps lead to its answer.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from painters.nano.documents import Item, passage, question, render_passage, reserved
from painters.nano.problems import riddle, script, sum_problem
from painters.nano.tokenizer import PATTERN

FOLDER = Path(__file__).parent / "tasks"
DOCUMENTS = 500
SHOTS = 20
QUESTION, ANSWER = "Question: ", "\nAnswer:"

Document = dict[str, Any]


def arc(draw: random.Random) -> Document:
    """Return a question about a held-out fact, with up to four choices."""
    item = question(draw, held_out=True)
    return _document(item, question=_bare_question(item), choices=[o.strip() for o in item.options], answer=item.answer)


def hellaswag(draw: random.Random) -> Document:
    """Return a script up to its last sentence, with four endings."""
    item = _reserved(script, draw)
    return _document(item, ctx=item.context, endings=[o.strip() for o in item.options], label=item.answer)


def winogrande(draw: random.Random) -> Document:
    """Return a sentence with `_` for one of two names; `answer` is "1" or "2"."""
    item = _reserved(riddle, draw)
    first, second = (option.strip() for option in item.options)
    sentence = f"{item.context} _{item.suffix}"
    return _document(item, sentence=sentence, option1=first, option2=second, answer=str(item.answer + 1))


def lambada(draw: random.Random) -> Document:
    """Return a passage whose last word follows from it.

    `cue_distance` counts the tokens between its cue and that word.
    """

    def whole(draw: random.Random) -> Item:
        scene, items = passage(draw)
        return render_passage(scene, draw.choice(items), draw, draw.randint(2, 4))

    item = _reserved(whole, draw)
    after = item.context[item.context.index(item.cue) + len(item.cue) :]
    return _document(item, text=item.text, cue_distance=len(re.findall(PATTERN, after)))


def gsm8k(draw: random.Random) -> Document:
    """Return a sum of one to three operations with its worked answer."""
    item = _reserved(sum_problem, draw)
    return _document(item, question=_bare_question(item), answer=item.options[0].strip())


def gsm8k_shot(draw: random.Random) -> Document:
    """Return a worked sum that training may contain: an example for few-shot prompts."""
    item = next(item for item in iter(lambda: sum_problem(draw), None) if not reserved(item.text))
    return _document(item, question=_bare_question(item), answer=item.options[0].strip())


# File of each task's folder -> (maker, number of documents).
FILES: dict[str, dict[str, tuple[Callable[[random.Random], Document], int]]] = {
    "nano_arc": {"test.jsonl": (arc, DOCUMENTS)},
    "nano_hellaswag": {"test.jsonl": (hellaswag, DOCUMENTS)},
    "nano_winogrande": {"test.jsonl": (winogrande, DOCUMENTS)},
    "nano_lambada": {"test.jsonl": (lambada, DOCUMENTS)},
    "nano_gsm8k": {"test.jsonl": (gsm8k, DOCUMENTS), "train.jsonl": (gsm8k_shot, SHOTS)},
}


def write_tasks(folder: Path = FOLDER, seed: int = 2024) -> Iterator[Path]:
    """Write the files of all tasks; yield each path written."""
    for task, files in FILES.items():
        for name, (make, count) in files.items():
            path = folder / task / name
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = (
                json.dumps(document, ensure_ascii=False) for document in draw_documents(task, name, make, count, seed)
            )
            path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
            yield path


def draw_documents(
    task: str, name: str, make: Callable[[random.Random], Document], count: int, seed: int
) -> list[Document]:
    """Return `count` different documents of one file."""
    draw = random.Random(f"{seed}/{task}/{name}")
    seen: dict[str, Document] = {}
    while len(seen) < count:
        document = make(draw)
        shown = json.dumps({k: v for k, v in document.items() if k in ("question", "ctx", "sentence", "text")})
        seen.setdefault(shown, document)
    return list(seen.values())


def _bare_question(item: Item) -> str:
    """Return the question without the words around it, which the task's template adds again."""
    return item.context.removeprefix(QUESTION).removesuffix(ANSWER)


def _document(item: Item, **fields: Any) -> Document:
    """Return a document with these fields and the item's rule."""
    return {**fields, "kind": item.kind, "hops": item.hops}


def _reserved(make: Callable[[random.Random], Item], draw: random.Random) -> Item:
    """Return the next item of `make` that is reserved for the tasks."""
    return next(item for item in iter(lambda: make(draw), None) if reserved(item.text))
