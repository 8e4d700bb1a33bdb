"""Log-likelihood requests as batches of tokens: row by row as lm-eval makes them, or as trees of common beginnings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from painters.ranks import Ranks
from painters.sharing.tree_attention import Group
from painters.tasks import TaskError

Tokenised: TypeAlias = tuple[tuple[str, str] | None, list[int], list[int]]
"""A request as lm-eval hands it on: its texts, the tokens of the context, and those of the answer."""
Answer: TypeAlias = tuple[float, bool]
"""The log-likelihood of the answer in nats, and whether greedy decoding would give it."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Inputs for the model, and where in them the answers of which requests stand."""

    inputs: dict[str, Tensor]
    """Keyword arguments of the model's forward; `input_ids` are [rows, longest], padded on the right with 0."""
    scored: tuple[Tensor, Tensor]
    """The (rows, columns) of the positions whose logits are read, row after row."""
    spans: tuple[tuple[int, int, int], ...]
    """For each request its index and the span of its tokens in the three below."""
    tokens: Tensor
    likely_at: Tensor
    """For each token of an answer, which of the scored positions its log-likelihood is read from."""
    greedy_at: Tensor
    """The same for the likeliest token that it is compared with."""
    exact: bool
    """Whether answers are lm-eval's to the last digit; then the output head is applied at all positions, as there."""
    groups: tuple[Group, ...] = ()
    """The token trees in its only row, if it is made so."""

    def answers(self, logits: Tensor, dtype: torch.dtype | None) -> Iterator[tuple[int, Answer]]:
        """(index of the request, its answer) from the logits [scored, vocabulary]; `dtype` is the softmax's."""
        scores = torch.log_softmax(logits, dim=-1, dtype=dtype)
        likely = scores[self.likely_at, self.tokens]
        greedy = (scores.argmax(-1)[self.greedy_at] == self.tokens).tolist()
        if self.exact:
            sums = [float(likely[begin:end].sum()) for _, begin, end in self.spans]
        else:
            sums = [math.fsum(many[begin:end]) for many in (likely.tolist(),) for _, begin, end in self.spans]
        for (index, begin, end), total in zip(self.spans, sums, strict=True):
            yield index, (total, all(greedy[begin:end]))


class _Row(NamedTuple):
    """A row of a batch: the tokens of context and answer, how many of them are scored at the end, and the requests
    that read their answers from it, as (index, tokens of the answer)."""

    tokens: list[int]
    scored: int
    answers: list[tuple[int, list[int]]]


class Part(NamedTuple):
    """The requests of a batch by their indices, and what puts it together: the masks of all batches are large."""

    requests: tuple[int, ...]
    make: Callable[[], Batch]


@dataclass(frozen=True, slots=True)
class Batches:
    """All batches of some requests, each put together when it is its turn."""

    parts: tuple[Part, ...]
    rows: int
    """The largest is no larger than lm-eval's largest of so many rows."""
    cut: Callable[[Sequence[int], int], Batches]
    """Makes batches of some of the same requests, by their indices, for another number of rows."""
    exact: bool
    trial: Batch | None = None
    """A few of the requests in one row, which tells whether a model takes such trees; None if it need not."""

    def __iter__(self) -> Iterator[Batch]:
        return (part.make() for part in self.parts)

    def of(self, ranks: Ranks) -> Sequence[Part]:
        """Those that are this process's share."""
        return ranks.mine(self.parts)


def as_lm_eval(
    requests: Sequence[Tokenised],
    batch_size: int,
    max_length: int,
    device: torch.device,
    chosen: Sequence[int] | None = None,
) -> Batches:
    """lm-eval's batches of `batch_size` rows, the longest first, cut on the left to `max_length` positions.

    Requests that differ in the last token only share a row, that of the longest answer: its logits are the same.
    `chosen` are the indices of the requests that are put into batches, all of them where it is left out.
    """
    sharing: dict[tuple[int, ...], list[int]] = {}
    for index in range(len(requests)) if chosen is None else chosen:
        _, context, answer = requests[index]
        sharing.setdefault((*context, *answer[:-1]), []).append(index)
    rows = []
    for group in sharing.values():
        _, context, answer = requests[max(group, key=lambda index: len(requests[index][2]))]
        rows.append(_Row(context + answer, len(answer), [(index, requests[index][2]) for index in group]))
    rows.sort(key=lambda row: (-len(row.tokens), row.tokens))
    batches = [rows[begin : begin + batch_size] for begin in range(0, len(rows), batch_size)]
    parts = [
        Part(tuple(index for row in batch for index, _ in row.answers), partial(_of_rows, batch, max_length, device))
        for batch in batches
    ]

    def cut(chosen: Sequence[int], rows: int) -> Batches:
        return as_lm_eval(requests, rows, max_length, device, chosen)

    return Batches(tuple(parts), batch_size, cut, exact=True)


def _of_rows(rows: Sequence[_Row], max_length: int, device: torch.device) -> Batch:
    inputs = [cut(row.tokens, row.scored, max_length) for row in rows]
    ids = torch.zeros(len(rows), max(map(len, inputs)), dtype=torch.long)
    at_rows: list[int] = []
    columns: list[int] = []
    spans: list[tuple[int, int, int]] = []
    tokens: list[int] = []
    likely_at: list[int] = []
    greedy_at: list[int] = []
    for number, (row, given) in enumerate(zip(rows, inputs, strict=True)):
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
    return Batch(
        inputs={"input_ids": ids.to(device)},
        scored=(torch.tensor(at_rows, device=device), torch.tensor(columns, device=device)),
        spans=tuple(spans),
        tokens=torch.tensor(tokens, device=device),
        likely_at=torch.tensor(likely_at, device=device),
        greedy_at=torch.tensor(greedy_at, device=device),
        exact=True,
    )


def cut(tokens: list[int], scored: int, max_length: int) -> list[int]:
    """What the model is given of context and answer: at most `max_length` tokens, without the last one."""
    given = tokens[-(max_length + 1) :][:-1]
    if not 0 < scored <= len(given):
        raise TaskError(
            f"an answer has {scored} tokens, and the model scores 1 to {len(given)} of them at once: "
            "shorten the answer, or give it a context"
        )
    return given
