"""Measures of hidden states: each takes batches one by one and keeps sums, not states.

All measures but `FlatCosine` weigh alike: the mean over the tokens that count in a document, then the mean over
documents. `FlatCosine` has the paper's own weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from painters.errors import SimilarityError

__all__ = [
    "FlatCosine",
    "LastTokenAngle",
    "Measure",
    "StateBatch",
    "StateMean",
    "StateProfile",
    "TokenCosine",
    "error_against_flat",
]

_TOKENS_AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class StateBatch:
    """The hidden states of a batch of documents.

    Attributes:
        states: One tensor [batch, seq, hidden] per state; they may lie on several devices.
        mask: Which positions hold tokens and not padding, [batch, seq].
    """

    states: Sequence[Tensor]
    mask: Tensor

    def documents(self) -> Iterator[Tensor]:
        """Yield the states [states, tokens, hidden] of each document, without its padding, on one device."""
        for row, mask in enumerate(self.mask.bool()):
            device = self.states[0].device
            yield torch.stack([state[row, mask.to(state.device)].to(device) for state in self.states])


class Measure(Protocol):
    """Anything that takes batches of states one by one, and then has a result."""

    def add(self, batch: StateBatch) -> None:
        """Take one batch."""

    def result(self) -> Tensor:
        """Return the result over all batches taken."""


class FlatCosine:
    """The paper's cosine between every two states, [states, states] (Figure 3).

    A sequence is flattened whole, with its padding; the cosine of two flattened states is averaged over the batch, then
    over batches. A smaller last batch counts as much as the others. Arithmetic is in float32.

    With `keep`, `by_document` holds the cosines of each document, in a list for each batch.
    """

    def __init__(self, *, keep: bool = False) -> None:
        self._by_batch: list[Tensor] = []
        self.by_document: list[list[Tensor]] | None = [] if keep else None

    def add(self, batch: StateBatch) -> None:
        """Take one batch."""
        flat = [state.float().flatten(1) for state in batch.states]
        table = torch.zeros(len(flat), len(flat))
        documents = torch.zeros(len(batch.mask), len(flat), len(flat))
        for i, state in enumerate(flat):
            for j, other in enumerate(flat[: i + 1]):
                by_document = F.cosine_similarity(state, other.to(state.device))
                table[i, j] = table[j, i] = by_document.mean(0)
                documents[:, i, j] = documents[:, j, i] = by_document
        self._by_batch.append(table)
        if self.by_document is not None:
            self.by_document.append(list(documents))

    def result(self) -> Tensor:
        """Return the mean over batches, [states, states]."""
        return torch.stack(self._by_batch).mean(0)


class TokenCosine:
    """The cosine between every two states of the same token, [states, states].

    `first=False` leaves out the first token of each document. `centre` [states, hidden] is subtracted from every state
    beforehand. With `keep`, `by_document` holds the cosines of each document; None for one that has no tokens left.
    """

    def __init__(self, *, first: bool = True, centre: Tensor | None = None, keep: bool = False) -> None:
        self._first = first
        self._centre = centre
        self.by_document: list[Tensor | None] | None = [] if keep else None
        self._mean = _DocumentMean("every document has one token only, and the first token is left out")

    def add(self, batch: StateBatch) -> None:
        """Take one batch."""
        for states in batch.documents():
            counted = states if self._first else states[:, 1:]
            if not counted.shape[1]:
                if self.by_document is not None:
                    self.by_document.append(None)
                continue
            total = torch.zeros(len(states), len(states), dtype=torch.float64)
            for part in torch.split(counted, _TOKENS_AT_ONCE, dim=1):
                wide = _wide(part)
                if self._centre is not None:
                    wide = wide - self._centre.to(wide)[:, None]
                directions = F.normalize(wide, dim=-1).flatten(1)
                total += (directions @ directions.T).cpu()
            self._mean.add(total / counted.shape[1])
            if self.by_document is not None:
                self.by_document.append((total / counted.shape[1]).float())

    def result(self) -> Tensor:
        """Return the mean over documents, [states, states]."""
        return self._mean.result()


def error_against_flat(mode: Sequence[Tensor | None], flat: Sequence[Sequence[Tensor]]) -> Tensor:
    """Return the standard error of a mode's mean cosines less those of mode flat, paired by document.

    Each document has the weight that it has in either mean. What the documents have in common cancels out.

    Args:
        mode: The cosines [states, states] of each document; None for one that does not count.
        flat: Those of mode flat, in a list for each batch.

    Returns:
        The errors, [states, states]; NaN where fewer than two documents count.
    """
    counted = sum(cosines is not None for cosines in mode)
    own = _mean([cosines for cosines in mode if cosines is not None])
    other = _mean([_mean(batch) for batch in flat])
    squares = torch.zeros_like(own)
    weighted = [(cosines, 1 / (len(flat) * len(batch))) for batch in flat for cosines in batch]
    for cosines, (flat_cosines, weight) in zip(mode, weighted, strict=True):
        residual = -weight * (flat_cosines.double() - other)
        if cosines is not None:
            residual = residual + (cosines.double() - own) / counted
        squares += residual**2
    if counted < 2:
        return torch.full_like(squares, torch.nan)
    return (squares * counted / (counted - 1)).sqrt()


def _mean(tables: Sequence[Tensor]) -> Tensor:
    """Return the mean of matrices, in float64; it is taken one by one, without a stack of them all."""
    total = torch.zeros_like(tables[0], dtype=torch.float64)
    for table in tables:
        total += table
    return total / len(tables)


class StateMean:
    """The mean of each state, [states, hidden], over all tokens of all documents, each token weighing the same."""

    def __init__(self) -> None:
        self._total: Tensor | None = None
        self._tokens = 0

    def add(self, batch: StateBatch) -> None:
        """Take one batch."""
        for states in batch.documents():
            total = _wide(states).sum(1).cpu()
            self._total = total if self._total is None else self._total + total
            self._tokens += states.shape[1]

    def result(self) -> Tensor:
        """Return the mean over tokens, [states, hidden]."""
        if self._total is None:
            raise SimilarityError("no documents: there is nothing to take the mean of")
        return self._total / self._tokens


class LastTokenAngle:
    """The angle arccos(cos) / pi between every two states at a document's last token, [states, states].

    Its unit is half a turn (Gromov et al., arXiv 2403.17887).
    """

    def __init__(self) -> None:
        self._mean = _DocumentMean("no documents")

    def add(self, batch: StateBatch) -> None:
        """Take one batch."""
        for states in batch.documents():
            last = F.normalize(_wide(states[:, -1]), dim=-1)
            self._mean.add((torch.arccos((last @ last.T).clamp(-1, 1)) / torch.pi).cpu())

    def result(self) -> Tensor:
        """Return the mean over documents, [states, states]."""
        return self._mean.result()


class StateProfile:
    """What each state is like by itself, [states, 5]; `columns` names the columns.

    - `norm`: the mean norm of the state.
    - `first_token`: the norm at the first token.
    - `change`: the mean norm of the difference from the state before; NaN for the first state.
    - `largest`: the largest absolute number at any token.
    - `influence`: block influence, 1 - cosine with the state before (ShortGPT, arXiv 2403.03853); NaN for the first.
    """

    columns = ("norm", "first_token", "change", "largest", "influence")

    def __init__(self) -> None:
        self._mean = _DocumentMean("no documents")
        self._largest: Tensor | None = None

    def add(self, batch: StateBatch) -> None:
        """Take one batch."""
        for states in batch.documents():
            norm = torch.linalg.vector_norm(states, dim=-1, dtype=_wide_dtype(states))
            change, influence = torch.full((2, len(states)), torch.nan, dtype=norm.dtype, device=norm.device)
            for i in range(1, len(states)):
                before, after = _wide(states[i - 1]), _wide(states[i])
                change[i] = torch.linalg.vector_norm(after - before, dim=-1).mean()
                influence[i] = 1 - F.cosine_similarity(before, after, dim=-1).mean()
            self._mean.add(torch.stack([norm.mean(1), norm[:, 0], change, influence], dim=1).cpu())
            largest = states.abs().amax((1, 2)).double().cpu()
            self._largest = largest if self._largest is None else torch.maximum(self._largest, largest)

    def result(self) -> Tensor:
        """Return means over documents, and the maximum of `largest`, [states, 5]."""
        means = self._mean.result()
        assert self._largest is not None
        return torch.cat([means[:, :3], self._largest[:, None], means[:, 3:]], dim=1)


class _DocumentMean:
    """A mean over documents, in float64; `why_none` says in an error why there may be no document."""

    def __init__(self, why_none: str) -> None:
        self._total: Tensor | None = None
        self._count = 0
        self._why_none = why_none

    def add(self, value: Tensor) -> None:
        """Take the value of one document."""
        value = value.double()
        self._total = value if self._total is None else self._total + value
        self._count += 1

    def result(self) -> Tensor:
        """Return the mean; raise SimilarityError where no document was taken."""
        if self._total is None:
            raise SimilarityError(f"no states to compare: {self._why_none}. Give longer texts")
        return self._total / self._count


def _wide_dtype(states: Tensor) -> torch.dtype:
    """Return float64, or float32 on Apple's GPUs, which have no float64."""
    return torch.float32 if states.device.type == "mps" else torch.float64


def _wide(states: Tensor) -> Tensor:
    """Return `states` in the widest dtype of their device."""
    return states.to(_wide_dtype(states))
