"""What a plan must give, worked out without the engine: a stock forward whose last layer hands on another stream.

Hooks note the arguments of every layer's call. After the last call the layers are called again in a plain loop
by the plan, each with its own arguments, and what comes out takes the place of the last layer's output.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from support.reference import follow
from torch import Tensor, nn
from transformers.cache_utils import Cache

from painters import Plan


class NoChainError(Exception):
    """A model whose own forward does not call each layer once, in order."""


def replayed(
    model: nn.Module,
    layers: nn.ModuleList,
    plan: Plan,
    inputs: dict[str, Any],
    executions: list[tuple[int, Any]] | None = None,
) -> Any:
    """The output of `model` under `plan`; `executions` gets each layer that ran, with all that it returned."""
    calls: list[tuple[int, tuple[Any, ...], dict[str, Any]]] = []
    replaying = False

    def note(index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not replaying:
            calls.append((index, tuple(map(snapshot, args)), {k: snapshot(v) for k, v in kwargs.items()}))

    def run(index: int, half: Any, hidden: Tensor) -> Tensor:
        _, args, kwargs = calls[index]
        fresh = {name: snapshot(value) for name, value in kwargs.items()}
        output = layers[index](hidden, *map(snapshot, args[1:]), **fresh)
        if executions is not None:
            executions.append((index, output))
        return stream(output)

    def replace(layer: nn.Module, args: Any, output: Any) -> Any:
        nonlocal replaying
        if replaying:
            return output
        if [index for index, _, _ in calls] != list(range(len(layers))) or not calls[0][1]:
            raise NoChainError(f"calls of its layers: {[index for index, _, _ in calls]}")
        replaying = True
        hidden = follow(plan.steps, calls[0][1][0], run)
        replaying = False
        calls.clear()  # some models run their stack more than once
        return type(output)((hidden, *output[1:])) if isinstance(output, tuple | list) else hidden

    handles = [
        layer.register_forward_pre_hook(lambda _, a, k, i=i: note(i, a, k), with_kwargs=True)
        for i, layer in enumerate(layers)
    ]
    handles.append(layers[len(layers) - 1].register_forward_hook(replace))
    try:
        return model(**inputs)
    finally:
        for handle in handles:
            handle.remove()


def stream(output: Any) -> Tensor:
    """The stream of what a layer returned."""
    return output[0] if isinstance(output, tuple | list) else output


def snapshot(value: Any) -> Any:
    """A copy of what a call could change: caches and other objects deeply, containers flatly."""
    if isinstance(value, Cache) or (hasattr(value, "__dict__") and not isinstance(value, Tensor | nn.Module)):
        return copy.deepcopy(value)
    return copy.copy(value) if isinstance(value, dict | list) else value


SIDE = ("cache", "past_key_values", "hidden_states", "attentions", "router_logits", "cache_params", "aux_loss")


def tensors(output: Any) -> dict[str, Tensor]:
    """The tensors of numbers that a forward returned, without caches and states along the way."""
    items = output.items() if isinstance(output, dict) else enumerate(output if isinstance(output, tuple) else [output])
    found: dict[str, Tensor] = {}
    for name, value in items:
        several = isinstance(value, tuple | list)
        for i, one in enumerate(value if several else [value]):
            if isinstance(one, Tensor) and one.is_floating_point() and not str(name).endswith(SIDE):
                found[f"{name}.{i}" if several else str(name)] = one
    return found


def difference(found: Any, expected: Any) -> str | None:
    """None where both outputs are bitwise the same, else what differs."""
    one, two = tensors(found), tensors(expected)
    if not two or one.keys() != two.keys():
        return f"outputs {sorted(one)} and {sorted(two)}"
    for name, value in two.items():
        if not torch.isfinite(value).any() or value.shape != one[name].shape:
            return f"{name}: shapes {tuple(one[name].shape)} and {tuple(value.shape)}, or nothing finite"
        if not torch.equal(one[name].nan_to_num(), value.nan_to_num()):
            return f"{name} off by {(one[name] - value).nan_to_num().abs().max():.1e}"
    return None
