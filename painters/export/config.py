"""Change a model's configuration to another order of its layers.

Only fields in the tables below are changed. Whether the result is right is checked later, in `painters.export.build`:
the layers that the new configuration makes must have the settings of the layers that belong there.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

from painters import _compat

PER_LAYER: Final = frozenset(
    {
        *("layer_types", "mlp_layer_types", "layers_block_type", "indexer_types", "attention_layers", "attn_layers"),
        *("no_rope_layers", "attention_window", "layer_rope_theta", "sliding_windows", "activation_sparsity_pattern"),
        *("intermediate_size", "num_attention_heads", "num_key_value_heads", "layers_num_experts"),
        *("num_attention_heads_per_layer", "num_key_value_heads_per_layer", "kv_sharing_modes"),
    }
)
"""Fields that hold one value for each layer, wherever they are a list of that length."""

INDICES: Final = frozenset({"moe_layers", "full_attn_idxs", "rope_scaling_layers", "ple_layer_ids"})
"""Fields that list the indices of certain layers."""

PREFIXES: Final = frozenset({"max_window_layers", "first_k_dense_replace", "num_dense_layers"})
"""Fields that count how many of the first layers are of a kind."""


def reordered(config: Any, order: Sequence[int]) -> Any:
    """Return the configuration of a model whose layer k is layer `order[k]` of the model that `config` describes.

    In composite models the configuration of the text model is changed. Raises ValueError where the configuration
    refuses its new values.
    """
    whole = config.to_dict()
    text, fields = config.get_text_config(), whole
    for name in _path(config, text):
        fields = fields[name]
    _reorder(fields, text, order)
    changed = type(config).from_dict(whole)
    _compat.set_name_or_path(changed, _compat.name_or_path(config))
    return changed


def _path(config: Any, text: Any) -> list[str]:
    """Return the names of the fields that lead from `config` to its text model's configuration `text`.

    There are none where both are the same.
    """
    if config is text:
        return []
    for name in getattr(config, "sub_configs", {}):
        inner = getattr(config, name, None)
        if inner is text or (inner is not None and inner.get_text_config() is text):
            return [name, *_path(inner, text)]
    raise ValueError(f"{type(config).__name__} keeps the configuration of its text model where it is not found")


def _reorder(fields: dict[str, Any], config: Any, order: Sequence[int]) -> None:
    """Change the `fields` of the configuration `config` in place."""
    count = config.num_hidden_layers
    for name, value in fields.items():
        if isinstance(value, list | tuple) and name in PER_LAYER and len(value) == count:
            fields[name] = [copy.deepcopy(value[layer]) for layer in order]
        elif isinstance(value, list | tuple) and name in INDICES:
            fields[name] = [position for position, layer in enumerate(order) if layer in value]
        elif isinstance(value, int) and name in PREFIXES:
            fields[name] = next((position for position, layer in enumerate(order) if layer >= value), len(order))
    if isinstance(
        fields.get("mlp_only_layers"), list
    ):  # mixtures of experts: dense layers are listed, or follow a period
        sparse = fields.get("decoder_sparse_step") or 1
        dense = {i for i in range(count) if i in fields["mlp_only_layers"] or (i + 1) % sparse}
        fields["mlp_only_layers"] = [position for position, layer in enumerate(order) if layer in dense]
        fields["decoder_sparse_step"] = 1
    if "attention_types" in fields and "attention_layers" in fields:  # GPT-Neo reads the list from the types
        fields["attention_types"] = [[fields["attention_layers"], 1]]
    if isinstance(fields.get("per_layer_config"), Mapping):
        own = {int(layer): value for layer, value in fields["per_layer_config"].items()}
        fields["per_layer_config"] = {k: copy.deepcopy(own[i]) for k, i in enumerate(order) if i in own}
    fields[config.attribute_map.get("num_hidden_layers", "num_hidden_layers")] = len(order)
    if (
        "decoder_layers" in fields
    ):  # a decoder cut from an encoder-decoder, where num_hidden_layers counts the encoder's
        fields["decoder_layers"] = len(order)
