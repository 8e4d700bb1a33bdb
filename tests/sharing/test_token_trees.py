"""A tree holds every sequence as a path, and every common beginning once."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from painters.sharing.token_trees import TokenTree, gather, grow

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=20, unique_by=tuple)


def parents(tree: TokenTree) -> dict[int, int | None]:
    """The parent of each node, by the branches."""
    found: dict[int, int | None] = {}
    for branch in tree.branches:
        for node in range(branch.first, branch.last):
            found[node] = node - 1 if node > branch.first else (branch.before[-1] if branch.before else None)
    return found


@settings(max_examples=300, deadline=None, derandomize=True)
@given(sequences=SEQUENCES, hidden=st.sampled_from([1, 8, 1000]), limit=st.integers(1, 60))
def test_every_sequence_is_a_path(sequences: list[list[int]], hidden: int, limit: int) -> None:
    trees = grow(sequences, hidden, limit)
    assert [len(tree) for tree in trees] == sorted((len(tree) for tree in trees), reverse=True)
    assert sorted(number for tree in trees for number in tree.paths) == list(range(len(sequences)))
    for tree in trees:
        assert len(tree) <= max(limit, max(len(path) for path in tree.paths.values()))
        up = parents(tree)
        assert up.keys() == set(range(len(tree)))
        for number, path in tree.paths.items():
            assert [tree.tokens[node] for node in path] == sequences[number]
            assert [tree.depths[node] for node in path] == list(range(len(path)))
            assert [up[node] for node in path] == [None, *path[:-1]]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(sequences=SEQUENCES)
def test_a_wide_model_has_every_common_beginning_once(sequences: list[list[int]]) -> None:
    """In one tree as many nodes as there are distinct beginnings, where attention costs next to nothing."""
    common = [[9, *sequence] for sequence in sequences]
    (tree,) = grow(common, 10**6, 10**6)
    assert len(tree) == len({tuple(s[: i + 1]) for s in common for i in range(len(s))})


def test_a_question_and_its_answers() -> None:
    context = list(range(20))
    (tree,) = grow([[*context, 30, 31], [*context, 40], [*context, 30, 32]], hidden_size=64, limit=128)
    assert len(tree) == 20 + 2 + 1 + 1
    assert tree.paths[0][:20] == tree.paths[1][:20] == tree.paths[2][:20]
    assert tree.paths[0][20] == tree.paths[2][20] != tree.paths[1][20]


@pytest.mark.parametrize(("shared", "trees"), [(0, 2), (1, 2), (30, 1)])
def test_what_has_little_in_common_stays_apart(shared: int, trees: int) -> None:
    """Attention between all nodes of a row would cost more than a short beginning does."""
    one, two = [7] * shared + [1] * 100, [7] * shared + [2] * 100
    assert len(grow([one, two], hidden_size=160, limit=1000)) == trees


@pytest.mark.parametrize(("width", "shared", "trees"), [(4, 1, 1), (5, 1, 2), (9, 2, 1), (10, 2, 2)])
def test_a_sequence_joins_where_that_is_less_work(width: int, shared: int, trees: int) -> None:
    """One more token after `shared`: 6 units a node and one for each pair of nodes; of 10 both ways cost the same."""
    one, two = [7] * shared + [1] * (width - shared), [7] * shared + [2]
    assert len(grow([one, two], hidden_size=1, limit=1000)) == trees


def test_a_beginning_of_the_last_sequence_is_a_path_without_new_nodes() -> None:
    tree = TokenTree()
    tree.add(0, [5, 6, 7], 0)
    tree.add(1, [5, 6], 2)
    assert (tree.tokens, tree.paths) == ([5, 6, 7], {0: (0, 1, 2), 1: (0, 1)})
    assert [(branch.first, branch.last) for branch in tree.branches] == [(0, 3)]


def test_a_tree_is_no_wider_than_the_limit() -> None:
    sequences = [[*range(50), i] for i in range(100, 140)]
    trees = grow(sequences, hidden_size=4096, limit=64)
    assert [len(tree) for tree in trees] == [64, 64, 62]  # 14 answers each, and the other 12
    assert len(grow([list(range(90))], hidden_size=4096, limit=64)) == 1


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    widths=st.lists(st.integers(1, 40), min_size=1, max_size=30), budget=st.integers(1, 200), slack=st.integers(0, 50)
)
def test_groups_hold_every_tree_once(widths: list[int], budget: int, slack: int) -> None:
    trees = grow([[number] * width for number, width in enumerate(widths)], 8, 1000)
    groups = gather(trees, budget, slack)
    assert [tree for group in groups for tree in group] == trees
    for group in groups:
        width = len(group[0])
        assert len(group) * width <= budget or len(group) == 1
        assert len(group) * width - sum(map(len, group)) <= slack
    for group, after in itertools.pairwise(groups):  # no two could be one
        width = len(group[0])
        padding = (len(group) + 1) * width - sum(map(len, group)) - len(after[0])
        assert (len(group) + 1) * width > budget or padding > slack
