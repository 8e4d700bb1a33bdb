"""Fields that the rules of `configs` get wrong, by model type; inner configurations as dicts, ... to leave a field."""

from __future__ import annotations

from typing import Any

_WINDOWS: dict[str, Any] = {"embed_dim": 24, "image_size": 64, "patch_size": 2, "window_size": 4}

_SERIES: dict[str, Any] = {"prediction_length": 4, "context_length": 8}

OVERRIDES: dict[str, dict[str, Any]] = {
    "bert-generation": {"is_decoder": True},
    "exaone4_5_vision": {"window_size": 32},
    "qwen2_5_vl_vision": {"window_size": 32},
    "fun_asr_nano": {"adaptor_config": {"intermediate_size": 16}},
    "gemma3_text": {"layer_types": ["sliding_attention", "full_attention"] * 2 + ["sliding_attention"]},
    "gpt_neo": {"num_layers": 4, "attention_types": [[["global", "local"], 2]]},
    "lilt": {"hidden_size": 48},  # six coordinates share it
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "audioflamingo3_encoder": {"max_source_positions": 32},
    "autoformer": _SERIES,
    "bamba": {"attn_layer_indices": [1, 4]},
    "bit": {"num_groups": 8},
    "cohere_compass": {"text_config": {"rope_parameters": ...}},
    "cohere_compass_text": {"rope_parameters": ...},
    "csm": {"codec_config": {"upsample_groups": 64}},
    "efficientnet": {"width_coefficient": 0.2, "depth_coefficient": 1.0},
    "esmc": {"vocab_size": 160},
    "fastspeech2_conformer": {"vocab_size": 160},
    "glm5_next": {"text_config": {"num_key_value_heads": 4, "index_topk": 16}},
    "glm5_next_text": {"num_key_value_heads": 4, "index_topk": 16},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"] * 2 + ["linear_attention"]},
    "informer": _SERIES,
    "kyutai_speech_to_text": {"codec_config": {"upsample_groups": 64}},
    "layoutlmv3": {"coordinate_size": 8, "shape_size": 16},
    "mimi": {"upsample_groups": 64},
    "nemo_speechlm": {"text_config": {"n_groups": 1}},
    "nemotron_h": {"n_groups": 1},
    "patchtsmixer": {"context_length": 16, "patch_length": 4, "patch_stride": 4},
    "qwen2_audio_encoder": {"max_source_positions": 32},
    "qwen4_exp_text": {
        "indexer_n_heads": 4,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": 8,
        "indexer_compress_ratio": 4,
    },
    "time_series_transformer": _SERIES,
    "vits": {"vocab_size": 160},
    "voxtral_encoder": {"max_source_positions": 32},
    "moss_transcribe_diarize_audio": {"max_source_positions": 32},
    "xmod": {"default_language": "en_XX"},
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"] * 2 + ["linear_attention"]},
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
