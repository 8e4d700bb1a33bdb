"""Make a Hugging Face model follow a plan: record how its loop calls the layers, then execute the plan."""

from __future__ import annotations

from painters.engine.program import KINDS_OF_KV, KV, Program, identity, operate, surgery
from painters.stack import LayerStack, SurgeryError

__all__ = ["KINDS_OF_KV", "KV", "LayerStack", "Program", "SurgeryError", "identity", "operate", "surgery"]
