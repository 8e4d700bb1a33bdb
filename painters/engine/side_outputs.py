"""Run one layer beside the forward, to see what it returns and leave no trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, CacheLayerMixin, EncoderDecoderCache


def behind_the_stream(
    layer: nn.Module, cache_indices: Sequence[int], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Any, ...]:
    """What `layer` returns behind the stream, such as a position bias made of lengths and weights.

    Neither the caches in `args` and `kwargs` nor the random numbers nor anybody's hooks notice that it runs.
    """

    def blank(value: Any) -> Any:
        return lengths_only(value, cache_indices) if isinstance(value, Cache) else value

    devices = range(torch.cuda.device_count())
    random = torch.random.fork_rng(devices) if layer.training else nullcontext()
    with unhooked(layer), random:
        output = layer(*map(blank, args), **{name: blank(value) for name, value in kwargs.items()})
    return tuple(output[1:])


def lengths_only(cache: Cache, indices: Sequence[int]) -> Cache:
    """The cache as `layer` may see it beside the forward: slots of the right lengths that hold nothing and keep
    nothing."""
    view: Any = object.__new__(type(cache))
    vars(view).update(vars(cache))
    vars(view).pop("update", None)
    if isinstance(cache, EncoderDecoderCache):
        view.self_attention_cache = lengths_only(cache.self_attention_cache, indices)
        view.is_updated = dict(cache.is_updated)
        if not all(view.is_updated.get(index) for index in indices):
            view.cross_attention_cache = lengths_only(cache.cross_attention_cache, indices)
    else:
        slots: list[Any] = list(cache.layers)
        slots += [None] * (max(indices, default=-1) + 1 - len(slots))
        for index in indices:
            slots[index] = _LengthOnly(slots[index])
        view.layers = slots
    result: Cache = view
    return result


class _LengthOnly:
    """Stands in for a slot of a cache: as long as that would be, and empty."""

    def __init__(self, slot: Any) -> None:
        self._slot = slot

    def get_seq_length(self) -> Any:
        return 0 if self._slot is None else self._slot.get_seq_length()

    def update(self, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        now = keys.shape[-2]
        length = now if self._slot is None else self._slot.get_mask_sizes(now)[0]
        return _zeros(keys, length), _zeros(values, length)


CacheLayerMixin.register(_LengthOnly)  # a Cache asks other slots for no length


def _zeros(like: Tensor, length: int) -> Tensor:
    return like.new_zeros(*like.shape[:-2], length, like.shape[-1])


@contextmanager
def unhooked(root: nn.Module, libraries: frozenset[str] = frozenset()) -> Iterator[None]:
    """Nothing; meanwhile no forward hooks run in `root` but those of `libraries`, and those that are added meanwhile
    stay behind the others."""
    kept = [
        (hooks, dict(hooks))
        for module in root.modules()
        for hooks in (module._forward_pre_hooks, module._forward_hooks)
        if hooks
    ]
    for hooks, before in kept:
        for key, hook in before.items():
            if str(getattr(hook, "__module__", "")).partition(".")[0] not in libraries:
                del hooks[key]
    try:
        yield
    finally:
        for hooks, before in kept:
            added = dict(hooks)
            hooks.clear()
            hooks.update(before | added)
