"""Log-likelihood requests as batches of tokens, in rows as lm-eval forms them.

`painters.harness.trees` makes the other kind of batches, in which common beginnings stand once.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from painters.ranks import Ranks
from painters.sharing.tree_attention import TreeGroup
from painters.tasks import TaskError

Tokenised: TypeAlias = tuple[tuple[str, str] | None, list[int], list[int]]
"""A request as lm-eval hands it on: its texts, the tokens of the context, and those of the answer."""
Answer: TypeAlias = tuple[float, bool]
"""The log-likelihood of the answer in nats, and whether greedy decoding would give it."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How large batches may be, and on which device they are made."""

    rows: int
    """Rows of lm-eval's batches. A batch of trees has as many positions as the largest of those at most."""
    max_length: int
    """Positions of a row at most. Longer ones lose their beginning."""
    device: torch.device


@dataclass(frozen=True, slots=True, eq=False)
class LikelihoodBatch:
    """Inputs for one forward, and where in its logits the answers to which requests are read."""

    inputs: dict[str, Tensor]
    """Keyword arguments of the model's forward. `input_ids` are [rows, longest], padded on the right with 0."""
    scored: tuple[Tensor, Tensor]
    """The (rows, columns) of the positions whose logits are read, row after row."""
    spans: tuple[tuple[int, int, int], ...]
    """For each request (index, begin, end): the span of its tokens in the three fields below, `end` exclusive."""
    tokens: Tensor
    """The tokens of all answers, one answer after the other."""
    likely_at: Tensor
    """For each of these tokens, which of the scored positions its log-likelihood is read from."""
    greedy_at: Tensor
    """For each of these tokens, which of the scored positions gives the likeliest token that it is compared with."""
    exact: bool
    """Whether answers are lm-eval's to the last digit. Then the output head is applied at all positions, as there."""
    groups: tuple[TreeGroup, ...] = ()
    """The token trees in the only row, if the batch consists of trees in one row."""

    def answers(self, logits: Tensor, dtype: torch.dtype | None) -> Iterator[tuple[int, Answer]]:
        """Yield (index of the request, its answer), from the logits [scored positions, vocabulary].

        `dtype` is the number type of the softmax, or None for that of the logits.
        """
        scores = torch.log_softmax(logits, dim=-1, dtype=dtype)
        likely = scores[self.likely_at, self.tokens]
        greedy = (scores.argmax(-1)[self.greedy_at] == self.tokens).tolist()
        if self.exact:
            sums = [float(likely[begin:end].sum()) for _, begin, end in self.spans]
        else:
            values = likely.tolist()
            sums = [math.fsum(values[begin:end]) for _, begin, end in self.spans]
        for (index, begin, end), total in zip(self.spans, sums, strict=True):
            yield index, (total, all(greedy[begin:end]))


class _Row(NamedTuple):
    """A row of a batch and the requests that read their answers from it."""

    tokens: list[int]
    """Those of context and answer."""
    scored: int
    """How many of them are scored, at the end."""
    answers: list[tuple[int, list[int]]]
    """(index of the request, tokens of its answer)."""


class PlannedBatch(NamedTuple):
    """A batch that is made when it is its turn, because the masks of all batches together are large."""

    requests: tuple[int, ...]
    """The indices of its requests."""
    make: Callable[[], LikelihoodBatch]


@dataclass(frozen=True, slots=True)
class LikelihoodBatches:
    """All batches of some requests, each made when it is its turn."""

    parts: tuple[PlannedBatch, ...]
    rows: int
    """No batch is larger than the largest batch of so many rows in lm-eval."""
    cut: Callable[[Sequence[int], int], LikelihoodBatches]
    """Makes batches for another number of rows, of some of the same requests, given by their indices."""
    exact: bool
    """Whether answers are lm-eval's to the last digit."""
    owners: tuple[int, ...] | None = None
    """For each sequence of tokens the index of the request that it belongs to, where requests are sums over windows of
    a text (rolling log-likelihoods). None: each is a request of its own."""
    trial: LikelihoodBatch | None = None
    """A few of the requests in one row, which shows whether a model can process such trees; None where that is sure."""

    def __iter__(self) -> Iterator[LikelihoodBatch]:
        return (part.make() for part in self.parts)

    def of(self, ranks: Ranks) -> Sequence[PlannedBatch]:
        """Return this process's share of the batches."""
        return ranks.mine(self.parts)


