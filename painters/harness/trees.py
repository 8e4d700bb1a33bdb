"""Log-likelihood requests as batches of token trees, which hold common beginnings once."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import TypeAlias

import torch
from torch import Tensor

from painters.harness.batches import (
    BatchLimits,
    LikelihoodBatch,
    LikelihoodBatches,
    PlannedBatch,
    Tokenised,
    shortened,
)
from painters.sharing.token_trees import TokenTree, gather, grow
from painters.sharing.tree_attention import TreeGroup

Trees: TypeAlias = Sequence[TokenTree]
"""Trees of about the same width, the widest first."""
Indices: TypeAlias = Sequence[Sequence[int]]
"""For each sequence of tokens in the trees, by its number, the indices of the requests that it answers."""

MAX_WIDTH = 2048
"""Nodes of a tree, unless a single request is longer: its mask is quadratic."""
SLACK = 8
"""Positions of padding up to which one group of trees is cheaper than two: attention calls cost time too."""
TRIED = 4
"""Requests of a tree that a model is tried on."""


@dataclass(frozen=True, slots=True)
class TreeLayout:
    """How trees of tokens are laid out for a model."""

    hidden_size: int
    """Channels of the model's hidden states, by which `painters.sharing.token_trees` weighs what sharing saves."""
    dtype: torch.dtype
    """The number type of masks: the model's."""
    one_row: bool
    """Whether trees lie in one row, one after the other, for attention in groups (`painters.sharing.tree_attention`).
    Otherwise each tree has a row, and a mask [rows, 1, width, width] says which positions see which."""


def as_trees(
    requests: Sequence[Tokenised], limits: BatchLimits, layout: TreeLayout, chosen: Sequence[int] | None = None
) -> LikelihoodBatches:
    """Return batches of token trees, the widest first.

    Each has at most as many positions as lm-eval's largest batch of `limits.rows` rows.

    Args:
        requests: The requests.
        limits: The size of the batches.
        layout: How trees are laid out.
        chosen: The indices of the requests to put into batches. None: all of them, and a few make a trial batch.
    """
    by_input: dict[tuple[int, ...], list[int]] = {}
    for index in range(len(requests)) if chosen is None else chosen:
        _, context, answer = requests[index]
        by_input.setdefault(tuple(shortened(context + answer, len(answer), limits.max_length)), []).append(index)
    longest = max(map(len, by_input), default=0)
    budget = limits.rows * longest
    sequences, indices = list(by_input), list(by_input.values())
    grown = partial(grow, hidden_size=layout.hidden_size, limit=max(longest, min(budget, MAX_WIDTH)))
    trees = grown(sequences)
    slack = SLACK if layout.one_row else sys.maxsize
    groups = gather(trees, budget, slack)
    batches = _joined(groups, budget) if layout.one_row else [[group] for group in groups]
    make = partial(_of_groups, requests=requests, device=limits.device, layout=layout)
    trial = None
    if chosen is None and (layout.one_row or any(map(_branches, trees))):
        tried = _sequences_to_try(trees)
        small = grown([sequences[number] for number in tried])
        trial = make(gather(small, sys.maxsize, slack), [indices[number][:1] for number in tried])

    def cut(chosen: Sequence[int], rows: int) -> LikelihoodBatches:
        return as_trees(requests, dataclasses.replace(limits, rows=rows), layout, chosen)

    parts = tuple(PlannedBatch(_requests_in(batch, indices), partial(make, batch, indices)) for batch in batches)
    return LikelihoodBatches(parts, limits.rows, cut, exact=False, trial=trial)


def _requests_in(groups: Iterable[Trees], indices: Indices) -> tuple[int, ...]:
    """Return the indices of the requests that these trees answer."""
    return tuple(index for group in groups for tree in group for number in tree.paths for index in indices[number])


def _joined(groups: Iterable[Trees], budget: int) -> list[list[Trees]]:
    """Join groups, in order, to batches of at most `budget` positions each, or of one larger group."""
    batches: list[list[Trees]] = []
    positions = 0
    for group in groups:
        size = len(group) * len(group[0])
        if not batches or positions + size > budget:
            batches.append([])
            positions = 0
        batches[-1].append(group)
        positions += size
    return batches


