"""Operate on the layers of frozen transformers ("Transformer Layers as Painters", arXiv 2407.09298).

Importing it loads no torch: names that need a library bring it when they are first asked for. Where torch is not loaded
yet and the environment does not say how threads wait, they will not spin (`OMP_WAIT_POLICY=PASSIVE`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from painters import variants
from painters._lazy import attach
from painters.errors import PaintersError
from painters.plan import Plan, PlanError
from painters.threads import spare_cores

if TYPE_CHECKING:
    from painters.export import export
    from painters.report import report
    from painters.reproduction import reproduce
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
    "reproduce",
    "similarity",
    "surgery",
    "variants",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "SurgeryError": "painters.stack",
        "evaluate": "painters.harness",
        "export": "painters.export",
        "report": "painters.report",
        "reproduce": "painters.reproduction",
        "similarity": "painters.similarity",
        "surgery": "painters.engine",
    },
)

spare_cores()
