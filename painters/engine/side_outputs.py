"""Run one layer outside the forward for its side outputs, which it returns behind the stream, and leave no trace."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, CacheLayerMixin, EncoderDecoderCache

from painters import _compat


def side_outputs_of(
    layer: nn.Module, cache_slots: Mapping[int, int], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Any, ...]:
    """Run `layer` and return its side outputs, such as a position bias made of lengths and weights.

    The caches in `args` and `kwargs` and the state of the random numbers stay as they are, and no hooks run.
    `cache_slots` has the indices that the layer asks a cache for, each with the number of the slot that is meant.
    """

    def blank(value: Any) -> Any:
        return lengths_only(value, cache_slots) if isinstance(value, Cache) else value

    devices = range(torch.cuda.device_count())
    random = torch.random.fork_rng(devices) if layer.training else nullcontext()
    with unhooked(layer), random:
        output = layer(*map(blank, args), **{name: blank(value) for name, value in kwargs.items()})
    return tuple(output[1:])


def lengths_only(cache: Cache, indices: Mapping[int, int]) -> Cache:
    """Return a copy of `cache` whose slots at `indices` report the lengths of those meant, and keep nothing."""
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
        for index, number in indices.items():
            slot = cache.layers[number] if number < len(cache.layers) else None
            # the state of a recurrent layer is small, and the layer writes to it
            slots[index] = copy.deepcopy(slot) if hasattr(slot, "update_conv_state") else _LengthOnly(slot)
        view.layers = slots
    result: Cache = view
    return result


class _LengthOnly:
    """Replaces a slot of a cache: it reports the slot's lengths, and gives zeros for keys and values."""

    def __init__(self, slot: Any) -> None:
        self._slot = slot

    def get_seq_length(self) -> Any:
        """Return the number of tokens in the slot."""
        return 0 if self._slot is None else self._slot.get_seq_length()

    def update(self, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Return zeros in the shape of all keys and values that the slot would give after this update."""
        new = keys.shape[-2]
        length = new if self._slot is None else self._slot.get_mask_sizes(new)[0]
        return _zeros(keys, length), _zeros(values, length)


CacheLayerMixin.register(_LengthOnly)  # a Cache asks no other slots for their length


def _zeros(like: Tensor, length: int) -> Tensor:
    """Return zeros [..., length, size] for `like` [..., tokens, size]."""
    return like.new_zeros(*like.shape[:-2], length, like.shape[-1])


@contextmanager
def unhooked(root: nn.Module, libraries: frozenset[str] = frozenset()) -> Iterator[None]:
    """Skip all forward hooks of `root` and its modules in this thread within the context, but those of `libraries`.

    Other threads may call the model meanwhile, and their hooks run. Hooks that are registered within the context run
    too, and come after the others.
    """
    skipped = []
    for module in root.modules():
        for hooks in _compat.forward_hooks(module):
            for key, hook in [*hooks.items()]:
                if str(getattr(hook, "__module__", "")).partition(".")[0] not in libraries:
                    hooks[key] = _ElsewhereOnly(hook)
                    skipped.append((hooks, key, hooks[key]))
    try:
        yield
    finally:
        for hooks, key, skipper in reversed(skipped):
            if hooks.get(key) is skipper:  # otherwise it was removed meanwhile
                hooks[key] = skipper.hook


class _ElsewhereOnly:
    """A forward hook that is not run in the thread that made this, and runs in all others."""

    def __init__(self, hook: Callable[..., Any]) -> None:
        self.hook = hook
        self._thread = threading.get_ident()

    def __call__(self, *args: Any) -> Any:
        return None if threading.get_ident() == self._thread else self.hook(*args)
