"""Where a Hugging Face model keeps its layers, and how one of them is called.

A general rule finds the stack. `SPECIAL` lists what no rule can see: layers that return tuples, or that run only in
their own order. A new architecture needs at most one row there, and the name of its layers' class in `HALVES` where its
halves are known.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from torch import Tensor, nn

from painters import _compat
from painters.stack.halves import HALVES, Halves, halves_of
from painters.stack.search import (
    LayerList,
    StackChoiceError,
    SurgeryError,
    candidates,
    descendants,
    is_list_of_layers,
    list_at,
    owner_path,
    path_of,
    role,
    search,
    text_config,
    unwrapped,
    without_wrapper,
)

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


@dataclass(frozen=True, slots=True)
class Special:
    """How a class of layers differs from one whose layers return the stream and nothing else.

    Attributes:
        returns: The length of the tuple that the layer returns, the stream first; None if it returns a tensor.
        hands_on: Whether all layers pass on what the first one returns behind the stream.
        refused: Why plans cannot run these layers, in words that follow "the layers"; None if they can.
        own_state: Whether layers keep a recurrent state in themselves and not in the cache.
        stacks_outputs: Whether the loop stacks what all layers give, also where nobody asks for hidden states.

    Examples:
        >>> from painters.stack import SPECIAL
        >>> SPECIAL["BloomBlock"].returns
        2
        >>> SPECIAL["AlbertLayer"].refused
        'are one shared layer that the model runs again and again'
    """

    returns: int | None = None
    hands_on: bool = False
    refused: str | None = None
    own_state: bool = False
    stacks_outputs: bool = False


_SHARED_LAYER = Special(refused="are one shared layer that the model runs again and again")
_SHARED_KEYS = Special(refused="read the keys and values of earlier layers")
_FEATURE_MAPS = Special(refused="are read one by one as feature maps")
_EACH_KEPT = Special(refused="give outputs that the model keeps one by one")
_RUN_AGAIN = Special(refused="run several times in a forward, each time with keys and values of their own")
_OTHER_SHAPE = Special(refused="change the shape of the stream")
_CARRIED_STATE = Special(refused="hand a state besides the stream on to the next")

_TUPLES = {
    1: "CanineLayer FNetLayer FalconH1DecoderLayer FastSpeech2ConformerEncoderLayer GLPNLayer IBertLayer "
    "LongformerLayer MPNetLayer MraLayer MvpDecoderLayer NystromformerLayer PerceiverLayer PoolFormerLayer "
    "ProphetNetDecoderLayer PvtLayer TapasLayer TrOCRDecoderLayer VisualBertLayer VitDetLayer YosoLayer "
    "DonutSwinLayer MaskFormerSwinLayer Swinv2Layer Swin2SRLayer TimesformerLayer LEDEncoderLayer LEDDecoderLayer "
    "FlavaLayer modeling_openai.Block",
    2: "BambaDecoderLayer BloomBlock CodeGenBlock CpmAntTransformerBlock Data2VecVisionLayer DebertaLayer "
    "DebertaV2Layer FalconDecoderLayer GPTJBlock GPTNeoBlock GPTNeoXJapaneseLayer ImageGPTBlock VJEPA2Layer "
    "HieraLayer LukeLayer MegatronBertLayer MptBlock RemBertLayer RoFormerLayer SwinLayer MgpstrLayer "
    "ViltLayer VitsEncoderLayer modeling_fsmt.EncoderLayer",
    3: "modeling_fsmt.DecoderLayer",
}
"""Length -> classes of layers that return tuples of it: the stream first, and the next layer gets nothing else."""
_TENSORS_LATER: Final = frozenset({"CodeGenBlock", "GPTJBlock"})
"""Those of them that return a tensor from transformers 5.24 on, which their annotation says. For other classes the
annotation is not used, because it is wrong for some."""
_POSITION_BIAS_LAYERS = (
    "LongT5Block MT5Block Pop2PianoBlock SwitchTransformersBlock T5Block UdopBlock WavLMEncoderLayer "
    "WavLMEncoderLayerStableLayerNorm"
)
"""Classes whose first layer computes a position bias, from lengths and a table of its own, which all layers pass on.

