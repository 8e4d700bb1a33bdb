"""Where the executions of a plan keep their keys and values: one cache slot per execution.

A model's cache holds one slot per layer, addressed by the index that the layer's attention asks for. A
layer's first execution uses its own slot; further ones use copies appended while the cache is still empty,
and reach them through a view of the cache in which the layer's index leads there. A slot whose layer never
runs is stood in for by one that keeps a placeholder per token, because lengths and mask sizes are read from
the first slot of a kind. docs/caches.md says which caches and modes of generation this holds for.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor
from transformers import cache_utils
from transformers.cache_utils import (
    BaseQuantizedLayer,
    Cache,
    CacheLayerMixin,
    DynamicCache,
    DynamicLayer,
    EncoderDecoderCache,
    QuantizedCache,
    StaticCache,
)

from painters.stack import SurgeryError

SUPPORTED = (DynamicCache, StaticCache, QuantizedCache)
"""Exactly these classes, no subclasses: what others do with their slots is not known."""

_ACCESS = ("update", "update_conv_state", "update_recurrent_state", "get_conv_state", "get_recurrent_state")
"""A cache's methods by which a layer reaches its slot; some write to what they get, and call no update."""
_ROLLBACKS = ("crop", "batch_repeat_interleave", "batch_select_indices")
"""A cache's methods that transformers' own quantised slots follow in part: what is quantised stays as it is."""


@dataclass(frozen=True, slots=True)
class Place:
    """The slots of one execution: for each index that the layer asks for, None (its own slot) or the number
    of an appended one."""

    slots: Mapping[int, int | None]
    is_own: bool
    """Whether they are the layer's own slots, every one."""


class SlotTable:
    """The places of a plan's executions, handed out in their order."""

    def __init__(self, cache_indices: tuple[tuple[int, ...], ...]) -> None:
        self.cache_indices = cache_indices
        self.used: set[int] = set()
        self.copied: list[int] = []
        """For each appended slot the index of the slot that it is a copy of."""

    @property
    def width(self) -> int:
        """The slots that the intact model asks for."""
        return max((index + 1 for indices in self.cache_indices for index in indices), default=0)

    def take(self, layer: int) -> Place:
        """The place of the next execution of `layer`."""
        slots: dict[int, int | None] = {}
        for index in self.cache_indices[layer]:
            if index in self.used:
                slots[index] = len(self.copied)
                self.copied.append(index)
            else:
                slots[index] = None
                self.used.add(index)
        return Place(slots, all(extra is None for extra in slots.values()))


@dataclass(frozen=True, slots=True)
class _Claim:
    """Stands in a cache's `update` once a plan has filled it: says whose it is, and refuses the intact model.

    The plan's own layers update through views, which have no claim.
    """

    owner: Hashable
    text: str
    width: int
    idle: Mapping[int, Any]
    """The slots that the plan does not use, untouched; others stand in for them meanwhile."""

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise SurgeryError(f"this cache was filled under {self.text}, not by the intact model: start with a new cache")

    def put(self, cache: Cache) -> None:
        """Nothing; `cache` is claimed."""
        vars(cache).update(dict.fromkeys(_ACCESS, self))
        if any(isinstance(slot, BaseQuantizedLayer) for slot in cache.layers):
            vars(cache).update(dict.fromkeys(_ROLLBACKS, _refuse_rollback))

    def lift(self, cache: Cache) -> None:
        """Nothing; `cache`, which is empty, is as it was before."""
        del cache.layers[self.width :]
        for index, slot in self.idle.items():
            cache.layers[index] = slot
        for name in (*_ACCESS, *_ROLLBACKS):
            vars(cache).pop(name, None)


