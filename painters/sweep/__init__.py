"""Sweeps: score the missing cells of experiments into a store. Importing the package loads no torch."""

from __future__ import annotations

from painters.sweep.estimate import FORMULA, STEP, TFLOPS, UTILISATION, Cost, Forecast
from painters.sweep.eta import Progress
from painters.sweep.runner import Failure, Summary, plan, run

__all__ = [
    "FORMULA",
    "STEP",
    "TFLOPS",
    "UTILISATION",
    "Cost",
    "Failure",
    "Forecast",
    "Progress",
    "Summary",
    "plan",
    "run",
]
