"""A lean BERT for training on a CPU or one GPU, and its export to transformers.

The function is that of `BertForMaskedLM`: the norms come after the additions, positions and token types are learned.
The layout is for speed, as in `network`: query, key and value in one matrix, bf16 products over fp32 weights, an fp32
stream, and the head applied to the masked positions alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from transformers import BertConfig, BertForMaskedLM

from painters.nano.encoder.masking import MaskedBatch
from painters.nano.network import Shape
from painters.nano.pieces import CLS, MAX_LENGTH, SEP, encoder_vocabulary
from painters.nano.tokenizer import PAD

EPSILON = 1e-12
FASTEST, SLOWEST = 2.5, 0.025
"""Highest and lowest frequency of the positions' waves, in radians per word."""
LOUDNESS = 1.5
"""Initial amplitude of the positions relative to that of the words."""
LOOKING = ((-1, -2, -3, -4), (1, 2, 3, 4))
"""Where the heads of the first layers attend initially, by layer and head: this many words ahead."""
SHARPNESS, SEEN = 2.0, 0.6
"""How sharply those heads attend initially, and the amplitude of what they write relative to that of a word."""
MATRICES = ("qkv", "out", "up", "down")
VECTORS = ("qkv_bias", "out_bias", "attention_norm", "up_bias", "down_bias", "mlp_norm")


def encoder_shape() -> Shape:
    """Return the shape of the bundled encoder."""
    return Shape(intermediate=608, vocabulary=len(encoder_vocabulary()))


class LayerWeights(NamedTuple):
    """The weights of one layer; a norm is one tensor `[2, hidden]`, gain and shift."""

    qkv: torch.Tensor
    qkv_bias: torch.Tensor
    out: torch.Tensor
    out_bias: torch.Tensor
    attention_norm: torch.Tensor
    up: torch.Tensor
    up_bias: torch.Tensor
    down: torch.Tensor
    down_bias: torch.Tensor
    mlp_norm: torch.Tensor


