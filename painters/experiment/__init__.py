"""Experiments: grids of cells in YAML files, and the key of a cell."""

from __future__ import annotations

from painters.experiment.cells import Cell, cell_key, cells
from painters.experiment.fields import Model
from painters.experiment.file import find, load, shipped
from painters.experiment.grid import Point
from painters.experiment.protocol import EncoderProtocol, Protocol, ScoringProtocol
from painters.experiment.schema import Encoder, Experiment, Grid, Similarity
from painters.experiment.yaml import ExperimentError

__all__ = [
    "Cell",
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
    "find",
    "load",
    "shipped",
]
