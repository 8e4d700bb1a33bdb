"""Many plans as one tree of computations, in which whatever they have in common is run once.

A *state* is the stream after some steps, and has a number; state 0 is the stream that enters the plans. An *edge* makes
one state from another: it runs a layer, or merges the branches of a parallel group. Plans share their common
beginnings, and the branches of a group share with all that runs the same layers on the same state. The loops 1 to R of
a group are beginnings of one another, so that all of them together cost R loops.

Nothing here needs torch: a `Walk` goes through the tree with any kind of value.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from painters.plan import Layer, Merge, Plan, Step

__all__ = ["Edge", "LayerEdge", "MergeEdge", "Trie", "Walk", "groups"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LayerEdge:
    """The edge that runs a layer, or a half of it, on one state to make another.

    Attributes:
        source: The number of the state that enters the layer.
        target: The number of the state that leaves it.
        layer: The layer.

    Examples:
        >>> from painters import Plan
        >>> from painters.sharing.trie import Trie
        >>> [(edge.source, edge.target, edge.layer.index) for edge in Trie.of([Plan.parse("2 0")]).edges]
        [(0, 1, 2), (1, 2, 0)]
    """

    source: int
    target: int
    layer: Layer


@dataclass(frozen=True, slots=True)
class MergeEdge:
    """The edge that merges the branches of a parallel group.

    Attributes:
        source: The number of the state that enters the group.
        target: The number of the merged state.
        merge: How the branches are merged.
        ends: For each branch the number of the state that leaves it.

    Examples:
        >>> from painters import Plan
        >>> from painters.sharing.trie import Trie
        >>> Trie.of([Plan.parse("0 {1 2}")]).edges[-1]
        MergeEdge(source=1, target=4, merge='mean', ends=(2, 3))
    """

    source: int
    target: int
    merge: Merge
    ends: tuple[int, ...]


Edge: TypeAlias = LayerEdge | MergeEdge
"""What makes one state from another."""


@dataclass(frozen=True, slots=True, eq=False)
class Trie:
    """Distinct plans with everything that they share; `Trie.of(plans)` makes one.

    Attributes:
        plans: The distinct plans.
        ends: For each plan the number of the state that leaves it; no two plans have the same.
        edges: The edge that makes state i + 1 is `edges[i]`, and its source has a smaller number.

    Examples:
        >>> from painters import Plan
        >>> from painters.sharing.trie import Trie
        >>> trie = Trie.of(map(Plan.parse, ["0-3", "0-1 3", "0-3 3"]))
        >>> trie.layer_runs, trie.layer_runs_alone
        (6, 12)
    """

    plans: tuple[Plan, ...]
    ends: tuple[int, ...]
    edges: tuple[Edge, ...]

    @classmethod
    def of(cls, plans: Iterable[Plan]) -> Trie:
        """Build the trie of plans.

        Args:
            plans: The plans. Those that occur twice are taken once, in the order of their first occurrence.

        Returns:
            The trie.
        """
        distinct = tuple(dict.fromkeys(plans))
        numbering = _Numbering()
        ends = tuple(numbering.follow(plan.steps, 0) for plan in distinct)
        return cls(distinct, ends, tuple(numbering.edges))

    @property
    def layer_runs(self) -> int:
        """Executions of layers, a half counted as one, when each edge is run once."""
        return sum(isinstance(edge, LayerEdge) for edge in self.edges)

    @property
    def layer_runs_alone(self) -> int:
        """Executions of layers when every plan runs by itself."""
        return sum(plan.layer_runs for plan in self.plans)

    @property
    def live_states(self) -> int:
        """The largest number of states that a `Walk` keeps at once, with the one being made and its source.

        The branches of a group count until they are merged; a merge that adds them up keeps fewer.
        """
        walk = Walk(self, 0, lambda layer, value: 0, lambda merge, value, members: sum(members))
        for _ in walk:
            pass
        return walk.most

    @property
    def walked(self) -> tuple[Plan, ...]:
        """The plans in the order of a `Walk`: those that have much in common are neighbours."""
        plans = dict(zip(self.ends, self.plans, strict=True))
        return tuple(plans[edge.target] for edge in self.order() if edge.target in plans)

    def order(self) -> list[Edge]:
        """Return the edges depth first, in an order that keeps few states at once.

        Below every state the subtree that keeps most states at once goes last. A group goes before the edges that lead
        to its branches, because it runs those itself. Of the states that it makes on the way, only those are kept from
        which other plans go on.
        """
        children = self._sorted_children()
        ordered: list[Edge] = []
        pending = children[0][::-1]
        while pending:
            edge = pending.pop()
            ordered.append(edge)
            pending += children[edge.target][::-1]
        return ordered

    def _sorted_children(self) -> list[list[Edge]]:
        """Return for each state the edges that leave it, in the order of a walk."""
        children: list[list[Edge]] = [[] for _ in range(len(self.edges) + 1)]
        for edge in self.edges:
            children[edge.source].append(edge)
        in_branches = self._first_states_of_branches()
        # For each state how many are kept at once while it is made and its subtree is walked. Targets have larger
        # numbers than their source, so that the subtree of a state is done before the state.
        kept = [1] * len(children)
        for state in reversed(range(len(children))):
            leaving = children[state]
            leaving.sort(key=lambda edge: (edge.target in in_branches, kept[edge.target]))
            # The state itself is kept beside a subtree, until the last edge that leaves it has run.
            subtrees = [kept[edge.target] + (edge is not leaving[-1]) for edge in leaving]
            kept[state] = max([1 + bool(leaving), *subtrees])
            if state and isinstance(edge := self.edges[state - 1], MergeEdge):
                kept[state] = max(kept[state], len(edge.ends))
        return children

    def _first_states_of_branches(self) -> set[int]:
        """Return the states that come first in some branch of a group."""
        states = set()
        for edge in self.edges:
            for state in edge.ends if isinstance(edge, MergeEdge) else ():
                while (before := self.edges[state - 1].source) != edge.source:
                    state = before
                states.add(state)
        return states


def groups(plans: Sequence[Plan], most: int) -> Iterator[list[Plan]]:
    """Divide plans into groups, those that have much in common into the same one.

    Args:
        plans: The plans; those that occur twice are taken once.
        most: The largest number of plans in a group.

    Yields:
        The plans of a group, in the order in which they were given.

    Examples:
        >>> from painters import Plan
        >>> from painters.sharing.trie import groups
        >>> plans = [Plan.parse(text) for text in ("0-3", "3-0", "0-2", "3-1")]
        >>> [[str(plan) for plan in group] for group in groups(plans, 2)]
        [['0-3', '0-2'], ['3-0', '3-1']]
    """
    walked = Trie.of(plans).walked
    for begin in range(0, len(walked), most):
        yield sorted(walked[begin : begin + most], key=plans.index)


class _Numbering:
    """Gives every distinct computation the number of the state that it makes, and keeps its edge."""

    def __init__(self) -> None:
        self.edges: list[Edge] = []
        self._numbers: dict[Hashable, int] = {}

    def follow(self, steps: Sequence[Step], state: int) -> int:
        """Return the number of the state after `steps` on `state`."""
        for step in steps:
            if isinstance(step, Layer):
                state = self._run(state, step)
            else:
                ends = tuple([self.follow(branch, state) for branch in step.branches])
                state = self._merge(state, step.merge, ends)
        return state

    def _run(self, source: int, layer: Layer) -> int:
        target = self._numbers.setdefault((source, layer), len(self.edges) + 1)
        if target > len(self.edges):
            self.edges.append(LayerEdge(source, target, layer))
        return target

    def _merge(self, source: int, merge: Merge, ends: tuple[int, ...]) -> int:
        target = self._numbers.setdefault((source, merge, ends), len(self.edges) + 1)
        if target > len(self.edges):
            self.edges.append(MergeEdge(source, target, merge, ends))
        return target


class Walk(Generic[T]):
    """An iterator that goes once through a trie, and yields each plan with the value that leaves it.

    A value is kept until its last use, and no longer.

    Args:
        trie: The plans.
        start: The value that enters the plans.
        run: `run(layer, value)` returns what a layer makes of a value.
        merge: `merge(how, value, members)` returns the merged value of a group. `value` enters the group; `members` are
            an iterator of the values that leave its branches, in order, each made when it is asked for.

    Examples:
        >>> from painters import Plan
        >>> from painters.sharing.trie import Trie, Walk
        >>> trie = Trie.of([Plan.parse("0 1"), Plan.parse("0 {1 2}")])
        >>> run = lambda layer, x: f"{x}{layer.index}"
        >>> merge = lambda how, x, members: f"{how}({','.join(members)})"
        >>> [(str(plan), value) for plan, value in Walk(trie, "x", run, merge)]
        [('0 {1-2}', 'mean(x01,x02)'), ('0-1', 'x01')]
    """

    def __init__(
        self,
        trie: Trie,
        start: T,
        run: Callable[[Layer, T], T],
        merge: Callable[[Merge, T, Iterator[T]], T],
    ) -> None:
        self.most = 1
        """The largest number of values that were kept at once so far."""
        self._trie = trie
        self._run = run
        self._merge = merge
        self._values: dict[int, T] = {0: start}
        self._made = {0}
        self._uses_left = self._count_uses()
        # How many values only merges hold any more: they are members of a group that is not merged yet.
        self._merging = 0

    def __iter__(self) -> Iterator[tuple[Plan, T]]:
        plans = dict(zip(self._trie.ends, self._trie.plans, strict=True))
        for edge in self._trie.order():
            if edge.target not in self._made:
                self._make(edge)
            if edge.target in plans:
                yield plans[edge.target], self._use(edge.target)

    def _count_uses(self) -> list[int]:
        """Return for each state how often its value is used: by edges that leave it, by merges, as a plan's result."""
        uses = [0] * (len(self._trie.edges) + 1)
        for edge in self._trie.edges:
            for state in (edge.source, *(edge.ends if isinstance(edge, MergeEdge) else ())):
                uses[state] += 1
        for state in self._trie.ends:
            uses[state] += 1
        return uses

    def _make(self, edge: Edge) -> None:
        """Make the value of the edge's target."""
        source, merging = self._values[edge.source], self._merging
        if isinstance(edge, LayerEdge):
            value = self._run(edge.layer, source)
        else:
            value = self._merge(edge.merge, source, self._members(edge))
        self._values[edge.target] = value
        self._made.add(edge.target)
        self.most = max(self.most, len(self._values) + self._merging)
        self._merging = merging
        self._use(edge.source)

    def _members(self, group: MergeEdge) -> Iterator[T]:
        """Yield the values that leave the branches of a group; those that nobody needed before are made now."""
        for end in group.ends:
            missing = []
            state = end
            while state not in self._made:
                missing.append(self._trie.edges[state - 1])
                state = missing[-1].source
            for edge in reversed(missing):
                self._make(edge)
            self._merging += self._uses_left[end] == 1
            yield self._use(end)

    def _use(self, state: int) -> T:
        """Return the value of a state, and forget it if this was its last use."""
        self._uses_left[state] -= 1
        return self._values[state] if self._uses_left[state] else self._values.pop(state)
