"""A lean Llama for training on a CPU or one GPU, and its export to transformers.

The function is that of `LlamaForCausalLM`; the layout is for speed: query, key and value in one matrix, gate and up in
one, bf16 products over fp32 weights and an fp32 residual stream.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from painters.nano.batches import PackedBatch
from painters.nano.tokenizer import BOS, CONTEXT, EOS, PAD, vocabulary

EPSILON = 1e-5
ROPE_THETA = 10_000.0


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a nano network; each of its `heads` has `hidden // heads` dimensions."""

    layers: int = 12
    hidden: int = 160
    intermediate: int = 416
    heads: int = 5
    vocabulary: int = 0


def nano_shape() -> Shape:
    """Return the shape of the bundled model, with the size of the bundled vocabulary."""
    return Shape(vocabulary=len(vocabulary()))


class LayerWeights(NamedTuple):
    """The weights of one layer."""

    qkv: torch.Tensor
    out: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor
    attention_norm: torch.Tensor
    mlp_norm: torch.Tensor


class Network(nn.Module):
    """The trainable weights and their loss."""

    def __init__(self, shape: Shape, seed: int) -> None:
        super().__init__()
        make = torch.Generator().manual_seed(seed)
        n, d, f = shape.layers, shape.hidden, shape.intermediate

        def normal(rows: int, columns: int, scale: float = 1.0) -> nn.Parameter:
            return nn.Parameter(torch.randn(rows, columns, generator=make) * scale * columns**-0.5)

        residual = (2 * n) ** -0.5
        self.shape = shape
        self.embedding = normal(shape.vocabulary, d)
        self.qkv = nn.ParameterList(normal(3 * d, d) for _ in range(n))
        self.out = nn.ParameterList(normal(d, d, residual) for _ in range(n))
        self.gate_up = nn.ParameterList(normal(2 * f, d) for _ in range(n))
        self.down = nn.ParameterList(normal(d, f, residual) for _ in range(n))
        self.attention_norm = nn.ParameterList(torch.ones(d) for _ in range(n))
        self.mlp_norm = nn.ParameterList(torch.ones(d) for _ in range(n))
        self.final_norm = nn.Parameter(torch.ones(d))
        self.block: Callable[..., torch.Tensor] = block

    def compile(self) -> None:
        """Compile the block; one graph serves all layers."""
        self.block = torch.compile(block)

    def loss(self, batch: PackedBatch) -> torch.Tensor:
        """Return the weighted mean cross-entropy of the batch, a scalar in nats."""
        length = batch.inputs.shape[1]
        position = torch.arange(length, device=batch.inputs.device)
        sees = (batch.documents[:, :, None] == batch.documents[:, None, :]) & (position[:, None] >= position)
        mask = torch.zeros_like(sees, dtype=torch.float32).masked_fill_(~sees, -1e9)[:, None]
        angles = rotary(length, self.shape.hidden // self.shape.heads, batch.inputs.device)
        stream = F.embedding(batch.inputs, self.embedding)
        for weights in zip(*(getattr(self, name) for name in LayerWeights._fields), strict=True):
            stream = self.block(stream, LayerWeights(*weights), angles, mask, self.shape.heads)
        keep = batch.weights > 0
        final = rms_norm(stream[keep], self.final_norm)
        logits = (final.bfloat16() @ self.embedding.bfloat16().T).float()
        losses = F.cross_entropy(logits, batch.targets[keep], reduction="none")
        return (losses * batch.weights[keep]).sum() / batch.weights.sum()


def rms_norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return `x` scaled to unit root mean square, times `weight`."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPSILON) * weight


def rotary(length: int, size: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cosines and sines of the rotary position embedding, each `[length, size]`."""
    frequency = ROPE_THETA ** (-torch.arange(0, size, 2, device=device, dtype=torch.float32) / size)
    angle = torch.outer(torch.arange(length, device=device, dtype=torch.float32), frequency)
    angle = torch.cat((angle, angle), -1)
    return angle.cos(), angle.sin()


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    x = x.float()
    low, high = x.chunk(2, -1)
    return (x * cos + torch.cat((-high, low), -1) * sin).bfloat16()


def block(
    stream: torch.Tensor,
    weights: LayerWeights,
    angles: tuple[torch.Tensor, torch.Tensor],
    mask: torch.Tensor,
    heads: int,
) -> torch.Tensor:
    """Return the stream `[batch, seq, hidden]` (fp32) after one layer.

    `angles` are what `rotary` returns; `mask` `[batch, 1, seq, seq]` is additive.
    """
    rows, length, hidden = stream.shape
    size = hidden // heads
    normed = rms_norm(stream, weights.attention_norm).bfloat16()
    mixed = (normed @ weights.qkv.bfloat16().T).view(rows, length, 3, heads, size).permute(2, 0, 3, 1, 4)
    query, key, value = mixed.unbind()
    query, key = _rotate(query, *angles), _rotate(key, *angles)
    scores = (query @ key.transpose(-1, -2)).float() * size**-0.5 + mask
    attended = (scores.softmax(-1).bfloat16() @ value).transpose(1, 2).reshape(rows, length, hidden)
    stream = stream + (attended @ weights.out.bfloat16().T).float()
    normed = rms_norm(stream, weights.mlp_norm).bfloat16()
    gate, up = (normed @ weights.gate_up.bfloat16().T).chunk(2, -1)
    return stream + ((F.silu(gate.float()) * up.float()).bfloat16() @ weights.down.bfloat16().T).float()


def export(network: Network) -> LlamaForCausalLM:
    """Return the same function as a transformers model with fp32 weights."""
    shape = network.shape
    ids = {token: i for i, token in enumerate(vocabulary())}
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=EPSILON,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        tie_word_embeddings=True,
        bos_token_id=ids[BOS],
        eos_token_id=ids[EOS],
        pad_token_id=ids[PAD],
    )
    model = LlamaForCausalLM(config)
    state = {"model.embed_tokens.weight": network.embedding, "model.norm.weight": network.final_norm}
    state["lm_head.weight"] = network.embedding
    for i in range(shape.layers):
        at = f"model.layers.{i}."
        query, key, value = network.qkv[i].chunk(3)
        gate, up = network.gate_up[i].chunk(2)
        state |= {
            at + "input_layernorm.weight": network.attention_norm[i],
            at + "post_attention_layernorm.weight": network.mlp_norm[i],
            at + "self_attn.q_proj.weight": query,
            at + "self_attn.k_proj.weight": key,
            at + "self_attn.v_proj.weight": value,
            at + "self_attn.o_proj.weight": network.out[i],
            at + "mlp.gate_proj.weight": gate,
            at + "mlp.up_proj.weight": up,
            at + "mlp.down_proj.weight": network.down[i],
        }
    model.load_state_dict({name: tensor.detach().clone() for name, tensor in state.items()})
    model.eval()  # type: ignore[no-untyped-call]
    return model
