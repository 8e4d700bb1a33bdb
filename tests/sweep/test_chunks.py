"""Cells that are scored together: which, in which order, and in chunks of about a minute."""

from __future__ import annotations

from support.records import cell

from painters import variants
from painters.experiment import Cell
from painters.plan import Plan
from painters.sharing.trie import Trie
from painters.sweep.chunks import FIRST, SECONDS, Chunks, groups, in_order

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
    def sizes(cells: list[Cell], seconds: float) -> list[int]:
        chunks, found = Chunks([cells]), []
        while chunk := chunks.take():
            found.append(len(chunk))
            chunks.record_seconds(chunk, len(chunk) * seconds)
        return found

    cells = [cell(plan=plan, num_layers=8, seed=seed) for seed in range(50) for plan in PLANS]
    found = sizes(cells, 0.5)
    assert found[:3] == [FIRST, min(4 * FIRST, round(SECONDS / 0.5)), round(SECONDS / 0.5)]
    assert sum(found) == len(cells)
    assert sizes(cells[: FIRST + 3], 1e6) == [FIRST, 1, 1, 1]


def test_each_group_has_its_own_pace() -> None:
    slow, quick = ([cell(plan=plan, num_layers=8, task=task) for plan in PLANS[:20]] for task in ("slow", "quick"))
    chunks = Chunks([slow, quick])
    first = chunks.take()
    chunks.record_seconds(first, 1e6)
    found = [first]
    while chunk := chunks.take():
        found.append(chunk)
    assert [(chunk[0].task, len(chunk)) for chunk in found] == [
        ("slow", 16), *[("slow", 1)] * 4, ("quick", 16), ("quick", 4),
    ]  # fmt: skip


def test_every_worker_gets_a_share_of_what_is_left() -> None:
    groups = [[cell(plan=plan, num_layers=8, task=task) for plan in PLANS[:12]] for task in ("a", "b", "c")]
    chunks, found = Chunks(groups, workers=2), []
    while chunk := chunks.take():
        found.append((chunk[0].task, len(chunk)))
    assert found == [("a", 12), ("b", 12), ("c", 6), ("c", 6)]
    alone = Chunks([CELLS[:3]], workers=8)
    assert [len(alone.take()) for _ in range(4)] == [1, 1, 1, 0]


def test_chunks_to_be_tried_again_come_next_and_tell_no_pace() -> None:
    chunks = Chunks([CELLS[:20]])
    first = chunks.take()
    assert (len(first), len(chunks)) == (16, 4)
    chunks.retry(first[:1], first[1:2])
    assert len(chunks) == 6
    assert [chunks.take(), chunks.take()] == [first[:1], first[1:2]]
    chunks.record_seconds(first[:1], 1e6)
    assert len(chunks.take()) == 4
    assert (len(chunks), chunks.take()) == (0, ())
