"""The protocol of a scoring: which documents, in which prompts, in which batches and number type."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from painters.documents import ONE_OF_TWO, DocumentSelection, checked_limit

__all__ = ["Chat", "EncoderProtocol", "Protocol", "ScoringProtocol"]

Count: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=10**9)]
Limit: TypeAlias = Annotated[int | float, BeforeValidator(checked_limit)]
"""A number of documents, or a share of them between 0 and 1."""
Whole: TypeAlias = Annotated[int, Field(strict=True, ge=0, le=2**32 - 1)]
Template: TypeAlias = bool | Annotated[str, Field(min_length=1, max_length=300)]
Instruction: TypeAlias = Annotated[str, Field(max_length=20_000)]
Kv: TypeAlias = Literal["exact", "averaged"]


class Chat(BaseModel):
    """How prompts are made into conversations, in the words of lm-eval's options.

    Attributes:
        apply_chat_template: Whether the tokenizer's chat template is applied; or the name of one of its templates.
        system_instruction: The text that prompts begin with, as the system's turn where a template is applied.
        fewshot_as_multiturn: Whether each example is a turn of its own; otherwise all are in the user's one turn.

    Examples:
        >>> Protocol(apply_chat_template=True).chat
        Chat(apply_chat_template=True, system_instruction=None, fewshot_as_multiturn=True)
        >>> print(Protocol().chat)
        None
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    apply_chat_template: Template = False
    system_instruction: Instruction | None = None
    fewshot_as_multiturn: bool = False


class Protocol(BaseModel):
    """How plans are scored, as an experiment file says it under `protocol:`.

    The object is immutable and compares by value. Unknown fields are refused.

    Attributes:
        limit: The number of documents of each task, from the first on, or a share of them, such as 0.1. None: all.
        sample: The number of documents of each task that are drawn at random, in place of `limit`. None: none are.
        sample_seed: The seed of the draw.
        shots: The number of examples in the prompt. None: the task's own number.
        apply_chat_template: Whether prompts are put into the tokenizer's chat template; or the name of one of several.
        system_instruction: A text that prompts begin with, as the system's turn where a template is applied.
        fewshot_as_multiturn: Whether examples are turns of their own in the chat template. None: they are.
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

    limit: Limit | None = None
    sample: Count | None = None
    sample_seed: Whole = 0
    shots: Whole | None = None
    apply_chat_template: Template = False
    system_instruction: Instruction | None = None
    fewshot_as_multiturn: bool | None = None
    batch_size: Count = 8
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    seed: Whole = 1234
    exact_batching: bool = False

    @model_validator(mode="after")
    def _check(self) -> Protocol:
        """Raise ValueError where two fields exclude one another, or one needs another."""
        if self.limit is not None and self.sample is not None:
            raise ValueError(ONE_OF_TWO)
        if self.fewshot_as_multiturn and not self.apply_chat_template:
            raise ValueError("fewshot_as_multiturn makes turns in a chat template: set apply_chat_template too")
        return self

    @property
    def selection(self) -> DocumentSelection:
        """The documents of each task that are scored."""
        return DocumentSelection(self.limit, self.sample, self.sample_seed if self.sample is not None else 0)

    @property
    def chat(self) -> Chat | None:
        """How prompts are made into conversations; None where they are lm-eval's plain ones."""
        template, instruction = self.apply_chat_template, self.system_instruction or None
        if not template and instruction is None:
            return None
        multiturn = bool(template) and self.fewshot_as_multiturn is not False
        return Chat(apply_chat_template=template, system_instruction=instruction, fewshot_as_multiturn=multiturn)


class EncoderProtocol(Protocol):
    """How an encoder is scored.

    `limit` and `sample` count documents of the validation split, and `seed` is that of the fine-tuning.

    Attributes:
        shots: Always None: an encoder is asked without examples.
        apply_chat_template: Always False, and the two fields after it None: an encoder reads no prompts.
        exact_batching: Always False: lm-eval does not score encoders.

    Examples:
        >>> EncoderProtocol().batch_size
        32
    """

    shots: None = None
    apply_chat_template: Literal[False] = False
    system_instruction: None = None
    fewshot_as_multiturn: None = None
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
