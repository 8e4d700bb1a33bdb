"""The grid of an experiment: variants whose parameters take many values, and the points they stand for."""

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
MAX_CELLS = 100_000
_RANGE = re.compile(r"(\d{1,9})\.\.(\d{1,9})")
_OF_LAYERS = ("start", "layer")  # parameters that count layers, so that `all` of them means something


def values(value: Any) -> Any:
    """`all`, or the values that `3`, `layer`, `[1, 3]` or `0..9` (both included) stand for."""
    if isinstance(value, str) and (found := _RANGE.fullmatch(value.strip())):
        first, last = int(found[1]), int(found[2])
        if last < first or last - first >= MAX_VALUES:
            raise ValueError(f"{value}: a range goes from a smaller number to a larger, over {MAX_VALUES} at most")
        return tuple(range(first, last + 1))
    if isinstance(value, str) and value.strip() == "all":
        return "all"
    listed = value if isinstance(value, list | tuple) else [value]
    if not listed or len(listed) > MAX_VALUES or len(set(map(repr, listed))) < len(listed):
        raise ValueError("a list of values must hold 1 or more, each once")
    for one in listed:
        if type(one) is not int and not (isinstance(one, str) and one in ("block", "layer")):
            raise ValueError(f"{one!r:.60}: write a whole number, a list of them, a range such as 0..9, or all")
    return tuple(listed)


Values: TypeAlias = Annotated[Literal["all"] | tuple[int | str, ...], BeforeValidator(values)]


class Variant(BaseModel):
    """One entry of an experiment's `variants`: a rule with values for its parameters, or a plan."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = None
    plan: Annotated[str, Field(max_length=20_000)] | None = None
    params: dict[str, Values] = Field(default_factory=dict)
    only: dict[str, tuple[int, ...]] = Field(default_factory=dict, exclude=True)  # what a quick run leaves
    line: int | None = Field(default=None, exclude=True)  # of the file

    @model_validator(mode="before")
    @classmethod
    def _gathered(cls, value: Any) -> Any:
        """The entry as a file has it, `{name: parallel, start: all, loops: 3}`, with its parameters together."""
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping) or isinstance(value.get("params"), Mapping):
            return value
        rest = {str(name): values for name, values in value.items() if name not in ("name", "plan")}
        return {name: value[name] for name in ("name", "plan") if name in value} | {"params": rest}

    @model_validator(mode="after")
    def _known(self) -> Variant:
        if (self.name is None) == (self.plan is None):
            raise ValueError("give either the name of a variant or a plan")
        if self.plan is not None:
            if self.params:
                raise ValueError(f"{next(iter(self.params))!r} belongs to a variant: a plan says everything itself")
            try:
                Plan.parse(self.plan)
            except PlanError as error:
                raise ValueError(str(error)) from error
            return self
        takes = variants.find(self.name or "").parameters
        for param, values in self.params.items():
            if param not in takes:
                legal = f"it takes {' and '.join(takes)}" if takes else "it takes none"
                raise ValueError(f"variant {self.name} takes no parameter {param!r}: {legal}")
            if values == "all" and param not in _OF_LAYERS:
                raise ValueError(
                    f"{param}: all: only {' and '.join(_OF_LAYERS)} have an end; give a range such as 1..9"
                )
        if "layer" in takes and "layer" not in self.params:
            raise ValueError(f"variant {self.name} needs the parameter 'layer': give it values, or all")
        return self

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


@dataclass(frozen=True, slots=True)
class Point:
    """A place in the grid: the rule with one value for each of its parameters, and the plan that it builds."""

    variant: str | None  # None where the file gives the plan
    params: Mapping[str, int | str]
    plan: Plan
    kv: str


def points(variant: Variant, num_layers: int, kvs: Sequence[str], where: str, most: int) -> Iterator[Point]:
    """The points of one entry, the caches and the last parameter slowest; errors begin with `where`.

    More than `most` are refused before the first one is made.
    """
    axes = {} if variant.plan is not None else _axes(variant, num_layers, where)
    if (count := math.prod(map(len, axes.values())) * len(kvs)) > most:
        raise ExperimentError(
            f"{where}: with {count} points the experiment has more than {MAX_CELLS} cells for a model of {num_layers} "
            f"layers: ask for fewer values, in several files if need be"
        )
    for kv in kvs:
        for name, params, plan in _plans(variant, axes, num_layers, where):
            # A plan without parallel groups has nothing to average: the same number twice would be two cells.
            exact = plan.is_sequence
            if not (exact and kv != "exact" and "exact" in kvs):
                yield Point(name, params, plan, "exact" if exact else kv)


def spread(column: Sequence[Point]) -> list[Point]:
    """The points with the ends first and then ever finer middles; shuffles seed by seed."""
    by_seed: dict[Any, list[Point]] = {}
    for point in column:
        by_seed.setdefault((point.params.get("seed"), point.kv), []).append(point)
    return [points[i] for points in by_seed.values() for i in _ends_and_middles(len(points))]


def _ends_and_middles(count: int) -> list[int]:
    order = list(dict.fromkeys([0, count - 1])) if count else []
    gaps = [(0, count - 1)]
    for low, high in gaps:  # it grows while it is walked: halves follow their whole
        if high - low > 1:
            middle = (low + high) // 2
            order.append(middle)
            gaps += [(low, middle), (middle, high)]
    return order


def _axes(variant: Variant, num_layers: int, where: str) -> dict[str, list[int | str]]:
    """The values of each parameter of the rule."""
    rule = variants.find(variant.name or "")
    axes: dict[str, list[int | str]] = {}
    for param, default in rule.parameters.items():
        fallback = variants.default_start(num_layers) if default is None else default
        asked = variant.params.get(param, (fallback,))
        axes[param] = []
        axes[param] += _every(rule.name, param, num_layers) if asked == "all" else asked
        if param in variant.only:
            left: list[int | str] = [value for value in axes[param] if value in variant.only[param]]
            if not left and param in variant.params:
                raise ExperimentError(
                    f"{where}.{param}: none of its values is among those of quick.{param}, "
                    f"{list(variant.only[param])}: give quick some that a model of {num_layers} layers has"
                )
            if left:
                axes[param] = left
    return axes


def _plans(
    variant: Variant, axes: Mapping[str, list[int | str]], num_layers: int, where: str
) -> Iterator[tuple[str | None, dict[str, int | str], Plan]]:
    if variant.plan is not None:
        plan = Plan.parse(variant.plan)
        try:
            plan.check(num_layers)
        except PlanError as error:
            raise ExperimentError(f"{where}.plan: {error}. Leave it out for models of this size") from error
        yield None, {}, plan
        return
    name = variants.find(variant.name or "").name
    for values in itertools.product(*reversed(list(axes.values()))):
        params = dict(zip(axes, reversed(values), strict=True))
        try:
            yield name, params, variants.build(name, num_layers, **params)
        except (VariantError, PlanError) as error:
            raise ExperimentError(f"{where}: {error}") from error


def _every(name: str, param: str, num_layers: int) -> list[int]:
    """Every value of `param`, a layer or start, that the rule takes for a model of this size."""
    if param == "start":
        return list(variants.windows(num_layers))
    found = []
    for value in range(num_layers):
        try:
            variants.build(name, num_layers, **{param: value})
        except VariantError:
            continue
        found.append(value)
    return found
