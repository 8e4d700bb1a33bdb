"""A tiny configuration for any model type: its default one, shrunk by the names of its fields."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedConfig

from architectures.overrides import OVERRIDES

LAYERS = 5
WIDTH = 64
HEADS = 4
VOCABULARY = 160
FIRST_SPECIAL = 100
"""Text is drawn from the ids below; those from here on stand for images, sounds and the like."""

# The first rule whose name fits a whole-number field gives its value. A rule never raises a value.
RULES: tuple[tuple[str, int], ...] = (
    (r"qk_head_dim", 2 * WIDTH // HEADS),
    (r"rotary_dim", WIDTH // HEADS // 2),
    (r"vocab_size|n_vocab|\w+_vocab_size|vocab_size_\w+", VOCABULARY),
    (r"(num_)?(hidden_)?layers?|num_\w*layers|n_layers?|\w*(encoder|decoder)_layers|depth|num_blocks", LAYERS),
    (
        r"n_embd|d_model|dim|\w*hidden_size|\w*hidden_dim|\w*embed_dim|emb_dim|embedding_(size|dim)|word_embed_proj_dim",
        WIDTH,
    ),
    (r"num_key_value_heads|num_kv_heads|\w*num_key_value_heads|n_head_kv|num_query_groups|linear_num_key_heads", 2),
    (r"\w*attention_heads|num_heads|n_heads?|\w+_num_heads|\w+_n_heads|linear_num_value_heads|attention_heads", HEADS),
    (r"\w*head_dim|d_kv|d_head|qk_nope_head_dim|kv_channels|dim_head|attention_key_size", WIDTH // HEADS),
    (
        r"\w*intermediate_size\w*|\w*intermediate_dim|\w*ffn_dim|ffn_dim|d_ff|d_inner|n_inner|\w*mlp_dim|dim_feedforward|ffn_hidden_size",
        96,
    ),
    (r"(q|kv)_lora_rank|o_lora_rank|\w*lora_rank", 16),
    (r"num_experts_per_tok(en)?|moe_k|top_k|moe_topk", 2),
    (r"n_group|topk_group|num_expert_group|n_shared_experts|num_shared_experts", 1),
    (r"n_routed_experts|num_local_experts|num_experts|moe_num_experts|expert_num|num_experts_\w+", 4),
    (
        r"max_position_embeddings|n_positions|max_\w*positions|max_source_positions|max_seq_len|\w*max_position_embeddings|model_max_length",
        128,
    ),
    (
        r"sliding_window|sliding_window_size|window_size|local_attention|attention_chunk_size|local_attention_window_size",
        8,
    ),
    (
        r"projection_dim|\w*output_dim|out_hidden_size|\w*projection_size|\w*projector_hidden_size|codebook_dim|output_channels|fpn_hidden_size",
        WIDTH,
    ),
    (r"image_size|spatial_size|crop_size|input_size|resolution|pretrain_image_size", 32),
    (r"patch_size", 8),
    (r"num_queries|num_query_tokens|num_latents|num_denoising|max_num_patches", 8),
    (r"num_mel_bins|n_mels|num_filters", 16),
    (r"state_size|ssm_state_size|mamba_d_state|d_state", 8),
    (r"index_topk|index_n_heads|index_topk_blocks", 4),
    (r"chunk_size|mamba_chunk_size|block_size", 8),
    (r"upsample_initial_channel|post_conv_\w+_channels|\w*_channels", 32),
    (r"codebook_size|\w*num_embeddings", 32),
    (r"relative_attention_max_distance|max_rel\w*_pos", 32),
    (
        r"num_codevectors_per_group|codevector_dim|proj_codevector_dim|num_negatives|xvector_output_dim|classifier_proj_size",
        8,
    ),
    (r"num_conv_pos_embeddings|num_conv_pos_embedding_groups", 8),
)
# Lists with a number for each stage: widths become smaller, depths shallower; the rest stays as it is.
STAGE_WIDTHS = r"\w*hidden_sizes|\w*_dims?|dims|embed_dims|\w*channels|hidden_size|embed_dim|embed_dim_per_stage|layer_list_out_channels"
STAGE_DEPTHS = r"depths|num_blocks|\w*block_repeats|block_sizes|blocks_per_stage|stage_numb?_\w+|num_encoder_blocks"
KINDS = ("layer_types", "layers_block_type")
WHOLE_LISTS = r"conv_dim|tdnn_dim"  # one width for all


def tiny_config(model_type: str) -> PreTrainedConfig:
    """The configuration of a model of this type with a few narrow layers."""
    return shrunk(CONFIG_MAPPING[model_type], OVERRIDES.get(model_type, {}), {})


def shrunk(kind: type[PreTrainedConfig], overrides: dict[str, Any], special: dict[str, int]) -> PreTrainedConfig:
    """A small configuration of this class; `overrides` has the fields that no rule gets right, inner ones as dicts.

    `special` collects the ids of special tokens by name, so that all parts of a model agree on them.
    """
    default = kind()
    given = {name: value for name, value in overrides.items() if value is not ...}
    values: dict[str, Any] = {}
    for name in fields(kind):
        value = default_of(default, name)
        if isinstance(value, PreTrainedConfig):
            inner = given.pop(name, {})
            values[name] = inner if isinstance(inner, PreTrainedConfig) else shrunk(type(value), inner, special)
        elif name not in overrides:
            smaller = shrink(name, value, stated(kind, name), special)
            if smaller is not None:
                values[name] = smaller
    if "kv_lora_rank" in values and "num_key_value_heads" in values:
        values["num_key_value_heads"] = HEADS  # latents are widened to keys of every head
    if "mrope_section" in getattr(kind, "ignore_keys_at_rope_validation", ()):
        given.setdefault("rope_parameters", in_sections(default.rope_parameters or {}))
    return kind(**values, **given)


def in_sections(rope: dict[str, Any]) -> dict[str, Any]:
    """These rotary parameters with the small heads divided among time, height and width."""
    pairs = int(WIDTH // HEADS // 2 * rope.get("partial_rotary_factor", 1.0))
    return rope | {"mrope_section": [pairs - 2 * (pairs // 3), pairs // 3, pairs // 3]}


def fields(kind: type[PreTrainedConfig]) -> Iterator[str]:
    """The names that the constructor takes."""
    for name, parameter in inspect.signature(kind.__init__).parameters.items():
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) and name != "self":
            yield name


def default_of(config: PreTrainedConfig, name: str) -> Any:
    """The value of a field; where it varies by layer, the one that the constructor starts from."""
    try:
        return getattr(config, name, None)
    except RuntimeError:
        return inspect.signature(type(config).__init__).parameters[name].default


def stated(kind: type[PreTrainedConfig], name: str) -> bool:
    """Whether the field has a default of its own, rather than one that is worked out from other fields."""
    return inspect.signature(kind.__init__).parameters[name].default is not None


def shrink(name: str, value: Any, is_stated: bool, special: dict[str, int]) -> Any:
    """A smaller value of a field, or None to leave it."""
    if name.endswith(("_token_id", "_token_index", "_token_ids")) and value is not None:
        return special_token(name, value, special)
    # The kinds of layers are often worked out from their number, and of a few all may come out the same.
    if isinstance(value, list | tuple) and len(value) > LAYERS and len({*map(str, value)}) > 1 and name in KINDS:
        return type(value)(of_every_kind(list(value)))
    if not is_stated or isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        return next((min(small, value) for names, small in RULES if re.fullmatch(names, name)), None)
    if isinstance(value, list | tuple) and value and all(type(item) is int for item in value):
        if re.fullmatch(WHOLE_LISTS, name):
            return type(value)([16] * len(value))
        if re.fullmatch(STAGE_DEPTHS, name):
            return type(value)(min(item, 3) for item in value)
        if re.fullmatch(STAGE_WIDTHS, name) and min(value) >= 32:
            return type(value)(max(8, item // 8) for item in value)
        return None
    if (
        isinstance(value, list | tuple)
        and len(value) > LAYERS
        and ("layer" in name or "block" in name or "types" in name)
    ):
        return type(value)(of_every_kind(list(value)))
    return None


def special_token(name: str, value: Any, special: dict[str, int]) -> Any:
    """A small id for a special token, the same wherever the name comes up."""
    if isinstance(value, list | tuple):
        return value if not value else [special_token(name, value[0], special)]
    if isinstance(value, int) and value < 0:
        return None
    known = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    return known.get(name) or (
        0 if name == "pad_token_id" else special.setdefault(name.replace("_index", "_id"), FIRST_SPECIAL + len(special))
    )


def of_every_kind(values: list[Any]) -> list[Any]:
    """As many values as there are layers: each kind that occurs, in the order of the original."""
    kinds: list[Any] = []
    for value in values:
        if value not in kinds:
            kinds.append(value)
    return [kinds[i % len(kinds)] for i in range(LAYERS)]
