"""The steps of a plan as immutable values, the limits on their size, and `PlanError`.

Import these names from `painters.plan`, which re-exports the public ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from painters.errors import PaintersError

Half: TypeAlias = Literal["attn", "mlp"]
"""One of the two sublayers of a layer: attention or MLP."""
Merge: TypeAlias = Literal["mean", "sum"]
"""The way in which the outputs of a parallel group become one."""

HALVES: tuple[Half, ...] = ("attn", "mlp")
"""The halves of a layer, in the order in which most layers run them."""
MERGES: tuple[Merge, ...] = ("mean", "sum")
"""The merges, the default first."""

MAX_LAYERS = 10_000
"""The number of layers that a stack can have: layer indices are below it."""
MAX_LAYER_RUNS = 10_000
"""The most layer runs in one plan. Every repeat counts, and a half counts as one run."""
MAX_NESTING = 32
"""The most parallel groups inside one another."""
MAX_BRACKETS = 100
"""The most brackets, of either kind, that are open at once: 32 groups, their branches and 13 repeats need 77."""
MAX_TEXT = 200_000
"""The most characters in a text: 10,000 runs of layers like `9999.attn` in groups of two print with 160,000."""
MAX_TOKENS = 80_000
"""The most numbers, words and signs in a text: 10,000 runs, each half a group inside the one before, need 70,000."""


class PlanError(PaintersError, ValueError):
    """A plan that cannot be read, built, or run on the model at hand."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Layer:
    """One run of a layer, or of one half of it.

    Attributes:
        index: The layer's position in the stack, counted from 0.
        half: `"attn"` or `"mlp"` to run only that sublayer; None to run the whole layer.

    Raises:
        PlanError: `index` is not an int from 0 to 9999, or `half` is not a half.

    Examples:
        >>> from painters.plan import Layer, Plan
        >>> Layer(16)
        Layer(index=16, half=None)
        >>> print(Plan.of(Layer(16, "attn"), Layer(17, "mlp")))
        16.attn 17.mlp
    """

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
    """The cost of steps, known without a model.

    Attributes:
        layer_runs: The number of layer runs, a half counted as one.
        depth: The layer runs on the longest chain.
        nesting: The largest number of parallel groups inside one another.
    """

    layer_runs: int
    depth: int
    nesting: int


@dataclass(frozen=True, slots=True)
class Parallel:
    """Branches that run side by side on the same input.

    The order of the branches is part of the value, because floating-point sums depend on it. A group of one branch
    is the same computation as that branch, so plans and branches replace it by its steps.

    Attributes:
        branches: The branches, each a tuple of steps that run one after another.
        merge: `"mean"` takes the mean of the branches' full outputs (the paper's parallel layers). `"sum"` adds up
            their changes: x + Σ(fᵢ(x) - x).
        size: The cost of the group. It is computed and takes no part in comparisons.

    Raises:
        PlanError: There are no branches, a branch is empty or not a tuple of steps, the merge is unknown, or the
            group exceeds `MAX_NESTING` or `MAX_LAYER_RUNS`.

    Examples:
        >>> from painters.plan import Layer, Parallel, Plan
        >>> group = Parallel(((Layer(3), Layer(4)), (Layer(5),)), merge="sum")
        >>> print(Plan.of(0, group))
        0 {(3-4) 5}:sum
        >>> group.size
        Size(layer_runs=3, depth=2, nesting=1)
    """

    branches: tuple[tuple[Step, ...], ...]
    merge: Merge = "mean"
    size: Size = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.merge not in MERGES:
            raise PlanError(f"a parallel group cannot merge by {self.merge!r}: the merges are 'mean' and 'sum'")
        branches = tuple(normalise(branch, "a branch of a parallel group") for branch in self.branches)
        if not branches:
            raise PlanError("a parallel group has no branches: give it at least one, such as ((Layer(3),),)")
        sizes = [measure(branch) for branch in branches]
        runs = sum(size.layer_runs for size in sizes)
        depth = max(size.depth for size in sizes)
        nesting = max(size.nesting for size in sizes) + (len(branches) > 1)
        if nesting > MAX_NESTING:
            raise PlanError(f"parallel groups are nested {nesting} deep: a plan may nest {MAX_NESTING}")
        check_layer_runs(runs)
        object.__setattr__(self, "branches", branches)
        object.__setattr__(self, "size", Size(runs, depth, nesting))

    @classmethod
    def of(cls, *layers: int, merge: Merge = "mean") -> Parallel:
        """Return a group whose branches are single layers.

        Args:
            *layers: The layers' positions in the stack, one branch for each.
            merge: The merge of the group.

        Returns:
            The group: `Parallel.of(15, 16, 17)` is `{15-17}`.

        Raises:
            PlanError: There are no layers, or one is out of range.
        """
        return cls(tuple((Layer(layer),) for layer in layers), merge)


Step: TypeAlias = Layer | Parallel
"""One element of a plan."""


def measure(steps: Iterable[Step]) -> Size:
    """Return the size of steps that run one after another."""
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


def normalise(steps: Sequence[Step], name: str) -> tuple[Step, ...]:
    """Return `steps` with every group of one branch replaced by that branch.

    Args:
        steps: The steps, as a tuple or list.
        name: What error messages call the steps, such as "plan".

    Raises:
        PlanError: `steps` is not a tuple or list, holds something that is not a step, or is empty.
    """
    if not isinstance(steps, (tuple, list)):
        raise PlanError(f"{name} is {steps!r}: it must be a tuple of steps, such as (Layer(3), Layer(4))")
    result: list[Step] = []
    for step in steps:
        if isinstance(step, Layer):
            result.append(step)
        elif not isinstance(step, Parallel):
            raise PlanError(f"{name} holds {step!r}: a step is a Layer or a Parallel")
        elif len(step.branches) == 1:
            result.extend(step.branches[0])
        else:
            result.append(step)
    if not result:
        raise PlanError(f"{name} is empty: it must run at least one layer")
    return tuple(result)


def check_layer_runs(count: int) -> None:
    """Raise PlanError if `count` is more layer runs than a plan may have."""
    if count > MAX_LAYER_RUNS:
        raise PlanError(f"plan runs layers {count} times: at most {MAX_LAYER_RUNS} runs are allowed, repeats counted")
