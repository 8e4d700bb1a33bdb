"""Find the list of layers in a model: by the class the model itself names, by the base class, or by size.

`painters.stack` is the place to import from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from painters.errors import PaintersError


class SurgeryError(PaintersError, RuntimeError):
    """A model, cache or call that cannot follow a plan; the message says why and what to do instead."""


LayerList: TypeAlias = nn.ModuleList | nn.Sequential
"""What a model keeps its layers in."""

ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    "vision": ("vision", "visual", "image", "vit"),
    "decoder": ("decoder",),
    "encoder": ("encoder",),
}
"""What a stack can be asked for by, and the words in its path that tell; the first role that fits counts."""


def descendants(root: nn.Module) -> dict[nn.Module, str]:
    """`root` and all modules below it with their paths, as `named_modules` has them; entering a plan asks often, and
    torch's nested generators take several times as long.
    """
    found: dict[nn.Module, str] = {}
    left = [("", root)]
    while left:
        path, module = left.pop()
        if module not in found:
            found[module] = path
            if module._modules:
                prefix = f"{path}." if path else ""
                left += [
                    (prefix + name, child) for name, child in reversed(module._modules.items()) if child is not None
                ]
    return found


def unwrapped(layer: nn.Module) -> nn.Module:
    """The layer itself where `torch.compile(layer)` wraps it."""
    inner = layer._modules.get("_orig_mod")
    return layer if inner is None else inner


def without_wrapper(model: Any) -> Any:
    """The model itself, with its adapters in place, where peft wraps it; one with learned prompts stays wrapped.

    The wrapper passes everything on, but its forward does not say what the model's takes.
    """
    config = getattr(model, "active_peft_config", None)
    return model if config is None or config.is_prompt_learning else model.get_base_model()


def text_config(model: nn.Module) -> Any:
    """The configuration of the model's text part; None where the model has no configuration."""
    config = getattr(model, "config", None)
    return config.get_text_config() if config is not None and hasattr(config, "get_text_config") else config


def is_list_of_layers(module: nn.Module) -> bool:
    """Whether the module is a list of layers itself: what holds one is a stage rather than a layer."""
    return isinstance(module, nn.ModuleList) and _holds(module, GradientCheckpointingLayer)


def list_at(model: nn.Module, path: str, name: str) -> LayerList:
    """The list of layers at `path`; raises SurgeryError where there is none."""
    try:
        found = model.get_submodule(path)
    except AttributeError:
        found = None
    if not isinstance(found, nn.ModuleList | nn.Sequential) or not len(found):
        kind = "nothing" if found is None else f"a {type(found).__name__}"
        raise SurgeryError(f"{name} has {kind} at {path!r}: give the path of a ModuleList that holds the layers")
    return found


def owner_path(model: nn.Module, path: str) -> str:
    """The path of the module whose forward runs the list: its nearest ancestor that has a forward."""
    owner = path.rpartition(".")[0]
    while owner and isinstance(model.get_submodule(owner), nn.ModuleDict | nn.ModuleList):
        owner = owner.rpartition(".")[0]
    return owner


def search(model: nn.Module, name: str) -> str:
    """The path of the outermost list of layers; the largest if it outweighs all others."""
    root_path, root = _text_model(model)
    candidates = _candidates(root)
    if not candidates:
        raise SurgeryError(
            f"{name} has no list of layers that can be recognised: give its path, such as `encoder.layers`"
        )
    best = next(iter(candidates))
    if len(candidates) > 1:
        sizes = {path: sum(p.numel() for p in module.parameters()) for path, module in candidates.items()}
        best = max(sizes, key=lambda path: sizes[path])
        if 2 * sizes[best] <= sum(sizes.values()):
            raise SurgeryError(f"{name} has several lists of layers ({', '.join(sizes)}): give the path of one")
    return f"{root_path}.{best}".lstrip(".")


def candidates(model: nn.Module) -> dict[str, nn.ModuleList]:
    """Every outermost list of layers of the whole model by its path, that of the most parameters first."""
    lists = {path: m for m, path in descendants(model).items() if isinstance(m, nn.ModuleList) and len(m)}
    found = _candidates(model) | _outermost({p: m for p, m in lists.items() if _holds(m, GradientCheckpointingLayer)})
    return dict(sorted(found.items(), key=lambda item: -sum(p.numel() for p in item[1].parameters())))


def role(path: str) -> str | None:
    """What the list at `path` can be asked for by, if anything."""
    return next((role for role, words in ROLES.items() if any(word in path.lower() for word in words)), None)


def chosen(model: nn.Module, stack: str, name: str) -> str:
    """The path of the list that `stack` means: a role such as "decoder", or the path itself."""
    if stack not in ROLES:
        return stack
    found = candidates(model)
    fitting = [path for path in found if role(path) == stack]
    if len(fitting) != 1:
        listed = ", ".join(found) or "none"
        raise SurgeryError(
            f"{name}: stack={stack!r} fits {len(fitting)} of its lists of layers ({listed}): give the path of one"
        )
    return fitting[0]


def _text_model(model: nn.Module) -> tuple[str, nn.Module]:
    """The text model of a composite model with its path; the model itself otherwise."""
    text = text_config(model)
    if text is not getattr(model, "config", None):
        for module, path in descendants(model).items():
            if isinstance(module, PreTrainedModel) and module.config is text:
                return path, module
    return "", model


def _candidates(root: nn.Module) -> dict[str, nn.ModuleList]:
    """The outermost lists of layers: by the class that the model names, by the base class, or by size."""
    modules = descendants(root)
    lists = {path: m for m, path in modules.items() if isinstance(m, nn.ModuleList) and len(m)}
    named = tuple(kind for of in dict.fromkeys(map(type, modules)) for kind in _recorded_classes(of))
    for kind in (named, GradientCheckpointingLayer):
        if found := {path: m for path, m in lists.items() if _holds(m, kind)}:
            return _outermost(found)
    total = sum(p.numel() for p in root.parameters())
    return {
        path: m
        for path, m in _outermost(lists).items()
        if 2 * sum(p.numel() for p in m.parameters()) > total and len({type(layer) for layer in m}) == 1
    }


def _recorded_classes(of: type[nn.Module]) -> Iterator[type[nn.Module]]:
    """The classes whose outputs a model of the class `of` reports as hidden states."""
    specs = (getattr(of, "_can_record_outputs", None) or {}).get("hidden_states")
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
