"""painters operates on the layers of frozen transformers ("Transformer Layers as Painters", arXiv 2407.09298).

Importing it loads no torch: `surgery` and `evaluate` bring their libraries when they are first used.
"""

from painters.plan import Plan, PlanError

__version__ = "0.1.0"

__all__ = ["Plan", "PlanError", "__version__"]
