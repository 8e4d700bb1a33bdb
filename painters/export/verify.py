"""Whether an export is the model under its plan: what its layers hold, and what it answers to a probe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from painters.engine import surgery
from painters.generation.cache import cache_name
from painters.plan import Plan

TOKENS, STEPS, WINDOW = 16, 4, 4
"""Of a prompt of the probe, decoded behind it, and seen by a layer that slides."""

WINDOWS: Final = ("sliding_window", "local_attention", "attention_chunk_size", "window_size")
INDEX: Final = ("layer_idx", "layer_id", "layer_number")


class Answer(NamedTuple):
    """What a model said to the probe, and what that covers."""

    logits: list[Tensor]
    covers: str


def traits(layer: nn.Module) -> dict[str, Any]:
    """The classes of a layer's modules and the plain values that they hold, by dotted name, without its place."""
    found: dict[str, Any] = {}
    for path, module in layer.named_modules():
        where = f"{path}." if path else ""
        found[f"{where}class"] = type(module).__name__
        for name, value in vars(module).items():
            if isinstance(value, int | float | str | None) and not name.startswith("_") and name not in INDEX:
                found[where + name] = value
        found.pop(f"{where}training", None)
    return found


def different_layer(
    exported: Sequence[nn.Module], source: Sequence[nn.Module], order: Sequence[int], name: str
) -> str | None:
    """How the layer k of the export differs from the layer `order[k]` it was made of, of the first that does."""
    known = {layer: traits(source[layer]) for layer in set(order)}
    for place, layer in enumerate(order):
        new, old = traits(exported[place]), known[layer]
        for key in sorted(new.keys() | old.keys()):
            if new.get(key) != old.get(key):
                return (
                    f"its layer {place} would have {key}={new.get(key)!r}, and layer {layer} of {name}, which belongs "
                    f"there, has {old.get(key)!r}"
                )
    return None


@torch.inference_mode()
def answer(model: PreTrainedModel, plan: Plan | None = None) -> Answer:
    """What the model says to a batch of random tokens with padding, under `plan`, or as it is.

    Decoders go on for some tokens with their cache. Sliding windows are narrower than the prompt meanwhile, so that
    it shows which layers slide.
    """
    config = model.config.get_text_config()
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(getattr(config, "vocab_size", 100), (2, TOKENS), generator=random).to(model.device)
    mask = torch.ones_like(ids)
    decodes = model.can_generate() and cache_name(model) is not None
    if decodes:
        mask[1, :3] = 0
    else:
        mask[1, -3:] = 0
    was_training = model.training
    model.eval()  # type: ignore[no-untyped-call]
    try:
        with _narrow(config), nullcontext() if plan is None else surgery(model, plan):
            if decodes:
                found = _decoded(model, ids, mask)
            else:
                found = [_scores(model(input_ids=ids, attention_mask=mask, return_dict=True))]
            behind = " and cached decoding behind it" if len(found) > 1 else ""
            return Answer(found, f"its answers to a batch of tokens{behind}")
    finally:
        model.train(was_training)


def difference(found: Answer, expected: Answer) -> str | None:
    """How two answers differ, or None: every number must be the same one."""
    for step, (mine, theirs) in enumerate(zip(found.logits, expected.logits, strict=True)):
        if mine.shape != theirs.shape:
            return f"the answers have the shapes {tuple(mine.shape)} and {tuple(theirs.shape)}"
        if not torch.allclose(mine, theirs, rtol=0, atol=0, equal_nan=True):
            where = f"token {step} decoded behind the prompt" if step else "a batch of tokens"
            return f"the answers to {where} are off by {(mine - theirs).abs().max().item():.2g}"
    return None


def _decoded(model: PreTrainedModel, ids: Tensor, mask: Tensor) -> list[Tensor]:
    found: list[Tensor] = []
    name = cache_name(model) or ""
    cache: Mapping[str, Any] = {}
    for _ in range(1 + STEPS):
        output = model(input_ids=ids, attention_mask=mask, use_cache=True, return_dict=True, **cache)
        found.append(_scores(output))
        if (past := getattr(output, name, None)) is None:
            break  # it keeps its states elsewhere
        cache = {name: past}
        ids = found[-1][:, -1:].argmax(-1)
        mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
    return found


def _scores(output: Any) -> Tensor:
    """The logits, or the states of a model without a head."""
    scores: Tensor = output.logits if "logits" in output else output[0]
    return scores


@contextmanager
def _narrow(config: Any) -> Iterator[None]:
    """Nothing; meanwhile a layer that slides sees few tokens."""
    before = {name: vars(config)[name] for name in WINDOWS if isinstance(vars(config).get(name), int)}
    for name, width in before.items():
        setattr(config, name, min(width, WINDOW))
    try:
        yield
    finally:
        for name, width in before.items():
            setattr(config, name, width)
