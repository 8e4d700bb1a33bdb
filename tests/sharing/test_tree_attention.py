"""Trees in one row attend as each would alone, and the model is as before afterwards."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.models import make_model
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from painters.sharing.tree_attention import NAME, TreeGroup, attending_in_groups, takes_groups

LOWEST = torch.finfo(torch.float32).min


def groups() -> list[TreeGroup]:
    """Two chains of three; a tree of five whose last two nodes both follow its second."""
    mask = torch.zeros(1, 1, 2, 5)
    mask[0, 0, :, 2] = LOWEST  # the third is no ancestor
    mask[0, 0, 0, 4] = mask[0, 0, 1, 3] = LOWEST
    return [TreeGroup(0, 2, 3, 3, None), TreeGroup(6, 1, 5, 3, mask)]


def everything(laid: list[TreeGroup]) -> torch.Tensor:
    """[positions, positions], whether one sees another."""
    sees = torch.zeros(laid[-1].end, laid[-1].end, dtype=torch.bool)
    for group in laid:
        for row in range(group.rows):
            whole = slice(group.begin + row * group.width, group.begin + (row + 1) * group.width)
            of_tree = torch.ones(group.width, group.width).tril().bool()
            if group.mask is not None:
                of_tree[group.trunk :] = group.mask[row, 0] == 0
            sees[whole, whole] = of_tree
    return sees


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox"])
def test_a_row_of_trees_is_as_with_a_mask_over_all_of_it(architecture: str) -> None:
    model = make_model(architecture, 3)
    ids = torch.randint(1, 90, (1, 11), generator=torch.Generator().manual_seed(0))
    depths = torch.tensor([[0, 1, 2, 0, 1, 2, 0, 1, 2, 2, 2]])
    laid = groups()
    mask = torch.zeros(11, 11).masked_fill_(~everything(laid), LOWEST)[None, None]
    with torch.no_grad():
        expected = model(ids, position_ids=depths, attention_mask=mask, use_cache=False).logits
        with attending_in_groups(model, laid):
            found = model(ids, position_ids=depths, use_cache=False).logits
        plain = model(ids, position_ids=depths, use_cache=False).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(plain, expected, atol=1e-3)


def test_grouped_query_attention() -> None:
    """Fewer heads of keys and values than of queries."""
    laid = groups()
    draw = torch.Generator().manual_seed(1)
    query, key, value = (torch.randn(1, heads, 11, 8, generator=draw) for heads in (4, 2, 2))
    module: Any = SimpleNamespace(num_key_value_groups=2, is_causal=True)
    model = make_model("llama", 2)
    with attending_in_groups(model, laid):
        found, _ = ALL_ATTENTION_FUNCTIONS[NAME](module, query, key, value, None, scaling=0.3)
    expected = scaled_dot_product_attention(
        query, key, value, attn_mask=everything(laid), scale=0.3, enable_gqa=True
    ).transpose(1, 2)
    torch.testing.assert_close(found, expected)


def test_the_model_is_as_before() -> None:
    model = make_model("llama", 2)
    assert takes_groups(model)
    with pytest.raises(ZeroDivisionError), attending_in_groups(model, groups()):
        {NAME: 1}[model.config._attn_implementation] / 0
    assert model.config._attn_implementation == "sdpa"
    model.set_attn_implementation("eager")
    assert not takes_groups(model)


def test_what_is_not_such_a_row_is_refused() -> None:
    model = make_model("llama", 2)
    with attending_in_groups(model, groups()), torch.no_grad():
        with pytest.raises(ValueError, match="11 positions of token trees, but 3 attend to 3"):
            model(torch.ones(1, 3, dtype=torch.long), use_cache=False)
        with pytest.raises(ValueError, match="11 positions of token trees"):
            model(torch.ones(2, 11, dtype=torch.long), use_cache=False)
