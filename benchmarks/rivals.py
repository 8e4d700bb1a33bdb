"""What one would do without painters: edit the list of layers by hand, trace the model with nnsight, or hook it with
TransformerLens."""

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
    """A Llama with random weights, in evaluation mode."""
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
    """A parallel group in a list of layers: its branches on the same stream, and the mean of what they return."""

    def __init__(self, branches: list[list[nn.Module]]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.ModuleList(branch) for branch in branches)

    def forward(self, hidden: Tensor, **given: Any) -> Tensor:
        outputs = []
        for branch in self.branches:
            stream = hidden
            for layer in branch:  # type: ignore[attr-defined]
                stream = layer(stream, **given)
            outputs.append(stream)
        return torch.stack(outputs).mean(0)


@contextmanager
def edited(model: Any, plan: Plan) -> Iterator[Any]:
    """The Llama-like `model`, its list of layers edited by hand to follow `plan`.

    Its configuration says that no cache is to be filled: with one, a layer that runs twice would go silently wrong.
    """
    base, config = model.model, model.config
    before = base.layers, config.num_hidden_layers, config.use_cache
    edited = nn.ModuleList(_module(step, list(base.layers)) for step in plan.steps)
    base.layers, config.num_hidden_layers, config.use_cache = edited, len(edited), False
    try:
        yield model
    finally:
        base.layers, config.num_hidden_layers, config.use_cache = before


def _module(step: Step, layers: list[nn.Module]) -> nn.Module:
    if isinstance(step, Layer):
        return layers[step.index]
    return SideBySide([[_module(inner, layers) for inner in branch] for branch in step.branches])


def sharing_weights(model: Any) -> Any:
    """A copy of the model with the same parameters, for tools that leave wrappers or hooks in what they are given."""
    kept = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    return copy.deepcopy(model, kept)


def traced(wrapped: Any, plan: Plan, ids: Tensor) -> Callable[[], Tensor]:
    """A call that gives the logits under `plan` by nnsight: what the plan leaves as it is runs as it is, and the layers
    between are skipped for a stream that their like made, called out of order."""
    layers = wrapped.model.layers
    first, stop, middle = _difference(plan, len(layers))

    def call() -> Tensor:
        if first == stop:
            with wrapped.trace(input_ids=ids, use_cache=False):
                logits = wrapped.output.logits.save()
            return logits  # noqa: RET504 (nnsight runs the block elsewhere: nothing can return from within)
        with wrapped.trace(input_ids=ids, use_cache=False):
            args, given = layers[first].inputs
            stream = args[0]
            for step in middle:
                stream = follow(step, stream, given, layers)
            for i in range(first, stop):
                layers[i].skip(stream)
            logits = wrapped.output.logits.save()
        return logits  # noqa: RET504

    return call


def follow(step: Step, stream: Tensor, given: dict[str, Any], layers: Any) -> Tensor:
    """The stream after one step, whose layers are called with the arguments `given`."""
    if isinstance(step, Layer):
        output: Tensor = layers[step.index](stream, **given)
        return output
    outputs = []
    for branch in step.branches:
        hidden = stream
        for inner in branch:
            hidden = follow(inner, hidden, given, layers)
        outputs.append(hidden)
    return torch.stack(outputs).mean(0)


def bridged(model: Any, tokenizer: Any) -> Any:
    """TransformerLens' bridge around a copy of the model with the same parameters; it wants some tokenizer."""
    from transformer_lens.model_bridge import TransformerBridge

    return TransformerBridge.boot_transformers(
        "llama", hf_model=sharing_weights(model), tokenizer=tokenizer, device=str(model.device)
    )


def hooked(bridge: Any, plan: Plan, ids: Tensor) -> Callable[[], Tensor] | None:
    """A call that gives the logits under `plan` by TransformerLens: a layer that the plan skips runs, and a hook puts
    the stream from before it in the place of its output. None for plans that do more than skip.
    """
    executed = [step.index for step in plan.steps if isinstance(step, Layer)]
    if len(executed) < len(plan.steps) or executed != sorted(set(executed)):
        return None
    skipped = sorted(set(range(bridge.cfg.n_layers)) - set(executed))
    kept: dict[int, Tensor] = {}

    def hooks(layer: int) -> list[tuple[str, Callable[..., Any]]]:
        def keep(stream: Tensor, hook: Any) -> None:
            kept[layer] = stream

        def put(stream: Tensor, hook: Any) -> Tensor:
            return kept[layer]

        return [(f"blocks.{layer}.hook_in", keep), (f"blocks.{layer}.hook_out", put)]

    both = [pair for layer in skipped for pair in hooks(layer)]

    def call() -> Tensor:
        logits: Tensor = bridge.run_with_hooks(ids, fwd_hooks=both) if both else bridge(ids)
        return logits

    return call


def _difference(plan: Plan, num_layers: int) -> tuple[int, int, tuple[Step, ...]]:
    """The layers [first, stop) that the plan runs otherwise, and the steps that it has in their place.

    A plan that only adds steps is read as replacing one layer by itself and them, for nnsight can begin only at a
    layer.
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
