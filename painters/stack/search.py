"""Find the list of layers in a model: by the class the model itself names, by the base class, or by size.

Import from `painters.stack`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from painters import _compat
from painters.errors import PaintersError


class SurgeryError(PaintersError, RuntimeError):
    """Raised for a model, cache or call that cannot follow a plan; it says why and what to do instead."""


class StackChoiceError(SurgeryError):
    """A model with several stacks of which none, or none that exists, was chosen."""

    exit_code = 2


LayerList: TypeAlias = nn.ModuleList | nn.Sequential
"""The classes of lists in which models keep their layers."""


class StandInList(nn.ModuleList):
    """Replaces a list of layers while a forward is under way."""

    original: LayerList
    """The list that it replaces."""


ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    "vision": ("vision", "visual", "image", "vit"),
    "decoder": ("decoder",),
    "encoder": ("encoder",),
}
"""Role by which a user can name a stack -> the words in a path that show it. The first role that fits counts."""


def descendants(root: nn.Module) -> dict[nn.Module, str]:
    """Return `root` and all modules below it with their paths, in the order of `root.named_modules()`.

    It stands here because the search is part of every entry into a plan, and torch's nested generators take several
    times as long.
    """
    paths: dict[nn.Module, str] = {}
    pending = [("", root)]
    while pending:
        path, module = pending.pop()
        if module not in paths:
            paths[module] = path
            if named := _compat.children(module):
                prefix = f"{path}." if path else ""
                pending += [(prefix + name, child) for name, child in reversed(named.items()) if child is not None]
    return paths


def unwrapped(layer: nn.Module) -> nn.Module:
    """Return the layer that `torch.compile(layer)` wrapped; a layer without that wrapper is returned as it is."""
    inner = _compat.uncompiled(layer)
    return layer if inner is None else inner


def without_wrapper(model: Any) -> Any:
    """Return the model that peft wrapped, with its adapters in place; any other model as it is.

    The wrapper passes everything on to the model, but the signature of its forward does not name the model's inputs.
    A model with learned prompts stays wrapped, because the wrapper adds the prompts.

    Args:
        model: The model, which may be peft's wrapper of one.

    Returns:
        The model without the wrapper.

    Examples:
        >>> from transformers import LlamaConfig, LlamaModel
        >>> from painters.stack import without_wrapper
        >>> sizes = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "vocab_size": 32}
        >>> model = LlamaModel(LlamaConfig(num_hidden_layers=2, **sizes))
        >>> type(without_wrapper(model)).__name__  # the same for peft's `get_peft_model(model, LoraConfig(...))`
        'LlamaModel'
    """
    config = getattr(model, "active_peft_config", None)
    return model if config is None or config.is_prompt_learning else model.get_base_model()


def text_config(model: nn.Module) -> Any:
    """Return the configuration of the model's text part; None if the model has no configuration."""
    config = getattr(model, "config", None)
    return config.get_text_config() if config is not None and hasattr(config, "get_text_config") else config


def is_list_of_layers(module: nn.Module) -> bool:
    """Return whether the module is a list of layers itself; a module that holds one is a stage and not a layer."""
    return isinstance(module, nn.ModuleList) and _holds(module, GradientCheckpointingLayer)


def list_at(model: nn.Module, path: str, name: str) -> LayerList:
    """Return the list of layers at `path`; raise SurgeryError if there is none."""
    try:
        module = model.get_submodule(path)
    except AttributeError:
        module = None
    if isinstance(module, StandInList):  # for a forward that another thread runs under a plan
        module = module.original
    if not isinstance(module, nn.ModuleList | nn.Sequential) or not len(module):
        kind = "nothing" if module is None else f"a {type(module).__name__}"
        raise StackChoiceError(f"{name} has {kind} at {path!r}: give the path of a ModuleList that holds the layers")
    return module


def owner_path(model: nn.Module, path: str) -> str:
    """Return the path of the module whose forward runs the list: its nearest ancestor that has a forward."""
    owner = path.rpartition(".")[0]
    while owner and isinstance(model.get_submodule(owner), nn.ModuleDict | nn.ModuleList):
        owner = owner.rpartition(".")[0]
    return owner


