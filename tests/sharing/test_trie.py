"""What plans share: the trie holds exactly the plans, every distinct computation once, and few states at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.plan_strategies import plans

from painters import Plan, variants
from painters.plan import Layer, Merge, Parallel, Step
from painters.sharing.trie import LayerEdge, MergeEdge, Trie, Walk, groups

SETS_OF_PLANS = st.lists(plans(4, 12, halves=True), min_size=1, max_size=8)


def steps_between(trie: Trie, start: int, end: int) -> tuple[Step, ...]:
    """The steps along the edges that lead from state `start` to state `end`."""
    steps: list[Step] = []
    while end != start:
        edge = trie.edges[end - 1]
        assert edge.target == end
        if isinstance(edge, LayerEdge):
            steps.append(edge.layer)
        else:
            branches = tuple(steps_between(trie, edge.source, state) for state in edge.ends)
            steps.append(Parallel(branches, edge.merge))
        end = edge.source
    return tuple(reversed(steps))


def executions(plans: Iterable[Plan]) -> set[Any]:
    """Every distinct (state, layer) of the plans, a state told by all that went into it."""
    found: set[Any] = set()

    def follow(steps: Sequence[Step], state: Any) -> Any:
        for step in steps:
            if isinstance(step, Layer):
                found.add((state, step))
                state = (state, step)
            else:
                state = (state, step.merge, tuple(follow(branch, state) for branch in step.branches))
        return state

    for plan in plans:
        follow(plan.steps, "start")
    return found


@settings(max_examples=300, deadline=None, derandomize=True)
@given(wanted=SETS_OF_PLANS)
def test_the_trie_holds_exactly_the_plans(wanted: list[Plan]) -> None:
    trie = Trie.of(wanted)
    assert trie.plans == tuple(dict.fromkeys(wanted))
    assert tuple(Plan(steps_between(trie, 0, end)) for end in trie.ends) == trie.plans
    assert len(set(trie.ends)) == len(trie.ends)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(wanted=SETS_OF_PLANS)
def test_every_distinct_execution_is_one_edge(wanted: list[Plan]) -> None:
    trie = Trie.of(wanted)
    assert trie.layer_runs == len(executions(wanted))
    assert trie.layer_runs <= trie.layer_runs_alone == sum(plan.layer_runs for plan in set(wanted))


Text = tuple[Any, ...]


def told(trie: Trie, log: list[Any]) -> Walk[Text]:
    """A walk over values that say how they came about; `log` gets each layer run."""

    def run(layer: Layer, value: Text) -> Text:
        log.append((value, layer))
        return (*value, layer)

    def merge(how: Merge, value: Text, members: Iterator[Text]) -> Text:
        return (*value, Parallel(tuple(member[len(value) :] for member in members), how))

    return Walk(trie, (), run, merge)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(wanted=SETS_OF_PLANS)
def test_a_walk_gives_every_plan_its_value_and_runs_every_edge_once(wanted: list[Plan]) -> None:
    """Also in groups: the members arrive in their order, and nothing runs again because it was let go."""
    trie, log = Trie.of(wanted), []
    found = list(told(trie, log))
    assert {plan: Plan(value) for plan, value in found} == {plan: plan for plan in wanted}
    assert len(found) == len(trie.plans)
    assert len(log) == len(set(log)) == trie.layer_runs
    assert sorted(map(id, trie.order())) == sorted(map(id, trie.edges))


class Value:
    """A state of which it is known whether somebody still keeps it."""

    alive = 0
    most = 0

    def __init__(self) -> None:
        Value.alive += 1
        Value.most = max(Value.most, Value.alive)

    def __del__(self) -> None:
        Value.alive -= 1


def merged(how: Merge, value: Value, members: Iterator[Value]) -> Value:
    held = list(members)
    result = Value()
    del held
    return result


@settings(max_examples=300, deadline=None, derandomize=True)
@given(wanted=SETS_OF_PLANS)
def test_live_states_are_those_of_a_walk(wanted: list[Plan]) -> None:
    Value.alive = Value.most = 0
    trie = Trie.of(wanted)
    walk = Walk(trie, Value(), lambda layer, value: Value(), merged)
    for _, value in walk:
        del value
    assert Value.alive == 0
    assert trie.live_states == walk.most == Value.most


def test_what_is_shared() -> None:
    def counts(*texts: str) -> tuple[int, int]:
        trie = Trie.of(Plan.parse(text) for text in texts)
        return trie.layer_runs, trie.layer_runs_alone

    assert counts("0-5") == (6, 6)
    assert counts("0-5", "0-2 4 5") == (8, 11)  # 4 and 5 run again: on another state
    assert counts("{1 2}", "1 0", "2 0") == (4, 6)  # a member is a beginning too
    assert counts("{1 2 1}") == (2, 3)
    assert counts("{1 2}:sum", "{1 2}", "{2 1}") == (2, 6)
    assert counts("{1 2} 0", "{2 1} 0", "{1 2}:sum 0") == (5, 9)  # the order and the kind of a merge make the state
    assert counts("{(1 2) (1 3)}", "1 {2 3}") == (3, 7)
    assert counts("{1 {2 3}}", "{1 2 3}") == (3, 6)
    assert counts("0 1.attn", "0 1.mlp", "0 1") == (4, 6)
    assert counts(*(f"0 {{1-3}}*{loops}" for loops in range(1, 17))) == (1 + 3 * 16, 16 + 3 * 136)
    assert counts(*(f"0 (1-3)*{loops}" for loops in range(1, 17))) == (1 + 3 * 16, 16 + 3 * 136)


def figure_2(num_layers: int) -> list[Plan]:
    layers = range(num_layers)
    skips = [variants.skip_layer(num_layers=num_layers, layer=layer) for layer in layers]
    return skips + [variants.swap(num_layers=num_layers, layer=layer) for layer in layers[:-1]]


def window_sweep(num_layers: int) -> list[Plan]:
    rules = (variants.skip, variants.middle_repeat, variants.reverse, variants.parallel)
    return [rule(num_layers=num_layers, start=start) for rule in rules for start in variants.windows(num_layers)]


def figure_10(num_layers: int) -> list[Plan]:
    return [
        variants.parallel(num_layers=num_layers, start=start, loops=loops)
        for start in variants.windows(num_layers)
        for loops in range(1, 17)
    ]


@pytest.mark.parametrize(
    ("sweep", "num_layers", "distinct", "alone", "together", "live"),
    [
        (figure_2, 16, 31, 480, 255, 4),
        (figure_2, 32, 63, 1984, 1023, 4),
        (window_sweep, 16, 30, 416, 275, 17),
        (figure_10, 16, 128, 9728, 1473, 18),
    ],
)
def test_sweeps_of_the_paper(sweep: Any, num_layers: int, distinct: int, alone: int, together: int, live: int) -> None:
    """`live` is set by the widest group, whose members wait for their mean together."""
    trie = Trie.of(sweep(num_layers))
    assert (len(trie.plans), trie.layer_runs_alone, trie.layer_runs) == (distinct, alone, together)
    assert trie.live_states == live


def test_live_states_of_chains_grow_with_the_logarithm_of_the_plans() -> None:
    """The hungriest subtree goes last: a full binary tree of depth 8 needs one state a level, a comb two in all."""
    binary = [Plan.of(*(place >> bit & 1 for bit in range(8))) for place in range(256)]
    assert Trie.of(binary).live_states == 9
    comb = [Plan.of(*range(length), 100) for length in range(59, 0, -1)]
    assert Trie.of(comb).live_states == 2
    assert Trie.of([Plan.identity(100)]).live_states == 2


def test_live_states_do_not_depend_on_the_order_of_the_plans() -> None:
    bushy = [Plan.of(0, *(place >> bit & 1 for bit in range(3))) for place in range(8)]
    chain = [Plan.of(*range(9, 0, -1))]
    assert Trie.of(bushy).live_states == 4
    assert Trie.of(chain).live_states == 2
    assert Trie.of(bushy + chain).live_states == Trie.of(chain + bushy).live_states == 4


def test_order_of_groups() -> None:
    """A group comes before its members, and of these only those are kept that other plans go on from."""
    trie = Trie.of(Plan.parse(text) for text in ("0 1 2 3 4", "0 {1-9} 3 4"))
    assert [type(edge) for edge in trie.order()[:2]] == [LayerEdge, MergeEdge]
    assert trie.live_states == 1 + 9 + 1


def test_plans_of_any_length() -> None:
    trie = Trie.of([Plan.parse("(0 1)*5000"), Plan.parse("{(0 1)*2500 (1 0)*2500}")])
    assert trie.layer_runs == 15_000
    assert len(list(told(Trie.of([Plan.parse("{(0 1)*900 1}")]), []))) == 1
    assert trie.live_states == 4


def test_groups_hold_what_has_much_in_common() -> None:
    loops = [variants.parallel(num_layers=12, start=start, loops=n) for n in (1, 2, 3) for start in (1, 2, 3, 4)]
    found = list(groups(tuple(loops), 3))
    assert sorted(len(Trie.of(group).edges) for group in found) == sorted(
        len(Trie.of(loops[start::4]).edges) for start in range(4)
    )
    assert list(groups(tuple(loops), 12)) == [loops]
