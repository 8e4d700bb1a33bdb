"""Random and hostile inputs against what painters promises of them: `make fuzz`, or `python -m fuzz --help`."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from fuzz.running import Part

PLACES: Final = {
    "plans": "plan_texts.PLANS",
    "variants": "plan_texts.RULES",
    "experiments": "experiment_files.FILES",
    "grids": "experiment_files.GRIDS",
    "arguments": "arguments.ARGUMENTS",
    "surgeries": "surgeries.SURGERIES",
}


def part(name: str) -> Part:
    """The part of this name; what needs torch is loaded only now."""
    module, _, constant = PLACES[name].partition(".")
    found: Part = getattr(import_module(f"fuzz.{module}"), constant)
    return found