def search(model: nn.Module, name: str) -> str:
    """Return the path of the outermost list of layers, or of the one larger than all others together.

    Raises SurgeryError if there is none; `name` is what its message calls the model.
    """
    root_path, root = _text_model(model)
    candidates = _candidates(root)
    if not candidates:
        raise SurgeryError(
            f"{name} has no list of layers that can be recognised: give its path, such as `encoder.layers`"
        )
    best = next(iter(candidates))
    if len(candidates) > 1:
        sizes = {path: _size(module) for path, module in candidates.items()}
        best = max(sizes, key=lambda path: sizes[path])
        if 2 * sizes[best] <= sum(sizes.values()):
            raise StackChoiceError(f"{name} has several lists of layers ({', '.join(sizes)}): give the path of one")
    return f"{root_path}.{best}".lstrip(".")


def candidates(model: nn.Module) -> dict[str, nn.ModuleList]:
    """Return every outermost list of layers of the whole model by its path, the one with most parameters first."""
    lists = {path: m for m, path in descendants(model).items() if isinstance(m, nn.ModuleList) and len(m)}
    by_class = _outermost({path: m for path, m in lists.items() if _holds(m, GradientCheckpointingLayer)})
    all_lists = _candidates(model) | by_class
    return dict(sorted(all_lists.items(), key=lambda item: -_size(item[1])))


def role(path: str) -> str | None:
    """Return the role by which a user can name the list at `path`; None if no role fits."""
    return next((role for role, words in ROLES.items() if any(word in path.lower() for word in words)), None)


def path_of(model: nn.Module, stack: str, name: str) -> str:
    """Return the path of the list that `stack` names: the only one with a role such as "decoder", or `stack` itself."""
    if stack not in ROLES:
        return stack
    lists = candidates(model)
    fitting = [path for path in lists if role(path) == stack]
    if len(fitting) != 1:
        listed = ", ".join(lists) or "none"
        raise StackChoiceError(
            f"{name}: stack={stack!r} fits {len(fitting)} of its lists of layers ({listed}): give the path of one"
        )
    return fitting[0]


def _text_model(model: nn.Module) -> tuple[str, nn.Module]:
    """Return the path and the module of the text model in a composite model; otherwise "" and the model itself."""
    text = text_config(model)
    if text is not getattr(model, "config", None):
        for module, path in descendants(model).items():
            if isinstance(module, PreTrainedModel) and module.config is text:
                return path, module
    return "", model


def _candidates(root: nn.Module) -> dict[str, nn.ModuleList]:
    """Return the outermost lists of layers by their paths.

    They hold layers of the classes that the model itself names, or of the base class of layers, or more than half of
    the parameters in modules of one class; the first of these rules that finds any counts.
    """
    modules = descendants(root)
    lists = {path: m for m, path in modules.items() if isinstance(m, nn.ModuleList) and len(m)}
    named = tuple(kind for model_class in dict.fromkeys(map(type, modules)) for kind in _recorded_classes(model_class))
    for kind in (named, GradientCheckpointingLayer):
        if matching := {path: m for path, m in lists.items() if _holds(m, kind)}:
            return _outermost(matching)
    total = _size(root)
    return {
        path: m
        for path, m in _outermost(lists).items()
        if 2 * _size(m) > total and len({type(layer) for layer in m}) == 1
    }


def _recorded_classes(model_class: type[nn.Module]) -> Iterator[type[nn.Module]]:
    """Yield the classes whose outputs a model of `model_class` reports as hidden states."""
    specs = _compat.recorded_hidden_states(model_class)
    for spec in specs if isinstance(specs, list) else [specs]:
        kind = getattr(spec, "target_class", spec)
        if isinstance(kind, type):
            yield kind


def _holds(layers: nn.ModuleList, kind: type[nn.Module] | tuple[type[nn.Module], ...]) -> bool:
    return len(layers) > 0 and all(isinstance(unwrapped(layer), kind) for layer in layers)


def _outermost(lists: Mapping[str, nn.ModuleList]) -> dict[str, nn.ModuleList]:
    return {
        path: m
        for path, m in lists.items()
        if not any(path.startswith(f"{other}.") for other in lists if other != path)
    }


def _size(module: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
