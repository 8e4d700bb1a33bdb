"""Greedy decoding of many prompts, with continuous batching, prefix caching and speculative decoding.

Continuous batching: finished rows leave the batch, and waiting prompts take their places. Prefix caching: what all
prompts begin with runs once. Speculative decoding (arXiv 2211.17192): the answer of another plan can be given as a
draft. One forward shows which of its tokens this plan would have chosen too, and decoding goes on behind them. The
draft costs no forward of its own, and every token is the likeliest one, so no token changes.

The tokens are those of `model.generate`, except where two tokens are likeliest within rounding: sums over tensors of
other shapes differ in the last digits, as they do between two batch sizes of `generate`. In bfloat16 such ties are not
rare.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from transformers import GenerationMixin, PreTrainedModel

from painters import _compat
from painters.errors import first_line
from painters.generation.batch import DecodingBatch, DraftAnswers, GreedyStep, SharedPrefix
from painters.generation.cache import SLOT_TYPES, cache_name, new_cache
from painters.memory import MemoryExhausted, free, is_exhausted, without_locals

__all__ = ["eos_tokens", "greedy", "is_supported"]

Stop = Callable[[list[list[int]]], list[bool]]
"""Takes the new tokens of each running row, and says which of the rows end there."""

_HARMLESS: Final = {
    *("bos_token_id", "eos_token_id", "pad_token_id", "max_length", "use_cache"),
    *("do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p"),  # of sampling, which greedy decoding is not
    *("output_attentions", "output_hidden_states", "transformers_version", "_from_model_config"),
}
"""Settings in a model's generation_config that greedy decoding can ignore; any other may change the logits."""


def is_supported(model: Any) -> bool:
    """Return whether `greedy` is known to do what `model.generate` does with the model's own settings.

    Models are not supported that prepare their inputs in a way of their own, that cache something else than keys and
    values, whose positions depend on the longest row, or whose generation_config changes the logits.

    Args:
        model: A model of the transformers library.

    Returns:
        True for most decoders; False for encoders, and where one of the above holds.

    Examples:
        >>> from painters.models import load_model
        >>> model, _ = load_model("nano-llama", device="cpu")
        >>> is_supported(model)
        True
        >>> is_supported(model.model)  # has no output head
        False
    """
    if not isinstance(model, PreTrainedModel) or not isinstance(model, GenerationMixin):
        return False
    config = model.config
    if _compat.overrides_generation(type(model)):
        return False
    parameters = inspect.signature(model.forward).parameters
    if config.is_encoder_decoder or not {"attention_mask", "use_cache"} <= set(parameters) or cache_name(model) is None:
        return False
    if any(rope in str(getattr(config, "rope_parameters", None)) for rope in ("'dynamic'", "'longrope'")):
        return False
    settings = model.generation_config
    if settings.use_cache is False or not set(settings.to_diff_dict()) <= _HARMLESS:
        return False
    return all(type(slot) in SLOT_TYPES for slot in new_cache(config).layers)


def eos_tokens(model: Any) -> frozenset[int]:
    """Return the tokens at which `model.generate` ends a row.

    Args:
        model: A model of the transformers library.

    Returns:
        The token ids in its generation_config; empty where there is none.

    Examples:
        >>> from painters.models import load_model
        >>> model, tokenizer = load_model("nano-llama", device="cpu")
        >>> eos_tokens(model) == {tokenizer.eos_token_id}
        True
    """
    eos = model.generation_config.eos_token_id
    return frozenset([eos] if isinstance(eos, int) else eos or ())


@torch.inference_mode()
def greedy(  # noqa: PLR0913 - options of a public call, by keyword
    model: Any,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    batch_size: int,
    eos: Collection[int] = (),
    stop: Stop | None = None,
    drafts: Sequence[Sequence[int]] | None = None,
    done: Callable[[int, list[int]], None] | None = None,
    halved: Callable[[int], None] | None = None,
    not_finite: Callable[[int], None] | None = None,
) -> list[list[int]]:
    """Decode the likeliest tokens behind each prompt.

    The prompts that are longest, drafts included, begin first. While a batch runs, the keys and values of half as many
    further prompts may wait beside it.

    Where memory does not suffice, prompts that are not finished begin again in half as many rows.

    Args:
        model: A model that `is_supported`.
        prompts: The tokens of each prompt, one or more, without padding.
        max_new_tokens: The most new tokens of a prompt.
        batch_size: The most rows that are decoded at once.
        eos: Tokens that end a row.
        stop: Called after each step with the new tokens of every running row; returns which of these end there.
        drafts: For each prompt what its new tokens may turn out to be, or nothing. They change the time, and no token.
        done: Called with the index and the new tokens of each prompt when it is finished.
        halved: Called with the new batch size each time it is halved.
        not_finite: Called with the index of a prompt for each of its tokens that was chosen without a finite logit.

    Returns:
        The new tokens of each prompt, 1 to `max_new_tokens`, up to and with the token that ended it.

    Raises:
        ValueError: A prompt is empty, or `max_new_tokens` or `batch_size` is less than 1.
        MemoryExhausted: There is no room for a single row.

    Examples:
        >>> from painters.models import load_model
        >>> model, tokenizer = load_model("nano-llama", device="cpu")
        >>> prompts = tokenizer(["The cat", "Question: What is"])["input_ids"]
        >>> tokens = greedy(model, prompts, 5, batch_size=2, eos=eos_tokens(model))
        >>> [len(row) for row in tokens]
        [5, 5]
        >>> one_by_one = greedy(model, prompts, 5, batch_size=1, eos=eos_tokens(model))
        >>> tokens == one_by_one
        True
    """
    if any(not prompt for prompt in prompts):
        raise ValueError("a prompt has no tokens: give each one or more")
    if max_new_tokens < 1 or batch_size < 1:
        raise ValueError(f"{max_new_tokens} new tokens in batches of {batch_size}: give 1 or more of both")
    step = GreedyStep(model)
    return _Decoding(
        step,
        prompts,
        DraftAnswers(drafts if step.can_move_rows else None, max_new_tokens),
        _EndOfRow(max_new_tokens, eos, stop),
        _Callbacks(done, halved, not_finite),
    ).run(batch_size)


