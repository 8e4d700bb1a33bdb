"""Cells that are scored together, in chunks that are kept when they are done."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import islice
from typing import Any

from painters.experiment import Cell
from painters.trie import Trie, Walk

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
    """Chunks of the cells of one group; each is as long as those before it tell."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._left = iter(cells)
        self._size = FIRST

    def __iter__(self) -> Iterator[list[Cell]]:
        while chunk := list(islice(self._left, self._size)):
            yield chunk

    def took(self, seconds: float) -> None:
        """Nothing; so long took the chunk that was given last."""
        self._size = max(1, min(4 * self._size, round(self._size * SECONDS / max(seconds, 1e-3))))