class EncoderNetwork(nn.Module):
    """The trainable weights and their loss."""

    def __init__(self, shape: Shape, seed: int) -> None:
        super().__init__()
        make = torch.Generator().manual_seed(seed)
        n, d, f = shape.layers, shape.hidden, shape.intermediate

        def normal(rows: int, columns: int, scale: float = 1.0) -> nn.Parameter:
            return nn.Parameter(torch.randn(rows, columns, generator=make) * scale * columns**-0.5)

        def zeros(size: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(size))

        def norm() -> nn.Parameter:
            return nn.Parameter(torch.stack((torch.ones(d), torch.zeros(d))))

        # With norms after the additions a deep stack trains only if each layer is a small change initially: DeepNet's
        # scale of the residual branches, folded into the initial weights.
        residual = (4 * n) ** -0.5
        self.shape = shape
        self.embedding = normal(shape.vocabulary, d)
        self.positions = nn.Parameter(waves(MAX_LENGTH, d) * LOUDNESS * (2 / d) ** 0.5)
        self.types = normal(2, d, 0.5)
        self.embedding_norm = norm()
        self.qkv = nn.ParameterList(normal(3 * d, d) for _ in range(n))
        self.qkv_bias = nn.ParameterList(zeros(3 * d) for _ in range(n))
        self.out = nn.ParameterList(normal(d, d, residual) for _ in range(n))
        self.out_bias = nn.ParameterList(zeros(d) for _ in range(n))
        self.attention_norm = nn.ParameterList(norm() for _ in range(n))
        self.up = nn.ParameterList(normal(f, d) for _ in range(n))
        self.up_bias = nn.ParameterList(zeros(f) for _ in range(n))
        self.down = nn.ParameterList(normal(d, f, residual) for _ in range(n))
        self.down_bias = nn.ParameterList(zeros(d) for _ in range(n))
        self.mlp_norm = nn.ParameterList(norm() for _ in range(n))
        self.head = normal(d, d)
        self.head_bias = zeros(d)
        self.head_norm = norm()
        self.logit_bias = zeros(shape.vocabulary)
        self.block: Callable[..., torch.Tensor] = block
        self._initialize_attention(residual)

    @torch.no_grad()
    def _initialize_attention(self, residual: float) -> None:
        """Initialise attention with patterns that form slowly from the masked words alone.

        The heads of the first layers attend to near words and write what they read with a large amplitude. Those of the
        other layers attend to words like their own and copy them: query and key have the same weights (Trockman and
        Kolter's mimetic initialization, arXiv 2305.09828), and the output is the transpose of the value.
        """
        d, size = self.shape.hidden, self.shape.hidden // self.shape.heads
        for qkv, out, offsets in zip(self.qkv, self.out, LOOKING, strict=False):
            for head, offset in enumerate(offsets[: self.shape.heads]):
                attend_to_offset(qkv, head, size, offset)
            out[:, : len(offsets) * size] *= SEEN / residual
        first = len(LOOKING)
        for qkv, out in zip(self.qkv[first:], self.out[first:], strict=True):
            qkv[d : 2 * d] = qkv[:d]
            out.copy_(qkv[2 * d :].T * residual)

    def compile(self) -> None:
        """Compile the block; one graph serves all layers."""
        self.block = torch.compile(block)

    def loss(self, batch: MaskedBatch) -> torch.Tensor:
        """Return the weighted mean cross-entropy of the targets, a scalar in nats."""
        keep = batch.weights > 0
        losses = F.cross_entropy(self.logits(batch, keep), batch.targets[keep], reduction="none")
        return (losses * batch.weights[keep]).sum() / batch.weights.sum()

    def logits(self, batch: MaskedBatch, keep: torch.Tensor) -> torch.Tensor:
        """Return the logits `[count, vocabulary]` at the positions where `keep` `[rows, length]` is true."""
        same = batch.documents[:, :, None] == batch.documents[:, None, :]
        mask = torch.zeros_like(same, dtype=torch.float32).masked_fill_(~same, -1e9)[:, None]
        stream = F.embedding(batch.inputs, self.embedding)
        stream = stream + F.embedding(batch.positions, self.positions) + F.embedding(batch.types, self.types)
        stream = layer_norm(stream, self.embedding_norm)
        for weights in zip(*(getattr(self, name) for name in LayerWeights._fields), strict=True):
            stream = self.block(stream, LayerWeights(*weights), mask, self.shape.heads)
        kept = layer_norm(F.gelu(_linear(stream[keep], self.head, self.head_bias)), self.head_norm)
        return _linear(kept, self.embedding, self.logit_bias)


def waves(length: int, size: int) -> torch.Tensor:
    """Return sines and cosines of each position, `[length, size]`.

    Learned positions with these initial values let a layer attend a few words back from the first step on.
    """
    angle = torch.outer(torch.arange(length).float(), _frequencies(size))
    return torch.cat((angle.sin(), angle.cos()), -1)


def _frequencies(size: int) -> torch.Tensor:
    return FASTEST * (SLOWEST / FASTEST) ** (torch.arange(0, size, 2) / size)


@torch.no_grad()
def attend_to_offset(qkv: torch.Tensor, head: int, size: int, offset: int) -> None:
    """Initialise a head of `size` dimensions to attend `offset` words ahead, through `waves`.

    Masked words alone teach this slowly: a layer gains nothing by reading a neighbour until later layers use it, and
    those cannot use it until it is read. With this start, look-up forms within a few hundred steps.
    """
    hidden = qkv.shape[1]
    half, pairs = hidden // 2, torch.arange(size // 2)
    angle = _frequencies(hidden)[pairs] * offset
    query, key = torch.zeros(size, hidden), torch.zeros(size, hidden)
    sine, cosine = pairs, half + pairs
    key[2 * pairs, sine] = key[2 * pairs + 1, cosine] = 1.0
    query[2 * pairs, sine] = query[2 * pairs + 1, cosine] = angle.cos()
    query[2 * pairs, cosine], query[2 * pairs + 1, sine] = angle.sin(), -angle.sin()
    rows = slice(head * size, (head + 1) * size)
    qkv[:hidden][rows], qkv[hidden : 2 * hidden][rows] = SHARPNESS * query, SHARPNESS * key


