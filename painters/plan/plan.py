"""The plan: which layers run, in which order, which of them side by side, and how often.

A `Plan` is the computation. Ranges, repeats and spaces are notation: texts that describe the same steps read
as equal plans, and a plan prints as one text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from painters.plan.parse import parse_steps
from painters.plan.shapes import text_of
from painters.plan.steps import (
    HALVES,
    MAX_LAYER_RUNS,
    MAX_LAYERS,
    MAX_NESTING,
    MAX_TEXT,
    MERGES,
    Half,
    Layer,
    Merge,
    Parallel,
    PlanError,
    Step,
    measure,
    normalised,
    refuse_runs,
)

__all__ = [
    "HALVES",
    "MAX_LAYERS",
    "MAX_LAYER_RUNS",
    "MAX_NESTING",
    "MAX_TEXT",
    "MERGES",
    "Half",
    "Layer",
    "Merge",
    "Parallel",
    "Plan",
    "PlanError",
    "Step",
    "distinct",
]


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """Steps that run one after another: an immutable, hashable value with a canonical text.

    `Plan.parse(str(plan)) == plan` for every plan. Parallel groups of one branch are spliced in.
    """

    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        steps = normalised(self.steps, "plan")
        refuse_runs(measure(steps).layer_runs)
        object.__setattr__(self, "steps", steps)

    @classmethod
    def parse(cls, text: str) -> Plan:
        """The plan that `text` describes, such as `0-14 {15-17}*3 18-31`; raises PlanError with a caret."""
        return cls(parse_steps(text))

    @classmethod
    def of(cls, *steps: int | Step) -> Plan:
        """The plan of these steps, an int for a layer: `Plan.of(0, 1, Parallel.of(2, 3))` is `0-1 {2-3}`."""
        return cls(tuple(Layer(step) if isinstance(step, int) else step for step in steps))

    @classmethod
    def identity(cls, num_layers: int) -> Plan:
        """The plan that runs every layer once in order: the model as it is."""
        if num_layers < 1:
            raise PlanError(f"a model of {num_layers} layers has nothing to run: num_layers must be at least 1")
        refuse_runs(num_layers)
        return cls.of(*range(num_layers))

    def __str__(self) -> str:
        return text_of(self.steps)

    def __repr__(self) -> str:
        return f"Plan({str(self)!r})"

    def _repr_html_(self) -> str:
        """The plan as notebooks show it: drawn, with its text and its cost."""
        from painters.drawing import plan_html

        return plan_html(self)

    def _repr_svg_(self) -> str:
        """The drawing alone, for what shows no HTML."""
        from painters.drawing import plan_svg

        return plan_svg(self)

    @property
    def layer_runs(self) -> int:
        """Executions of layers, a half counted as one."""
        return measure(self.steps).layer_runs

    @property
    def depth(self) -> int:
        """Layer runs on the longest chain; a parallel group is as deep as its deepest branch."""
        return measure(self.steps).depth

    @property
    def layers(self) -> tuple[int, ...]:
        """The distinct layers in order of first use."""
        return tuple(dict.fromkeys(layer.index for layer in self.walk()))

    @property
    def has_halves(self) -> bool:
        """Whether some step runs only one half of a layer."""
        return any(layer.half is not None for layer in self.walk())

    @property
    def is_sequence(self) -> bool:
        """Whether no two layers run side by side."""
        return all(isinstance(step, Layer) for step in self.steps)

    def walk(self) -> Iterator[Layer]:
        """Every layer run in order, branch after branch."""
        yield from _walk(self.steps)

    def check(self, num_layers: int, name: str = "the model") -> None:
        """Nothing; raises PlanError where the plan runs a layer that a stack of `num_layers` lacks."""
        for layer in self.layers:
            if layer >= num_layers:
                count = f"{num_layers} layers (0 to {num_layers - 1})" if num_layers != 1 else "1 layer (0)"
                raise PlanError(f"plan runs layer {layer}, but {name} has {count}")


def distinct(plans: str | Plan | Iterable[str | Plan]) -> tuple[Plan, ...]:
    """The distinct ones among `plans`, or the one plan, in their order and read where they are texts.

    Raises PlanError where there is none.
    """
    given = [plans] if isinstance(plans, str | Plan) else plans
    found = tuple(dict.fromkeys(Plan.parse(plan) if isinstance(plan, str) else plan for plan in given))
    if not found:
        raise PlanError("no plan given: name one or more, such as '0-14 {15-17}*3 18-31'")
    return found


def _walk(steps: tuple[Step, ...]) -> Iterator[Layer]:
    for step in steps:
        if isinstance(step, Layer):
            yield step
        else:
            for branch in step.branches:
                yield from _walk(branch)
