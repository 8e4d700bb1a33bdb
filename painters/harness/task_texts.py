"""The documents of a task as plain texts."""

from __future__ import annotations

from typing import Any

from painters.documents import DocumentSelection
from painters.harness.tasks import prepare
from painters.tasks import TaskError

__all__ = ["TaskError", "selected_texts", "texts"]


def texts(task: str, *, limit: int | float | None = None) -> list[str]:
    """Return the documents of a task as texts: each prompt without examples, followed by the right answer.

    Args:
        task: The name of one task, not of a group.
        limit: The number of documents, from the first on, or a share of them. None: all.

    Returns:
        One text for each document.

    Raises:
        TaskError: The task does not exist, cannot be loaded, or is a group of several.

    Examples:
        >>> from painters.harness import texts
        >>> print(texts("nano_winogrande", limit=1)[0])
        Yesterday Walt could not see past Tom because Tom was too tall.
    """
    return selected_texts(task, DocumentSelection(limit))[0]


def selected_texts(task: str, selection: DocumentSelection) -> tuple[list[str], int | None, tuple[str, ...]]:
    """Return the selected documents of a task as `texts` does, the seed that drew them, and notes on their number."""
    seed = selection.seed if selection.sample is not None else None
    prepared = prepare(task, limit=selection.limit, sample=selection.sample, sample_seed=seed, shots=0)
    if len(prepared) != 1:
        names = ", ".join(member.name for member in prepared)
        raise TaskError(f"task {task!r} is a group of {len(prepared)}: give one of {names}")
    by_document: dict[int, list[Any]] = {}
    for request in prepared[0].requests:
        by_document.setdefault(request.doc_id, []).append(request)
    found = [_text(prepared[0].task, requests) for requests in by_document.values()]
    return found, prepared[0].sample_seed, prepared[0].notes


def _text(task: Any, requests: list[Any]) -> str:
    """Return the text of one document, whose requests these are."""
    first = requests[0]
    if task.OUTPUT_TYPE == "generate_until":
        return f"{first.args[0]}{task.config.target_delimiter}{_first_of(task.doc_to_target(first.doc))}"
    right = first
    if task.OUTPUT_TYPE == "multiple_choice":
        gold = _first_of((task.doc_to_text if task.multiple_input else task.doc_to_target)(first.doc))
        index = gold if isinstance(gold, int) else list(task.doc_to_choice(first.doc)).index(gold)
        right = sorted(requests, key=lambda request: int(request.idx))[index]
    return "".join(right.args)


def _first_of(answer: Any) -> Any:
    """Return the first of several right answers, or the only one."""
    return answer[0] if isinstance(answer, list | tuple) else answer
