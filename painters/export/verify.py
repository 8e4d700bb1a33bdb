"""Compare an export with the model under its plan: the settings of the layers, and the outputs for a probe."""

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
"""Tokens in a prompt of the probe, tokens decoded after it, and tokens that a sliding layer sees meanwhile."""

WINDOWS: Final = ("sliding_window", "local_attention", "attention_chunk_size", "window_size")
"""Fields of configurations that hold the width of a sliding window."""
INDEX: Final = ("layer_idx", "layer_id", "layer_number")
"""Attributes that hold a layer's own index, which is another one in an export."""


class ProbeOutputs(NamedTuple):
    """The outputs of a model for the probe."""

    logits: list[Tensor]
    """Logits for the prompt, `[2, TOKENS, vocabulary]`, then for each decoded token, `[2, 1, vocabulary]`."""
    covers: str
    """What they are, in words."""


def settings(layer: nn.Module) -> dict[str, Any]:
    """Return the classes of a layer's modules and their plain values by dotted name, without the layer's index."""
    values: dict[str, Any] = {}
    for path, module in layer.named_modules():
        prefix = f"{path}." if path else ""
        values[f"{prefix}class"] = type(module).__name__
        for name, value in vars(module).items():
            if isinstance(value, int | float | str | None) and not name.startswith("_") and name not in INDEX:
                values[prefix + name] = value
        values.pop(f"{prefix}training", None)
    return values


def different_layer(
    exported: Sequence[nn.Module], source: Sequence[nn.Module], order: Sequence[int], name: str
) -> str | None:
    """Describe the first layer whose settings are not those of its source, or return None.

    Layer k of the export must be layer `order[k]` of the source model, which is called `name`.
    """
    known = {layer: settings(source[layer]) for layer in set(order)}
    for position, layer in enumerate(order):
        new, old = settings(exported[position]), known[layer]
        for key in sorted(new.keys() | old.keys()):
            if new.get(key) != old.get(key):
                return (
                    f"its layer {position} would have {key}={new.get(key)!r}, and layer {layer} of {name}, which "
                    f"belongs there, has {old.get(key)!r}"
                )
    return None


@torch.inference_mode()
def probe(model: PreTrainedModel, plan: Plan | None = None) -> ProbeOutputs:
    """Return the outputs for a batch of random tokens with padding, under `plan` or of the model as it is.

    Models that decode with a cache go on for some tokens. Sliding windows are narrower than the prompt meanwhile, so
    that the outputs depend on which layers slide.
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
        with _narrow_windows(config), nullcontext() if plan is None else surgery(model, plan, threads="own"):
            if decodes:
                logits = _decoded(model, ids, mask)
            else:
                logits = [_scores(model(input_ids=ids, attention_mask=mask, return_dict=True))]
            decoding = " and for cached decoding after it" if len(logits) > 1 else ""
            return ProbeOutputs(logits, f"its outputs for a batch of tokens{decoding}")
    finally:
        model.train(was_training)


def difference(actual: ProbeOutputs, expected: ProbeOutputs) -> str | None:
    """Describe how the outputs differ, or return None where every number is the same."""
    for step, (ours, theirs) in enumerate(zip(actual.logits, expected.logits, strict=True)):
        if ours.shape != theirs.shape:
            return f"its outputs have the shape {tuple(ours.shape)} instead of {tuple(theirs.shape)}"
        if not torch.allclose(ours, theirs, rtol=0, atol=0, equal_nan=True):
            inputs = f"token {step} decoded after the prompt" if step else "a batch of tokens"
            return f"its outputs for {inputs} are off by {(ours - theirs).abs().max().item():.2g}"
    return None


def _decoded(model: PreTrainedModel, ids: Tensor, mask: Tensor) -> list[Tensor]:
    """Return the logits for the prompt and for each greedily decoded token; for the prompt alone without a cache."""
    logits: list[Tensor] = []
    name = cache_name(model) or ""
    cache: Mapping[str, Any] = {}
    for _ in range(1 + STEPS):
        output = model(input_ids=ids, attention_mask=mask, use_cache=True, return_dict=True, **cache)
        logits.append(_scores(output))
        if (past := getattr(output, name, None)) is None:
            break  # the model keeps its states elsewhere
        cache = {name: past}
        ids = logits[-1][:, -1:].argmax(-1)
        mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
    return logits


def _scores(output: Any) -> Tensor:
    """Return the logits, or the hidden states of a model without a head."""
    scores: Tensor = output.logits if "logits" in output else output[0]
    return scores


@contextmanager
def _narrow_windows(config: Any) -> Iterator[None]:
    """Within the context, let sliding windows be at most WINDOW tokens wide."""
    before = {name: vars(config)[name] for name in WINDOWS if isinstance(vars(config).get(name), int)}
    for name, width in before.items():
        setattr(config, name, min(width, WINDOW))
    try:
        yield
    finally:
        for name, width in before.items():
            setattr(config, name, width)
