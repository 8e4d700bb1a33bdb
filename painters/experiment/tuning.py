"""How an encoder is fine-tuned before it is scored; light, so that experiments and records can hold it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Protocol: TypeAlias = Literal["retuned", "frozen", "operated"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
RATES: dict[Protocol, float] = {"retuned": 2e-5, "frozen": 3e-2, "operated": 2e-5}
"""The paper's learning rates; it has no protocol `operated`, which takes that of `retuned`."""
STATES_BYTES = 2**31
"""Room for the states of plans that are scored together under `frozen`; where they take more, groups of them are."""


class Tuning(BaseModel):
    """Everything that determines a fine-tuning but model, plan, task and seed. Defaults are the paper's.

    AdamW; the rate rises over the share `warmup` of the steps and then falls to zero on a line; gradients are clipped
    to a norm of 1, as transformers' Trainer does.

    - `retuned`: the plan is installed first, so training and scoring both run it (the paper's Figures 4 to 9).
    - `frozen`: as `retuned`, but only the classifier learns (the paper's A.9).
    - `operated`: the intact model is fine-tuned once, then scored under the plan (not in the paper).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: Protocol
    epochs: Annotated[int, Field(strict=True, ge=1, le=1000)] = 3
    rate: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = RATES["retuned"]  # or that of the protocol
    batch_size: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 32
    warmup: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.0
    weight_decay: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = 0.0
    max_length: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 128
    documents: Annotated[int, Field(strict=True, ge=1)] | None = None  # of the training split, None: all
    precision: Literal["float32", "bfloat16"] = "float32"  # of the products in training; weights stay as they are

    @model_validator(mode="before")
    @classmethod
    def _with_rate(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and fields.get("rate") is None and fields.get("protocol") in PROTOCOLS:
            return fields | {"rate": RATES[fields["protocol"]]}
        return fields
