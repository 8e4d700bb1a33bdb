"""The plan: which layers run, in which order, which of them side by side, and how often.

A `Plan` is the computation. Ranges, repeats and spaces are only notation: texts that describe the same steps parse to
equal plans, and every plan prints as one text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from operator import index
from typing import Any, TypeAlias

from painters.plan.parse import parse_steps
from painters.plan.shapes import text_of
from painters.plan.steps import MAX_LAYER_RUNS, Layer, Parallel, PlanError, Step, check_layer_runs, measure, normalise

__all__ = ["Plan", "PlanLike", "PlansLike", "as_plan", "distinct"]


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """Steps that run one after another: an immutable, hashable value with one text for each computation.

    `Plan.parse(str(plan)) == plan` holds for every plan. A parallel group of one branch is replaced by that branch.
    Notebooks show a plan as a drawing.

    Attributes:
        steps: The steps, in the order in which they run.

    Raises:
        PlanError: There are no steps, one of them is not a step, or they exceed `MAX_LAYER_RUNS`.

    Examples:
        >>> from painters.plan import Plan
        >>> plan = Plan.parse("0-14 {15 16 17} {15-17} 18-31")
        >>> plan
        Plan('0-14 {15-17}*2 18-31')
        >>> plan.layer_runs, plan.depth, len(plan.layers)
        (35, 31, 32)
        >>> Plan.parse("3 4 5") == Plan.of(3, 4, 5)
        True
    """

    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        steps = normalise(self.steps, "plan")
        check_layer_runs(measure(steps).layer_runs)
        object.__setattr__(self, "steps", steps)

    @classmethod
    def parse(cls, text: str) -> Plan:
        """Return the plan that `text` describes.

        Args:
            text: A text such as `0-14 {15-17}*3 18-31`.

        Returns:
            The plan.

        Raises:
            PlanError: The text is not a plan. The message shows the text with a caret under the mistake.
        """
        return cls(parse_steps(text))

    @classmethod
    def of(cls, *steps: int | Step) -> Plan:
        """Return the plan of these steps.

        Args:
            *steps: The steps in order; an int stands for that layer.

        Returns:
            The plan: `Plan.of(0, 1, Parallel.of(2, 3))` is `0-1 {2-3}`.

        Raises:
            PlanError: There are no steps, or a layer is out of range.
        """
        return cls(tuple(Layer(step) if isinstance(step, int) else step for step in steps))

    @classmethod
    def identity(cls, num_layers: int) -> Plan:
        """Return the plan that runs every layer once, in order: the model as it is.

        Args:
            num_layers: The number of layers in the stack.

        Returns:
            The plan `0-<num_layers - 1>`.

        Raises:
            PlanError: `num_layers` is below 1 or above `MAX_LAYER_RUNS`.
        """
        if num_layers < 1:
            raise PlanError(f"a model of {num_layers} layers has nothing to run: num_layers must be at least 1")
        check_layer_runs(num_layers)
        return cls.of(*range(num_layers))

    def __str__(self) -> str:
        return text_of(self.steps)

    def __repr__(self) -> str:
        return f"Plan({str(self)!r})"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the drawing with the plan's text and cost."""
        from painters.drawing import plan_html

        return plan_html(self)

    def _repr_svg_(self) -> str:
        """Return the drawing alone, for viewers that show no HTML."""
        from painters.drawing import plan_svg

        return plan_svg(self)

    @property
    def layer_runs(self) -> int:
        """The number of layer runs; a half counts as one."""
        return measure(self.steps).layer_runs

    @property
    def depth(self) -> int:
        """The layer runs on the longest chain; a parallel group is as deep as its deepest branch."""
        return measure(self.steps).depth

    @property
    def layers(self) -> tuple[int, ...]:
        """The distinct layers, in order of first use."""
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
        """Yield every layer run in order, branch after branch.

        Yields:
            A `Layer` for each run.
        """
        yield from _walk(self.steps)

    def check(self, num_layers: int, name: str = "the model") -> None:
        """Raise PlanError if the plan runs a layer that a stack does not have.

        Args:
            num_layers: The number of layers in the stack.
            name: What the error message calls the model.

        Raises:
            PlanError: The plan runs layer `num_layers` or a later one.
        """
        for layer in self.layers:
            if layer >= num_layers:
                count = f"{num_layers} layers (0 to {num_layers - 1})" if num_layers != 1 else "1 layer (0)"
                raise PlanError(f"plan runs layer {layer}, but {name} has {count}")


