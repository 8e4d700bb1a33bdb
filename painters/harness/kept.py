"""Answers that an interrupted scoring left, and those that are kept for the next: as values of JSON and back."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from painters.harness.batches import Answer, LikelihoodBatches
from painters.plan import Plan
from painters.results.partial import Kept

if TYPE_CHECKING:
    from painters.experiment import ScoringProtocol
    from painters.harness.tasks import Prepared

__all__ = ["KeptLikelihoods", "KeptTexts", "PlanAnswers", "flushing", "scoring_fields"]


def scoring_fields(
    model: Any, task: Prepared, protocol: ScoringProtocol, batches: LikelihoodBatches | None, processes: int
) -> dict[str, Any]:
    """Return what determines the bits of a plan's answers, besides the fields of its records that the model determines.

    Sums depend on the shapes of tensors: on the batches, the kind of device, and the threads of a processor.

    Args:
        model: The model.
        task: The task.
        protocol: How it is scored.
        batches: The batches of log-likelihood requests; None for other requests.
        processes: The number of processes that share requests which ask for texts.
    """
    device = torch.device(model.device)
    parts = None if batches is None else [batches.exact, *(part.requests for part in batches.parts)]
    return {
        "task": [task.name, task.version, task.digest, task.shots, task.seed],
        "protocol": [protocol.kv, protocol.batch_size, protocol.exact_batching, task.chat],
        "batches": parts and hashlib.sha256(repr(parts).encode()).hexdigest(),
        "processes": 1 if batches is not None else processes,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
    }


@contextlib.contextmanager
def flushing(kept: Kept | None) -> Iterator[None]:
    """Write at the end of the block what is not written yet, whatever ends it: a signal, an error, or success."""
    try:
        yield
    finally:
        if kept is not None:
            kept.flush()


class KeptLikelihoods:
    """The answers of several plans to log-likelihood requests.

    Args:
        kept: Where they are kept.
        plans: The plans.
    """

    def __init__(self, kept: Kept, plans: Sequence[Plan]) -> None:
        self._kept = kept
        self._texts = {plan: str(plan) for plan in plans}
        self._known: dict[Plan, dict[int, Answer]] = {
            plan: _decoded(kept.answers(text)) for plan, text in self._texts.items()
        }

    @property
    def known(self) -> Mapping[Plan, Mapping[int, Answer]]:
        """The answers that are known from before, by plan and by the index of the request."""
        return self._known

    def lacking(self, requests: Sequence[int]) -> tuple[Plan, ...]:
        """Return the plans without an answer to some of these requests, given by their indices."""
        return tuple(plan for plan, known in self._known.items() if not all(index in known for index in requests))

    def add(
        self, answers: Mapping[Plan, Sequence[tuple[int, Answer]]], requests: Sequence[int], rows: int | None
    ) -> None:
        """Keep the answers to a batch of requests.

        Args:
            answers: (index of the request, answer) of each plan.
            requests: The indices of the requests in the batch.
            rows: The rows that fitted into memory, where fewer than asked for did.
        """
        self._kept.rows_left = rows
        for plan, found in answers.items():
            self._kept.add(self._texts[plan], {str(index): _encoded(answer) for index, answer in found})
        self._kept.step(len(requests))


def _encoded(answer: Answer) -> list[Any]:
    """Return the answer as JSON, which has neither NaN nor infinities."""
    value, greedy = answer
    return [value if math.isfinite(value) else str(value), bool(greedy)]


def _decoded(answers: Mapping[str, Any]) -> dict[int, Answer]:
    """Return the answers by the index of the request."""
    return {int(index): (float(value), bool(greedy)) for index, (value, greedy) in answers.items()}


@dataclass(frozen=True, slots=True)
class PlanAnswers:
    """The answers of one plan to requests that are not asked together with other plans."""

    kept: Kept
    plan: str

    def texts(self, positions: Sequence[int]) -> KeptTexts:
        """Return the texts that answer the requests at these positions of all that ask for texts."""
        return KeptTexts(self, positions)


class KeptTexts:
    """The texts that answer some requests; these are numbered from 0 here.

    Args:
        answers: All answers of the plan.
        positions: Which of the plan's requests for texts these are.
    """

    def __init__(self, answers: PlanAnswers, positions: Sequence[int]) -> None:
        self._answers, self._names = answers, [f"text {position}" for position in positions]
        known = answers.kept.answers(answers.plan)
        self.known = {number: str(known[name]) for number, name in enumerate(self._names) if name in known}

    def add(self, texts: Mapping[int, str], not_finite: int, rows: int | None = None) -> None:
        """Keep texts by the number of their request.

        Args:
            texts: The texts.
            not_finite: How many of them came from no finite number.
            rows: The rows that fitted into memory, where fewer than asked for did.
        """
        kept = self._answers.kept
        kept.rows_left = rows
        kept.add(self._answers.plan, {self._names[number]: text for number, text in texts.items()}, not_finite)
        kept.step(len(texts))
