"""The variants of an experiment, with many values for each parameter, and the points they stand for."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from painters import variants
from painters.experiment.yaml import ExperimentError
from painters.plan import Plan, PlanError
from painters.variants import VariantError

MAX_VALUES = 10_000
"""The most values of one parameter."""
MAX_CELLS = 100_000
"""The most cells of one grid, for a model of given size."""
_RANGE = re.compile(r"(\d{1,9})\.\.(\d{1,9})")
_LAYER_PARAMETERS = ("start", "layer")  # their values are bounded by the model, so that `all` has a meaning


def parse_values(value: Any) -> Any:
    """Return the values that an entry of a file stands for.

    Args:
        value: A number, a word, a list of them, a range such as `0..9` with both ends included, or `all`.

    Returns:
        A tuple of values, or "all".

    Raises:
        ValueError: The entry is none of these.
    """
    if isinstance(value, str) and (match := _RANGE.fullmatch(value.strip())):
        first, last = int(match[1]), int(match[2])
        if last < first or last - first >= MAX_VALUES:
            raise ValueError(
                f"{value}: a range goes from a smaller number to a larger one and has at most {MAX_VALUES} values"
            )
        return tuple(range(first, last + 1))
    if isinstance(value, str) and value.strip() == "all":
        return "all"
    listed = value if isinstance(value, list | tuple) else [value]
    if not listed or len(listed) > MAX_VALUES or len(set(map(repr, listed))) < len(listed):
        raise ValueError("a list of values must hold 1 or more, each once")
    for item in listed:
        if type(item) is not int and not (isinstance(item, str) and item in ("block", "layer")):
            raise ValueError(f"{item!r:.60}: write a whole number, a list of them, a range such as 0..9, or all")
    return tuple(listed)


Values: TypeAlias = Annotated[Literal["all"] | tuple[int | str, ...], BeforeValidator(parse_values)]
"""The values of one parameter."""


class VariantEntry(BaseModel):
    """One entry of an experiment's `variants`: a rule with values for its parameters, or a plan.

    Attributes:
        name: The name of the rule; None for a plan.
        plan: The text of the plan; None for a rule.
        params: The values of each parameter of the rule.
        only: The values to which `quickened` restricts parameters.
        line: The line of the entry in its file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = None
    plan: Annotated[str, Field(max_length=20_000)] | None = None
    params: dict[str, Values] = Field(default_factory=dict)
    only: dict[str, tuple[int, ...]] = Field(default_factory=dict, exclude=True)
    line: int | None = Field(default=None, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _gather_parameters(cls, value: Any) -> Any:
        """Move the parameters of an entry such as `{name: parallel, start: all, loops: 3}` to `params`."""
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping) or isinstance(value.get("params"), Mapping):
            return value
        rest = {str(name): values for name, values in value.items() if name not in ("name", "plan")}
        return {name: value[name] for name in ("name", "plan") if name in value} | {"params": rest}

    @model_validator(mode="after")
    def _check(self) -> VariantEntry:
        """Raise ValueError unless the entry is a plan alone, or a rule with parameters that it takes."""
        if (self.name is None) == (self.plan is None):
            raise ValueError("give either the name of a variant or a plan")
        if self.plan is not None:
            if self.params:
                raise ValueError(f"{next(iter(self.params))!r} belongs to a variant: a plan takes no parameters")
            try:
                Plan.parse(self.plan)
            except PlanError as error:
                raise ValueError(str(error)) from error
            return self
        parameters = variants.find(self.name or "").parameters
        for param, values in self.params.items():
            if param not in parameters:
                legal = f"it takes {' and '.join(parameters)}" if parameters else "it takes none"
                raise ValueError(f"variant {self.name} takes no parameter {param!r}: {legal}")
            if values == "all" and param not in _LAYER_PARAMETERS:
                raise ValueError(
                    f"{param}: all: only {' and '.join(_LAYER_PARAMETERS)} have a largest value; give a range such as "
                    f"1..9"
                )
        if "layer" in parameters and "layer" not in self.params:
            raise ValueError(f"variant {self.name} needs the parameter 'layer': give it values, or all")
        return self

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a grid: a rule with a value for each of its parameters, and the plan that it builds.

    Attributes:
        variant: The name of the rule; None if the file gives the plan itself.
        params: The value of each parameter.
        plan: The plan.
        kv: How parallel groups fill the cache: "exact" or "averaged".

    Examples:
        >>> from painters.experiment import load
        >>> point = load("fig8").grid(num_layers=12)[3]
        >>> point.variant, point.params["start"], point.plan
        ('parallel', 3, Plan('0-3 {4-8} 9-11'))
    """

    variant: str | None
    params: Mapping[str, int | str]
    plan: Plan
    kv: str


def points(entry: VariantEntry, num_layers: int, kvs: Sequence[str], where: str, max_points: int) -> Iterator[Point]:
    """Yield the points of one entry; the first parameter varies fastest, the cache slowest.

    Args:
        entry: The entry.
        num_layers: The number of layers in the model.
        kvs: The caches of parallel groups to score with.
        where: What error messages begin with.
        max_points: The most points; more are refused before the first one is made.

    Raises:
        ExperimentError: There are too many points, or a value does not fit a model of this size.
    """
    axes = {} if entry.plan is not None else _axes(entry, num_layers, where)
    if (count := math.prod(map(len, axes.values())) * len(kvs)) > max_points:
        raise ExperimentError(
            f"{where}: with {count} points the experiment has more than {MAX_CELLS} cells for a model of {num_layers} "
            f"layers: ask for fewer values, in several files if need be"
        )
    for kv in kvs:
        for name, params, plan in _plans(entry, axes, num_layers, where):
            # A plan without parallel groups has nothing to average: both caches give the same number, so one is enough.
            is_sequence = plan.is_sequence
            if not (is_sequence and kv != "exact" and "exact" in kvs):
                yield Point(name, params, plan, "exact" if is_sequence else kv)


def spread(column: Sequence[Point]) -> list[Point]:
    """Return the points of an entry in an order in which a figure takes shape early.

    The two ends come first, then the middles of ever smaller gaps. Each seed and each cache is ordered by itself.
    """
    groups: dict[Any, list[Point]] = {}
    for point in column:
        groups.setdefault((point.params.get("seed"), point.kv), []).append(point)
    return [group[i] for group in groups.values() for i in _ends_and_middles(len(group))]


def _ends_and_middles(count: int) -> list[int]:
    """Return the numbers below `count`: the two ends first, then the middles of ever smaller gaps."""
    order = list(dict.fromkeys([0, count - 1])) if count else []
    gaps = [(0, count - 1)]
    for low, high in gaps:  # the list grows during the loop, so that halves come after their whole
        if high - low > 1:
            middle = (low + high) // 2
            order.append(middle)
            gaps += [(low, middle), (middle, high)]
    return order


def _axes(entry: VariantEntry, num_layers: int, where: str) -> dict[str, list[int | str]]:
    """Return the values of each parameter of a rule, for a model of this size."""
    rule = variants.find(entry.name or "")
    axes: dict[str, list[int | str]] = {}
    for param, default in rule.parameters.items():
        fallback = variants.default_start(num_layers) if default is None else default
        values = entry.params.get(param, (fallback,))
        axes[param] = []
        axes[param] += _all_values(rule.name, param, num_layers) if values == "all" else values
        if param in entry.only:
            left: list[int | str] = [value for value in axes[param] if value in entry.only[param]]
            if not left and param in entry.params:
                raise ExperimentError(
                    f"{where}.{param}: none of its values is among those of quick.{param}, "
                    f"{list(entry.only[param])}: give quick some that a model of {num_layers} layers has"
                )
            if left:
                axes[param] = left
    return axes


def _plans(
    entry: VariantEntry, axes: Mapping[str, list[int | str]], num_layers: int, where: str
) -> Iterator[tuple[str | None, dict[str, int | str], Plan]]:
    """Yield the rule's name, its parameters and its plan, for each combination of values."""
    if entry.plan is not None:
        plan = Plan.parse(entry.plan)
        try:
            plan.check(num_layers)
        except PlanError as error:
            raise ExperimentError(f"{where}.plan: {error}. Leave it out for models of this size") from error
        yield None, {}, plan
        return
    name = variants.find(entry.name or "").name
    for values in itertools.product(*reversed(list(axes.values()))):
        params = dict(zip(axes, reversed(values), strict=True))
        try:
            yield name, params, variants.build(name, num_layers, **params)
        except (VariantError, PlanError) as error:
            raise ExperimentError(f"{where}: {error}") from error


def _all_values(name: str, param: str, num_layers: int) -> list[int]:
    """Return every value of `param`, "layer" or "start", that a rule takes for a model of this size."""
    if param == "start":
        return list(variants.windows(num_layers))
    accepted = []
    for value in range(num_layers):
        try:
            variants.build(name, num_layers, **{param: value})
        except VariantError:
            continue
        accepted.append(value)
    return accepted
