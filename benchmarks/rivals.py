"""Follow plans without painters: by an edited list of layers, with nnsight, or with TransformerLens."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig

from painters import Plan
from painters.plan import Layer, Step


def random_llama(
    num_layers: int,
    hidden_size: int,
    *,
    intermediate_size: int | None = None,
    num_attention_heads: int | None = None,
    vocab_size: int = 2000,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Any:
    """Return a Llama with random weights, in evaluation mode."""
    torch.manual_seed(0)
    config = LlamaConfig(
        num_hidden_layers=num_layers,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size or hidden_size * 8 // 3,
        num_attention_heads=num_attention_heads or hidden_size // 32,
        vocab_size=vocab_size,
        max_position_embeddings=2048,
    )
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


class SideBySide(nn.Module):
    """A parallel group in a list of layers: runs its branches on one stream, returns the mean of outputs."""

    def __init__(self, branches: list[list[nn.Module]]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.ModuleList(branch) for branch in branches)

    def forward(self, hidden: Tensor, **kwargs: Any) -> Tensor:
        """Return the mean of the branches' outputs on `hidden`."""
        outputs = []
        for branch in self.branches:
            stream = hidden
            for layer in branch:  # type: ignore[attr-defined]
                stream = layer(stream, **kwargs)
            outputs.append(stream)
        return torch.stack(outputs).mean(0)


@contextmanager
def edited(model: Any, plan: Plan) -> Iterator[Any]:
    """Edit the list of layers of a Llama-like model to follow `plan`; restore it on leaving.

    The cache is turned off in its configuration: with one, a layer that runs twice would be silently wrong.
    """
    base, config = model.model, model.config
    before = base.layers, config.num_hidden_layers, config.use_cache
    layers = nn.ModuleList(_module(step, list(base.layers)) for step in plan.steps)
    base.layers, config.num_hidden_layers, config.use_cache = layers, len(layers), False
    try:
        yield model
    finally:
        base.layers, config.num_hidden_layers, config.use_cache = before


def _module(step: Step, layers: list[nn.Module]) -> nn.Module:
    """Return the layer of a step, or the module of its parallel group."""
    if isinstance(step, Layer):
        return layers[step.index]
    return SideBySide([[_module(inner, layers) for inner in branch] for branch in step.branches])


def sharing_weights(model: Any) -> Any:
    """Return a copy with the same parameters, for tools that leave wrappers or hooks in a model."""
    shared = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    return copy.deepcopy(model, shared)


def traced(wrapped: Any, plan: Plan, ids: Tensor) -> Callable[[], Tensor]:
    """Return a call that computes the logits under `plan` with nnsight.

    Layers that the plan leaves alone run as usual. Those in between are skipped; their output is replaced by a stream
    for which layers are called in the plan's order.
    """
    layers = wrapped.model.layers
    first, stop, middle = _difference(plan, len(layers))

    def call() -> Tensor:
        if first == stop:
            with wrapped.trace(input_ids=ids, use_cache=False):
                logits = wrapped.output.logits.save()
            return logits  # noqa: RET504 (nnsight runs the block elsewhere: nothing can return from within)
        with wrapped.trace(input_ids=ids, use_cache=False):
            args, kwargs = layers[first].inputs
            stream = args[0]
            for step in middle:
                stream = follow(step, stream, kwargs, layers)
            for i in range(first, stop):
                layers[i].skip(stream)
            logits = wrapped.output.logits.save()
        return logits  # noqa: RET504

    return call


def follow(step: Step, stream: Tensor, kwargs: dict[str, Any], layers: Any) -> Tensor:
    """Return the stream after one step, whose layers are called with `kwargs`."""
    if isinstance(step, Layer):
        output: Tensor = layers[step.index](stream, **kwargs)
        return output
    outputs = []
    for branch in step.branches:
        hidden = stream
        for inner in branch:
            hidden = follow(inner, hidden, kwargs, layers)
        outputs.append(hidden)
    return torch.stack(outputs).mean(0)


def bridged(model: Any, tokenizer: Any) -> Any:
    """Return TransformerLens' bridge around a copy with the same parameters; it needs any tokenizer."""
    from transformer_lens.model_bridge import TransformerBridge

    return TransformerBridge.boot_transformers(
        "llama", hf_model=sharing_weights(model), tokenizer=tokenizer, device=str(model.device)
    )


def hooked(bridge: Any, plan: Plan, ids: Tensor) -> Callable[[], Tensor] | None:
    """Return a call that computes the logits under `plan` with TransformerLens.

    Return None for a plan that does more than skip. A skipped layer runs, and a hook replaces its output by its input.
    """
    executed = [step.index for step in plan.steps if isinstance(step, Layer)]
    if len(executed) < len(plan.steps) or executed != sorted(set(executed)):
        return None
    skipped = sorted(set(range(bridge.cfg.n_layers)) - set(executed))
    inputs: dict[int, Tensor] = {}

    def hooks(layer: int) -> list[tuple[str, Callable[..., Any]]]:
        def keep(stream: Tensor, hook: Any) -> None:
            inputs[layer] = stream

        def replace(stream: Tensor, hook: Any) -> Tensor:
            return inputs[layer]

        return [(f"blocks.{layer}.hook_in", keep), (f"blocks.{layer}.hook_out", replace)]

    all_hooks = [pair for layer in skipped for pair in hooks(layer)]

    def call() -> Tensor:
        logits: Tensor = bridge.run_with_hooks(ids, fwd_hooks=all_hooks) if all_hooks else bridge(ids)
        return logits

    return call


def _difference(plan: Plan, num_layers: int) -> tuple[int, int, tuple[Step, ...]]:
    """Return the range [first, stop) of layers that the plan changes, and the steps that replace them.

    A plan that only adds steps is read as replacing one layer by itself and the added steps, because nnsight can only
    start at a layer.
    """
    identity = Plan.identity(num_layers).steps
    steps = plan.steps
    if steps == identity:
        return 0, 0, ()
    first = 0
    while first < min(len(steps), num_layers - 1) and steps[first] == identity[first]:
        first += 1
    tail = 0
    while tail < min(len(steps) - first, num_layers - first - 1) and steps[-1 - tail] == identity[-1 - tail]:
        tail += 1
    return first, num_layers - tail, steps[first : len(steps) - tail]
