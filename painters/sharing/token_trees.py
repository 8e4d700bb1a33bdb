"""Sequences of tokens as trees, in which every common beginning stands once (prefix sharing).

The answers to a multiple-choice question follow one context, and prompts may begin with the same examples. A causal
model computes a position from those before it, so one forward over a tree gives the answers for all its sequences: a
node attends to its ancestors, and its position is its depth. Trees of similar width make a group, which is a batch for
attention. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

__all__ = ["Branch", "TokenTree", "gather", "grow"]


@dataclass(frozen=True, slots=True)
class Branch:
    """A chain of nodes that were added together.

    Attributes:
        first: The first node of the chain.
        last: The node after its last one (exclusive).
        before: The path that the chain continues, from the root.

    Examples:
        >>> from painters.sharing.token_trees import grow
        >>> (tree,) = grow([[5, 6, 7], [5, 6, 8]], hidden_size=64, limit=100)
        >>> tree.branches[1]
        Branch(first=3, last=4, before=(0, 1))
    """

    first: int
    last: int
    before: tuple[int, ...]


@dataclass(slots=True)
class TokenTree:
    """Tokens as nodes, numbered so that a parent always comes before its children.

    Attributes:
        tokens: The token of each node.
        depths: The depth of each node, 0 for a root.
        branches: The chains of new nodes, in the order in which they were added.
        paths: For each sequence, by its number, its nodes from the root.

    Examples:
        >>> from painters.sharing.token_trees import TokenTree
        >>> tree = TokenTree()
        >>> for number, sequence in enumerate(([5, 6, 7], [5, 6, 8, 9])):
        ...     tree.add(number, sequence, tree.shared(sequence))
        >>> tree.tokens, tree.depths
        ([5, 6, 7, 8, 9], [0, 1, 2, 2, 3])
        >>> tree.paths
        {0: (0, 1, 2), 1: (0, 1, 3, 4)}
    """

    tokens: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    branches: list[Branch] = field(default_factory=list)
    paths: dict[int, tuple[int, ...]] = field(default_factory=dict)
    _last: tuple[int, ...] = ()  # the path of the sequence that was added last

    def __len__(self) -> int:
        return len(self.tokens)

    def shared(self, sequence: Sequence[int]) -> int:
        """Return how many tokens `sequence` has in common with the sequence added last, from the beginning.

        Where sequences are added in lexicographic order, none added before has more in common.
        """
        count = 0
        for node, token in zip(self._last, sequence, strict=False):
            if self.tokens[node] != token:
                break
            count += 1
        return count

    def add(self, number: int, sequence: Sequence[int], shared: int) -> None:
        """Add a sequence as a path of the tree.

        Args:
            number: The number of the sequence.
            sequence: Its tokens.
            shared: How many of its first nodes are those of the sequence added last, as `shared` returns it.
        """
        first, before = len(self.tokens), self._last[:shared]
        self.tokens += sequence[shared:]
        self.depths += range(shared, len(sequence))
        if len(self.tokens) > first:
            self.branches.append(Branch(first, len(self.tokens), before))
        self._last = self.paths[number] = (*before, *range(first, len(self.tokens)))


def grow(sequences: Iterable[Sequence[int]], hidden_size: int, limit: int) -> list[TokenTree]:
    """Build trees of sequences; a sequence joins a tree where that is less work than a row of its own.

    A node costs about 6 `hidden_size` units in a layer's matrices, and one unit for each node of its tree, since
    attention is computed between all of them.

    Args:
        sequences: Distinct sequences of tokens. A sequence's number is its position among them.
        hidden_size: The size of the stream, which decides what a node costs.
        limit: The largest number of nodes in a tree; only a single sequence may be longer.

    Returns:
        The trees, the widest one first.

    Examples:
        >>> from painters.sharing.token_trees import grow
        >>> [tree.paths for tree in grow([[9], [5, 6, 7], [5, 6, 8]], hidden_size=64, limit=100)]
        [{1: (0, 1, 2), 2: (0, 1, 3)}, {0: (0,)}]
    """
    numbered = [tuple(sequence) for sequence in sequences]
    trees: list[TokenTree] = []
    for number in sorted(range(len(numbered)), key=numbered.__getitem__):
        sequence = numbered[number]
        tree = trees[-1] if trees else None
        shared = tree.shared(sequence) if tree is not None else 0
        if tree is None or not _joins(len(tree), shared, len(sequence) - shared, hidden_size, limit):
            tree, shared = TokenTree(), 0
            trees.append(tree)
        tree.add(number, sequence, shared)
    return sorted(trees, key=len, reverse=True)


def gather(trees: Iterable[TokenTree], budget: int, slack: int) -> list[list[TokenTree]]:
    """Divide trees into groups, each as wide as its first tree.

    Args:
        trees: The trees, the widest one first.
        budget: The largest number of positions in a group, padding included; only a single tree may have more.
        slack: The largest number of positions by which a group is padded.

    Returns:
        The groups, in the order of the trees.

    Examples:
        >>> from painters.sharing.token_trees import gather, grow
        >>> trees = grow([[1, 2, 3, 4], [5, 6, 7], [8]], hidden_size=64, limit=100)
        >>> [[len(tree) for tree in group] for group in gather(trees, budget=100, slack=2)]
        [[4, 3], [1]]
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
    """Return whether a sequence of `shared` and `new` tokens should join a tree of `width` nodes."""
    if shared == 0:  # side by side is never less work than one after the other
        return False
    alone = (shared + new) * 6 * hidden_size + (shared + new) ** 2
    joined = new * 6 * hidden_size + (width + new) ** 2 - width**2
    return width + new <= limit and joined < alone
