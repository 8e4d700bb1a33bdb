"""Tiny models that are trained under a plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support.models import make_model
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from painters import Plan, surgery

PLANS = {
    "skip": "0-1 4-6",
    "loop": "0 (1-3)*2 4-6",
    "parallel": "0 {1-3}*2 4-6",
    "sum": "0 {1 2 (3 3)}:sum 6",
    "nested": "0 {(1 2) {3 (4 {5 6}:sum)} 1} 6",
}


def make_learner(architecture: str, dropout: float = 0.0) -> Any:
    """A model in training mode, every dropout of which has this probability."""
    model = make_model(architecture, 7)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = dropout
    return model.train()


def with_checkpoints(model: Any, reentrant: bool | None) -> Any:
    """The model with gradient checkpointing of one kind, or of none; with a reentrant one inputs need gradients."""
    if reentrant is not None:
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": reentrant})
        model.enable_input_require_grads()
    return model


def loss_of(logits: Tensor, ids: Tensor) -> Tensor:
    return cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())


def under(plan: Plan, ids: Tensor, mask: Tensor | None = None, **options: Any) -> Callable[[Any], Tensor]:
    def forward(model: Any) -> Tensor:
        with surgery(model, plan):
            logits: Tensor = model(ids, attention_mask=mask, **options).logits
        return logits  # backward comes after the context

    return forward
