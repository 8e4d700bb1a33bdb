"""Log-likelihood requests as batches of token trees, in which what requests have in common stands once."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import accumulate
from typing import TypeAlias

import torch
from torch import Tensor

from painters.harness.batches import Batch, Batches, Part, Tokenised
from painters.harness.batches import cut as shortened
from painters.sharing.token_trees import TokenTree, gather, grow
from painters.sharing.tree_attention import Group

Trees: TypeAlias = Sequence[TokenTree]
"""Of about the same width, the widest first."""
Indices: TypeAlias = Sequence[Sequence[int]]
"""For each sequence of the trees, by its number, the requests that it answers."""

MAX_WIDTH = 2048
"""Nodes of a tree, unless a single request is longer: its mask is quadratic."""
SLACK = 8
"""Positions of padding for which a group of trees is cheaper than two: calls of the attention function cost too."""
TRIED = 4
"""Requests of a tree that a model is tried on."""


def as_trees(
    requests: Sequence[Tokenised],
    batch_size: int,
    max_length: int,
    device: torch.device,
    *,
    hidden_size: int,
    dtype: torch.dtype,
    one_row: bool,
    chosen: Sequence[int] | None = None,
) -> Batches:
    """Batches of trees, the widest first, each of at most as many positions as lm-eval's largest batch of `batch_size`
    rows has. With `one_row` they lie one after the other, for attention in groups (`painters.sharing.tree_attention`);
    otherwise each has a row, and a mask [rows, 1, width, width] says what it sees. `dtype` is that of masks, the
    model's. `chosen` are the indices of the requests that are put into batches; where it is left out, all of them are,
    and some are tried.
    """
    asked: dict[tuple[int, ...], list[int]] = {}
    for index in range(len(requests)) if chosen is None else chosen:
        _, context, answer = requests[index]
        asked.setdefault(tuple(shortened(context + answer, len(answer), max_length)), []).append(index)
    longest = max(map(len, asked), default=0)
    budget = batch_size * longest
    sequences, indices = list(asked), list(asked.values())
    grown = partial(grow, hidden_size=hidden_size, limit=max(longest, min(budget, MAX_WIDTH)))
    trees = grown(sequences)
    slack = SLACK if one_row else sys.maxsize
    groups = gather(trees, budget, slack)
    batches = _joined(groups, budget) if one_row else [[group] for group in groups]
    make = partial(_of_groups, requests=requests, device=device, dtype=dtype, one_row=one_row)
    trial = None
    if chosen is None and (one_row or any(map(_branches, trees))):
        tried = _like_the_widest(trees)
        small = grown([sequences[number] for number in tried])
        trial = make(gather(small, sys.maxsize, slack), [indices[number][:1] for number in tried])

    def cut(chosen: Sequence[int], rows: int) -> Batches:
        return as_trees(
            requests, rows, max_length, device, hidden_size=hidden_size, dtype=dtype, one_row=one_row, chosen=chosen
        )

    parts = tuple(Part(_answered(batch, indices), partial(make, batch, indices)) for batch in batches)
    return Batches(parts, batch_size, cut, exact=False, trial=trial)


def _answered(groups: Iterable[Trees], indices: Indices) -> tuple[int, ...]:
    """The requests that these trees answer."""
    return tuple(index for group in groups for tree in group for number in tree.paths for index in indices[number])


def _joined(groups: Iterable[Trees], budget: int) -> list[list[Trees]]:
    """Batches of groups, in order, each of at most `budget` positions or one group."""
    batches: list[list[Trees]] = []
    positions = 0
    for group in groups:
        more = len(group) * len(group[0])
        if not batches or positions + more > budget:
            batches.append([])
            positions = 0
        batches[-1].append(group)
        positions += more
    return batches


def _branches(tree: TokenTree) -> bool:
    return len(tree.branches) > 1


def _like_the_widest(trees: Trees) -> list[int]:
    """A few sequences of two trees, of those that branch if there are any."""
    chosen = sorted(trees, key=_branches, reverse=True)[:2]
    return [number for tree in chosen for number in list(tree.paths)[:TRIED]]


def _of_groups(
    groups: Sequence[Trees],
    indices: Indices,
    *,
    requests: Sequence[Tokenised],
    device: torch.device,
    dtype: torch.dtype,
    one_row: bool,
) -> Batch:
    begins = [0, *accumulate(len(group) * len(group[0]) for group in groups)]
    ids, depths = torch.zeros(2, begins[-1], dtype=torch.long)
    places: dict[int, int] = {}  # position -> which of the scored positions it is
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
                    read_at += [places.setdefault(first + node, len(places)) for node in path[-len(answer) :]]
    shape = (1, begins[-1]) if one_row else (len(groups[0]), len(groups[0][0]))
    inputs = {"input_ids": ids.view(shape).to(device)}
    if one_row:
        inputs["position_ids"] = depths.view(shape).to(device)
    elif any(map(_branches, groups[0])):  # rows that do not branch are what a causal model expects anyway
        inputs["position_ids"] = depths.view(shape).to(device)
        inputs["attention_mask"] = _additive(_sees(groups[0]), dtype).to(device)
    at = torch.tensor(read_at, device=device)
    scored = torch.tensor(list(places), device=device)
    return Batch(
        inputs=inputs,
        scored=(scored // shape[1], scored % shape[1]),
        spans=tuple(spans),
        tokens=torch.tensor(tokens, device=device),
        likely_at=at,
        greedy_at=at,
        exact=False,
        groups=tuple(map(partial(_group, dtype=dtype, device=device), groups, begins)) if one_row else (),
    )


def _group(trees: Trees, begin: int, *, dtype: torch.dtype, device: torch.device) -> Group:
    width = len(trees[0])
    trunk = min(tree.branches[0].last if _branches(tree) else width for tree in trees)
    mask = _additive(_sees(trees)[:, trunk:], dtype).to(device) if trunk < width else None
    return Group(begin, len(trees), width, trunk, mask)


def _sees(trees: Trees) -> Tensor:
    """[trees, width, width], whether a position sees another; padding sees itself, for a softmax needs something."""
    width = len(trees[0])
    sees = torch.eye(width, dtype=torch.bool).repeat(len(trees), 1, 1)
    for row, tree in enumerate(trees):
        for branch in tree.branches:
            own = slice(branch.first, branch.last)
            sees[row, own, list(branch.before)] = True
            sees[row, own, own] = torch.ones(branch.last - branch.first, branch.last - branch.first).tril().bool()
    return sees


def _additive(sees: Tensor, dtype: torch.dtype) -> Tensor:
    """[trees, 1, positions, width], added to attention scores."""
    return torch.zeros(sees.shape, dtype=dtype).masked_fill_(~sees, torch.finfo(dtype).min)[:, None]