class CacheSlots:
    """A cache in the hands of a plan, for one forward."""

    def __init__(self, table: SlotTable, cache: Cache, owner: Hashable, text: str) -> None:
        """`owner` says who may continue the cache; None stands for the intact model, `text` names it in
        errors."""
        # What a decoder keeps of the encoder is the same in every execution of a layer, so that is left as it is.
        whole = cache
        self._both = cache if type(cache) is EncoderDecoderCache else None
        if self._both is not None:
            cache = self._both.self_attention_cache
        if type(cache) not in SUPPORTED or (cache.offloading and self._both is not None):
            found = type(cache).__name__ if self._both is None else f"{type(cache).__name__} beside an encoder's"
            raise SurgeryError(
                f"the model was given {'an offloaded' if cache.offloading else 'a'} {found}, whose slots a plan "
                f"cannot place: use a {', a '.join(kind.__name__ for kind in SUPPORTED)}, or use_cache=False"
            )
        self._table = table
        self._cache = cache
        claim = vars(cache).get("update")
        if not isinstance(claim, _Claim) or claim.owner != owner:
            claim = self._adopt(claim, owner, text)
        self._width = claim.width if claim is not None else len(cache.layers)
        self._own = whole if claim is None else self._view(cache.layers)

    def _adopt(self, claim: _Claim | None, owner: Hashable, text: str) -> _Claim | None:
        """The plan's claim on a cache that is still empty, with one slot for every execution."""
        cache, table = self._cache, self._table
        if owner is None and claim is None:
            return None
        if any(map(_is_filled, cache.layers)):
            filler = claim.text if claim is not None else "the intact model"
            raise SurgeryError(
                f"{text} was given a cache that was filled under {filler}: one plan's keys and values mean "
                "nothing to another, so start with a new cache"
            )
        if claim is not None:
            claim.lift(cache)
        if cache.layer_class_to_replicate is not None:
            while len(cache.layers) < table.width:
                cache.layers.append(cache.layer_class_to_replicate())
        if not table.width:
            raise SurgeryError(
                "the model was given a cache, but none of its layers says which slot it uses (layer_idx): "
                "pass use_cache=False"
            )
        if len(cache.layers) < table.width:
            raise SurgeryError(
                f"a layer asks for cache slot {table.width - 1}, but there are {len(cache.layers)}: "
                "renumber the layers' layer_idx, or pass DynamicCache() without a config"
            )
        if owner is None:
            return None
        idle = {index: slot for index, slot in enumerate(cache.layers) if index not in table.used}
        claim = _Claim(owner, text, len(cache.layers), idle)
        cache.layers.extend([copy.deepcopy(cache.layers[index]) for index in table.copied])
        for index, slot in idle.items():
            cache.layers[index] = _stand_in(slot)
        claim.put(cache)
        return claim

    def view(self, place: Place) -> Cache:
        """The cache as the layer has to see it in one execution; call `leave` after it."""
        for slot in self._offloaded(place):
            slot.prefetch()
        if place.is_own:
            return self._own
        layers = list(self._cache.layers)
        for index in place.slots:
            layers[index] = self._slot(place, index)
        return self._view(layers)

    def leave(self, place: Place) -> None:
        """Nothing; what the cache is to keep on the CPU goes back there."""
        for slot in self._offloaded(place):
            slot.offload()

    def _offloaded(self, place: Place) -> list[Any]:
        """The slots of one execution that lie on the CPU in between.

        The cache itself would fetch the slot after this one in its own order, which is not the plan's.
        """
        cache = self._cache
        if not cache.offloading or self._own.offloading:
            return []
        slots = [self._slot(place, index) for index in place.slots]
        return [
            slot
            for slot in slots
            if isinstance(slot, CacheLayerMixin) and not (cache.only_non_sliding and getattr(slot, "is_sliding", False))
        ]

    def fill_idle(self, stream: Tensor) -> None:
        """Nothing; slots that the plan does not use count the tokens of `stream` [batch, seq, hidden] all the
        same.

        Call it once at the end of each forward.
        """
        for index, slot in enumerate(self._cache.layers[: self._width]):
            if index not in self._table.used and isinstance(slot, CacheLayerMixin):
                shape = (1, 1)
                if slot.keys is not None and slot.keys.ndim == 4:
                    shape = slot.keys.shape[1], slot.keys.shape[3]
                # a zero-width entry would not do: the cache takes one for an empty slot
                blank = stream.new_zeros(stream.shape[0], shape[0], stream.shape[1], shape[1])
                slot.update(blank, blank)

    def averaged(self, place: Place, stream: Tensor) -> AveragedSlot:
        """The slot that the members of a parallel group share in the paper's released code."""
        cache = self._cache
        plain = type(cache) is DynamicCache and all(type(slot) is DynamicLayer for slot in cache.layers)
        if not plain or cache.offloading:
            kinds = ", ".join(dict.fromkeys(type(slot).__name__ for slot in cache.layers))
            raise SurgeryError(
                "kv='averaged' is defined for a DynamicCache of full-attention layers, and this is "
                f"{'an offloaded' if cache.offloading else 'a'} {type(cache).__name__} of {kinds}: use kv='exact'"
            )
        (index,) = place.slots
        return AveragedSlot(self, self._slot(place, index), stream.shape[1])

    def _slot(self, place: Place, index: int) -> Any:
        extra = place.slots[index]
        return self._cache.layers[index if extra is None else self._width + extra]

    def _view(self, layers: list[Any]) -> Cache:
        cache = self._cache
        view: Cache = object.__new__(type(cache))
        vars(view).update(vars(cache), layers=layers, offloading=False)
        for name in _ACCESS:
            vars(view).pop(name, None)
        return view if self._both is None else self._beside_encoder(view)

    def _beside_encoder(self, view: Cache) -> Cache:
        """The view together with what the layers keep of the encoder."""
        assert self._both is not None
        both: Cache = object.__new__(EncoderDecoderCache)
        vars(both).update(vars(self._both), self_attention_cache=view)
        return both


