"""How the two halves of a layer, attention and MLP, are run on their own, by the name of the layer's class.

Import from `painters.stack`.
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

from painters import _compat
from painters.plan import Half
from painters.stack.search import LayerList, SurgeryError, unwrapped

RunHalf: TypeAlias = Callable[[Any, Tensor, dict[str, Any]], Tensor]
"""(layer, stream, the layer's other arguments by name) -> the stream [batch, seq, hidden] after one half."""

_OF_ENCODER = ("encoder_hidden_states", "encoder_attention_mask")
"""Arguments that make a layer attend to an encoder too."""


@dataclass(frozen=True, eq=False, slots=True)
class Halves:
    """How a class of layers is built: its attention and then its MLP are the whole layer, to the bit.

    With a parallel residual, where both read the same stream, the layer is `{3.attn 3.mlp}:sum` up to rounding instead.

    Attributes:
        attn: Runs the attention half.
        mlp: Runs the MLP half.
        needs: The children that a layer must have: in some classes only some layers have them.
        children: Half -> the names (before, inner, after) of its children, if each half only adds
            `after(inner(before(x)))` to the stream x; None if a half does more. An `after` of None is left out.
        attention: The name of the child that returns the attention weights behind the attention half's output.

    Examples:
        >>> from painters.stack import HALVES
        >>> HALVES["LlamaDecoderLayer"].children["mlp"]
        ('post_attention_layernorm', 'mlp', None)
        >>> HALVES["BertLayer"].needs
        ('attention', 'feed_forward_chunk')
    """

    attn: RunHalf
    mlp: RunHalf
    needs: tuple[str, ...]
    children: Mapping[Half, tuple[str, str, str | None]] | None = None
    attention: str = "attention"

    def fit(self, layer: nn.Module) -> bool:
        """Return whether `layer` has all the children that it needs."""
        return all(hasattr(layer, name) for name in self.needs)

    def run(
        self, layer: nn.Module, half: Half, hidden: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        """Run one half of a layer.

        Args:
            layer: The layer.
            half: Which half.
            hidden: The stream that enters the half, [batch, seq, hidden].
            args: The other arguments of the whole layer, by position.
            kwargs: The other arguments of the whole layer, by name.

        Returns:
            The stream that leaves the half, [batch, seq, hidden].

        Raises:
            SurgeryError: If the layer also attends to an encoder.
        """
        names = list(inspect.signature(type(unwrapped(layer)).forward).parameters)[2:]  # without self and the stream
        named = dict(zip(names, args, strict=False)) | kwargs
        if any(named.pop(name, None) is not None for name in _OF_ENCODER):
            raise SurgeryError(
                f"plan runs one half of a {type(unwrapped(layer)).__name__}, but the layers also attend to an encoder, "
                "which is neither half: run whole layers"
            )
        run = self.attn if half == "attn" else self.mlp
        hook = _compat.accelerate_hook(layer)
        if hook is None:
            return run(layer, hidden, named)
        # accelerate placed the layer: do what it does around the forward of a whole layer
        (hidden,), named = hook.pre_forward(layer, hidden, **named)
        output: Tensor = hook.post_forward(layer, run(layer, hidden, named))
        return output


def _pre_norm(
    attn: tuple[str | None, str, str | None],
    mlp: tuple[str | None, str, str | None],
    scale: str | None = None,
) -> Halves:
    """Return halves that add `after(inner(before(x)))` to the stream x, times `scale`.

    Args:
        attn: The names of the children (before, inner, after) of the attention half; None where there is no such child.
        mlp: Those of the MLP half.
        scale: The attribute of a layer by which each half multiplies what it adds; None for a factor of one.

    Returns:
        The halves.
    """

    def adding(names: tuple[str | None, str, str | None], is_attention: bool) -> RunHalf:
        before, inner, after = names

        def run(layer: Any, hidden: Tensor, named: dict[str, Any]) -> Tensor:
            change = hidden if before is None else getattr(layer, before)(hidden)
            change = getattr(layer, inner)(change, **(named if is_attention else {}))
            change = change[0] if isinstance(change, tuple) else change  # without the weights of attention or router
            if after is not None:
                change = getattr(layer, after)(change)
            if scale is not None:
                change = change * getattr(layer, scale)
            result: Tensor = hidden + change
            return result

        return run

    needs = tuple(name for name in (*attn, *mlp, scale) if name is not None)
    is_plain = scale is None and attn[0] is not None and mlp[0] is not None
    children: dict[Half, Any] | None = {"attn": attn, "mlp": mlp} if is_plain else None
    return Halves(adding(attn, True), adding(mlp, False), needs, children, attn[1])


def _bert_attention(layer: Any, hidden: Tensor, named: dict[str, Any]) -> Tensor:
    output: Tensor = layer.attention(hidden, **named)[0]
    return output


def _bert_mlp(layer: Any, hidden: Tensor, named: dict[str, Any]) -> Tensor:
    return apply_chunking_to_forward(layer.feed_forward_chunk, layer.chunk_size_feed_forward, layer.seq_len_dim, hidden)


def _distilbert_attention(layer: Any, hidden: Tensor, named: dict[str, Any]) -> Tensor:
    change, *_ = layer.attention(hidden, **named)
    output: Tensor = layer.sa_layer_norm(change + hidden)
    return output


def _distilbert_mlp(layer: Any, hidden: Tensor, named: dict[str, Any]) -> Tensor:
    output: Tensor = layer.output_layer_norm(layer.ffn(hidden) + hidden)
    return output


def _opt_attention(layer: Any, hidden: Tensor, named: dict[str, Any]) -> Tensor:
    """Run the attention of OPT, whose norm comes before it, and in the 350m model after the sum."""
    norm, first = layer.self_attn_layer_norm, layer.do_layer_norm_before
    named = {name: value for name, value in named.items() if name != "use_cache"}
    change = layer.self_attn(norm(hidden) if first else hidden, **named)[0]
    output = hidden + dropout(change, p=layer.dropout, training=layer.training)
    return output if first else norm(output)


def _opt_mlp(layer: Any, hidden: Tensor, named: dict[str, Any]) -> Tensor:
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
# one norm for both halves, which read the same stream
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
"""Name of a class of layers -> how its halves are run. Of other layers plans run whole ones only."""


def halves_of(layers: LayerList) -> Halves | None:
    """Return how the halves of these layers are run; None if that is not known, or not the same for all."""
    kinds: set[Halves | None] = set()
    for layer in layers:
        kind = type(unwrapped(layer))
        halves = HALVES.get(kind.__name__)
        # outside transformers a class of the same name may be built in another way
        is_known = halves is not None and kind.__module__.startswith("transformers.") and halves.fit(layer)
        kinds.add(halves if is_known else None)
    return kinds.pop() if len(kinds) == 1 else None
