"""A second oracle: a stock model whose own list of layers is the plan, one copy of a layer for every execution.

It needs no surgery, so it generates with any cache and in any mode of `generate`, lossy caches and sampling included,
which the loop of tests/reference.py cannot. The copies share their weights; each has a cache slot of its own. A
parallel step is one module of the list that holds its copies. For models whose loop treats all layers alike.
"""

from __future__ import annotations

import copy
from itertools import count
from typing import Any

import torch
from reference import follow
from torch import Tensor, nn

from painters import Plan
from painters.plan import Layer, Step


class Group(nn.Module):
    """A parallel step: `copies` in the order of execution."""

    def __init__(self, step: Step, copies: list[nn.Module]) -> None:
        super().__init__()
        self.step = step
        self.copies = nn.ModuleList(copies)

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        copies = iter(self.copies)
        return follow((self.step,), hidden, lambda index, half, stream: next(copies)(stream, *args, **kwargs))


def unrolled(model: Any, path: str, plan: Plan) -> Any:
    """A stock model that computes what `model` computes under `plan`; `path` leads to its list of layers."""
    result = copy.deepcopy(model)
    layers = result.get_submodule(path)
    slot = count()
    runs: list[int] = []

    def copied(index: int) -> nn.Module:
        runs.append(index)
        return _with_slot(layers[index], next(slot))

    steps = []
    for step in plan.steps:
        copies = [copied(layer.index) for layer in Plan((step,)).walk()]
        steps.append(copies[0] if isinstance(step, Layer) else Group(step, copies))
    owner, _, name = path.rpartition(".")
    setattr(result.get_submodule(owner), name, nn.ModuleList(steps))
    # Caches are made for so many layers; loops that cut their list at this number keep all of it.
    result.config.num_hidden_layers = len(runs)
    if (types := getattr(result.config, "layer_types", None)) is not None:
        result.config.layer_types = [types[index] for index in runs]
    return result


def _with_slot(layer: nn.Module, slot: int) -> nn.Module:
    kept = {id(p): p for p in layer.parameters()}
    result: nn.Module = copy.deepcopy(layer, kept)
    for module in result.modules():
        if "layer_idx" in vars(module):
            module.layer_idx = torch.tensor(slot).item()
    return result
