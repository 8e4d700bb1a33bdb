"""The fields of an experiment file: models, tasks, tunings and quick forms.

Short forms are accepted: a name alone for a model, task or tuning, and a single entry for a list of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from painters.experiment.grid import VariantEntry, parse_values
from painters.experiment.protocol import Count, Limit, Whole
from painters.experiment.tuning import Tuning


def as_list(value: Any) -> Any:
    """Return a list of one item for a single name or mapping, and anything else as it is."""
    return [value] if isinstance(value, str | Mapping) else value


def _from_name(value: Any) -> Any:
    """Return the fields that a name alone stands for, and anything else as it is."""
    return {"name": value} if isinstance(value, str) else value


def _from_protocol(value: Any) -> Any:
    """Return the fields of a tuning that its protocol alone stands for, and anything else as it is."""
    return {"protocol": value} if isinstance(value, str) else value


Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
"""1 to 300 characters without control characters."""
ShownName: TypeAlias = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
"""What figures and reports call a model: 1 to 60 characters without control characters."""
Numbers: TypeAlias = Annotated[tuple[Whole, ...], BeforeValidator(parse_values)] | None
"""Values of a parameter, written as `parse_values` reads them."""
Mode: TypeAlias = Literal["token", "flat", "first-excluded", "centred"]
"""The names in `painters.similarity.MODES`."""


class FrozenFields(BaseModel):
    """Fields that cannot be changed; unknown ones are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Model(FrozenFields):
    """A model of an experiment.

    Attributes:
        name: A bundled model, a folder, or a model of the hub.
        revision: The revision on the hub; None for the newest.
        num_layers: The number of layers, for planning where the model's configuration is not at hand. A model that is
            loaded has the layers of its configuration.
        stack: Which stack of layers plans run, where the model has several: "encoder" or "decoder", or a path.
        shown: What figures and reports call it; None for a name made from `name`.

    Examples:
        >>> from painters.experiment import Model
        >>> Model(name="meta-llama/Llama-2-7b-hf", num_layers=32)
        Model(name='meta-llama/Llama-2-7b-hf', revision=None, num_layers=32, stack=None, shown=None)
    """

    name: Text
    revision: Text | None = None
    num_layers: Annotated[int, Field(strict=True, ge=1, le=1000)] | None = None
    stack: Text | None = None
    shown: ShownName | None = None


class TaskEntry(FrozenFields):
    """A task of an experiment.

    Attributes:
        name: The name of a task, or a path. A decoder's task may be the path of a YAML that is named after the task.
            An encoder's may be the path, with a slash in it, of a folder that is named after the task and holds its
            documents.
        shots: The number of examples in the prompt; None for that of the protocol.
        limit: The number of documents, or a share of them; None for what the protocol says.
    """

    name: Text
    shots: Whole | None = None
    limit: Limit | None = None

    @property
    def is_path(self) -> bool:
        """Whether the name is a path."""
        return "/" in self.name or self.name.endswith((".yaml", ".yml"))


class Quick(FrozenFields):
    """The section `quick`: what `quickened` leaves of a grid.

    Attributes:
        limit: The most documents of each task.
        start: The values of `start` that are left; None for all.
        layer: The values of `layer` that are left; None for all.
        loops: The values of `loops` that are left; None for all.
        seed: The values of `seed` that are left; None for all.
    """

    limit: Count
    start: Numbers = None
    layer: Numbers = None
    loops: Numbers = None
    seed: Numbers = None

    @property
    def only(self) -> dict[str, tuple[int, ...]]:
        """The values that are left of each restricted parameter."""
        left = {name: getattr(self, name) for name in ("start", "layer", "loops", "seed")}
        return {name: values for name, values in left.items() if values}


class EncoderQuick(Quick):
    """The section `quick` of an encoder's grid, which may also shorten the fine-tuning.

    Attributes:
        documents: The most training documents; None for no limit.
        epochs: The most epochs; None for no limit.
    """

    documents: Count | None = None
    epochs: Annotated[int, Field(strict=True, ge=1, le=1000)] | None = None


Models: TypeAlias = Annotated[tuple[Annotated[Model, BeforeValidator(_from_name)], ...], BeforeValidator(as_list)]
Tasks: TypeAlias = Annotated[tuple[Annotated[TaskEntry, BeforeValidator(_from_name)], ...], BeforeValidator(as_list)]
Variants: TypeAlias = Annotated[tuple[VariantEntry, ...], BeforeValidator(as_list)]
Tunings: TypeAlias = Annotated[tuple[Annotated[Tuning, BeforeValidator(_from_protocol)], ...], BeforeValidator(as_list)]
Names: TypeAlias = tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,60}$")], ...]
