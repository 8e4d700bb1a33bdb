"""Experiments: questions as grids of cells, in YAML files.

A *cell* is one combination of model, plan, task and protocol, and gives one score. Its key is known before scoring: the
key holds everything that is requested and can change the score. The record of the score holds the rest, such as digests
of weights and requests, the device and the versions. `painters.results` says which record answers which cell.
"""

from __future__ import annotations

from painters.experiment.cells import Cell, cell_key, cells
from painters.experiment.fields import Model
from painters.experiment.file import figure_names, find, load, shipped
from painters.experiment.grid import Point
from painters.experiment.protocol import Chat, EncoderProtocol, Protocol, ScoringProtocol
from painters.experiment.schema import Encoder, Experiment, Grid, Similarity
from painters.experiment.yaml import ExperimentError

__all__ = [
    "Cell",
    "Chat",
    "Encoder",
    "EncoderProtocol",
    "Experiment",
    "ExperimentError",
    "Grid",
    "Model",
    "Point",
    "Protocol",
    "ScoringProtocol",
    "Similarity",
    "cell_key",
    "cells",
    "figure_names",
    "find",
    "load",
    "shipped",
]