The bias depends on the model and not on the stream, so every layer gets it under every plan, also where the first layer
is left out or comes late. For that, the first layer is run once more in each forward, outside the plan.
"""

SPECIAL: Final[Mapping[str, Special]] = MappingProxyType(
    {name: Special(returns=length) for length, names in _TUPLES.items() for name in names.split()}
    | dict.fromkeys(_POSITION_BIAS_LAYERS.split(), Special(hands_on=True))
    | {
        "RecurrentGemmaDecoderLayer": Special(own_state=True),
        "RfDetrDecoderLayer": Special(stacks_outputs=True),
        "AlbertLayer": _SHARED_LAYER,
        "AlbertLayerGroup": _SHARED_LAYER,
        "Gemma3nTextDecoderLayer": _SHARED_KEYS,
        "Gemma4TextDecoderLayer": _SHARED_KEYS,
        "RfDetrDinov2Layer": _FEATURE_MAPS,
        "RfDetrRepVggBlock": _EACH_KEPT,
        "HrmTextDecoderLayer": _RUN_AGAIN,
        "PPLCNetV4Block": _OTHER_SHAPE,
        "NemotronAsrStreamingEncoderBlock": _CARRIED_STATE,
        "RwkvBlock": _CARRIED_STATE,
        "LongcatFlashDecoderLayer": Special(refused="hold two attentions each, for which its cache has no slots"),
        "FunnelLayer": _CARRIED_STATE,
        "GlmMoeDsaDecoderLayer": _CARRIED_STATE,
        "HYV4DecoderLayer": _CARRIED_STATE,
        "LiltLayer": _CARRIED_STATE,
        "PegasusXEncoderLayer": _CARRIED_STATE,
        "MistralLarge4TextDecoderLayer": _CARRIED_STATE,
        "ZayaDecoderLayer": _CARRIED_STATE,
    }
)
"""Name of a class of layers -> what is special about it, with its file in front where the name alone is ambiguous.

