"""Where a Hugging Face model keeps its layers, and how one of them is called.

One general rule finds the stack; `SPECIAL` holds what no rule can see: layers that return tuples, or that run only in
their own order. A new architecture is at most one row there, and its class's name in `HALVES` where its halves are
known.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from torch import Tensor, nn

from painters.stack.halves import HALVES, Halves, halves_of
from painters.stack.search import (
    LayerList,
    SurgeryError,
    candidates,
    chosen,
    descendants,
    is_list_of_layers,
    list_at,
    owner_path,
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
    """What is particular about a class of layers: the length of the tuple it returns (None: a tensor), whether they
    hand on what the first one makes, the reason if they cannot be operated on, and whether they keep a recurrent state
    in themselves and not in the cache."""

    returns: int | None = None
    hands_on: bool = False
    refused: str | None = None
    own_state: bool = False


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
"""Classes of layers that return tuples, by length; the stream comes first and the next layer gets nothing else."""
_TENSORS_LATER: Final = frozenset({"CodeGenBlock", "GPTJBlock"})
"""Those of them that return a tensor from transformers 5.24 on, and are annotated so; not all annotations are right."""
_POSITION_BIAS_LAYERS = (
    "LongT5Block MT5Block Pop2PianoBlock SwitchTransformersBlock T5Block UdopBlock WavLMEncoderLayer "
    "WavLMEncoderLayerStableLayerNorm"
)
"""Classes whose first layer makes a position bias of lengths and of its own table, and whose layers all hand it on.

It is a function of the model and not of the stream, so every layer has it under every plan, also where the first layer
is left out or comes late: that layer is run aside once a forward for it.
"""

SPECIAL: Final[Mapping[str, Special]] = MappingProxyType(
    {name: Special(returns=length) for length, names in _TUPLES.items() for name in names.split()}
    | dict.fromkeys(_POSITION_BIAS_LAYERS.split(), Special(hands_on=True))
    | {
        "RecurrentGemmaDecoderLayer": Special(own_state=True),
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
"""By the name of the layer's class, with its file in front where that alone would say too little. A class that is not
here returns a tensor."""


@dataclass(frozen=True, eq=False, slots=True)
class LayerStack:
    """The stack of a model: its place, the module whose forward loops over it, and how its layers behave."""

    name: str
    """What messages call the model."""
    path: str
    """The list within the model, such as `model.layers`."""
    owner: nn.Module
    """The module whose forward runs the layers in a loop."""
    inner_path: str
    """The list within the owner, mostly one word: `layers`."""
    layers: LayerList
    returns: int | None
    """The length of the tuple that a layer returns; None where it returns the stream itself."""
    hands_on: bool
    """Whether what the first layer returns behind the stream is handed on to all, and is the same for every stream."""
    cache_indices: tuple[tuple[int, ...], ...]
    """For each layer the indices under which its modules ask a cache for keys and values; none without
    attention.

    Mostly the layer's own place, but not in models that were pruned or whose layers hold two attentions.
    """
    halves: Halves | None
    """How the layers' halves are run; None where they are not known."""
    own_state: bool
    """Whether layers keep a state in themselves, which a cache has no part in."""

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    @property
    def layer_class(self) -> str:
        """The names of the layers' classes, for messages."""
        return " and ".join(dict.fromkeys(type(unwrapped(layer)).__name__ for layer in self.layers))

    @classmethod
    def find(cls, model: nn.Module, path: str | None = None) -> LayerStack:
        """The stack of `model`, in composite models that of the text model.

        Raises SurgeryError with the reason where there is none that can be operated on. `path` names the list
        where the rule finds none or another one, such as `vision_tower.encoder.layers`, or says which of them:
        "encoder", "decoder" or "vision".
        """
        name = getattr(getattr(model, "config", None), "_name_or_path", "") or type(model).__name__
        if path is None:
            _refuse_by_config(model, name)
            path = search(model, name)
        else:
            path = chosen(model, path, name)
        layers = list_at(model, path, name)
        owner = owner_path(model, path)
        _refuse_compiled(model, owner, name)
        below = [descendants(layer) for layer in layers]
        _refuse_layers(layers, below, path, name)
        kinds = [_special(layer) for layer in layers]
        if len({kind.returns for kind in kinds}) > 1:
            raise SurgeryError(f"{name}: the layers at {path} return tuples of several lengths: not supported")
        return cls(
            name=name,
            path=path,
            owner=model.get_submodule(owner),
            inner_path=path.removeprefix(owner).removeprefix("."),
            layers=layers,
            returns=kinds[0].returns,
            hands_on=kinds[0].hands_on,
            cache_indices=tuple(tuple(sorted(set(_cache_indices(modules)))) for modules in below),
            halves=halves_of(layers),
            own_state=any(kind.own_state for kind in kinds),
        )


def inspect_stack(model: nn.Module, stack: str | None = None) -> dict[str, Any]:
    """What is known of the stack of `model`, or the reason why there is none under "refused"; and all its lists of
    layers.

    Works on a model on the meta device too. `stack` chooses as in `LayerStack.find`.
    """
    lists = [_described(path, layers) for path, layers in candidates(model).items()]
    told: dict[str, Any] = {"class": type(model).__name__, "lists": lists}
    try:
        found = LayerStack.find(model, stack)
    except SurgeryError as error:
        return told | {"stack": None, "refused": str(error)}
    return told | {
        "stack": found.path,
        "refused": None,
        "layers": found.num_layers,
        "layer_classes": _classes(found.layers),
        "returns": "the stream" if found.returns is None else f"a tuple of {found.returns}, the stream first",
        "halves": found.halves is not None,
        "cache_indices": [list(indices) for indices in found.cache_indices],
    }


def _described(path: str, layers: LayerList) -> dict[str, Any]:
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
    kind = type(unwrapped(layer))
    if kind.__name__ in _TENSORS_LATER and inspect.signature(kind.forward).return_annotation is Tensor:
        return Special()
    named = f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}"
    return SPECIAL.get(named) or SPECIAL.get(kind.__name__, Special())


def _cache_indices(modules: Iterable[nn.Module]) -> Iterator[int]:
    for module in modules:
        own = vars(module)
        index = own.get("layer_idx", own.get("layer_id"))
        if isinstance(index, int) and index >= 0:  # what several layers share may say -1
            yield index


def _refuse_compiled(model: nn.Module, owner: str, name: str) -> None:
    steps = owner.split(".") if owner else []
    for module in [model, *(model.get_submodule(".".join(steps[: i + 1])) for i in range(len(steps)))]:
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            raise SurgeryError(
                f"{name} is compiled as a whole, which torch would do anew for every plan: compile the layers "
                "instead (`for layer in layers: layer.compile()`) and pass the plain model"
            )


def _refuse_by_config(model: nn.Module, name: str) -> None:
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise SurgeryError(
            f'{name} is an encoder-decoder, and a plan runs one stack: say stack="encoder" or stack="decoder"'
        )
    if getattr(text_config(model), "num_kv_shared_layers", 0):
        raise SurgeryError(f"{name}: its late layers {_SHARED_KEYS.refused}: they run only in their own order")


def _refuse_layers(layers: LayerList, below: Sequence[Mapping[nn.Module, str]], path: str, name: str) -> None:
    """Nothing; raises SurgeryError for layers that cannot be operated on. `below` has what each is made of."""
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
