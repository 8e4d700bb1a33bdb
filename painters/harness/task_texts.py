"""The documents of a task as plain texts."""

from __future__ import annotations

from typing import Any

from painters.harness.tasks import SEED, prepare
from painters.tasks import TaskError


def texts(task: str, *, limit: int | None = None) -> list[str]:
    """The documents of `task`, each as its prompt without shots, followed by the right answer."""
    prepared = prepare(task, limit=limit, num_fewshot=0, seed=SEED)
    if len(prepared) != 1:
        names = ", ".join(part.name for part in prepared)
        raise TaskError(f"task {task!r} is a group of {len(prepared)}: give one of {names}")
    by_document: dict[int, list[Any]] = {}
    for request in prepared[0].requests:
        by_document.setdefault(request.doc_id, []).append(request)
    return [_text(prepared[0].task, requests) for requests in by_document.values()]


def _text(task: Any, requests: list[Any]) -> str:
    first = requests[0]
    if task.OUTPUT_TYPE == "generate_until":
        return f"{first.args[0]}{task.config.target_delimiter}{_one(task.doc_to_target(first.doc))}"
    right = first
    if task.OUTPUT_TYPE == "multiple_choice":
        gold = _one((task.doc_to_text if task.multiple_input else task.doc_to_target)(first.doc))
        place = gold if isinstance(gold, int) else list(task.doc_to_choice(first.doc)).index(gold)
        right = sorted(requests, key=lambda request: int(request.idx))[place]
    return "".join(right.args)


def _one(answer: Any) -> Any:
    """The first of several right answers."""
    return answer[0] if isinstance(answer, list | tuple) else answer
