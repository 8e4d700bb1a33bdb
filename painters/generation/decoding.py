"""Greedy decoding of many prompts: rows leave the batch when they are finished, and waiting prompts take their places.

What another plan has answered can be given as a draft: one forward says how much of it this plan would have answered
too, token by token, and decoding goes on from there (speculative decoding, arXiv 2211.17192, where the draft costs
nothing and every token is the likeliest).

The tokens are those of `model.generate`, except where two tokens are likeliest within rounding: sums over batches
and widths of other shapes differ in the last digits, as they do between two batch sizes of `generate`. In bfloat16
such ties are not rare.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import torch
from transformers import GenerationMixin, PreTrainedModel

from painters.errors import first_line
from painters.generation.batch import Batch, Choose, Drafts, Shared
from painters.generation.cache import KINDS, cache_name, new_cache
from painters.memory import MemoryExhausted, free, is_exhausted, without_locals

__all__ = ["eos_tokens", "greedy", "is_supported"]

Stop = Callable[[list[list[int]]], list[bool]]

_PLAIN: Final = {
    *("bos_token_id", "eos_token_id", "pad_token_id", "max_length", "use_cache"),
    *("do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p"),  # of sampling, which greedy decoding is not
    *("output_attentions", "output_hidden_states", "transformers_version", "_from_model_config"),
}
"""Settings in a model's generation_config that greedy decoding can ignore; another one may alter the logits."""


def is_supported(model: Any) -> bool:
    """Whether `greedy` is known to do what `model.generate` does with the model's own settings.

    Not for models that prepare their inputs in a way of their own, that keep something else than keys and values,
    whose positions depend on the longest row, or whose generation_config alters the logits.
    """
    if not isinstance(model, PreTrainedModel) or not isinstance(model, GenerationMixin):
        return False
    kind, config = type(model), model.config
    for method in ("generate", "_sample", "prepare_inputs_for_generation", "_prepare_cache_for_generation"):
        if getattr(kind, method) is not getattr(GenerationMixin, method):
            return False
    parameters = inspect.signature(model.forward).parameters
    if config.is_encoder_decoder or not {"attention_mask", "use_cache"} <= set(parameters) or cache_name(model) is None:
        return False
    if any(rope in str(getattr(config, "rope_parameters", None)) for rope in ("'dynamic'", "'longrope'")):
        return False
    settings = model.generation_config
    if settings.use_cache is False or not set(settings.to_diff_dict()) <= _PLAIN:
        return False
    return all(type(slot) in KINDS for slot in new_cache(config).layers)


def eos_tokens(model: Any) -> frozenset[int]:
    """The tokens at which `model.generate` ends a row."""
    found = model.generation_config.eos_token_id
    return frozenset([found] if isinstance(found, int) else found or ())


@torch.inference_mode()
def greedy(
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
    """The new tokens of each prompt, 1 to `max_new_tokens`, up to and with the first of `eos`.

    `batch_size` rows at most are decoded at once, those of longer prompts and drafts first, while the keys and values
    of half as many further prompts may wait. `stop` is given the new tokens of running rows after each step, and says
    which of these end there. `drafts` holds for each prompt what its new tokens may turn out to be, or nothing; they
    change the time and not the tokens. `done` is called with the index and the tokens of each prompt when it is
    finished.

    Where memory does not suffice, prompts that are not finished begin again in half as many rows; `halved` is told how
    many. Raises MemoryExhausted where one row has no room. `not_finite` is told the index of a prompt for each token
    that no finite number led to.
    """
    if any(not prompt for prompt in prompts):
        raise ValueError("a prompt has no tokens: give each one or more")
    if max_new_tokens < 1 or batch_size < 1:
        raise ValueError(f"{max_new_tokens} new tokens in batches of {batch_size}: give 1 or more of both")
    found: list[list[int]] = [[] for _ in prompts]
    unfinished = set(range(len(prompts)))

    def take(batch: Batch) -> None:
        """Nothing; the batch's new tokens are noted, and its rows that end with them leave."""
        for step in range(max(map(len, batch.new))):
            running = []
            for place, new, finite in zip(batch.rows, batch.new, batch.finite, strict=True):
                if place is not None and step < len(new):
                    found[place].append(new[step])
                    running.append(place)
                    if not_finite is not None and not finite[step]:
                        not_finite(place)
            stopped = [False] * len(running) if stop is None else stop([found[place] for place in running])
            for place, ends in zip(running, stopped, strict=True):
                new = found[place]
                if ends or len(new) == max_new_tokens or new[-1] in eos:
                    batch.rows[batch.rows.index(place)] = None
                    unfinished.discard(place)
                    if done is not None:
                        done(place, new)

    choose = Choose(model)
    shared = Shared(choose, prompts)
    offered = Drafts(drafts if choose.is_flexible else None, max_new_tokens)

    def decode(rows: int) -> None:
        """Nothing; what was unfinished is finished, at most so many rows at once."""
        # The next one last. Rows that begin together are as long as each other with what is run of their drafts.
        waiting = sorted(sorted(unfinished), key=lambda place: len(prompts[place]) + len(offered.of(place)))

        def begin(count: int) -> Batch:
            places = [waiting.pop() for _ in range(min(count, len(waiting)))]
            begun = shared.begin(places, [offered.of(place) for place in places])
            offered.tell(begun)
            take(begun)
            begun.align()
            return begun

        batch: Batch | None = None
        reserve: Batch | None = None  # rows that begin together, cheaper than one by one, and step in when others end
        while waiting or batch is not None:
            if batch is None:
                batch = begin(rows)
            while batch.takes_rows and (waiting or reserve is not None):
                reserve = reserve or begin(max(1, rows // 2))
                batch.join(reserve)
                if not reserve.is_running:
                    reserve = None
            if batch.is_running:
                if not waiting or not batch.is_flexible:
                    batch.shrink()
                batch.step(choose)
                take(batch)
            else:
                batch = None

    while unfinished:
        try:
            decode(batch_size)
        except Exception as error:
            if not is_exhausted(error):
                raise
            if batch_size == 1:
                raise MemoryExhausted(f"memory does not suffice for one row at a time: {first_line(error)}") from error
            without_locals(error)
            batch_size //= 2
            for place in unfinished:
                found[place].clear()
            if halved is not None:
                halved(batch_size)
        if unfinished:
            free()
    return found
