"""Many plans as one tree of computations, in which whatever they have in common is run once.

A *state* is the stream after some steps, and has a number; state 0 is what enters the plans. An *edge* makes one
state from another: it runs a layer, or merges the branches of a parallel group. Plans share their common beginnings,
and the members of a group share with whatever else runs those layers on the same state. The loops 1 to R of a group
are beginnings of one another, so that all of them together cost R loops.

Nothing here needs torch: `Walk` goes through the tree with any kind of value.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from painters.plan import Layer, Merge, Plan, Step

__all__ = ["Edge", "Group", "Run", "Trie", "Walk", "groups"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Run:
    """State `target` is what `layer` (or a half of it) makes of state `source`."""

    source: int
    target: int
    layer: Layer


@dataclass(frozen=True, slots=True)
class Group:
    """State `target` merges the states `ends`, which branches that set out from state `source` arrived at."""

    source: int
    target: int
    merge: Merge
    ends: tuple[int, ...]


Edge: TypeAlias = Run | Group
"""What leads from one state to the next."""


@dataclass(frozen=True, slots=True, eq=False)
class Trie:
    """Distinct plans with everything that they share; `Trie.of(plans)` makes one."""

    plans: tuple[Plan, ...]
    ends: tuple[int, ...]
    """For each plan the state that leaves it: another one for every plan."""
    edges: tuple[Edge, ...]
    """The edge that makes state i + 1 stands at i, and comes from a state with a smaller number."""

    @classmethod
    def of(cls, plans: Iterable[Plan]) -> Trie:
        """The trie of the distinct ones among `plans`, in their order."""
        distinct = tuple(dict.fromkeys(plans))
        numbering = _Numbering()
        ends = tuple(numbering.follow(plan.steps, 0) for plan in distinct)
        return cls(distinct, ends, tuple(numbering.edges))

    @property
    def layer_runs(self) -> int:
        """Executions of layers, a half counted as one, when each edge is run once."""
        return sum(isinstance(edge, Run) for edge in self.edges)

    @property
    def layer_runs_alone(self) -> int:
        """Executions of layers when every plan runs by itself."""
        return sum(plan.layer_runs for plan in self.plans)

    @property
    def live_states(self) -> int:
        """The most states that a `Walk` keeps at once, the one being made and the one that it is made of included.

        The members of a group count until they are merged; a merge that adds them up keeps fewer.
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
        """The edges depth first: below every state the subtree that keeps most states at once goes last.

        What leads to members of a group comes after the group, which runs them in any case; only those are kept
        meanwhile that other plans go on from.
        """
        children: list[list[Edge]] = [[] for _ in range(len(self.edges) + 1)]
        for edge in self.edges:
            children[edge.source].append(edge)
        leading = self._leading_to_members()
        need = [1] * len(children)  # states kept at once when each state is made and its subtree walked
        for state in reversed(range(len(children))):
            below = children[state]
            below.sort(key=lambda edge: (edge.target in leading, need[edge.target]))
            need[state] = max([1 + bool(below), *(need[edge.target] + (edge is not below[-1]) for edge in below)])
            if state and isinstance(edge := self.edges[state - 1], Group):
                need[state] = max(need[state], len(edge.ends))
        ordered: list[Edge] = []
        stack = children[0][::-1]
        while stack:
            ordered.append(stack.pop())
            stack += children[ordered[-1].target][::-1]
        return ordered

    def _leading_to_members(self) -> set[int]:
        """The states that come first in some branch of a group."""
        found = set()
        for edge in self.edges:
            for state in edge.ends if isinstance(edge, Group) else ():
                while (before := self.edges[state - 1].source) != edge.source:
                    state = before
                found.add(state)
        return found


def groups(plans: Sequence[Plan], most: int) -> Iterator[list[Plan]]:
    """The distinct `plans` in groups of `most` at most, those of a group in their order.

    Where it takes several groups, those of one have much in common.
    """
    walked = Trie.of(plans).walked
    for begin in range(0, len(walked), most):
        yield sorted(walked[begin : begin + most], key=plans.index)


class _Numbering:
    """Gives every distinct computation the number of the state that it makes."""

    def __init__(self) -> None:
        self.edges: list[Edge] = []
        self._known: dict[Hashable, int] = {}

    def follow(self, steps: Sequence[Step], state: int) -> int:
        """The state after `steps` on `state`."""
        for step in steps:
            if isinstance(step, Layer):
                state = self._run(state, step)
            else:
                ends = tuple([self.follow(branch, state) for branch in step.branches])
                state = self._group(state, step.merge, ends)
        return state

    def _run(self, source: int, layer: Layer) -> int:
        target = self._known.setdefault((source, layer), len(self.edges) + 1)
        if target > len(self.edges):
            self.edges.append(Run(source, target, layer))
        return target

    def _group(self, source: int, merge: Merge, ends: tuple[int, ...]) -> int:
        target = self._known.setdefault((source, merge, ends), len(self.edges) + 1)
        if target > len(self.edges):
            self.edges.append(Group(source, target, merge, ends))
        return target


class Walk(Generic[T]):
    """Goes once through a trie, and gives each plan with the value that leaves it, in the order of the walk.

    `run(layer, value)` and `merge(how, value, members)` make the values: `value` is the one at the edge's source, and
    `members` are those of a group's branches in their order, each made when it is asked for. A value is kept until
    its last use, and no longer.
    """

    def __init__(
        self,
        trie: Trie,
        start: T,
        run: Callable[[Layer, T], T],
        merge: Callable[[Merge, T, Iterator[T]], T],
    ) -> None:
        self.most = 1
        """The most values that were kept at once so far."""
        self._trie = trie
        self._run = run
        self._merge = merge
        self._kept: dict[int, T] = {0: start}
        self._merging = 0  # members that were given to a group that is not merged yet
        self._made = {0}
        self._uses = [0] * (len(trie.edges) + 1)  # that are still to come
        for edge in trie.edges:
            for state in (edge.source, *(edge.ends if isinstance(edge, Group) else ())):
                self._uses[state] += 1
        for state in trie.ends:
            self._uses[state] += 1

    def __iter__(self) -> Iterator[tuple[Plan, T]]:
        plans = dict(zip(self._trie.ends, self._trie.plans, strict=True))
        for edge in self._trie.order():
            if edge.target not in self._made:
                self._make(edge)
            if edge.target in plans:
                yield plans[edge.target], self._use(edge.target)

    def _make(self, edge: Edge) -> None:
        source, merging = self._kept[edge.source], self._merging
        if isinstance(edge, Run):
            value = self._run(edge.layer, source)
        else:
            value = self._merge(edge.merge, source, self._members(edge))
        self._kept[edge.target] = value
        self._made.add(edge.target)
        self.most = max(self.most, len(self._kept) + self._merging)
        self._merging = merging
        self._use(edge.source)

    def _members(self, group: Group) -> Iterator[T]:
        for end in group.ends:
            missing = []
            state = end
            while state not in self._made:
                missing.append(self._trie.edges[state - 1])
                state = missing[-1].source
            for edge in reversed(missing):
                self._make(edge)
            self._merging += self._uses[end] == 1
            yield self._use(end)

    def _use(self, state: int) -> T:
        """The value of a state, which is forgotten if this was its last use."""
        self._uses[state] -= 1
        return self._kept[state] if self._uses[state] else self._kept.pop(state)
