"""The fields of an experiment file: single models, tasks and protocols, and what may stand for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from painters.experiment.grid import Variant, values
from painters.experiment.tuning import Tuning


def listed(value: Any) -> Any:
    return [value] if isinstance(value, str | Mapping) else value


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _protocol(value: Any) -> Any:
    return {"protocol": value} if isinstance(value, str) else value


Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
Count: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=10**9)]
Whole: TypeAlias = Annotated[int, Field(strict=True, ge=0, le=2**32 - 1)]
Some: TypeAlias = Annotated[tuple[Whole, ...], BeforeValidator(values)] | None
Kv: TypeAlias = Literal["exact", "averaged"]
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


class Protocol(Part):
    """How a plan is scored. None: all documents, the task's own number of shots."""

    limit: Count | None = None
    shots: Whole | None = None
    batch_size: Count = 8
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    seed: Whole = 1234  # of the few-shot prompts; lm-eval's own
    exact_batching: bool = False  # lm-eval's batches, for numbers that are its own to the last digit


class EncoderProtocol(Protocol):
    """How an encoder is scored; `limit` counts validation documents, and the seed is that of its fine-tuning."""

    shots: None = None
    exact_batching: Literal[False] = False
    batch_size: Count = 32
    seed: Whole = 42  # the paper's


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
