"""Fields that the rules of `configs` get wrong, by model type; inner configurations as dicts, ... to leave a field."""

from __future__ import annotations

from typing import Any

_WINDOWS: dict[str, Any] = {"embed_dim": 24, "image_size": 64, "patch_size": 2, "window_size": 4}

OVERRIDES: dict[str, dict[str, Any]] = {
    "bert-generation": {"is_decoder": True},
    "exaone4_5_vision": {"window_size": 32},
    "qwen2_5_vl_vision": {"window_size": 32},
    "fun_asr_nano": {"adaptor_config": {"intermediate_size": 16}},
    "gemma3_text": {"layer_types": ["sliding_attention", "full_attention"] * 2 + ["sliding_attention"]},
    "glm5_next": {"text_config": {"num_key_value_heads": 4}},
    "glm5_next_text": {"num_key_value_heads": 4},
    "gpt_neo": {"num_layers": 4, "attention_types": [[["global", "local"], 2]]},
    "lilt": {"hidden_size": 48},  # six coordinates share it
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "bit": {"num_groups": 8},
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "clip_qkv": 8.0}},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "esm": {"vocab_size": 160, "pad_token_id": 0, "mask_token_id": 99},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16},
    "hunyuan_vl_text": {"head_dim": 16},
    "hunyuan_vl": {"text_config": {"head_dim": 16}},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2 + ["conv"]},
    "ministral": {"head_dim": 16},
    "nemotron": {"num_key_value_heads": 2},
    "step3p7": {"text_config": {"sliding_window": 8}},
    "donut-swin": _WINDOWS,
    "maskformer-swin": _WINDOWS,
    "mobilevit": {"hidden_sizes": [16, 24, 32]},
    "regnet": {"depths": [3, 3, 3, 3]},
    "swin": _WINDOWS,
    "swin2sr": {"embed_dim": 24, "image_size": 16, "patch_size": 1, "window_size": 8, "num_heads": [3, 3, 3, 3, 3, 3]},
    "swinv2": _WINDOWS,
}
