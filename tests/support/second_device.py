"""A second device on a machine that has none: its tensors say that they lie on "meta", and hold their numbers.

As on a real one, an operation on tensors of both devices is an error, and what was moved has to be moved back.
"""

from __future__ import annotations

from typing import Any

import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from painters.stack import LayerStack

SECOND = torch.device("meta")
aten = torch.ops.aten


class There(Tensor):
    """A tensor on the second device."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> There:
        options = {"dtype": here.dtype, "device": SECOND, "strides": here.stride()}
        made: There = Tensor._make_wrapper_subclass(cls, here.shape, **options)
        made.here = here
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError("outside of TwoDevices")


class TwoDevices(TorchDispatchMode):
    """Within it tensors can be moved to the second device, and work there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map(_filled, (args, kwargs or {}))
        given = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
        there = any(isinstance(value, There) for value in given)
        moves = func in (aten._to_copy.default, aten.copy_.default)
        # numbers of no dimension go everywhere
        if there and not moves and any(not isinstance(value, There) and value.ndim for value in given):
            raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found two")
        if func is aten.copy_.default:
            there = isinstance(args[0], There)
        if kwargs.get("device") is not None:
            there = torch.device(kwargs["device"]) == SECOND
            kwargs["device"] = torch.device("cpu")
        output = func(*tree_map(_here, args), **tree_map(_here, kwargs))
        if func._schema.name.endswith("_") and isinstance(output, Tensor):
            return args[0]
        return tree_map(lambda value: There(value) if isinstance(value, Tensor) else value, output) if there else output


def _filled(value: Any) -> Any:
    """An empty tensor that torch.tensor([]) made on the device, behind the back of the mode."""
    is_empty = type(value) is Tensor and value.device == SECOND and not value.numel()
    return There(torch.empty(value.shape, dtype=value.dtype)) if is_empty else value


def _here(value: Any) -> Any:
    return value.here if isinstance(value, There) else value


class _Move(AlignDevicesHook):
    def init_hook(self, module: nn.Module) -> nn.Module:
        return module  # the weights lie where they should


def split(model: Any) -> None:
    """Put every other layer on the second device, and let all modules move their inputs to their own."""
    stack = LayerStack.find(model)
    for index, layer in enumerate(stack.layers):
        if index % 2:
            for module in layer.modules():
                for own in (module._parameters, module._buffers):
                    own.update({name: value if value is None else There(value.detach()) for name, value in own.items()})
        device = SECOND if index % 2 else torch.device("cpu")
        add_hook_to_module(layer, _Move(execution_device=device, skip_keys=model._skip_keys_device_placement))
    for name, module in model.named_modules():
        if not any(module.children()) and not name.startswith(stack.path):
            add_hook_to_module(module, _Move(execution_device=torch.device("cpu")))
