"""Rows that come and go in the cache of a batch that is being decoded, in every slot alike."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

KINDS = (DynamicLayer, DynamicSlidingWindowLayer)
"""The kinds of slot, exactly these, that rows can leave (`DynamicCache.batch_select_indices`)."""


def new_cache(config: Any) -> DynamicCache:
    """The cache that `generate` makes for a model of this configuration."""
    return DynamicCache(config=config.get_text_config(decoder=True))


def cache_name(module: nn.Module) -> str | None:
    """What the forward of a model or layer calls the cache that it is given; None where it takes none.

    Up to transformers 5.23 that is `past_key_values`, and in models with code of their own it still is.
    """
    parameters = inspect.signature(module.forward).parameters
    return next((name for name in ("past_key_values", "cache") if name in parameters), None)


def is_flexible(cache: DynamicCache) -> bool:
    """Whether the functions below can handle `cache`: every slot keeps all tokens [rows, heads, tokens, width]."""
    return all(type(slot) is DynamicLayer for slot in cache.layers)


def join(cache: DynamicCache, to: Tensor, other: DynamicCache, of: Tensor) -> None:
    """Nothing; the rows `to` of `cache` are the rows `of` of `other`, which has no more tokens, with zeros in front."""
    for slot, new in zip(_slots(cache), _slots(other), strict=True):
        rows, chosen = to.to(slot.keys.device), of.to(slot.keys.device)
        blank = slot.get_seq_length() - new.get_seq_length()
        # Also in front: what stood there may be no finite number, and that no mask hides.
        slot.keys[rows] = pad(new.keys[chosen], (0, 0, blank, 0))
        slot.values[rows] = pad(new.values[chosen], (0, 0, blank, 0))


def drop_left(cache: DynamicCache, tokens: int) -> None:
    """Nothing; the first `tokens` of every row are gone."""
    for slot in _slots(cache):
        slot.keys, slot.values = slot.keys[:, :, tokens:], slot.values[:, :, tokens:]


def add_left(cache: DynamicCache, tokens: int) -> None:
    """Nothing; every row begins with so many tokens more, all zeros."""
    for slot in _slots(cache):
        slot.keys, slot.values = pad(slot.keys, (0, 0, tokens, 0)), pad(slot.values, (0, 0, tokens, 0))


def move_right(cache: DynamicCache, places: Tensor) -> None:
    """Nothing; each row stands so many `places` [rows] further right, and as many of its last tokens are gone."""
    for slot in _slots(cache):
        columns = torch.arange(slot.get_seq_length())[None] - places[:, None]
        columns = columns.clamp(min=0).to(slot.keys.device)
        rows = torch.arange(len(places), device=columns.device)[:, None]
        slot.keys = slot.keys.transpose(1, 2)[rows, columns].transpose(1, 2)
        slot.values = slot.values.transpose(1, 2)[rows, columns].transpose(1, 2)


def spread(cache: DynamicCache, blanks: Tensor) -> DynamicCache:
    """A cache with a row for each of `blanks`: the tokens of the only row of `cache`, moved right by so many.

    As many tokens as before are kept. Whoever filled `cache` may continue it.
    """
    rows = copy.copy(cache)
    rows.layers = [copy.copy(slot) for slot in cache.layers]
    for slot in _slots(rows):
        columns = torch.arange(slot.get_seq_length())[None] - blanks[:, None]
        columns = columns.clamp(min=0).to(slot.keys.device)
        slot.keys = slot.keys[0][:, columns].transpose(0, 1)
        slot.values = slot.values[0][:, columns].transpose(0, 1)
    return rows


def _slots(cache: DynamicCache) -> list[Any]:
    return cache.layers
