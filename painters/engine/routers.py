"""Losses of the routers of sparse layers, under plans that run none of these layers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from torch import nn

from painters import _compat
from painters.plan import Plan
from painters.stack import LayerStack, SurgeryError

_OPTION: Final = "output_router_logits"


@contextmanager
def without_router_losses(
    model: nn.Module, stack: LayerStack, plan: Plan, holds_here: Callable[[], bool]
) -> Iterator[None]:
    """Ask for no router logits in forwards that would compute a loss of them, where `plan` runs no sparse layer.

    Such a model balances the load of the experts over all routers that ran, and transformers fails where none did. A
    sum over no routers adds nothing, so the loss is that of the labels alone, and there is no auxiliary loss.

    Args:
        model: The model.
        stack: Its stack.
        plan: The plan that the stack follows within the context.
        holds_here: Whether it does so in the thread that asks.

    Yields:
        Nothing.

    Raises:
        SurgeryError: From a forward of an encoder-decoder that is asked for router logits, because its loss needs those
            of both stacks.
    """
    around = [module for module in model.modules() if any(inner is stack.owner for inner in module.modules())]
    kinds = tuple(kind for module in around for kind in _compat.recorded_routers(type(module)))
    sparse = [i for i, layer in enumerate(stack.layers) if any(isinstance(m, kinds) for m in layer.modules())]
    ran = {layer.index for layer in plan.walk() if layer.half != "attn"}
    if not sparse or ran.intersection(sparse):
        yield
        return

    def leave_out(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Any:
        # None where another thread has removed this hook meanwhile. A deep copy of the model keeps its plan for good.
        if kwargs is None or (module in computing and not holds_here()):
            return None
        config = getattr(module, "config", None)
        asked = kwargs.get(_OPTION)
        if not (getattr(_text_config(config), _OPTION, False) if asked is None else asked):
            return None
        if getattr(config, "is_encoder_decoder", False):
            layers = ", ".join(map(str, sparse))
            raise SurgeryError(
                f'{stack.name} is asked for {_OPTION}, of which it computes a loss, and the plan "{plan}" runs none of '
                f"the sparse layers at {stack.path} ({layers}): pass {_OPTION}=False, or run one of them"
            )
        return args, kwargs | {_OPTION: False}

    computing = [module for module in around if _OPTION in inspect.signature(module.forward).parameters]
    handles = [module.register_forward_pre_hook(leave_out, with_kwargs=True, prepend=True) for module in computing]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _text_config(config: Any) -> Any:
    """Return the configuration of the text model within `config`, which decides where a call does not."""
    return config.get_text_config() if hasattr(config, "get_text_config") else config