@dataclass(frozen=True, slots=True)
class _EndOfRow:
    """What ends a row."""

    max_new_tokens: int
    eos: Collection[int]
    stop: Stop | None

    def reached(self, rows: list[list[int]]) -> list[bool]:
        """Return which of `rows`, the new tokens of each running row, end with their last token."""
        stopped = [False] * len(rows) if self.stop is None else self.stop(rows)
        return [
            ends or len(row) == self.max_new_tokens or row[-1] in self.eos
            for row, ends in zip(rows, stopped, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class _Callbacks:
    """The functions that `greedy` reports to."""

    done: Callable[[int, list[int]], None] | None
    halved: Callable[[int], None] | None
    not_finite: Callable[[int], None] | None


class _Decoding:
    """The state of one call of `greedy`: new tokens so far, unfinished prompts, waiting prompts."""

    def __init__(
        self,
        step: GreedyStep,
        prompts: Sequence[Sequence[int]],
        drafts: DraftAnswers,
        end: _EndOfRow,
        callbacks: _Callbacks,
    ) -> None:
        self._step, self._prompts, self._drafts, self._end, self._callbacks = step, prompts, drafts, end, callbacks
        self._prefix = SharedPrefix(step, prompts)
        self._new_tokens: list[list[int]] = [[] for _ in prompts]
        self._unfinished = set(range(len(prompts)))
        self._waiting: list[int] = []
        """The prompts that are not in a batch yet; the last one is next."""

    def run(self, batch_size: int) -> list[list[int]]:
        """Finish every prompt, in smaller batches where memory does not suffice, and return the new tokens."""
        while self._unfinished:
            try:
                self._decode(batch_size)
            except Exception as error:
                if not is_exhausted(error):
                    raise
                if batch_size == 1:
                    raise MemoryExhausted(
                        f"memory does not suffice for one row at a time: {first_line(error)}"
                    ) from error
                without_locals(error)  # which held the caches
                batch_size //= 2
                self._begin_again(batch_size)
            if self._unfinished:
                free()
        return self._new_tokens

    def _decode(self, batch_size: int) -> None:
        """Finish every unfinished prompt, at most `batch_size` rows at once (continuous batching)."""
        self._waiting = self._shortest_first()
        batch: DecodingBatch | None = None
        # Rows that begin together, cheaper than one by one, and take the places of those that end.
        reserve: DecodingBatch | None = None
        while self._waiting or batch is not None:
            if batch is None:
                batch = self._prefill(batch_size)
            while batch.has_room and (self._waiting or reserve is not None):
                reserve = reserve or self._prefill(max(1, batch_size // 2))
                batch.admit(reserve)
                if not reserve.is_running:
                    reserve = None
            if batch.is_running:
                if not self._waiting or not batch.can_move_rows:
                    batch.drop_finished()
                batch.decode_step(self._step)
                self._collect(batch)
            else:
                batch = None

    def _shortest_first(self) -> list[int]:
        """Return the unfinished prompts by length, so that prompts of like length begin together.

        The drafted tokens that are run with a prompt count. Equally long prompts stay in the order of their indices.
        """
        lengths = {index: len(self._prompts[index]) + len(self._drafts.tokens_for(index)) for index in self._unfinished}
        return sorted(sorted(self._unfinished), key=lengths.__getitem__)

    def _prefill(self, count: int) -> DecodingBatch:
        """Run the next `count` waiting prompts, or all, with their drafts; collect the tokens that this gives."""
        indices = [self._waiting.pop() for _ in range(min(count, len(self._waiting)))]
        batch = self._prefix.prefill(indices, [self._drafts.tokens_for(index) for index in indices])
        self._drafts.record(batch)
        self._collect(batch)
        batch.drop_rejected()
        return batch

    def _collect(self, batch: DecodingBatch) -> None:
        """Add the new tokens of `batch` to its prompts, position by position, and finish rows that end."""
        for position in range(max(map(len, batch.new_tokens))):
            running = []
            for index, tokens, is_finite in zip(batch.prompts, batch.new_tokens, batch.is_finite, strict=True):
                if index is not None and position < len(tokens):
                    running.append(index)
                    self._add(index, tokens[position], is_finite[position])
            ended = self._end.reached([self._new_tokens[index] for index in running])
            for index in itertools.compress(running, ended):
                batch.prompts[batch.prompts.index(index)] = None
                self._finish(index)

    def _add(self, index: int, token: int, is_finite: bool) -> None:
        """Add one new token to those of a prompt."""
        self._new_tokens[index].append(token)
        if self._callbacks.not_finite is not None and not is_finite:
            self._callbacks.not_finite(index)

    def _finish(self, index: int) -> None:
        """Take a prompt off the unfinished ones, and report its tokens."""
        self._unfinished.discard(index)
        if self._callbacks.done is not None:
            self._callbacks.done(index, self._new_tokens[index])

    def _begin_again(self, batch_size: int) -> None:
        """Forget the new tokens of unfinished prompts, and report the smaller batch size."""
        for index in self._unfinished:
            self._new_tokens[index].clear()
        if self._callbacks.halved is not None:
            self._callbacks.halved(batch_size)
