"""Chunks of cells: what is scored at once, and written to the store as soon as it is done."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from painters.experiment import Cell
from painters.sharing.trie import Trie, Walk

Chunk: TypeAlias = tuple[Cell, ...]

SECONDS = 60.0
"""How long a chunk should take, in seconds: this much work is lost when a sweep is killed."""
FIRST = 16
"""Number of cells in the first chunk of a group, before it is known how long its cells take."""


def groups(cells: Sequence[Cell], key: Callable[[Cell], Hashable]) -> Iterator[list[Cell]]:
    """Yield the cells of each key together, the keys by their first cells, the cells as `in_order`."""
    by_key: dict[Hashable, list[Cell]] = {}
    for cell in cells:
        by_key.setdefault(key(cell), []).append(cell)
    return (in_order(members) for members in by_key.values())


def in_order(cells: Sequence[Cell]) -> list[Cell]:
    """Return cells with distinct plans, the intact model's first, then in the order of their trie.

    Neighbours in this order have the longest common prefixes, so that little is run twice where chunks are cut.
    """

    def run_no_step(*_: Any) -> None:
        return None

    by_plan = {cell.plan: cell for cell in cells}
    walked = [by_plan[plan] for plan, _ in Walk(Trie.of(by_plan), None, run_no_step, _merge)]
    return sorted(walked, key=lambda cell: not cell.is_intact)


def _merge(_how: Any, _value: None, members: Iterator[None]) -> None:
    """Visit the branches of a parallel step; there are no values to merge."""
    for _ in members:
        pass


class Chunks:
    """Hand out the cells of groups in chunks, one group after the other.

    Args:
        groups: The groups, each with the cells that are scored together.
        workers: The number of chunks that are scored at once.

    The first chunk of a group has `FIRST` cells; the size of each later one follows from the seconds that the chunks
    of its group took. The cells that are left are shared out, so that each worker has a chunk to score at the end.
    """

    def __init__(self, groups: Iterable[Sequence[Cell]], workers: int = 1) -> None:
        self._groups = deque(_CellQueue(list(cells)) for cells in groups)
        self._workers = workers
        self._retries: deque[Chunk] = deque()
        self._queue_of: dict[Chunk, _CellQueue] = {}

    def __len__(self) -> int:
        """Return the number of cells that no chunk was made of yet."""
        return sum(map(len, self._retries)) + sum(len(queue.cells) for queue in self._groups)

    def take(self) -> Chunk:
        """Return the next chunk; it is empty when no cells are left."""
        if self._retries:
            return self._retries.popleft()
        if not self._groups:
            return ()
        queue = self._groups[0]
        if queue.largest is None:
            queue.largest = -(-len(self) // self._workers)
        size = min(queue.size, queue.largest)
        chunk = tuple(queue.cells[:size])
        del queue.cells[:size]
        if not queue.cells:
            self._groups.popleft()
        self._queue_of[chunk] = queue
        return chunk

    def record_seconds(self, chunk: Chunk, seconds: float) -> None:
        """Set the size of the next chunk of this group by the seconds that `chunk` took."""
        queue = self._queue_of.get(chunk)
        if queue is not None:
            queue.size = max(1, min(4 * len(chunk), round(len(chunk) * SECONDS / max(seconds, 1e-3))))

    def retry(self, *chunks: Chunk) -> None:
        """Hand out these chunks next, in this order."""
        self._retries.extendleft(reversed(chunks))


@dataclass(slots=True)
class _CellQueue:
    """The cells of one group that are still to be handed out."""

    cells: list[Cell]
    size: int = field(default_factory=lambda: FIRST)  # of the next chunk
    largest: int | None = None  # chunk, so that each worker gets one; set when the group's turn comes
