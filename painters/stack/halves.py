"""How the two halves of a layer, attention and MLP, are run on their own, by the name of the layer's class.

`painters.stack` is the place to import from.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from torch import Tensor, nn
from torch.nn.functional import dropout
from transformers.pytorch_utils import apply_chunking_to_forward

from painters.plan import Half
from painters.stack.search import LayerList, SurgeryError, unwrapped

Run: TypeAlias = Callable[[Any, Tensor, dict[str, Any]], Tensor]
"""(layer, stream, the layer's other arguments by name) -> the stream [batch, seq, hidden] after one half."""

_OF_ENCODER = ("encoder_hidden_states", "encoder_attention_mask")


@dataclass(frozen=True, eq=False, slots=True)
class Halves:
    """How a layer is put together: the attention and then the MLP are the layer, to the bit.

    With a parallel residual, where both read the same stream, the layer is `{3.attn 3.mlp}:sum` up to rounding instead.
    """

    attn: Run
    mlp: Run
    needs: tuple[str, ...]
    """The children that a layer must have: some classes give them to some layers only."""
    children: Mapping[Half, tuple[str, str, str | None]] | None = None
    """Where each half adds `after(inner(before(x)))` to the stream x and no more, the names of these three."""

    def fit(self, layer: nn.Module) -> bool:
        """Whether the layer is put together so."""
        return all(hasattr(layer, name) for name in self.needs)

    def run(
        self, layer: nn.Module, half: Half, hidden: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        """The stream [batch, seq, hidden] after one half of `layer`, given what a whole layer is given."""
        names = list(inspect.signature(type(unwrapped(layer)).forward).parameters)[2:]  # without self and the stream
        given = dict(zip(names, args, strict=False)) | kwargs
        if any(given.pop(name, None) is not None for name in _OF_ENCODER):
            raise SurgeryError(
                f"plan runs one half of a {type(unwrapped(layer)).__name__}, but the layers also attend to an encoder, "
                "which is neither half: run whole layers"
            )
        run = self.attn if half == "attn" else self.mlp
        hook = getattr(layer, "_hf_hook", None)
        if hook is None:
            return run(layer, hidden, given)
        # accelerate placed the layer: what it does around the forward of a whole one
        (hidden,), given = hook.pre_forward(layer, hidden, **given)
        output: Tensor = hook.post_forward(layer, run(layer, hidden, given))
        return output


def _pre_norm(
    attn: tuple[str | None, str, str | None],
    mlp: tuple[str | None, str, str | None],
    scale: str | None = None,
) -> Halves:
    """Halves that add `after(inner(before(x)))` to the stream x, times the layer's `scale`; the names are those of its
    children."""

    def adds(names: tuple[str | None, str, str | None], is_attention: bool) -> Run:
        before, inner, after = names

        def run(layer: Any, hidden: Tensor, given: dict[str, Any]) -> Tensor:
            change = hidden if before is None else getattr(layer, before)(hidden)
            change = getattr(layer, inner)(change, **(given if is_attention else {}))
            change = change[0] if isinstance(change, tuple) else change  # beside weights of attention or of a router
            if after is not None:
                change = getattr(layer, after)(change)
            if scale is not None:
                change = change * getattr(layer, scale)
            result: Tensor = hidden + change
            return result

        return run

    needs = tuple(name for name in (*attn, *mlp, scale) if name is not None)
    plain = scale is None and attn[0] is not None and mlp[0] is not None
    children: dict[Half, Any] | None = {"attn": attn, "mlp": mlp} if plain else None
    return Halves(adds(attn, True), adds(mlp, False), needs, children)


def _bert_attention(layer: Any, hidden: Tensor, given: dict[str, Any]) -> Tensor:
    output: Tensor = layer.attention(hidden, **given)[0]
    return output


def _bert_mlp(layer: Any, hidden: Tensor, given: dict[str, Any]) -> Tensor:
    return apply_chunking_to_forward(layer.feed_forward_chunk, layer.chunk_size_feed_forward, layer.seq_len_dim, hidden)


def _distilbert_attention(layer: Any, hidden: Tensor, given: dict[str, Any]) -> Tensor:
    change, *_ = layer.attention(hidden, **given)
    output: Tensor = layer.sa_layer_norm(change + hidden)
    return output


def _distilbert_mlp(layer: Any, hidden: Tensor, given: dict[str, Any]) -> Tensor:
    output: Tensor = layer.output_layer_norm(layer.ffn(hidden) + hidden)
    return output


def _opt_attention(layer: Any, hidden: Tensor, given: dict[str, Any]) -> Tensor:
    """The norm stands before the attention, in the 350m model behind the sum."""
    norm, first = layer.self_attn_layer_norm, layer.do_layer_norm_before
    given = {name: value for name, value in given.items() if name != "use_cache"}
    change = layer.self_attn(norm(hidden) if first else hidden, **given)[0]
    output = hidden + dropout(change, p=layer.dropout, training=layer.training)
    return output if first else norm(output)


def _opt_mlp(layer: Any, hidden: Tensor, given: dict[str, Any]) -> Tensor:
    norm, first = layer.final_layer_norm, layer.do_layer_norm_before
    flat = hidden.reshape(-1, hidden.shape[-1])
    change = layer.fc2(layer.activation_fn(layer.fc1(norm(flat) if first else flat)))
    output = (flat + dropout(change, p=layer.dropout, training=layer.training)).view(hidden.shape)
    return output if first else norm(output)


_ATTENTION, _MLP = ("input_layernorm", "self_attn"), ("post_attention_layernorm", "mlp")
_LLAMA = _pre_norm((*_ATTENTION, None), (*_MLP, None))
_GRANITE = _pre_norm((*_ATTENTION, None), (*_MLP, None), scale="residual_multiplier")
_PERSIMMON = _pre_norm((*_ATTENTION, None), (*_MLP, "dropout"))
_PHI3 = _pre_norm((*_ATTENTION, "resid_attn_dropout"), (*_MLP, "resid_mlp_dropout"))
_GEMMA = _pre_norm(
    (*_ATTENTION, "post_attention_layernorm"), ("pre_feedforward_layernorm", "mlp", "post_feedforward_layernorm")
)
_GLM4 = _pre_norm((*_ATTENTION, "post_self_attn_layernorm"), (*_MLP, "post_mlp_layernorm"))
_APERTUS = _pre_norm(("attention_layernorm", "self_attn", None), ("feedforward_layernorm", "mlp", None))
_OLMO2 = _pre_norm((None, "self_attn", "post_attention_layernorm"), (None, "mlp", "post_feedforward_layernorm"))
_GPT2 = _pre_norm(("ln_1", "attn", None), ("ln_2", "mlp", None))
_MODERNBERT = _pre_norm(("attn_norm", "attn", None), ("mlp_norm", "mlp", None))
_NEOX = _pre_norm(
    ("input_layernorm", "attention", "post_attention_dropout"), ("post_attention_layernorm", "mlp", "post_mlp_dropout")
)
# one norm for both, which read the same stream
_GPTJ = _pre_norm(("ln_1", "attn", None), ("ln_1", "mlp", None))
_COHERE = _pre_norm((*_ATTENTION, None), ("input_layernorm", "mlp", None))
_PHI = _pre_norm((*_ATTENTION, "resid_dropout"), ("input_layernorm", "mlp", "resid_dropout"))
_OPT = Halves(_opt_attention, _opt_mlp, ("self_attn_layer_norm", "fc1", "fc2", "final_layer_norm"))
_BERT = Halves(_bert_attention, _bert_mlp, ("attention", "feed_forward_chunk"))
_DISTILBERT = Halves(_distilbert_attention, _distilbert_mlp, ("sa_layer_norm", "ffn", "output_layer_norm"))

_CLASSES: Final[Mapping[str, Halves]] = {
    "LlamaDecoderLayer MistralDecoderLayer Qwen2DecoderLayer Qwen3DecoderLayer ArceeDecoderLayer AriaTextDecoderLayer "
    "BitNetDecoderLayer Cosmos3EdgeTextDecoderLayer CwmDecoderLayer DiffLlamaDecoderLayer Ernie4_5DecoderLayer "
    "Ernie4_5_MoeDecoderLayer EuroBertDecoderLayer ExaoneMoeDecoderLayer FlintDecoderLayer GemmaDecoderLayer "
    "GlmDecoderLayer Glm4MoeDecoderLayer Glm4vMoeTextDecoderLayer GptOssDecoderLayer HYV3DecoderLayer "
    "HeliumDecoderLayer Jais2DecoderLayer LagunaDecoderLayer MellumDecoderLayer MiMoV2FlashDecoderLayer "
    "MiniMaxM2DecoderLayer MiniMaxM3VLDecoderLayer Ministral3DecoderLayer MixtralDecoderLayer NanoChatDecoderLayer "
    "OlmoDecoderLayer OlmoeDecoderLayer OpenAIPrivacyFilterEncoderLayer PhimoeDecoderLayer Qwen2MoeDecoderLayer "
    "Qwen2VLDecoderLayer Qwen2_5_VLDecoderLayer Qwen3MoeDecoderLayer Qwen3VLMoeTextDecoderLayer "
    "Qwen3VLTextDecoderLayer SeedOssDecoderLayer SmolLM3DecoderLayer SolarOpenDecoderLayer Starcoder2DecoderLayer "
    "UltrabertDecoderLayer UnlimitedOcrTextDecoderLayer": _LLAMA,
    "GraniteDecoderLayer GraniteDoclingTextDecoderLayer GraniteSWADecoderLayer": _GRANITE,
    "PersimmonDecoderLayer": _PERSIMMON,
    "Phi3DecoderLayer Phi4MultimodalDecoderLayer": _PHI3,
    "Gemma2DecoderLayer Gemma3DecoderLayer MuseGlimmerTextDecoderLayer": _GEMMA,
    "Glm4DecoderLayer Glm4vTextDecoderLayer GlmImageTextDecoderLayer GlmOcrTextDecoderLayer": _GLM4,
    "ApertusDecoderLayer": _APERTUS,
    "Olmo2DecoderLayer Olmo3DecoderLayer Exaone4DecoderLayer FlexOlmoDecoderLayer": _OLMO2,
    "GPT2Block GPTBigCodeBlock GPTNeoBlock ImageGPTBlock": _GPT2,
    "ModernBertEncoderLayer ModernBertDecoderLayer": _MODERNBERT,
    "GPTNeoXLayer": _NEOX,
    "GPTJBlock CodeGenBlock": _GPTJ,
    "CohereDecoderLayer Cohere2DecoderLayer Cohere2MoeDecoderLayer": _COHERE,
    "PhiDecoderLayer": _PHI,
    "OPTDecoderLayer": _OPT,
    "BertLayer RobertaLayer BertGenerationLayer CamembertLayer Data2VecTextLayer ElectraLayer ErnieLayer "
    "MegatronBertLayer RemBertLayer RoCBertLayer RoFormerLayer RobertaPreLayerNormLayer XLMRobertaLayer "
    "XLMRobertaXLLayer": _BERT,
    "TransformerBlock": _DISTILBERT,
}

HALVES: Final[Mapping[str, Halves]] = MappingProxyType(
    {name: halves for names, halves in _CLASSES.items() for name in names.split()}
)
"""By the name of the layer's class. Elsewhere plans run whole layers only."""


def halves_of(layers: LayerList) -> Halves | None:
    """How the halves of every one of these layers are run; None where they are not known."""
    found: set[Halves | None] = set()
    for layer in layers:
        kind = type(unwrapped(layer))
        halves = HALVES.get(kind.__name__)
        # elsewhere a class of the same name may be put together in another way
        is_known = halves is not None and kind.__module__.startswith("transformers.") and halves.fit(layer)
        found.add(halves if is_known else None)
    return found.pop() if len(found) == 1 else None