class AveragedSlot:
    """One slot for all members of a parallel group, as the paper's released code keeps it.

    The members attend to the averaged past and to their own keys and values of this forward; `store` then
    appends the mean of these. A prompt is one forward, so within it every member sees its own keys and values
    only.
    """

    def __init__(self, slots: CacheSlots, slot: DynamicLayer, num_queries: int) -> None:
        self._slots = slots
        self._slot = slot
        self._pairs: list[tuple[Tensor, Tensor]] = []
        if num_queries > 1 and slot.get_seq_length():
            raise SurgeryError(
                f"kv='averaged' is defined for one prompt and then single tokens, but {num_queries} tokens "
                "came on top of a filled cache: use kv='exact'"
            )

    def member(self) -> Cache:
        """The cache as one member has to see it."""
        view = self._slots._view(self._slots._cache.layers)
        vars(getattr(view, "self_attention_cache", view))["update"] = self._update
        return view

    def _update(self, keys: Tensor, values: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        self._pairs.append((keys, values))
        if not self._slot.get_seq_length():
            return keys, values
        return _after(self._slot.keys, keys), _after(self._slot.values, values)

    def store(self) -> None:
        """Nothing; appends the mean of the members' keys and of their values to the slot."""
        keys, values = zip(*self._pairs, strict=True)
        self._slot.update(_mean(keys), _mean(values))


def _refuse_rollback(*args: Any, **kwargs: Any) -> NoReturn:
    raise SurgeryError(
        "a QuantizedCache was asked to take tokens or rows back, which its slots do only in part: use a DynamicCache "
        "for assisted generation and prompt lookup"
    )


def _after(past: Tensor | None, now: Tensor) -> Tensor:
    assert past is not None
    return torch.cat([past.to(now.device), now], dim=-2)


def _mean(members: Iterable[Tensor]) -> Tensor:
    first, *rest = members
    return torch.stack([first, *(member.to(first.device) for member in rest)]).mean(0)


def _stand_in(slot: Any) -> Any:
    """A slot as empty as `slot`, to keep placeholders in its place: as long, and masked and cropped alike."""
    if isinstance(slot, BaseQuantizedLayer):
        return DynamicLayer()  # type: ignore[no-untyped-call]  # placeholders cannot be quantised in groups
    if not isinstance(slot, CacheLayerMixin) and hasattr(cache_utils, "DummyLayer"):
        return cache_utils.DummyLayer()  # type: ignore[no-untyped-call]
    stand_in = copy.deepcopy(slot)
    if not isinstance(slot, CacheLayerMixin):  # transformers 5.22 has no slot that holds nothing
        stand_in.crop = lambda tokens: None  # a recurrent slot cannot be cropped before it is filled
    return stand_in


def _is_filled(slot: Any) -> bool:
    """Whether a cache's slot holds anything, of attention or of a recurrent layer."""
    if isinstance(slot, CacheLayerMixin) and int(slot.get_seq_length()):
        return True
    return any(getattr(slot, "has_previous_state", {}).values())
