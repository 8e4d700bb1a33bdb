"""Export a plan as a checkpoint that transformers loads by itself.

The package can be called like its function `export`, because `painters.export` is the name of both.
"""

from __future__ import annotations

from painters._lazy import make_callable
from painters.export.checkpoint import MAX_SHARD_SIZE, Exported, check, export, stored_dtype
from painters.export.files import ExportError, readable

__all__ = ["MAX_SHARD_SIZE", "ExportError", "Exported", "check", "export", "readable", "stored_dtype"]

make_callable(__name__, export)
