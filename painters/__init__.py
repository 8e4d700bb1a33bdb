"""Operate on the layers of frozen transformers ("Transformer Layers as Painters", arXiv 2407.09298).

Importing it loads no torch: the names in `_LAZY` bring their libraries when they are first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from painters import variants
from painters.errors import PaintersError
from painters.plan import Plan, PlanError

if TYPE_CHECKING:
    from painters.export import export
    from painters.report import report
    from painters.similarity import similarity

__version__ = "0.1.0"

__all__ = [
    "PaintersError",
    "Plan",
    "PlanError",
    "SurgeryError",
    "__version__",
    "evaluate",
    "export",
    "report",
    "similarity",
    "surgery",
    "variants",
]

_LAZY = {
    "SurgeryError": "painters.stack",
    "evaluate": "painters.harness",
    "export": "painters.export",
    "report": "painters.report",
    "similarity": "painters.similarity",
    "surgery": "painters.engine",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'painters' has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    # A module of this very name is there by now, put by its import: it stays, and is callable as its function is.
    return globals().setdefault(name, value)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
