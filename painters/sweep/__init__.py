"""Sweeps: score the missing cells of experiments into a store. Importing the package loads no torch."""

from __future__ import annotations

from painters.sweep.estimate import Cost, Forecast
from painters.sweep.eta import Progress
from painters.sweep.facts import FORMULA, STEP, TFLOPS, UTILISATION
from painters.sweep.runner import plan, run
from painters.sweep.selection import Overrides, load_experiments, records_folder
from painters.sweep.summary import Failure, Summary

__all__ = [
    "FORMULA",
    "STEP",
    "TFLOPS",
    "UTILISATION",
    "Cost",
    "Failure",
    "Forecast",
    "Overrides",
    "Progress",
    "Summary",
    "load_experiments",
    "plan",
    "records_folder",
    "run",
]
