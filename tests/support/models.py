"""Tiny random models of every architecture that the engine is tested on: a new row brings its tests."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    ModernBertConfig,
    OPTConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
)
from transformers.masking_utils import create_causal_mask

VOCABULARY = 101
PAD = 0
WINDOW = 4
"""Positions that a sliding layer sees; prompts are longer."""

CACHE = "cache" if "cache" in inspect.signature(create_causal_mask).parameters else "past_key_values"
"""What this transformers calls the cache that models, layers and masks are given, and that models return."""

Head = Literal["lm", "classifier", "bare"]


@dataclass(frozen=True)
class Architecture:
    """A row: the config of a given depth, and the family of tests/support/reference.py that runs the layers."""

    config: Callable[[int], PreTrainedConfig]
    family: Literal["llama", "gpt2", "gpt_neox", "opt", "bert", "distilbert", "modernbert"]
    generates: bool = True
    parallel_residual: bool = False
    """Whether attention and MLP read the same stream, so that one half after the other is not the layer."""

    def auto_class(self, head: Head) -> Any:
        if head == "bare":
            return AutoModel
        if head == "classifier":
            return AutoModelForSequenceClassification
        return AutoModelForCausalLM if self.generates else AutoModelForMaskedLM


TOKENS = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": None}
SIZE: dict[str, Any] = {
    **TOKENS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
GROUPED = {**SIZE, "num_key_value_heads": 2}


def mixed(num_layers: int) -> list[str]:
    """Every third layer full, the others sliding; the first one sliding, so that slot 0 is not a full one."""
    return ["full_attention" if i % 3 == 1 else "sliding_attention" for i in range(num_layers)]


def _gemma(kind: type[PreTrainedConfig], n: int) -> PreTrainedConfig:
    return kind(
        num_hidden_layers=n,
        layer_types=mixed(n),
        sliding_window=WINDOW,
        head_dim=8,
        query_pre_attn_scalar=8,
        **GROUPED,
    )


def _encoder(kind: type[PreTrainedConfig], n: int, **more: Any) -> PreTrainedConfig:
    return kind(num_hidden_layers=n, **SIZE, **more)


ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture(lambda n: LlamaConfig(num_hidden_layers=n, **GROUPED), "llama"),
    "mistral": Architecture(lambda n: MistralConfig(num_hidden_layers=n, sliding_window=WINDOW, **GROUPED), "llama"),
    "qwen2": Architecture(
        lambda n: Qwen2Config(
            num_hidden_layers=n,
            layer_types=mixed(n),
            use_sliding_window=True,
            sliding_window=WINDOW,
            **GROUPED,
        ),
        "llama",
    ),
    "qwen3": Architecture(
        lambda n: Qwen3Config(
            num_hidden_layers=n,
            layer_types=mixed(n),
            use_sliding_window=True,
            sliding_window=WINDOW,
            head_dim=8,
            **GROUPED,
        ),
        "llama",
    ),
    "phi3": Architecture(lambda n: Phi3Config(num_hidden_layers=n, **GROUPED), "llama"),
    "gemma2": Architecture(lambda n: _gemma(Gemma2Config, n), "llama"),
    "gemma3": Architecture(lambda n: _gemma(Gemma3TextConfig, n), "llama"),
    "gpt2": Architecture(
        lambda n: GPT2Config(n_layer=n, n_embd=32, n_head=4, n_positions=64, initializer_range=0.2, **TOKENS),
        "gpt2",
    ),
    "gpt_neox": Architecture(lambda n: GPTNeoXConfig(num_hidden_layers=n, **SIZE), "gpt_neox", parallel_residual=True),
    "opt": Architecture(
        lambda n: OPTConfig(
            num_hidden_layers=n,
            hidden_size=32,
            word_embed_proj_dim=32,
            ffn_dim=48,
            num_attention_heads=4,
            max_position_embeddings=64,
            init_std=0.2,
            **TOKENS,
        ),
        "opt",
    ),
    "bert": Architecture(lambda n: _encoder(BertConfig, n), "bert", generates=False),
    "roberta": Architecture(lambda n: _encoder(RobertaConfig, n), "bert", generates=False),
    "electra": Architecture(lambda n: _encoder(ElectraConfig, n, embedding_size=24), "bert", generates=False),
    "distilbert": Architecture(
        lambda n: DistilBertConfig(
            n_layers=n,
            dim=32,
            hidden_dim=48,
            n_heads=4,
            max_position_embeddings=64,
            initializer_range=0.2,
            **TOKENS,
        ),
        "distilbert",
        generates=False,
    ),
    "modernbert": Architecture(
        lambda n: _encoder(ModernBertConfig, n, layer_types=mixed(n), local_attention=WINDOW, reference_compile=False),
        "modernbert",
        generates=False,
    ),
}

DECODERS = [name for name, row in ARCHITECTURES.items() if row.generates]
ENCODERS = [name for name, row in ARCHITECTURES.items() if not row.generates]


def make_model(
    architecture: str, num_layers: int, seed: int = 0, head: Head = "lm", attention: str | None = None
) -> PreTrainedModel:
    """A fresh model in eval mode. Every parameter is random, so that no zero bias hides what a layer does."""
    row = ARCHITECTURES[architecture]
    torch.manual_seed(seed)
    model = row.auto_class(head).from_config(row.config(num_layers), attn_implementation=attention)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.eval()
    assert isinstance(model, PreTrainedModel)
    return model


@cache
def shared_model(
    architecture: str, num_layers: int, head: Head = "lm", attention: str | None = None
) -> PreTrainedModel:
    """`make_model`, made once for all tests: whoever alters it must not use it."""
    return make_model(architecture, num_layers, head=head, attention=attention)


def padded_batch(rows: int = 4, length: int = 11, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Tokens and mask [rows, length]: a full row, one padded left, one right, the others on both sides."""
    ids = tokens(rows, length, seed)
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    mask[2, -3:] = 0
    mask[3:, :2] = 0
    mask[3:, -1:] = 0
    return ids.masked_fill(mask == 0, PAD), mask


def prompts(rows: int = 3, length: int = 9, seed: int = 0) -> dict[str, Tensor]:
    """A batch of prompts of several lengths, padded on the left."""
    ids = tokens(rows, length, seed)
    mask = torch.ones_like(ids)
    for row in range(1, rows):
        mask[row, : 2 * row] = 0
    return {"input_ids": ids.masked_fill(mask == 0, PAD), "attention_mask": mask}


def tokens(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(2, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))
