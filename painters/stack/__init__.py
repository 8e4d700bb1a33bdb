"""The stack of a Hugging Face model: where its layers are and how one of them is called."""

from __future__ import annotations

from painters.stack.halves import HALVES, Halves
from painters.stack.search import LayerList, SurgeryError, without_wrapper
from painters.stack.stack import SPECIAL, LayerStack, Special, inspect_stack

__all__ = [
    "HALVES",
    "SPECIAL",
    "Halves",
    "LayerList",
    "LayerStack",
    "Special",
    "SurgeryError",
    "inspect_stack",
    "without_wrapper",
]
