"""Where the executions of a plan keep their keys and values: one cache slot per execution.

A model's cache holds one slot per layer, under the index that the layer's attention asks for. The first execution of a
layer uses the layer's own slot. Further executions use copies of it, which are appended while the cache is still empty;
they reach them through a view of the cache in which the layer's index leads to the copy.

A layer that never runs would leave its slot empty, and lengths and mask sizes are read from the first slot of a kind.
So another slot replaces it, which keeps a placeholder per token. docs/caches.md says which caches and modes of
generation are supported.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

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
"""Exactly these classes, no subclasses: what those do with their slots is not known."""

_ACCESS = ("update", "update_conv_state", "update_recurrent_state", "get_conv_state", "get_recurrent_state")
"""The methods of a cache by which a layer reaches its slot. Some of them give a slot that the layer then writes to."""
_ROLLBACKS = ("crop", "batch_repeat_interleave", "batch_select_indices")
"""The methods of a cache that quantised slots follow only in part: what is quantised already stays as it is."""


class Slot(NamedTuple):
    """One slot of a cache: the number of a slot that the intact model has, or of one appended for the plan."""

    number: int
    is_appended: bool = False


@dataclass(frozen=True, slots=True)
class SlotAssignment:
    """The cache slots of one execution of a layer."""

    slots: Mapping[int, Slot]
    """Index that the layer asks for -> the slot that it gets."""

    @property
    def is_own(self) -> bool:
        """Whether the cache has every slot where the layer asks for it."""
        return all(slot == Slot(index) for index, slot in self.slots.items())


class SlotTable:
    """Assigns slots to the executions of a plan, in the order of execution."""

    def __init__(
        self, cache_indices: tuple[tuple[int, ...], ...], cache_slots: tuple[tuple[int, ...], ...] | None = None
    ) -> None:
        self.cache_indices = cache_indices
        """For each layer of the stack the indices that it asks a cache for."""
        self.cache_slots = cache_indices if cache_slots is None else cache_slots
        """For each of these the number of the slot that is meant, mostly the same."""
        self.used: set[int] = set()
        """The numbers of the slots that are assigned, those that were appended aside."""
        self.copied: list[int] = []
        """For each appended slot the number of the slot that it is a copy of."""

    @property
    def width(self) -> int:
        """The number of slots that the intact model needs."""
        return max((slot + 1 for slots in self.cache_slots for slot in slots), default=0)

    def assign(self, layer: int) -> SlotAssignment:
        """Return the slots of the next execution of `layer`."""
        slots: dict[int, Slot] = {}
        for index, number in zip(self.cache_indices[layer], self.cache_slots[layer], strict=True):
            if number in self.used:
                slots[index] = Slot(len(self.copied), is_appended=True)
                self.copied.append(number)
            else:
                slots[index] = Slot(number)
                self.used.add(number)
        return SlotAssignment(slots)


@dataclass(frozen=True, slots=True)
class _Claim:
    """Marks a cache as that of a plan, and refuses it to the intact model.

    It replaces the cache's methods, such as `update`. The plan's own layers update through views, which have no claim.
    """

    owner: Hashable
    """What identifies the plan and its kind of cache."""
    text: str
    """What messages call the plan."""
    width: int
    """The number of slots before those that were appended for the plan."""
    idle: Mapping[int, Any]
    """The slots that the plan does not use, by index, untouched; placeholders replace them meanwhile."""

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise SurgeryError(f"this cache was filled under {self.text}, not by the intact model: start with a new cache")

    def put(self, cache: Cache) -> None:
        """Claim `cache`."""
        vars(cache).update(dict.fromkeys(_ACCESS, self))
        if any(isinstance(slot, BaseQuantizedLayer) for slot in cache.layers):
            vars(cache).update(dict.fromkeys(_ROLLBACKS, _refuse_rollback))

    def lift(self, cache: Cache) -> None:
        """Make `cache`, which is still empty, what it was before it was claimed."""
        del cache.layers[self.width :]
        for index, slot in self.idle.items():
            cache.layers[index] = slot
        for name in (*_ACCESS, *_ROLLBACKS):
            vars(cache).pop(name, None)


class CacheSlots:
    """The cache of one forward, with a slot for every execution of the plan."""

    def __init__(self, table: SlotTable, cache: Cache, owner: Hashable, text: str) -> None:
        """Claim `cache` for the plan, unless it is claimed by the same plan already.

        Args:
            table: The slots of the plan's executions.
            cache: What the model was given.
            owner: What identifies the plan and its kind of cache: only the same owner may continue a filled cache. None
                stands for the intact model and for plans that fill a cache as it does.
            text: What messages call the owner.
        """
        # A layer computes the same keys and values of the encoder in every execution, so that part is left as it is.
        whole = cache
        self._with_encoder = cache if type(cache) is EncoderDecoderCache else None
        if self._with_encoder is not None:
            cache = self._with_encoder.self_attention_cache
        if type(cache) not in SUPPORTED or (cache.offloading and self._with_encoder is not None):
            kind = type(cache).__name__ if self._with_encoder is None else f"{type(cache).__name__} beside an encoder's"
            raise SurgeryError(
                f"the model was given {'an offloaded' if cache.offloading else 'a'} {kind}, whose slots a plan "
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
        """Give the cache, which must be empty, a slot for every execution, and return the claim on it.

        `claim` is an earlier claim of another owner. None is returned where the owner is the intact model.
        """
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
            cache.layers[index] = _placeholder_slot(slot)
        claim.put(cache)
        return claim

    def view(self, assignment: SlotAssignment) -> Cache:
        """Return the cache as the layer must see it in one execution; call `leave` after the execution."""
        for slot in self._offloaded(assignment):
            slot.prefetch()
        if assignment.is_own:
            return self._own
        layers = list(self._cache.layers)
        for index in assignment.slots:
            slot = self._slot(assignment, index)
            layers += [slot] * (index + 1 - len(layers))
            layers[index] = slot
        return self._view(layers)

    def leave(self, assignment: SlotAssignment) -> None:
        """Move the slots of one execution back to the CPU if the cache is offloaded."""
        for slot in self._offloaded(assignment):
            slot.offload()

    def _offloaded(self, assignment: SlotAssignment) -> list[Any]:
        """Return the slots of one execution that are on the CPU between executions.

        They are moved here, since the cache itself would fetch the next slot in its own order and not in the plan's.
        """
        cache = self._cache
        if not cache.offloading or self._own.offloading:
            return []
        slots = [self._slot(assignment, index) for index in assignment.slots]
        return [
            slot
            for slot in slots
            if isinstance(slot, CacheLayerMixin) and not (cache.only_non_sliding and getattr(slot, "is_sliding", False))
        ]

    def fill_idle(self, stream: Tensor) -> None:
        """Add placeholders for the tokens of `stream` [batch, seq, hidden] to the slots that the plan does not use.

        Call it once at the end of each forward.
        """
        for index, slot in enumerate(self._cache.layers[: self._width]):
            if index not in self._table.used and isinstance(slot, CacheLayerMixin):
                heads, size = 1, 1
                if slot.keys is not None and slot.keys.ndim == 4:
                    heads, size = slot.keys.shape[1], slot.keys.shape[3]
                # an entry of size 0 would not do: the cache takes one for an empty slot
                blank = stream.new_zeros(stream.shape[0], heads, stream.shape[1], size)
                slot.update(blank, blank)

    def averaged(self, assignment: SlotAssignment, stream: Tensor) -> AveragedSlot:
        """Return the one slot that the members of a parallel group share in the paper's released code.

        Args:
            assignment: The slot, one for the whole group.
            stream: What enters the group, [batch, seq, hidden].

        Returns:
            The slot, for one execution of the group.

        Raises:
            SurgeryError: If averages are not defined for this cache.
        """
        cache = self._cache
        is_plain = type(cache) is DynamicCache and all(type(slot) is DynamicLayer for slot in cache.layers)
        if not is_plain or cache.offloading:
            kinds = ", ".join(dict.fromkeys(type(slot).__name__ for slot in cache.layers))
            raise SurgeryError(
                "kv='averaged' is defined for a DynamicCache of full-attention layers, and this is "
                f"{'an offloaded' if cache.offloading else 'a'} {type(cache).__name__} of {kinds}: use kv='exact'"
            )
        (index,) = assignment.slots
        return AveragedSlot(self, self._slot(assignment, index), stream.shape[1])

    def _slot(self, assignment: SlotAssignment, index: int) -> Any:
        """Return the slot of one execution under the `index` that the layer asks for."""
        slot = assignment.slots[index]
        return self._cache.layers[self._width + slot.number if slot.is_appended else slot.number]

    def _view(self, layers: list[Any]) -> Cache:
        """Return a cache that shares all with this one but has the slots `layers`, no claim and no offloading."""
        cache = self._cache
        view: Cache = object.__new__(type(cache))
        vars(view).update(vars(cache), layers=layers, offloading=False)
        for name in _ACCESS:
            vars(view).pop(name, None)
        return view if self._with_encoder is None else self._beside_encoder(view)

    def _beside_encoder(self, view: Cache) -> Cache:
        """Return the view together with the keys and values that the layers keep of the encoder."""
        assert self._with_encoder is not None
        both: Cache = object.__new__(EncoderDecoderCache)
        vars(both).update(vars(self._with_encoder), self_attention_cache=view)
        return both


class AveragedSlot:
    """One slot for all members of a parallel group, as the paper's released code keeps it.

    The members attend to the averaged past and to their own keys and values of this forward; `store` then appends the
    mean of these. A prompt is one forward, so in it every member sees only its own keys and values.
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
        """Return the cache as one member must see it."""
        view = self._slots._view(self._slots._cache.layers)
        vars(getattr(view, "self_attention_cache", view))["update"] = self._update
        return view

    def _update(self, keys: Tensor, values: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        self._pairs.append((keys, values))
        if not self._slot.get_seq_length():
            return keys, values
        return _after(self._slot.keys, keys), _after(self._slot.values, values)

    def store(self) -> None:
        """Append the mean of the members' keys and the mean of their values to the slot."""
        keys, values = zip(*self._pairs, strict=True)
        self._slot.update(_mean(keys), _mean(values))


def _refuse_rollback(*args: Any, **kwargs: Any) -> NoReturn:
    raise SurgeryError(
        "a QuantizedCache was asked to take tokens or rows back, which its slots do only in part: use a DynamicCache "
        "for assisted generation and prompt lookup"
    )


def _after(past: Tensor | None, new: Tensor) -> Tensor:
    """Return `new` appended to `past`, both [batch, heads, tokens, size]."""
    assert past is not None
    return torch.cat([past.to(new.device), new], dim=-2)


def _mean(members: Iterable[Tensor]) -> Tensor:
    first, *rest = members
    return torch.stack([first, *(member.to(first.device) for member in rest)]).mean(0)


def _placeholder_slot(slot: Any) -> Any:
    """Return an empty slot that keeps placeholders in the place of `slot`, and is masked and cropped as that is."""
    if isinstance(slot, BaseQuantizedLayer):
        return DynamicLayer()  # type: ignore[no-untyped-call]  # placeholders cannot be quantised in groups
    if not isinstance(slot, CacheLayerMixin) and hasattr(cache_utils, "DummyLayer"):
        return cache_utils.DummyLayer()  # type: ignore[no-untyped-call]
    placeholder = copy.deepcopy(slot)
    if not isinstance(slot, CacheLayerMixin):  # transformers 5.22 has no slot that holds nothing
        placeholder.crop = lambda tokens: None  # a recurrent slot cannot be cropped before it is filled
    return placeholder


def _is_filled(slot: Any) -> bool:
    """Return whether the slot holds keys and values, or the state of a recurrent layer."""
    if isinstance(slot, CacheLayerMixin) and int(slot.get_seq_length()):
        return True
    return any(getattr(slot, "has_previous_state", {}).values())