def layer_norm(x: torch.Tensor, norm: torch.Tensor) -> torch.Tensor:
    """Return `x` with zero mean and unit variance, times `norm[0]`, plus `norm[1]`."""
    return F.layer_norm(x, x.shape[-1:], norm[0], norm[1], EPSILON)


def _linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return (x.bfloat16() @ weight.bfloat16().T).float() + bias


def block(stream: torch.Tensor, weights: LayerWeights, mask: torch.Tensor, heads: int) -> torch.Tensor:
    """Return the stream `[batch, seq, hidden]` (fp32) after one layer.

    `mask` `[batch, 1, seq, seq]` is additive.
    """
    w = weights
    rows, length, hidden = stream.shape
    size = hidden // heads
    mixed = _linear(stream, w.qkv, w.qkv_bias).bfloat16().view(rows, length, 3, heads, size).permute(2, 0, 3, 1, 4)
    query, key, value = mixed.unbind()
    scores = (query @ key.transpose(-1, -2)).float() * size**-0.5 + mask
    attended = (scores.softmax(-1).bfloat16() @ value).transpose(1, 2).reshape(rows, length, hidden)
    stream = layer_norm(stream + _linear(attended, w.out, w.out_bias), w.attention_norm)
    return layer_norm(stream + _linear(F.gelu(_linear(stream, w.up, w.up_bias)), w.down, w.down_bias), w.mlp_norm)


def export(network: EncoderNetwork) -> BertForMaskedLM:
    """Return the same function as a transformers model with fp32 weights."""
    shape = network.shape
    ids = {token: i for i, token in enumerate(encoder_vocabulary())}
    config = BertConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=MAX_LENGTH,
        type_vocab_size=2,
        layer_norm_eps=EPSILON,
        initializer_range=shape.hidden**-0.5,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=ids[PAD],
        bos_token_id=ids[CLS],
        eos_token_id=ids[SEP],
    )
    model = BertForMaskedLM(config)
    state: dict[str, torch.Tensor] = {
        "bert.embeddings.word_embeddings.weight": network.embedding,
        "bert.embeddings.position_embeddings.weight": network.positions,
        "bert.embeddings.token_type_embeddings.weight": network.types,
        "cls.predictions.transform.dense.weight": network.head,
        "cls.predictions.transform.dense.bias": network.head_bias,
        "cls.predictions.decoder.weight": network.embedding,
        "cls.predictions.decoder.bias": network.logit_bias,
        "cls.predictions.bias": network.logit_bias,
    }
    state |= _norm("bert.embeddings.LayerNorm", network.embedding_norm)
    state |= _norm("cls.predictions.transform.LayerNorm", network.head_norm)
    for i in range(shape.layers):
        at = f"bert.encoder.layer.{i}."
        weights, biases = network.qkv[i].chunk(3), network.qkv_bias[i].chunk(3)
        for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            state |= {f"{at}attention.self.{name}.weight": weight, f"{at}attention.self.{name}.bias": bias}
        state |= {
            at + "attention.output.dense.weight": network.out[i],
            at + "attention.output.dense.bias": network.out_bias[i],
            at + "intermediate.dense.weight": network.up[i],
            at + "intermediate.dense.bias": network.up_bias[i],
            at + "output.dense.weight": network.down[i],
            at + "output.dense.bias": network.down_bias[i],
        }
        state |= _norm(at + "attention.output.LayerNorm", network.attention_norm[i])
        state |= _norm(at + "output.LayerNorm", network.mlp_norm[i])
    mismatch = model.load_state_dict({name: t.detach().clone() for name, t in state.items()}, strict=False)
    if mismatch.unexpected_keys or set(mismatch.missing_keys) - {"bert.embeddings.position_ids"}:
        raise RuntimeError(f"transformers' BertForMaskedLM has other weights than expected here: {mismatch}")
    model.eval()  # type: ignore[no-untyped-call]
    return model


def _norm(at: str, norm: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the weight and bias of the norm at the path `at`."""
    return {f"{at}.weight": norm[0], f"{at}.bias": norm[1]}
