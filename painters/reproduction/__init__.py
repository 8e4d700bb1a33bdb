"""The paper's figures in one call: score what their records lack, then draw them. Importing it loads no torch."""

from __future__ import annotations

from painters.reproduction.figure_request import default_folder
from painters.reproduction.run import ProgressDisplay, Reproduction, reproduce

__all__ = ["ProgressDisplay", "Reproduction", "default_folder", "reproduce"]