A class that is not here returns a tensor.
"""


@dataclass(frozen=True, eq=False, slots=True)
class LayerStack:
    """The stack of a model: where it is, which module loops over it, and how its layers behave.

    Attributes:
        name: What messages call the model.
        path: The path of the list of layers in the model, such as `model.layers`.
        owner: The module whose forward runs the layers in a loop.
        inner_path: The path of the list in the owner, mostly one word: `layers`.
        layers: The list of layers.
        returns: The length of the tuple that a layer returns; None if it returns the stream itself.
        hands_on: Whether all layers pass on what the first one returns behind the stream, which is the same for every
            stream.
        cache_indices: For each layer the indices under which its modules ask a cache for keys and values; none without
            attention. Mostly that is the layer's own index, but not in models that were pruned, or whose layers hold
            two attentions.
        cache_slots: For each of these the number of the cache slot that is meant. It is the index itself, but where
            layers were taken out by hand and kept their `layer_idx`, it is the layer's place in the list.
        halves: How the halves of the layers are run; None if that is not known.
        own_state: Whether layers keep a state in themselves and not in the cache.
        stacks_outputs: Whether the loop stacks what all layers give, also where nobody asks for hidden states.

    Examples:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from painters.stack import LayerStack
        >>> sizes = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "vocab_size": 32}
        >>> stack = LayerStack.find(LlamaForCausalLM(LlamaConfig(num_hidden_layers=3, **sizes)))
        >>> stack.path, stack.num_layers, stack.layer_class, stack.cache_indices
        ('model.layers', 3, 'LlamaDecoderLayer', ((0,), (1,), (2,)))
    """

    name: str
    path: str
    owner: nn.Module
    inner_path: str
    layers: LayerList
    returns: int | None
    hands_on: bool
    cache_indices: tuple[tuple[int, ...], ...]
    cache_slots: tuple[tuple[int, ...], ...]
    halves: Halves | None
    own_state: bool
    stacks_outputs: bool = False

    @property
    def num_layers(self) -> int:
        """The number of layers."""
        return len(self.layers)

    @property
    def layer_class(self) -> str:
        """The names of the layers' classes, joined by "and" for messages."""
        return " and ".join(dict.fromkeys(type(unwrapped(layer)).__name__ for layer in self.layers))

    @classmethod
    def find(cls, model: nn.Module, path: str | None = None) -> LayerStack:
        """Find the stack of a model, in composite models that of the text model.

        Args:
            model: The model; it may be on the meta device.
            path: The path of the list, such as `vision_tower.encoder.layers`, or its role: "encoder", "decoder" or
                "vision". Needed where the general rule finds no list or another one.

        Returns:
            The stack.

        Raises:
            SurgeryError: If there is no stack that plans can run; the message says why.
        """
        name = _compat.name_or_path(getattr(model, "config", None)) or type(model).__name__
        if path is None:
            _refuse_by_config(model, name)
            path = search(model, name)
        else:
            path = path_of(model, path, name)
        layers = list_at(model, path, name)
        owner = owner_path(model, path)
        _refuse_compiled(model, owner, name)
        below = [descendants(layer) for layer in layers]
        _refuse_layers(layers, below, path, name)
        kinds = [_special(layer) for layer in layers]
        if len({kind.returns for kind in kinds}) > 1:
            raise SurgeryError(f"{name}: the layers at {path} return tuples of several lengths: not supported")
        indices = tuple(tuple(sorted(set(_cache_indices(modules)))) for modules in below)
        return cls(
            name=name,
            path=path,
            owner=model.get_submodule(owner),
            inner_path=path.removeprefix(owner).removeprefix("."),
            layers=layers,
            returns=kinds[0].returns,
            hands_on=kinds[0].hands_on,
            cache_indices=indices,
            cache_slots=_cache_slots(indices, text_config(model)),
            halves=halves_of(layers),
            own_state=any(kind.own_state for kind in kinds),
            stacks_outputs=any(kind.stacks_outputs for kind in kinds),
        )


def inspect_stack(model: nn.Module, stack: str | None = None) -> dict[str, Any]:
    """Describe the stack of a model and all its lists of layers, as values that JSON can hold.

    Args:
        model: The model; it may be on the meta device.
        stack: Which list of layers is meant, as in `LayerStack.find`.

    Returns:
        The model's class under "class" and its lists under "lists". Under "stack" the path of the stack, with facts
        about its layers under further names; or None, with the reason under "refused".

    Examples:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from painters.stack import inspect_stack
        >>> sizes = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "vocab_size": 32}
        >>> about = inspect_stack(LlamaForCausalLM(LlamaConfig(num_hidden_layers=3, **sizes)))
        >>> about["stack"], about["layers"], about["returns"], about["halves"]
        ('model.layers', 3, 'the stream', True)
        >>> [(entry["path"], entry["parameters"]) for entry in about["lists"]]
        [('model.layers', 1968)]
    """
    lists = [_described(path, layers) for path, layers in candidates(model).items()]
    about: dict[str, Any] = {"class": type(model).__name__, "lists": lists}
    try:
        layer_stack = LayerStack.find(model, stack)
    except SurgeryError as error:
        return about | {"stack": None, "refused": str(error)}
    returns = layer_stack.returns
    return about | {
        "stack": layer_stack.path,
        "refused": None,
        "layers": layer_stack.num_layers,
        "layer_classes": _classes(layer_stack.layers),
        "returns": "the stream" if returns is None else f"a tuple of {returns}, the stream first",
        "halves": layer_stack.halves is not None,
        "cache_indices": [list(indices) for indices in layer_stack.cache_indices],
    }


def _described(path: str, layers: LayerList) -> dict[str, Any]:
    """Return what `inspect_stack` says of one list of layers."""
    return {
        "path": path,
        "stack": role(path),
        "layers": len(layers),
        "layer_classes": _classes(layers),
        "parameters": sum(p.numel() for p in layers.parameters()),
    }


