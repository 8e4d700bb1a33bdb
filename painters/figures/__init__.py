"""Figures from records alone, without torch: the paper's figures 1 to 11, and three more."""

from __future__ import annotations

from painters.figures.data import Data, names_given, read, shown_names
from painters.figures.output import Drawing, svg
from painters.figures.registry import FIGURES, Drawn, Figure, draw, draw_all, drawing, numbers
from painters.figures.score_table import FigureError, NothingToDraw

__all__ = [
    "FIGURES",
    "Data",
    "Drawing",
    "Drawn",
    "Figure",
    "FigureError",
    "NothingToDraw",
    "draw",
    "draw_all",
    "drawing",
    "names_given",
    "numbers",
    "read",
    "shown_names",
    "svg",
]
