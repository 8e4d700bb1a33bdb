"""Move rows and tokens in the key-value cache of a batch that is being decoded, in every slot alike.

The tensors of a slot are `[rows, heads, tokens, width]`. Rows are padded on the left, so the newest token of every row
is the last one.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

SLOT_TYPES = (DynamicLayer, DynamicSlidingWindowLayer)
"""The types of slot, subclasses not included, that rows can leave (`DynamicCache.batch_select_indices`)."""


def new_cache(config: Any) -> DynamicCache:
    """Return the empty cache that `generate` makes for a model of this configuration."""
    return DynamicCache(config=config.get_text_config(decoder=True))


def cache_name(module: nn.Module) -> str | None:
    """Return the name of the argument that takes the cache in a model's or layer's forward, or None.

    Up to transformers 5.23 that is `past_key_values`. Models with code of their own keep this name later too.
    """
    parameters = inspect.signature(module.forward).parameters
    return next((name for name in ("past_key_values", "cache") if name in parameters), None)


def can_move_rows(cache: DynamicCache) -> bool:
    """Return whether the functions below can change `cache`: no slot forgets tokens (sliding window)."""
    return all(type(slot) is DynamicLayer for slot in cache.layers)


def replace_rows(cache: DynamicCache, rows: Tensor, source: DynamicCache, source_rows: Tensor) -> None:
    """Overwrite `rows` of `cache` with `source_rows` of `source`, padded on the left.

    `source` must not have more tokens than `cache`.
    """
    for slot, source_slot in zip(_slots(cache), _slots(source), strict=True):
        to, taken = rows.to(slot.keys.device), source_rows.to(slot.keys.device)
        padding = slot.get_seq_length() - source_slot.get_seq_length()
        # The padding is written too: what stood there may not be finite, and no mask hides that.
        slot.keys[to] = pad(source_slot.keys[taken], (0, 0, padding, 0))
        slot.values[to] = pad(source_slot.values[taken], (0, 0, padding, 0))


def drop_first_tokens(cache: DynamicCache, count: int) -> None:
    """Remove the first `count` tokens of every row."""
    for slot in _slots(cache):
        slot.keys, slot.values = slot.keys[:, :, count:], slot.values[:, :, count:]


def pad_left(cache: DynamicCache, count: int) -> None:
    """Put `count` tokens of zeros in front of every row."""
    for slot in _slots(cache):
        slot.keys, slot.values = pad(slot.keys, (0, 0, count, 0)), pad(slot.values, (0, 0, count, 0))


def drop_last_tokens(cache: DynamicCache, counts: Tensor) -> None:
    """Remove the last `counts` tokens of each row, `[rows]`, and move the rest right to the end."""
    for slot in _slots(cache):
        columns = torch.arange(slot.get_seq_length())[None] - counts[:, None]
        columns = columns.clamp(min=0).to(slot.keys.device)
        rows = torch.arange(len(counts), device=columns.device)[:, None]
        slot.keys = slot.keys.transpose(1, 2)[rows, columns].transpose(1, 2)
        slot.values = slot.values.transpose(1, 2)[rows, columns].transpose(1, 2)


def repeat_shifted(cache: DynamicCache, shifts: Tensor) -> DynamicCache:
    """Return a cache with a row for each of `shifts`: the only row of `cache`, moved right by it.

    `shifts` is `[rows]`, in tokens. Each row keeps the length of `cache`, so as many tokens fall off its end. `cache`
    itself can still be continued.
    """
    repeated = copy.copy(cache)
    repeated.layers = [copy.copy(slot) for slot in cache.layers]
    for slot in _slots(repeated):
        columns = torch.arange(slot.get_seq_length())[None] - shifts[:, None]
        columns = columns.clamp(min=0).to(slot.keys.device)
        slot.keys = slot.keys[0][:, columns].transpose(0, 1)
        slot.values = slot.values[0][:, columns].transpose(0, 1)
    return repeated


def _slots(cache: DynamicCache) -> list[Any]:
    """Return the slots of `cache` without their declared types, which leave `keys` and `values` optional."""
    return cache.layers