PlanLike: TypeAlias = Plan | str | Iterable[int | Step]
"""What is taken for a plan: a `Plan`, its text, or layers in order, such as [0, 1, 3] or range(4)."""
PlansLike: TypeAlias = PlanLike | Iterable[PlanLike]
"""What is taken for one plan or several."""


def as_plan(plan: PlanLike) -> Plan:
    """Return what is meant by `plan`: a plan, its text, or its layers in order.

    Args:
        plan: A `Plan`; a text, as for `Plan.parse`; or layers and steps in order, as for `Plan.of`.

    Returns:
        The plan.

    Raises:
        PlanError: It is none of these, or the plan is wrong.

    Examples:
        >>> from painters.plan import as_plan
        >>> as_plan([0, 1, 3]) == as_plan("0-1 3") == as_plan(as_plan("0 1 3"))
        True
        >>> as_plan(range(4))
        Plan('0-3')
    """
    if isinstance(plan, Plan):
        return plan
    if isinstance(plan, str):
        return Plan.parse(plan)
    steps = _listed(plan)
    if steps is None:
        raise PlanError(f"a plan cannot be {_shown(plan)}: {_REMEDY}")
    for step in steps:
        if not _is_step(step):
            raise PlanError(f"a plan of layers holds {_shown(step)}, which is no layer's number: {_REMEDY}")
    return Plan.of(*(step if isinstance(step, Layer | Parallel) else index(step) for step in steps))


def distinct(plans: PlansLike) -> tuple[Plan, ...]:
    """Return the distinct plans, in order of first appearance.

    Args:
        plans: One plan or several, each a `Plan`, its text, or its layers in order. A list of numbers is one plan.

    Returns:
        The plans, each once.

    Raises:
        PlanError: There are no plans, or one of them is not a plan.

    Examples:
        >>> from painters.plan import distinct
        >>> distinct(["0-3", "0 1 2 3", "3-0"])
        (Plan('0-3'), Plan('3-0'))
        >>> distinct([0, 1, 3])
        (Plan('0-1 3'),)
    """
    several: list[Any] | None = None if isinstance(plans, str | Plan) else _listed(plans, ordered=False)
    if several is None or (several and all(map(_is_step, several))):
        several = [plans if several is None or isinstance(plans, Set) else several]
    parsed = tuple(dict.fromkeys(map(as_plan, several)))
    if not parsed:
        raise PlanError("no plan given: name one or more, such as '0-14 {15-17}*3 18-31'")
    return parsed


_REMEDY = "give a text such as '0-14 {15-17} 18-31', a Plan, or layers such as [0, 1, 3]"


def _listed(value: Any, ordered: bool = True) -> list[Any] | None:
    """Return the items of a sequence, array or iterator; None for all else, and for sets if they must be `ordered`."""
    if isinstance(value, bytes | Mapping) or (ordered and isinstance(value, Set)):
        return None
    items: list[Any] = []
    try:
        for item in value:
            items.append(item)
            if len(items) > MAX_LAYER_RUNS and _is_step(items[0]):
                break  # too long for a plan, and perhaps endless
    except TypeError:
        return None
    return items


def _is_step(value: Any) -> bool:
    """Return whether the value is a step or the number of a layer, of Python's or of an array library's."""
    if isinstance(value, Layer | Parallel):
        return True
    if isinstance(value, bool) or (hasattr(value, "ndim") and value.ndim):
        return False
    try:
        index(value)
    except TypeError:
        return False
    return True


def _shown(value: Any) -> str:
    """Return the value for a message, with its type."""
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def _walk(steps: tuple[Step, ...]) -> Iterator[Layer]:
    """Yield every layer run of `steps` in order, branch after branch."""
    for step in steps:
        if isinstance(step, Layer):
            yield step
        else:
            for branch in step.branches:
                yield from _walk(branch)
