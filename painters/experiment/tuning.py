"""The settings of an encoder's fine-tuning, as experiments and records hold them.

This module loads no torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["PROTOCOLS", "RATES", "STATES_BYTES", "Tuning", "TuningProtocol"]

TuningProtocol: TypeAlias = Literal["retuned", "frozen", "operated"]
"""How a fine-tuning and a plan go together; see `Tuning`."""
PROTOCOLS: tuple[TuningProtocol, ...] = get_args(TuningProtocol)
"""The protocols, by name."""
RATES: dict[TuningProtocol, float] = {"retuned": 2e-5, "frozen": 3e-2, "operated": 2e-5}
"""The default learning rates: the paper's. `operated`, which is not in the paper, takes that of `retuned`."""
STATES_BYTES = 2**31
"""The most memory for the hidden states of plans that `frozen` scores together; more plans are scored in groups."""


class Tuning(BaseModel):
    """The settings of a fine-tuning: all that determines it except for the model, plan, task and seed.

    The defaults are the paper's. The optimiser is AdamW. The learning rate rises linearly over the first steps and then
    falls linearly to zero. Gradients are clipped to a norm of 1, as transformers' Trainer does. The object is
    immutable, compares by value and refuses unknown fields.

    Attributes:
        protocol: How the fine-tuning and the plan go together. `"retuned"` installs the plan first, so that training
            and scoring both run it (the paper's Figures 4 to 9). `"frozen"` does the same, but trains the classifier
            alone (the paper's A.9). `"operated"` fine-tunes the intact model once and then scores it under the plan
            (not in the paper).
        epochs: How often the training goes through its documents.
        rate: The highest learning rate; by default that of the protocol in `RATES`.
        batch_size: Documents in a training batch.
        warmup: The share of the steps over which the learning rate rises, from 0 to below 1.
        weight_decay: AdamW's weight decay.
        max_length: The length in tokens to which inputs are cut.
        documents: The number of training documents, from the first on; None for all.
        precision: The number type of the matrix products in training. The weights keep theirs.

    Raises:
        ValidationError: A field is unknown, missing or out of range. The class is pydantic's.

    Examples:
        >>> from painters.experiment.tuning import Tuning
        >>> tuning = Tuning(protocol="frozen", epochs=5)
        >>> tuning.rate, tuning.batch_size
        (0.03, 32)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: TuningProtocol
    epochs: Annotated[int, Field(strict=True, ge=1, le=1000)] = 3
    rate: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = RATES["retuned"]
    batch_size: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 32
    warmup: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.0
    weight_decay: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = 0.0
    max_length: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 128
    documents: Annotated[int, Field(strict=True, ge=1)] | None = None
    precision: Literal["float32", "bfloat16"] = "float32"

    @model_validator(mode="before")
    @classmethod
    def _fill_rate(cls, fields: Any) -> Any:
        """Set the rate to that of the protocol if it is not given."""
        if isinstance(fields, dict) and fields.get("rate") is None and fields.get("protocol") in PROTOCOLS:
            return fields | {"rate": RATES[fields["protocol"]]}
        return fields
