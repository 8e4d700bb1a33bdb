"""Attention for token trees that lie one after the other in a single row, none of which sees another.

All else in a layer is computed position by position, for which a single row without padding is cheapest. For attention
the row is cut into groups of trees of one width, and each group is a batch. A layer's own projections, norms and rotary
embeddings run as they are: the model is set to another attention function, through transformers' `AttentionInterface`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from painters import _compat

__all__ = ["TreeGroup", "attending_in_groups", "takes_groups"]

NAME: Final = "painters_token_trees"
"""The name of the attention function in transformers' table."""
_BASE: Final = "sdpa"
"""The name of the attention function that runs for each group, and that a model must use by itself."""


@dataclass(frozen=True, slots=True, eq=False)
class TreeGroup:
    """Token trees of one width that lie side by side in the row.

    Attributes:
        begin: The position of the first tree in the row.
        rows: The number of trees.
        width: The number of positions of each tree.
        trunk: The number of positions, one or more, before the first of the trees branches. Each of these sees all
            positions before it in its tree.
        mask: For the positions after the trunk, [rows, 1, width - trunk, width], which is added to the attention
            scores. None if there are no such positions.

    Examples:
        >>> import torch
        >>> from painters.sharing.tree_attention import TreeGroup
        >>> group = TreeGroup(begin=4, rows=2, width=3, trunk=3, mask=None)
        >>> group.end, group.of(torch.zeros(1, 8, 10, 16)).shape
        (10, torch.Size([2, 8, 3, 16]))
    """

    begin: int
    rows: int
    width: int
    trunk: int
    mask: Tensor | None

    @property
    def end(self) -> int:
        """The position in the row after the last tree."""
        return self.begin + self.rows * self.width

    def of(self, states: Tensor) -> Tensor:
        """Return the part of `states` that belongs to the group, without a copy.

        Args:
            states: Queries, keys or values of the row, [1, heads, positions, head size].

        Returns:
            Those of the group, [rows, heads, width, head size].
        """
        heads, _, size = states.shape[1:]
        return states[0, :, self.begin : self.end].view(heads, self.rows, self.width, size).transpose(0, 1)


_groups: ContextVar[Sequence[TreeGroup]] = ContextVar("groups")


def takes_groups(model: nn.Module) -> bool:
    """Return whether the model looks up its attention function by name, as its configuration says.

    Args:
        model: The model.

    Returns:
        True if its configuration names torch's scaled-dot-product attention.

    Examples:
        >>> from transformers import LlamaConfig, LlamaModel
        >>> from painters.sharing.tree_attention import takes_groups
        >>> sizes = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "vocab_size": 32}
        >>> config = LlamaConfig(num_hidden_layers=2, **sizes)
        >>> [takes_groups(LlamaModel._from_config(config, attn_implementation=name)) for name in ("sdpa", "eager")]
        [True, False]
    """
    return _compat.attention_implementation(getattr(model, "config", None)) == _BASE


@contextmanager
def attending_in_groups(model: nn.Module, groups: Sequence[TreeGroup]) -> Iterator[None]:
    """Limit attention in `model` to the trees of `groups` within the context.

    The attention masks that the model makes are not used. Other threads, which may call the model at the same time,
    attend as ever. A model may still mix positions in another way than by
    attention: compare its answers with those to single rows first.

    Args:
        model: The model, whose inputs within the context have a single row.
        groups: The groups of trees, which cover the row from its beginning to its end.

    Yields:
        Nothing.

    Examples:
        >>> import torch
        >>> from transformers import LlamaConfig, LlamaModel
        >>> from painters.sharing.tree_attention import TreeGroup, attending_in_groups
        >>> _ = torch.manual_seed(0)
        >>> sizes = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "vocab_size": 32}
        >>> model = LlamaModel(LlamaConfig(num_hidden_layers=2, **sizes)).eval()
        >>> batch = torch.tensor([[5, 6, 7], [8, 9, 10]])
        >>> positions = torch.arange(3).repeat(1, 2)
        >>> with torch.no_grad(), attending_in_groups(model, [TreeGroup(0, rows=2, width=3, trunk=3, mask=None)]):
        ...     states = model(batch.reshape(1, 6), position_ids=positions, use_cache=False).last_hidden_state
        >>> torch.allclose(states.reshape(2, 3, 8), model(batch).last_hidden_state, atol=1e-6)
        True
    """
    configs = {id(config): config for module in model.modules() if (config := getattr(module, "config", None))}
    with_base = [config for config in configs.values() if _compat.attention_implementation(config) == _BASE]
    token = _groups.set(groups)
    for config in with_base:
        _compat.set_attention_implementation(config, NAME)  # the property would set it in every sub-config too
    try:
        yield
    finally:
        for config in with_base:
            _compat.set_attention_implementation(config, _BASE)
        _groups.reset(token)


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attend within each tree: an attention function as transformers calls it.

    Query, key and value are [1, heads, positions, head size]; the result is [1, positions, heads, head size].
    """
    attend = ALL_ATTENTION_FUNCTIONS[_BASE]
    groups = _groups.get(None)
    if groups is None:  # another thread calls the model meanwhile
        output: tuple[Tensor, None] = attend(module, query, key, value, attention_mask, **options)
        return output
    positions = groups[-1].end
    if len(query) != 1 or query.shape[2] != positions or key.shape[2] != positions:
        raise ValueError(f"{positions} positions of token trees, but {query.shape[2]} attend to {key.shape[2]}")
    if options.get("position_bias") is not None:
        raise ValueError("attention with a bias for each pair of positions")
    outputs = []
    for group in groups:
        q, k, v = group.of(query), group.of(key), group.of(value)
        trunk = group.trunk
        trunks, _ = attend(module, q[:, :, :trunk], k[:, :, :trunk], v[:, :, :trunk], None, **options)
        if group.mask is not None:
            behind_trunk, _ = attend(module, q[:, :, trunk:], k, v, group.mask.to(q.device), **options)
            trunks = torch.cat([trunks, behind_trunk], 1)
        outputs.append(trunks.flatten(0, 1))
    return torch.cat(outputs)[None], None


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """Return the attention mask as transformers makes it; None within `attending_in_groups`, which needs none."""
    mask: Tensor | None = ALL_MASK_ATTENTION_FUNCTIONS[_BASE](*args, **kwargs) if _groups.get(None) is None else None
    return mask


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, _mask)
