"""What is computed from hidden states: sums over batches that keep no states.

Every measure takes batches one by one and weighs alike: the mean over the tokens that count in a document, then the
mean over documents. Only `Flat` has the paper's own weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from painters.results.similarity_record import SimilarityError

_TOKENS_AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class Batch:
    """The states of a batch, each [batch, seq, hidden], and which positions hold tokens, [batch, seq]."""

    states: Sequence[Tensor]
    mask: Tensor

    def documents(self) -> Iterator[Tensor]:
        """The states [states, tokens, hidden] of each document without its padding."""
        for row, mask in enumerate(self.mask.bool()):
            place = self.states[0].device
            yield torch.stack([state[row, mask.to(state.device)].to(place) for state in self.states])


class Measure(Protocol):
    """Takes batches, and then has a result."""

    def add(self, batch: Batch) -> None: ...

    def result(self) -> Tensor: ...


class Flat:
    """The paper's cosine, [states, states]: a sequence flattened whole with its padding, the cosine of two flattened
    states, its mean over the batch, then over batches, a smaller last one counted as one (Figure 3; arithmetic is
    float32).
    """

    def __init__(self) -> None:
        self._by_batch: list[Tensor] = []

    def add(self, batch: Batch) -> None:
        flat = [state.float().flatten(1) for state in batch.states]
        table = torch.zeros(len(flat), len(flat))
        for i, one in enumerate(flat):
            for j, other in enumerate(flat[: i + 1]):
                table[i, j] = table[j, i] = F.cosine_similarity(one, other.to(one.device)).mean(0)
        self._by_batch.append(table)

    def result(self) -> Tensor:
        return torch.stack(self._by_batch).mean(0)


class PerToken:
    """The cosine of two states of the same token, [states, states], over all tokens or all but the first.

    `centre` [states, hidden] is subtracted from every state before.
    """

    def __init__(self, *, first: bool = True, centre: Tensor | None = None) -> None:
        self._first = first
        self._centre = centre
        self._mean = _Mean("every document has one token only, and the first token is left out")

    def add(self, batch: Batch) -> None:
        for states in batch.documents():
            counted = states if self._first else states[:, 1:]
            if not counted.shape[1]:
                continue
            total = torch.zeros(len(states), len(states), dtype=torch.float64)
            for part in torch.split(counted, _TOKENS_AT_ONCE, dim=1):
                wide = _wide(part)
                if self._centre is not None:
                    wide = wide - self._centre.to(wide)[:, None]
                directions = F.normalize(wide, dim=-1).flatten(1)
                total += (directions @ directions.T).cpu()
            self._mean.add(total / counted.shape[1])

    def result(self) -> Tensor:
        return self._mean.result()


class Centre:
    """The mean of each state, [states, hidden], over all tokens of all documents, each token counted alike."""

    def __init__(self) -> None:
        self._total: Tensor | None = None
        self._tokens = 0

    def add(self, batch: Batch) -> None:
        for states in batch.documents():
            total = _wide(states).sum(1).cpu()
            self._total = total if self._total is None else self._total + total
            self._tokens += states.shape[1]

    def result(self) -> Tensor:
        if self._total is None:
            raise SimilarityError("no documents: there is nothing to take the mean of")
        return self._total / self._tokens


class Angle:
    """The angle between two states at a document's last token as a part of a half turn, arccos(cos) / pi:
    [states, states] (Gromov et al., arXiv 2403.17887)."""

    def __init__(self) -> None:
        self._mean = _Mean("no documents")

    def add(self, batch: Batch) -> None:
        for states in batch.documents():
            last = F.normalize(_wide(states[:, -1]), dim=-1)
            self._mean.add((torch.arccos((last @ last.T).clamp(-1, 1)) / torch.pi).cpu())

    def result(self) -> Tensor:
        return self._mean.result()


class Profile:
    """Columns [states, 5]: the mean norm of a state, the norm at the first token, the mean norm of the change since the
    state before, the largest absolute number in any token, and block influence, 1 - cos with the state before
    (ShortGPT, arXiv 2403.03853). Change and influence are nan for the first state."""

    columns = ("norm", "first_token", "change", "largest", "influence")

    def __init__(self) -> None:
        self._mean = _Mean("no documents")
        self._largest: Tensor | None = None

    def add(self, batch: Batch) -> None:
        for states in batch.documents():
            norm = torch.linalg.vector_norm(states, dim=-1, dtype=_width(states))
            change, influence = torch.full((2, len(states)), torch.nan, dtype=norm.dtype, device=norm.device)
            for i in range(1, len(states)):
                before, after = _wide(states[i - 1]), _wide(states[i])
                change[i] = torch.linalg.vector_norm(after - before, dim=-1).mean()
                influence[i] = 1 - F.cosine_similarity(before, after, dim=-1).mean()
            self._mean.add(torch.stack([norm.mean(1), norm[:, 0], change, influence], dim=1).cpu())
            largest = states.abs().amax((1, 2)).double().cpu()
            self._largest = largest if self._largest is None else torch.maximum(self._largest, largest)

    def result(self) -> Tensor:
        means = self._mean.result()
        assert self._largest is not None
        return torch.cat([means[:, :3], self._largest[:, None], means[:, 3:]], dim=1)


class _Mean:
    """A mean over documents, in float64."""

    def __init__(self, why_none: str) -> None:
        self._total: Tensor | None = None
        self._count = 0
        self._why_none = why_none

    def add(self, value: Tensor) -> None:
        value = value.double()
        self._total = value if self._total is None else self._total + value
        self._count += 1

    def result(self) -> Tensor:
        if self._total is None:
            raise SimilarityError(f"no states to compare: {self._why_none}. Give longer texts")
        return self._total / self._count


def _width(states: Tensor) -> torch.dtype:
    """float64, which Apple's GPUs do not have."""
    return torch.float32 if states.device.type == "mps" else torch.float64


def _wide(states: Tensor) -> Tensor:
    return states.to(_width(states))
