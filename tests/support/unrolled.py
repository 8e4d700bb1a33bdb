"""A second oracle: a stock model whose own list of layers is the plan, one copy of a layer for every execution.

It needs no surgery, so it generates with any cache and in any mode of `generate`, lossy caches and sampling included,
which the loop of tests/support/reference.py cannot. The copies share their weights; each has a cache slot of its own. A
parallel step is one module of the list that holds its copies. For models whose loop treats all layers alike.
"""

from __future__ import annotations

import copy
from itertools import count
from typing import Any

from support.reference import follow
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
    owner, _, name = path.rpartition(".")
    layers = result.get_submodule(path)
    slots = count()
    steps = []
    for step in plan.steps:
        copies = [_with_slot(layers[layer.index], next(slots)) for layer in Plan((step,)).walk()]
        steps.append(copies[0] if isinstance(step, Layer) else Group(step, copies))
    setattr(result.get_submodule(owner), name, nn.ModuleList(steps))
    # Caches are made for so many layers; loops that cut their list at this number keep all of it.
    result.config.num_hidden_layers = next(slots)
    return result


def _with_slot(layer: nn.Module, slot: int) -> nn.Module:
    copied: nn.Module = copy.deepcopy(layer, {id(p): p for p in layer.parameters()})
    for module in copied.modules():
        if "layer_idx" in vars(module):
            module.layer_idx = slot  # type: ignore[assignment]
    return copied
