"""The protocol of a scoring: which documents, how many shots, in which batches and number type."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["EncoderProtocol", "Protocol", "ScoringProtocol"]

Count: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=10**9)]
Whole: TypeAlias = Annotated[int, Field(strict=True, ge=0, le=2**32 - 1)]
Kv: TypeAlias = Literal["exact", "averaged"]


class Protocol(BaseModel):
    """How plans are scored, as an experiment file says it under `protocol:`.

    The object is immutable and compares by value. Unknown fields are refused.

    Attributes:
        limit: The number of documents of each task, from the first on. None: all of them.
        shots: The number of examples in the prompt. None: the task's own number.
        batch_size: Rows in a batch.
        dtype: The number type in which a model's weights are loaded. A loaded model keeps its own.
        seed: The seed of the few-shot prompts. The default is lm-eval's own.
        exact_batching: Whether to form lm-eval's own batches, which gives its numbers to the last digit.

    Examples:
        >>> protocol = Protocol(limit=100, shots=5)
        >>> protocol.batch_size, protocol.seed
        (8, 1234)
        >>> protocol == Protocol(shots=5, limit=100)
        True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit: Count | None = None
    shots: Whole | None = None
    batch_size: Count = 8
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    seed: Whole = 1234
    exact_batching: bool = False


class EncoderProtocol(Protocol):
    """How an encoder is scored.

    `limit` counts documents of the validation split, and `seed` is that of the fine-tuning.

    Attributes:
        shots: Always None: an encoder is asked without examples.
        exact_batching: Always False: lm-eval does not score encoders.

    Examples:
        >>> EncoderProtocol().batch_size
        32
    """

    shots: None = None
    exact_batching: Literal[False] = False
    batch_size: Count = 32
    seed: Whole = 42  # the paper's


class ScoringProtocol(Protocol):
    """The protocol of one scoring: that of an experiment, and the one cache of its parallel groups.

    Experiment files list their caches beside `protocol:`, not under it, so this is a class of its own.

    Attributes:
        kv: How parallel groups fill the cache: "exact", or "averaged" as the paper's released code does.

    Examples:
        >>> ScoringProtocol(limit=2, exact_batching=True).batching
        'lm-eval'
        >>> ScoringProtocol(kv="averaged").batching
        'shared'
    """

    kv: Kv = "exact"

    @property
    def batching(self) -> Literal["lm-eval", "shared"]:
        """The kind of batches that was asked for, as the key of a cell names it."""
        return "lm-eval" if self.exact_batching else "shared"
