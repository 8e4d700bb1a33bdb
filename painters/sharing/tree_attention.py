"""Attention among token trees that lie one after the other in a single row, none of which sees another.

Everything else that a layer does is done position by position, so a row without padding is the best that it can get.
For attention the row is cut into groups of trees of one width, and each group is a batch. A layer's own projections,
norms and rotary embeddings run as they are: the model is told to use another attention function, by the interface that
transformers has for this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

__all__ = ["Group", "attending_in_groups", "takes_groups"]

NAME: Final = "painters_token_trees"
_BASE: Final = "sdpa"


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """`rows` trees of `width` positions each, from the position `begin` of the row on."""

    begin: int
    rows: int
    width: int
    trunk: int
    """Positions, one or more, before the first of them branches: each sees those before it in its tree."""
    mask: Tensor | None
    """[rows, 1, width - trunk, width], added to the attention scores of the others; None if there are none."""

    @property
    def end(self) -> int:
        """The position after the last one."""
        return self.begin + self.rows * self.width

    def of(self, states: Tensor) -> Tensor:
        """[rows, heads, width, head size] from [1, heads, positions, head size], without a copy."""
        heads, _, size = states.shape[1:]
        return states[0, :, self.begin : self.end].view(heads, self.rows, self.width, size).transpose(0, 1)


_groups: ContextVar[Sequence[Group]] = ContextVar("groups")


def takes_groups(model: nn.Module) -> bool:
    """Whether the model looks its attention function up by name, as far as its configuration tells."""
    return getattr(getattr(model, "config", None), "_attn_implementation", None) == _BASE


@contextmanager
def attending_in_groups(model: nn.Module, groups: Sequence[Group]) -> Iterator[None]:
    """Nothing; meanwhile attention in `model` is within the trees of `groups`, which cover its only row.

    The attention masks that the model makes are not looked at. A model may still mix positions in another way: compare
    its answers with those to single rows first.
    """
    configs = {id(config): config for module in model.modules() if (config := getattr(module, "config", None))}
    own = [config for config in configs.values() if getattr(config, "_attn_implementation", None) == _BASE]
    token = _groups.set(groups)
    for config in own:
        config._attn_implementation_internal = NAME  # the property would set it in every sub-config too
    try:
        yield
    finally:
        for config in own:
            config._attn_implementation_internal = _BASE
        _groups.reset(token)


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """[1, positions, heads, head size], from query, key and value [1, heads, positions, head size]."""
    groups = _groups.get()
    positions = groups[-1].end
    if len(query) != 1 or query.shape[2] != positions or key.shape[2] != positions:
        raise ValueError(f"{positions} positions of token trees, but {query.shape[2]} attend to {key.shape[2]}")
    if options.get("position_bias") is not None:
        raise ValueError("attention with a bias for each pair of positions")
    attend = ALL_ATTENTION_FUNCTIONS[_BASE]
    found = []
    for group in groups:
        q, k, v = group.of(query), group.of(key), group.of(value)
        trunk = group.trunk
        output, _ = attend(module, q[:, :, :trunk], k[:, :, :trunk], v[:, :, :trunk], None, **options)
        if group.mask is not None:
            others, _ = attend(module, q[:, :, trunk:], k, v, group.mask.to(q.device), **options)
            output = torch.cat([output, others], 1)
        found.append(output.flatten(0, 1))
    return torch.cat(found)[None], None


AttentionInterface.register(NAME, _attend)
