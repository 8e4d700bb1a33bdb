"""Fields that the rules of `configs` get wrong, by model type; inner configurations as dicts, ... to leave a field."""

from __future__ import annotations

from typing import Any

OVERRIDES: dict[str, dict[str, Any]] = {
    "swin": {"embed_dim": 24, "image_size": 64, "patch_size": 2, "window_size": 4},
}
