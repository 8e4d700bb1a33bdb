"""Log-likelihoods of the same requests under many plans: tokenised once, and each batch run through their trie."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from painters._harness_lm import PaintersLM
from painters.plan import Plan
from painters.sharing import Sharing
from painters.tasks import TaskError

Tokenised: TypeAlias = tuple[tuple[str, str] | None, list[int], list[int]]
"""A request as lm-eval hands it on: its texts, the tokens of the context, and those of the answer."""
Answer: TypeAlias = tuple[float, bool]
"""The log-likelihood of the answer in nats, and whether greedy decoding would give it."""


class SharingLM(PaintersLM):
    """lm-eval's `hf` model, which can answer log-likelihood requests under many plans at once."""

    def __init__(self, pretrained: Any, **options: Any) -> None:
        super().__init__(pretrained, **options)
        self._sharing: Sharing | None = None
        self._whole_head = True

    def log_likelihoods(
        self, plans: Iterable[Plan], requests: Sequence[Any], *, whole_head: bool = True
    ) -> dict[Plan, list[Answer]]:
        """For each distinct plan the answers to lm-eval's `requests`, in their order.

        The batches are those of `loglikelihood` under one plan, and so are the answers, to the last digit. Without
        `whole_head` the output head is applied only where an answer's tokens are scored, which rounds differently.
        """
        self._sharing, self._whole_head = Sharing(self.model, plans), whole_head
        try:
            answers = self.loglikelihood(requests, disable_tqdm=True)
            return {plan: [of[plan] for of in answers] for plan in self._sharing.trie.plans}
        finally:
            self._sharing = None

    def _loglikelihood_tokens(
        self, requests: list[Tokenised], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[Any]:
        """lm-eval's own answers, or within `log_likelihoods` for each request a dict of them, plan by plan."""
        if self._sharing is None:
            answers: list[Any] = super()._loglikelihood_tokens(requests, disable_tqdm, override_bs)
            return answers
        found: list[dict[Plan, Answer]] = [{} for _ in requests]
        mixed = self.mixed_precision_dtype
        for rows in _batches(requests, int(self.batch_size)):
            batch = _Batch.of(rows, int(self.max_length), self.device)
            at = None if self._whole_head else batch.scored
            with torch.no_grad(), torch.autocast(self.device.type, dtype=mixed, enabled=mixed is not None):
                for plan, output in self._sharing.run(at, input_ids=batch.ids):
                    logits = output.logits[batch.scored] if self._whole_head else output.logits[0]
                    del output
                    for index, answer in batch.answers(logits, self.softmax_dtype):
                        found[index][plan] = answer
                        if (texts := requests[index][0]) is not None:
                            self.cache_hook.add_partial("loglikelihood", texts, answer)
        return found


class _Row(NamedTuple):
    """A row of a batch: the tokens of context and answer, how many of them are scored at the end, and the requests
    that read their answers from it, as (index, tokens of the answer)."""

    tokens: list[int]
    scored: int
    answers: list[tuple[int, list[int]]]


def _batches(requests: Sequence[Tokenised], batch_size: int) -> Iterator[list[_Row]]:
    """The rows as lm-eval batches them, the longest first.

    Requests that differ in the last token only share a row, that of the longest answer: its logits are the same.
    """
    sharing: dict[tuple[int, ...], list[int]] = {}
    for index, (_, context, answer) in enumerate(requests):
        sharing.setdefault((*context, *answer[:-1]), []).append(index)
    rows = []
    for group in sharing.values():
        _, context, answer = requests[max(group, key=lambda index: len(requests[index][2]))]
        rows.append(_Row(context + answer, len(answer), [(index, requests[index][2]) for index in group]))
    rows.sort(key=lambda row: (-len(row.tokens), row.tokens))
    for begin in range(0, len(rows), batch_size):
        yield rows[begin : begin + batch_size]


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Rows as tensors, and where in them the answers of which requests stand."""

    ids: Tensor
    """[rows, longest], padded on the right with 0."""
    scored: tuple[Tensor, Tensor]
    """The (rows, columns) of the positions whose logits are read, row after row."""
    spans: tuple[tuple[int, int, int], ...]
    """For each request its index and the span of its tokens in the three below."""
    tokens: Tensor
    likely_at: Tensor
    """For each token of an answer, which of the scored positions its log-likelihood is read from."""
    greedy_at: Tensor
    """The same for the likeliest token that it is compared with."""

    @classmethod
    def of(cls, rows: Sequence[_Row], max_length: int, device: torch.device) -> _Batch:
        """The batch of `rows`, cut on the left to `max_length` positions each."""
        inputs = [row.tokens[-(max_length + 1) :][:-1] for row in rows]
        ids = torch.zeros(len(rows), max(map(len, inputs)), dtype=torch.long)
        at_rows: list[int] = []
        columns: list[int] = []
        spans: list[tuple[int, int, int]] = []
        tokens: list[int] = []
        likely_at: list[int] = []
        greedy_at: list[int] = []
        for number, (row, given) in enumerate(zip(rows, inputs, strict=True)):
            if not 0 < row.scored <= len(given):
                raise TaskError(
                    f"an answer has {row.scored} tokens, and the model scores 1 to {len(given)} of them at once: "
                    "shorten the answer, or give it a context"
                )
            ids[number, : len(given)] = torch.tensor(given)
            begin, end = len(columns), len(columns) + row.scored
            at_rows += [number] * row.scored
            columns += range(len(given) - row.scored, len(given))
            for index, answer in row.answers:
                spans.append((index, len(tokens), len(tokens) + len(answer)))
                tokens += answer
                # An answer shorter than the row's is rare. lm-eval then reads from the first scored positions, and
                # compares with the last ones.
                likely_at += range(begin, begin + len(answer))
                greedy_at += range(end - len(answer), end)

        def tensor(numbers: list[int]) -> Tensor:
            return torch.tensor(numbers, device=device)

        return cls(
            ids=ids.to(device),
            scored=(tensor(at_rows), tensor(columns)),
            spans=tuple(spans),
            tokens=tensor(tokens),
            likely_at=tensor(likely_at),
            greedy_at=tensor(greedy_at),
        )

    def answers(self, logits: Tensor, dtype: torch.dtype | None) -> Iterator[tuple[int, Answer]]:
        """(index of the request, its answer) from the logits [scored, vocabulary]; `dtype` is the softmax's."""
        scores = torch.log_softmax(logits, dim=-1, dtype=dtype)
        likely = scores[self.likely_at, self.tokens]
        greedy = (scores.argmax(-1)[self.greedy_at] == self.tokens).tolist()
        for index, begin, end in self.spans:
            yield index, (float(likely[begin:end].sum()), all(greedy[begin:end]))