def as_lm_eval(
    requests: Sequence[Tokenised],
    limits: BatchLimits,
    chosen: Sequence[int] | None = None,
    *,
    in_order: bool = False,
) -> LikelihoodBatches:
    """Return lm-eval's batches of the requests, the longest first.

    Args:
        requests: The requests.
        limits: The size of the batches.
        chosen: The indices of the requests to put into batches. None: all of them.
        in_order: Whether as many requests as a batch has rows are taken in their order, as lm-eval takes the windows of
            texts, and only sorted by length within the batch.
    """
    indices = list(range(len(requests))) if chosen is None else list(chosen)
    if in_order:
        taken = (indices[begin : begin + limits.rows] for begin in range(0, len(indices), limits.rows))
        batches = [_rows(requests, some) for some in taken]
    else:
        rows = _rows(requests, indices)
        batches = [rows[begin : begin + limits.rows] for begin in range(0, len(rows), limits.rows)]
    parts = [
        PlannedBatch(tuple(index for row in batch for index, _ in row.answers), partial(_of_rows, batch, limits))
        for batch in batches
    ]

    def cut(chosen: Sequence[int], rows: int) -> LikelihoodBatches:
        return as_lm_eval(requests, dataclasses.replace(limits, rows=rows), chosen, in_order=in_order)

    return LikelihoodBatches(tuple(parts), limits.rows, cut, exact=True)


def _rows(requests: Sequence[Tokenised], indices: Sequence[int]) -> list[_Row]:
    """Return the rows of the requests with these indices, the longest first.

    Requests that differ in the last token alone share a row, that of the longest answer: its logits are the same.
    """
    by_input: dict[tuple[int, ...], list[int]] = {}
    for index in indices:
        _, context, answer = requests[index]
        by_input.setdefault((*context, *answer[:-1]), []).append(index)
    rows = []
    for sharing in by_input.values():
        _, context, answer = requests[max(sharing, key=lambda index: len(requests[index][2]))]
        rows.append(_Row(context + answer, len(answer), [(index, requests[index][2]) for index in sharing]))
    return sorted(rows, key=lambda row: (-len(row.tokens), row.tokens))


def _of_rows(rows: Sequence[_Row], limits: BatchLimits) -> LikelihoodBatch:
    """Return the batch of these rows."""
    device = limits.device
    inputs = [shortened(row.tokens, row.scored, limits.max_length) for row in rows]
    ids = torch.zeros(len(rows), max(map(len, inputs)), dtype=torch.long)
    row_of: list[int] = []
    column_of: list[int] = []
    spans: list[tuple[int, int, int]] = []
    tokens: list[int] = []
    likely_at: list[int] = []
    greedy_at: list[int] = []
    for number, (row, row_input) in enumerate(zip(rows, inputs, strict=True)):
        ids[number, : len(row_input)] = torch.tensor(row_input)
        begin, end = len(column_of), len(column_of) + row.scored
        row_of += [number] * row.scored
        column_of += range(len(row_input) - row.scored, len(row_input))
        for index, answer in row.answers:
            spans.append((index, len(tokens), len(tokens) + len(answer)))
            tokens += answer
            # An answer shorter than the row's is rare. lm-eval then reads from the first scored positions, and
            # compares with the last ones.
            likely_at += range(begin, begin + len(answer))
            greedy_at += range(end - len(answer), end)
    return LikelihoodBatch(
        inputs={"input_ids": ids.to(device)},
        scored=(torch.tensor(row_of, device=device), torch.tensor(column_of, device=device)),
        spans=tuple(spans),
        tokens=torch.tensor(tokens, device=device),
        likely_at=torch.tensor(likely_at, device=device),
        greedy_at=torch.tensor(greedy_at, device=device),
        exact=True,
    )


def shortened(tokens: list[int], scored: int, max_length: int) -> list[int]:
    """Return the model's input for context and answer, without the last token, cut on the left.

    Raises TaskError where the answer, the last `scored` tokens, does not fit.
    """
    model_input = tokens[-(max_length + 1) :][:-1]
    if not 0 < scored <= len(model_input):
        raise TaskError(
            f"an answer has {scored} tokens, and the model scores 1 to {len(model_input)} of them at once: "
            "shorten the answer, or give it a context"
        )
    return model_input
