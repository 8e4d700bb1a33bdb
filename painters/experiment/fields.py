"""The fields of an experiment file: single models, tasks and protocols, and what may stand for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from painters.experiment.grid import Variant, values
from painters.experiment.protocol import Count, Whole
from painters.experiment.tuning import Tuning


def listed(value: Any) -> Any:
    return [value] if isinstance(value, str | Mapping) else value


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _protocol(value: Any) -> Any:
    return {"protocol": value} if isinstance(value, str) else value


Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
Some: TypeAlias = Annotated[tuple[Whole, ...], BeforeValidator(values)] | None
Mode: TypeAlias = Literal["token", "flat", "first-excluded", "centred"]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Model(Part):
    """A model by name; `num_layers` is only a statement for planning where its configuration is not at hand."""

    name: Text
    revision: Text | None = None
    num_layers: Annotated[int, Field(strict=True, ge=1, le=1000)] | None = None


class Task(Part):
    """A task by name, or by the path of a YAML called like its task; its shots and limit go before the protocol's.

    An encoder's is named, or a folder called like it that holds its documents, with a slash in its path.
    """

    name: Text
    shots: Whole | None = None
    limit: Count | None = None

    @property
    def is_path(self) -> bool:
        """Whether the name is a path."""
        return "/" in self.name or self.name.endswith((".yaml", ".yml"))


class Quick(Part):
    """What `quickened` leaves of the grid: so many documents, and of each parameter only these values."""

    limit: Count
    start: Some = None
    layer: Some = None
    loops: Some = None
    seed: Some = None

    @property
    def only(self) -> dict[str, tuple[int, ...]]:
        """The values left of each parameter that has some."""
        left = {name: getattr(self, name) for name in ("start", "layer", "loops", "seed")}
        return {name: values for name, values in left.items() if values}


class EncoderQuick(Quick):
    """What `quickened` leaves of an encoder's grid; it may also be trained for less time on fewer documents."""

    documents: Count | None = None
    epochs: Annotated[int, Field(strict=True, ge=1, le=1000)] | None = None


Models: TypeAlias = Annotated[tuple[Annotated[Model, BeforeValidator(_named)], ...], BeforeValidator(listed)]
Tasks: TypeAlias = Annotated[tuple[Annotated[Task, BeforeValidator(_named)], ...], BeforeValidator(listed)]
Variants: TypeAlias = Annotated[tuple[Variant, ...], BeforeValidator(listed)]
Tunings: TypeAlias = Annotated[tuple[Annotated[Tuning, BeforeValidator(_protocol)], ...], BeforeValidator(listed)]
Names: TypeAlias = tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,60}$")], ...]
