"""The steps of a plan as values, the limits that bound them, and the error that they raise.

`painters.plan` re-exports everything here; import from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from painters.errors import PaintersError

Half: TypeAlias = Literal["attn", "mlp"]
"""One of the two parts of a layer."""
Merge: TypeAlias = Literal["mean", "sum"]
"""How the outputs of a parallel group become one."""

HALVES: tuple[Half, ...] = ("attn", "mlp")
"""The halves of a layer, in the order in which most layers run them."""
MERGES: tuple[Merge, ...] = ("mean", "sum")
"""The merges, the default first."""

MAX_LAYERS = 10_000
"""Layer indices are below this."""
MAX_LAYER_RUNS = 10_000
"""Executions of layers (or halves) in one plan, every repeat counted."""
MAX_NESTING = 32
"""Parallel groups inside one another."""
MAX_BRACKETS = 100
"""Open brackets of either kind at one place of a text: 32 groups, their branches and 13 repeats need 77."""
MAX_TEXT = 200_000
"""Characters in a text: 10,000 runs of layers like `9999.attn` in groups of two print with 160,000."""
MAX_TOKENS = 80_000
"""Numbers, words and signs in a text: 10,000 runs print with 70,000, each half a group inside the one before."""


class PlanError(PaintersError, ValueError):
    """A plan that cannot be read, built or run on the model at hand."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Layer:
    """One execution of the layer `index` of the stack, or of one `half` of it."""

    index: int
    half: Half | None = None

    def __post_init__(self) -> None:
        if type(self.index) is not int:
            raise PlanError(f"layer {self.index!r} is not an int: give the layer's place in the stack, from 0")
        if not 0 <= self.index < MAX_LAYERS:
            raise PlanError(f"layer {self.index} is out of range: layers are numbered 0 to {MAX_LAYERS - 1}")
        if self.half is not None and self.half not in HALVES:
            raise PlanError(f"layer {self.index} has no half {self.half!r}: the halves are 'attn' and 'mlp'")


class Size(NamedTuple):
    """What steps cost without a model: executions, the longest chain, and groups inside one another."""

    layer_runs: int
    depth: int
    nesting: int


@dataclass(frozen=True, slots=True)
class Parallel:
    """Branches that run side by side on the same input.

    `merge="mean"` takes the mean of the branches' full outputs (the paper's parallel layers); `"sum"` adds up
    their changes, x + Σ(fᵢ(x) - x). The order of the branches is part of the value: floating-point sums
    depend on it. A group of one branch is that branch: wherever it stands in a plan it is spliced in.
    """

    branches: tuple[tuple[Step, ...], ...]
    merge: Merge = "mean"
    size: Size = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.merge not in MERGES:
            raise PlanError(f"a parallel group cannot merge by {self.merge!r}: the merges are 'mean' and 'sum'")
        branches = tuple(normalised(branch, "a branch of a parallel group") for branch in self.branches)
        if not branches:
            raise PlanError("a parallel group has no branches: give it at least one, such as ((Layer(3),),)")
        runs = depth = nesting = 0
        for branch in branches:
            more, deep, nested = measure(branch)
            runs, depth, nesting = runs + more, max(depth, deep), max(nesting, nested)
        nesting += len(branches) > 1
        if nesting > MAX_NESTING:
            raise PlanError(f"parallel groups are nested {nesting} deep: a plan may nest {MAX_NESTING}")
        refuse_runs(runs)
        object.__setattr__(self, "branches", branches)
        object.__setattr__(self, "size", Size(runs, depth, nesting))

    @classmethod
    def of(cls, *layers: int, merge: Merge = "mean") -> Parallel:
        """A group of one-layer branches: `Parallel.of(15, 16, 17)` is `{15-17}`."""
        return cls(tuple((Layer(layer),) for layer in layers), merge)


Step: TypeAlias = Layer | Parallel
"""One element of a plan."""


def measure(steps: Iterable[Step]) -> Size:
    """The size of steps that run one after another."""
    runs = depth = nesting = 0
    for step in steps:
        if isinstance(step, Layer):
            runs += 1
            depth += 1
        else:
            runs += step.size.layer_runs
            depth += step.size.depth
            nesting = max(nesting, step.size.nesting)
    return Size(runs, depth, nesting)


def normalised(steps: Sequence[Step], what: str) -> tuple[Step, ...]:
    """The steps with every group of one branch spliced in; `what` names them in the errors."""
    if not isinstance(steps, (tuple, list)):
        raise PlanError(f"{what} is {steps!r}: it must be a tuple of steps, such as (Layer(3), Layer(4))")
    result: list[Step] = []
    for step in steps:
        if isinstance(step, Layer):
            result.append(step)
        elif not isinstance(step, Parallel):
            raise PlanError(f"{what} holds {step!r}: a step is a Layer or a Parallel")
        elif len(step.branches) == 1:
            result.extend(step.branches[0])
        else:
            result.append(step)
    if not result:
        raise PlanError(f"{what} is empty: it must run at least one layer")
    return tuple(result)


def refuse_runs(runs: int) -> None:
    """Nothing; raises PlanError where `runs` is more than a plan may have."""
    if runs > MAX_LAYER_RUNS:
        raise PlanError(f"plan runs layers {runs} times: at most {MAX_LAYER_RUNS} runs are allowed, repeats counted")
