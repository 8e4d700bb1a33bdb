"""What an experiment file may say: its fields and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from painters._experiment_grid import Point, Variant, points, values
from painters._experiment_yaml import ExperimentError

MAX_CELLS = 100_000
MAX_STEPS = 10_000_000  # of all plans of an experiment together


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | Mapping) else value


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
Count: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=10**9)]
Whole: TypeAlias = Annotated[int, Field(strict=True, ge=0, le=2**32 - 1)]
Some: TypeAlias = Annotated[tuple[Whole, ...], BeforeValidator(values)] | None
Kv: TypeAlias = Literal["exact", "averaged"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Model(_Part):
    """A model by name; `num_layers` is only a statement for planning where its configuration is not at hand."""

    name: Text
    revision: Text | None = None
    num_layers: Annotated[int, Field(strict=True, ge=1, le=1000)] | None = None


class Task(_Part):
    """A task by name, or by the path of a YAML called like its task; its shots and limit go before the protocol's."""

    name: Text
    shots: Whole | None = None
    limit: Count | None = None


class Protocol(_Part):
    """How a plan is scored. None: all documents, the task's own number of shots."""

    limit: Count | None = None
    shots: Whole | None = None
    batch_size: Count = 8
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    seed: Whole = 1234  # of the few-shot prompts; lm-eval's own


class Quick(_Part):
    """What `quickened` leaves of the grid: so many documents, and of each parameter only these values."""

    limit: Count
    start: Some = None
    layer: Some = None
    loops: Some = None
    seed: Some = None


Models: TypeAlias = Annotated[tuple[Annotated[Model, BeforeValidator(_named)], ...], BeforeValidator(_listed)]
Tasks: TypeAlias = Annotated[tuple[Annotated[Task, BeforeValidator(_named)], ...], BeforeValidator(_listed)]
Names: TypeAlias = tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,60}$")], ...]


class Experiment(_Part):
    """A validated experiment file. `include` adds the cells of other files in its folder."""

    title: Text
    figure: Annotated[int, Field(strict=True, ge=1, le=99)] | None = None
    include: Names = ()
    models: Models = ()
    tasks: Tasks = ()
    variants: Annotated[tuple[Variant, ...], BeforeValidator(_listed)] = ()
    kv: Annotated[tuple[Kv, ...], BeforeValidator(_listed), Field(min_length=1)] = ("exact",)
    protocol: Protocol = Protocol()
    quick: Quick | None = None

    name: str = Field(default="", exclude=True)
    included: tuple[Experiment, ...] = Field(default=(), exclude=True)

    @model_validator(mode="after")
    def _whole(self) -> Experiment:
        wanted = {"models": self.models, "tasks": self.tasks, "variants": self.variants}
        missing = [name for name, value in wanted.items() if not value]
        if len(missing) == 3 and not self.include:
            raise ValueError("an experiment needs models, tasks and variants, or what to include")
        if missing and (not self.include or len(missing) < 3):
            raise ValueError(f"{' and '.join(missing)} must name at least one")
        for field_name, given in wanted.items():
            if len(set(given)) < len(given):
                raise ValueError(f"{field_name} names one twice: keep one of them")
        if idle := {"kv", "protocol", "quick"} & self.model_fields_set if missing else None:
            raise ValueError(f"{min(idle)} belongs to a grid of its own: included files bring theirs")
        return self

    @property
    def parts(self) -> tuple[Experiment, ...]:
        """This experiment where it has a grid of its own, and the included ones."""
        return (*((self,) if self.models else ()), *self.included)

    def with_model(self, name: str, revision: str | None = None) -> Experiment:
        """The same questions asked of another model."""
        return self._each(lambda part: {"models": (Model(name=name, revision=revision),)} if part.models else {})

    def with_limit(self, limit: int) -> Experiment:
        """The same with at most the first `limit` documents of each task."""
        return self._each(lambda part: part._limited(limit))

    def quickened(self) -> Experiment:
        """The grid that the section `quick` leaves; ExperimentError where there is none."""
        return self._each(Experiment._quick)

    def grid(self, num_layers: int) -> tuple[Point, ...]:
        """Every point of the experiment's own grid for a model of this size, variant by variant, its axes in order.

        Different points may have equal plans: all windows of one layer that reorder it are the intact model.
        """
        return tuple(point for column in self.columns(num_layers) for point in column)

    def _each(self, change: Callable[[Experiment], dict[str, Any]]) -> Experiment:
        included = tuple(part._each(change) for part in self.included)
        return self.model_copy(update={"included": included, **change(self)})

    def _limited(self, limit: int) -> dict[str, Any]:
        least = min(limit, self.protocol.limit or limit)
        tasks = tuple(t.model_copy(update={"limit": min(t.limit, limit)}) if t.limit else t for t in self.tasks)
        return {"protocol": self.protocol.model_copy(update={"limit": least}), "tasks": tasks}

    def _quick(self) -> dict[str, Any]:
        if not self.models:
            return {}
        if self.quick is None:
            raise ExperimentError(
                f"experiment {self.name} has no quick form: add a section `quick: {{limit: 40}}`, or run it whole"
            )
        only = {name: values for name, values in self.quick.model_dump(exclude={"limit"}).items() if values}
        variants = tuple(variant.model_copy(update={"only": only}) for variant in self.variants)
        return {**self._limited(self.quick.limit), "variants": variants}

    def columns(self, num_layers: int) -> list[list[Point]]:
        """The points of each variant; ExperimentError names what does not fit a model of this size."""
        columns: list[list[Point]] = []
        count = steps = 0
        for number, variant in enumerate(self.variants):
            columns.append([])
            for point in points(variant, num_layers, self.kv, f"experiment {self.name}: variants.{number}"):
                columns[-1].append(point)
                count, steps = count + len(self.tasks), steps + len(point.plan.steps)
                if steps > MAX_STEPS or count > MAX_CELLS:
                    raise ExperimentError(
                        f"experiment {self.name}: more than {MAX_CELLS} cells or {MAX_STEPS} steps of plans for a "
                        f"model of {num_layers} layers: ask for fewer values, in several files if need be"
                    )
        return columns
