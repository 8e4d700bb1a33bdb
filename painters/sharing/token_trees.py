"""Sequences of tokens as trees, in which every common beginning stands once.

The answers of a multiple-choice question follow one context, and prompts may begin with the same examples. A causal
model computes a position from those before it, so one tree answers for all its sequences: a node attends to its
ancestors, and its position is its depth. Trees of like width make a group, which is a batch for attention. Nothing here
needs torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

__all__ = ["Branch", "TokenTree", "gather", "grow"]


@dataclass(frozen=True, slots=True)
class Branch:
    """The nodes `first` to `last` (exclusive), a chain that goes on from the path `before`, root first."""

    first: int
    last: int
    before: tuple[int, ...]


@dataclass(slots=True)
class TokenTree:
    """Tokens as nodes, a parent always before its children."""

    tokens: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    branches: list[Branch] = field(default_factory=list)
    """Chains of new nodes, in the order in which they were added."""
    paths: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """For each sequence, by its number, its nodes from the root."""
    _last: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)

    def shared(self, sequence: Sequence[int]) -> int:
        """How many tokens `sequence` shares with the one added last; sequences that come in lexicographic order share
        with no other more.
        """
        count = 0
        for node, token in zip(self._last, sequence, strict=False):
            if self.tokens[node] != token:
                break
            count += 1
        return count

    def add(self, number: int, sequence: Sequence[int], shared: int) -> None:
        """Nothing; `sequence` is a path of the tree, its first `shared` nodes those of the sequence added last."""
        first, before = len(self.tokens), self._last[:shared]
        self.tokens += sequence[shared:]
        self.depths += range(shared, len(sequence))
        if len(self.tokens) > first:
            self.branches.append(Branch(first, len(self.tokens), before))
        self._last = self.paths[number] = (*before, *range(first, len(self.tokens)))


def grow(sequences: Iterable[Sequence[int]], hidden_size: int, limit: int) -> list[TokenTree]:
    """Trees for distinct `sequences`, each numbered by its place among them; the widest tree comes first.

    A sequence joins a tree where that is less work than a row of its own. A node costs about 6 `hidden_size` units in
    a layer's matrices, and one unit for each node of its tree, since attention is computed between all of them. A tree
    has at most `limit` nodes, unless a single sequence is longer.
    """
    given = [tuple(sequence) for sequence in sequences]
    trees: list[TokenTree] = []
    for number in sorted(range(len(given)), key=given.__getitem__):
        sequence = given[number]
        tree = trees[-1] if trees else None
        shared = tree.shared(sequence) if tree is not None else 0
        if tree is None or not _joins(len(tree), shared, len(sequence) - shared, hidden_size, limit):
            tree, shared = TokenTree(), 0
            trees.append(tree)
        tree.add(number, sequence, shared)
    return sorted(trees, key=len, reverse=True)


def gather(trees: Iterable[TokenTree], budget: int, slack: int) -> list[list[TokenTree]]:
    """Groups of `trees`, which come widest first. A group is as wide as its first tree, has at most `budget` positions
    or one tree, and is padded by at most `slack` positions.
    """
    groups: list[list[TokenTree]] = []
    padding = 0
    for tree in trees:
        more = len(groups[-1][0]) - len(tree) if groups else 0
        if not groups or padding + more > slack or (len(groups[-1]) + 1) * len(groups[-1][0]) > budget:
            groups.append([])
            padding = more = 0
        groups[-1].append(tree)
        padding += more
    return groups


def _joins(width: int, shared: int, new: int, hidden_size: int, limit: int) -> bool:
    if shared == 0:  # side by side is never less work than one after the other
        return False
    alone = (shared + new) * 6 * hidden_size + (shared + new) ** 2
    joined = new * 6 * hidden_size + (width + new) ** 2 - width**2
    return width + new <= limit and joined < alone
