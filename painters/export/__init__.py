"""Export a plan as a checkpoint that transformers loads by itself.

The package can be called like its function `export`, because `painters.export` is the name of both.
"""

from __future__ import annotations

import sys
from types import ModuleType

from painters.export.checkpoint import MAX_SHARD_SIZE, Exported, check, export, stored_dtype
from painters.export.files import ExportError, readable

__all__ = ["MAX_SHARD_SIZE", "ExportError", "Exported", "check", "export", "readable", "stored_dtype"]


class _CallableModule(ModuleType):
    """A module that is called like the function `export`."""

    __call__ = staticmethod(export)


sys.modules[__name__].__class__ = _CallableModule
