"""Fields that the rules of `configs` get wrong, by model type; inner configurations as dicts, ... to leave a field."""

from __future__ import annotations

from typing import Any

OVERRIDES: dict[str, dict[str, Any]] = {
    "fun_asr_nano": {"adaptor_config": {"intermediate_size": 16}},
    "glm5_next": {"text_config": {"num_key_value_heads": 4}},
    "glm5_next_text": {"num_key_value_heads": 4},
    "gpt_neo": {"num_layers": 4, "attention_types": [[["global", "local"], 2]]},
    "swin": {"embed_dim": 24, "image_size": 64, "patch_size": 2, "window_size": 4},
}
