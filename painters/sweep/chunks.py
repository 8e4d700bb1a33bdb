"""Cells that are scored together, in chunks that are kept when they are done."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from painters.experiment import Cell
from painters.sharing.trie import Trie, Walk

Chunk: TypeAlias = tuple[Cell, ...]

SECONDS = 60.0
"""How long a chunk should take: what is lost when a sweep is killed."""
FIRST = 16
"""Cells of the first chunk, before anything is known of how long they take."""


def groups(cells: Sequence[Cell], group: Callable[[Cell], Hashable]) -> Iterator[list[Cell]]:
    """Cells of equal groups together, in the order in which groups begin; within, as `in_order`."""
    found: dict[Hashable, list[Cell]] = {}
    for cell in cells:
        found.setdefault(group(cell), []).append(cell)
    return (in_order(members) for members in found.values())


def in_order(cells: Sequence[Cell]) -> list[Cell]:
    """Cells with distinct plans, the intact model's first, then as the walk through their trie comes to them.

    Neighbours share most, so that little is run twice where they are cut into chunks.
    """

    def nothing(*_: Any) -> None:
        return None

    by_plan = {cell.plan: cell for cell in cells}
    walked = [by_plan[plan] for plan, _ in Walk(Trie.of(by_plan), None, nothing, _merge)]
    return sorted(walked, key=lambda cell: not cell.is_intact)


def _merge(_how: Any, _value: None, members: Iterator[None]) -> None:
    for _ in members:
        pass


class Chunks:
    """Chunks of the cells of groups, group after group; within a group each is as long as those before it tell.

    Of the last groups, every one of the workers gets a share.
    """

    def __init__(self, groups: Iterable[Sequence[Cell]], workers: int = 1) -> None:
        self._groups = deque(_Group(list(cells)) for cells in groups)
        self._workers = workers
        self._again: deque[Chunk] = deque()
        self._of: dict[Chunk, _Group] = {}

    def __len__(self) -> int:
        """The number of cells that are not taken."""
        return sum(map(len, self._again)) + sum(len(group.cells) for group in self._groups)

    def take(self) -> Chunk:
        """The next chunk, empty where nothing is left."""
        if self._again:
            return self._again.popleft()
        if not self._groups:
            return ()
        group = self._groups[0]
        if group.most is None:
            group.most = -(-len(self) // self._workers)
        size = min(group.size, group.most)
        chunk = tuple(group.cells[:size])
        del group.cells[:size]
        if not group.cells:
            self._groups.popleft()
        self._of[chunk] = group
        return chunk

    def took(self, chunk: Chunk, seconds: float) -> None:
        """Nothing; so long took this chunk."""
        group = self._of.get(chunk)
        if group is not None:
            group.size = max(1, min(4 * len(chunk), round(len(chunk) * SECONDS / max(seconds, 1e-3))))

    def again(self, *chunks: Chunk) -> None:
        """Nothing; these come next."""
        self._again.extendleft(reversed(chunks))


@dataclass(slots=True)
class _Group:
    cells: list[Cell]  # those that are not taken
    size: int = field(default_factory=lambda: FIRST)  # of the next chunk
    most: int | None = None  # cells of a chunk, so that no worker is left without; known when the group's turn comes