def _classes(layers: LayerList) -> list[str]:
    return list(dict.fromkeys(type(unwrapped(layer)).__name__ for layer in layers))


def _special(layer: nn.Module) -> Special:
    """Return what is special about the class of `layer`."""
    kind = type(unwrapped(layer))
    if kind.__name__ in _TENSORS_LATER and inspect.signature(kind.forward).return_annotation is Tensor:
        return Special()
    with_file = f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}"
    return SPECIAL.get(with_file) or SPECIAL.get(kind.__name__, Special())


def _cache_indices(modules: Iterable[nn.Module]) -> Iterator[int]:
    """Yield the indices under which these modules ask a cache for keys and values."""
    for module in modules:
        own = vars(module)
        index = own.get("layer_idx", own.get("layer_id"))
        if isinstance(index, int) and index >= 0:  # modules that several layers share may have -1
            yield index


def _cache_slots(indices: tuple[tuple[int, ...], ...], config: Any) -> tuple[tuple[int, ...], ...]:
    """Return the number of the cache slot that each of `indices` means, for every layer.

    A cache has as many slots as the configuration says that there are layers. Where it says so many as there are, and
    a layer asks for a slot behind them, layers were taken out by hand and not renumbered.
    """
    count = len(indices)
    is_pruned = (
        getattr(config, "num_hidden_layers", None) == count
        and not getattr(config, "is_encoder_decoder", False)
        and all(len(own) <= 1 for own in indices)
        and max((index for own in indices for index in own), default=0) >= count
    )
    return tuple(tuple(place for _ in own) for place, own in enumerate(indices)) if is_pruned else indices


def _refuse_compiled(model: nn.Module, owner: str, name: str) -> None:
    """Raise SurgeryError if the model is compiled, or any module on the path to the `owner` of the layers."""
    steps = owner.split(".") if owner else []
    for module in [model, *(model.get_submodule(".".join(steps[: i + 1])) for i in range(len(steps)))]:
        if _compat.is_compiled(module):
            raise SurgeryError(
                f"{name} is compiled as a whole, which torch would do anew for every plan: compile the layers "
                "instead (`for layer in layers: layer.compile()`) and pass the plain model"
            )


def _refuse_by_config(model: nn.Module, name: str) -> None:
    """Raise SurgeryError if the configuration says that the model has two stacks, or layers that share keys."""
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise StackChoiceError(
            f'{name} is an encoder-decoder, and a plan runs one stack: say stack="encoder" or stack="decoder" '
            "(--stack on the command line)"
        )
    if getattr(text_config(model), "num_kv_shared_layers", 0):
        raise SurgeryError(f"{name}: its late layers {_SHARED_KEYS.refused}: they run only in their own order")


def _refuse_layers(layers: LayerList, below: Sequence[Mapping[nn.Module, str]], path: str, name: str) -> None:
    """Raise SurgeryError for layers that plans cannot run. `below` has the modules of each layer with their paths."""
    if type(layers).__name__ == "PlannedLayers":  # of painters.export
        raise SurgeryError(f"{name} runs a plan by the code that it brings: operate on the model that it was made of")
    for layer, modules in zip(layers, below, strict=True):
        kind = type(unwrapped(layer)).__name__
        if (reason := _special(layer).refused) is not None:
            raise SurgeryError(f"{name}: the layers at {path} ({kind}) {reason}: they run only in their own order")
        if isinstance(layer, nn.ModuleList):
            raise SurgeryError(f"{name}: {path} holds stages, lists themselves: give the path of one, such as {path}.0")
        for module, inner in modules.items():
            is_stage = "Stage" in kind and isinstance(module, nn.ModuleList | nn.Sequential) and len(module) > 1
            if is_stage or is_list_of_layers(module):
                raise SurgeryError(
                    f"{name}: {path} holds stages ({kind}) with layers of their own, and shapes change from "
                    f"stage to stage: give the path of one stage's layers, such as {path}.0.{inner}"
                )
