"""Cells that are scored together: which, in which order, and in chunks of about a minute."""

from __future__ import annotations

from test_store import cell

from painters import variants
from painters._sweep_chunks import FIRST, SECONDS, Chunks, groups, in_order
from painters.plan import Plan
from painters.trie import Trie

PLANS = [
    *(variants.skip_layer(num_layers=8, layer=layer) for layer in range(8)),
    *(variants.parallel(num_layers=8, start=start, loops=loops) for start in range(3) for loops in range(1, 6)),
    Plan.identity(8),
]
CELLS = [cell(plan=plan, num_layers=8) for plan in PLANS]


def test_groups_keep_every_cell_and_their_own_order() -> None:
    two = [cell(plan=plan, task=task, num_layers=8) for plan in PLANS for task in ("a", "b")]
    found = list(groups(two, lambda one: one.task))
    assert [members[0].task for members in found] == ["a", "b"]
    assert sorted(one.key for members in found for one in members) == sorted(one.key for one in two)


def test_the_intact_model_comes_first_and_neighbours_share() -> None:
    """Cut into chunks, cells in this order cost less than in the order in which they were asked for."""
    ordered = in_order(CELLS)
    assert ordered[0].is_intact
    assert sorted(one.key for one in ordered) == sorted(one.key for one in CELLS)

    def cost(cells: list[object]) -> int:
        return sum(Trie.of(one.plan for one in cells[i : i + 4]).layer_runs for i in range(0, len(cells), 4))  # type: ignore[attr-defined]

    spread = [one for first in range(5) for one in CELLS[first::5]]
    assert cost(list(ordered)) < cost(list(spread))


def test_chunks_become_as_long_as_they_should_take() -> None:
    cells = CELLS * 50
    chunks = Chunks(cells)
    sizes = []
    for chunk in chunks:
        sizes.append(len(chunk))
        chunks.took(len(chunk) * 0.5)
    assert sizes[:3] == [FIRST, min(4 * FIRST, round(SECONDS / 0.5)), round(SECONDS / 0.5)]
    assert sum(sizes) == len(cells)
    slow = Chunks(cells[: FIRST + 3])
    sizes = []
    for chunk in slow:
        sizes.append(len(chunk))
        slow.took(1e6)
    assert sizes == [FIRST, 1, 1, 1]
