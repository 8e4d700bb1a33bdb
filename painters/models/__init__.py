"""Load models: bundled ones, folders and names on the hub.

Importing the package loads no torch; the names below bring it when they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from painters._lazy import attach

if TYPE_CHECKING:
    from painters.models.errors import LayersUnknownError, ModelError
    from painters.models.load import (
        BUNDLED,
        bars,
        by_name_or_loaded,
        describe,
        load_model,
        num_layers,
        only_errors,
        refuse_encoder,
        refuse_small_files,
        skeleton,
        weights_digest,
    )

__all__ = [
    "BUNDLED",
    "LayersUnknownError",
    "ModelError",
    "bars",
    "by_name_or_loaded",
    "describe",
    "load_model",
    "num_layers",
    "only_errors",
    "refuse_encoder",
    "refuse_small_files",
    "skeleton",
    "weights_digest",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "LayersUnknownError": "painters.models.errors",
        "ModelError": "painters.models.errors",
        "BUNDLED": "painters.models.load",
        "bars": "painters.models.load",
        "by_name_or_loaded": "painters.models.load",
        "describe": "painters.models.load",
        "load_model": "painters.models.load",
        "num_layers": "painters.models.load",
        "only_errors": "painters.models.load",
        "refuse_encoder": "painters.models.load",
        "refuse_small_files": "painters.models.load",
        "skeleton": "painters.models.load",
        "weights_digest": "painters.models.load",
    },
)