def _branches(tree: TokenTree) -> bool:
    """Return whether the tree is more than one sequence."""
    return len(tree.branches) > 1


def _sequences_to_try(trees: Trees) -> list[int]:
    """Return the numbers of a few sequences of two trees, of those that branch if there are any."""
    chosen = sorted(trees, key=_branches, reverse=True)[:2]
    return [number for tree in chosen for number in list(tree.paths)[:TRIED]]


def _of_groups(
    groups: Sequence[Trees],
    indices: Indices,
    *,
    requests: Sequence[Tokenised],
    device: torch.device,
    layout: TreeLayout,
) -> LikelihoodBatch:
    """Return the batch of all groups in one row, or of the only group with a row for each tree."""
    begins = [0, *accumulate(len(group) * len(group[0]) for group in groups)]
    ids, depths = torch.zeros(2, begins[-1], dtype=torch.long)
    scored_at: dict[int, int] = {}  # position -> which of the scored positions it is
    spans: list[tuple[int, int, int]] = []
    tokens: list[int] = []
    read_at: list[int] = []
    for group, begin in zip(groups, begins, strict=False):
        for row, tree in enumerate(group):
            first = begin + row * len(group[0])
            ids[first : first + len(tree)] = torch.tensor(tree.tokens)
            depths[first : first + len(tree)] = torch.tensor(tree.depths)
            for number, path in tree.paths.items():
                for index in indices[number]:
                    answer = requests[index][2]
                    spans.append((index, len(tokens), len(tokens) + len(answer)))
                    tokens += answer
                    read_at += [scored_at.setdefault(first + node, len(scored_at)) for node in path[-len(answer) :]]
    shape = (1, begins[-1]) if layout.one_row else (len(groups[0]), len(groups[0][0]))
    inputs = {"input_ids": ids.view(shape).to(device)}
    if layout.one_row:
        inputs["position_ids"] = depths.view(shape).to(device)
    elif any(map(_branches, groups[0])):  # rows that do not branch are what a causal model expects anyway
        inputs["position_ids"] = depths.view(shape).to(device)
        inputs["attention_mask"] = _additive(_sees(groups[0]), layout.dtype).to(device)
    read_positions = torch.tensor(read_at, device=device)
    scored = torch.tensor(list(scored_at), device=device)
    return LikelihoodBatch(
        inputs=inputs,
        scored=(scored // shape[1], scored % shape[1]),
        spans=tuple(spans),
        tokens=torch.tensor(tokens, device=device),
        likely_at=read_positions,
        greedy_at=read_positions,
        exact=False,
        groups=tuple(map(partial(_group, dtype=layout.dtype, device=device), groups, begins)) if layout.one_row else (),
    )


def _group(trees: Trees, begin: int, *, dtype: torch.dtype, device: torch.device) -> TreeGroup:
    """Return trees that lie in a row from position `begin` on, as one group of attention."""
    width = len(trees[0])
    trunk = min(tree.branches[0].last if _branches(tree) else width for tree in trees)
    mask = _additive(_sees(trees)[:, trunk:], dtype).to(device) if trunk < width else None
    return TreeGroup(begin, len(trees), width, trunk, mask)


def _sees(trees: Trees) -> Tensor:
    """Return whether a position sees another [trees, width, width]; padding sees itself for the softmax."""
    width = len(trees[0])
    sees = torch.eye(width, dtype=torch.bool).repeat(len(trees), 1, 1)
    for row, tree in enumerate(trees):
        for branch in tree.branches:
            own = slice(branch.first, branch.last)
            sees[row, own, list(branch.before)] = True
            sees[row, own, own] = torch.ones(branch.last - branch.first, branch.last - branch.first).tril().bool()
    return sees


def _additive(sees: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the mask [trees, 1, positions, width] that is added to attention scores."""
    return torch.zeros(sees.shape, dtype=dtype).masked_fill_(~sees, torch.finfo(dtype).min)[:, None]
