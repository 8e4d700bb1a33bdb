"""Models and plans that are exported."""

from __future__ import annotations

from typing import Any

import torch
from support.models import make_model
from transformers import PreTrainedModel

from painters import variants
from painters.export import code, modeling
from painters.plan import Plan
from painters.stack import LayerStack

N, START = 6, 1


NAMES = ("llama", "qwen3", "gemma3", "gpt_neox", "bert")


SEQUENCES = {
    "skip": variants.skip(num_layers=N, start=START),
    "swap": variants.swap(num_layers=N, layer=0),
    "reverse": variants.reverse(num_layers=N, start=START),
    "shuffle": variants.shuffle(num_layers=N, start=START, seed=3),
    "middle-repeat": variants.middle_repeat(num_layers=N, start=START),
    "loop": variants.loop(num_layers=N, start=START, loops=2),
}


def planned(architecture: str, plan: Plan, dtype: torch.dtype = torch.float32) -> tuple[PreTrainedModel, Any]:
    """Return a model, and a copy that runs `plan` by the code that exports bring, from where it lies in painters."""
    source, copy = make_model(architecture, N).to(dtype), make_model(architecture, N).to(dtype)
    stack = LayerStack.find(copy)
    halves: Any = code.half_modules(stack) if plan.has_halves else {}
    modeling.follow(copy, stack.path, code.literal_steps(plan.steps), stack.returns, halves)
    return source, copy
