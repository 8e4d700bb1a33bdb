"""GGUF files of tiny models, written by the package gguf."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

HIDDEN, HEADS, KV_HEADS, INNER, LAYERS = 64, 4, 2, 96, 4
SPECIAL = {"<pad>": 0, "<s>": 1, "</s>": 2}
TEXTS = [
    "Question: Tom has 5 lamps. Then he buys 3 lamps. How many lamps does Tom have now?",
    "Answer: 8 lamps",
    "Zoe ran",
]
KINDS = ("llama", "qwen2")


def source(kind: str, seed: int = 0) -> Any:
    """Return a random model of the architecture `kind`, in float32."""
    torch.manual_seed(seed)
    fields = {
        "vocab_size": len(tokens()),
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": 512,
        "tie_word_embeddings": False,
        "initializer_range": 0.05,
    }
    if kind == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**fields, rms_norm_eps=1e-6)).eval()
    return LlamaForCausalLM(LlamaConfig(**fields, rms_norm_eps=1e-6)).eval()


@functools.cache
def tokenizer() -> Tokenizer:
    """Return a byte-level BPE tokenizer, as GPT-2's, of a few hundred tokens."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(TEXTS, trainer)
    return made


def tokens() -> list[str]:
    """Return the tokens by number."""
    numbers = tokenizer().get_vocab()
    return sorted(numbers, key=numbers.__getitem__)


def write(model: Any, path: Path, quantisation: str = "F32", **metadata: Any) -> Path:
    """Write `model` to a GGUF file, as llama.cpp's converter does; `metadata` replaces fields of the tokenizer."""
    kind = model.config.model_type
    writer = gguf.GGUFWriter(path, kind)
    config = model.config
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, metadata)
    for name, tensor in model.state_dict().items():
        _add_tensor(writer, kind, name, tensor, quantisation)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def quantised(model: Any, quantisation: str) -> Any:
    """Return `model` with the weights that a file of this type holds: rounded, and read back by the package gguf."""
    kind = gguf.GGMLQuantizationType[quantisation]
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                array = gguf.quants.dequantize(gguf.quants.quantize(parameter.numpy(), kind), kind)
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)))
    return model


def _add_tokenizer(writer: Any, metadata: dict[str, Any]) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    words = tokens()
    writer.add_token_list(words)
    writer.add_token_types([3 if word in SPECIAL else 1 for word in words])
    merges = json.loads(tokenizer().to_str())["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    fields = {"bos_token_id": 1, "eos_token_id": 2, "padding_token_id": 0, "add_bos_token": False} | metadata
    for name, value in fields.items():
        if value is None:
            continue
        add = writer.add_bool if isinstance(value, bool) else writer.add_uint32
        add(f"tokenizer.ggml.{name}", value)


def _add_tensor(writer: Any, kind: str, name: str, tensor: torch.Tensor, quantisation: str) -> None:
    names = {
        "embed_tokens": "token_embd",
        "lm_head": "output",
        "q_proj": "attn_q",
        "k_proj": "attn_k",
        "v_proj": "attn_v",
        "o_proj": "attn_output",
        "gate_proj": "ffn_gate",
        "up_proj": "ffn_up",
        "down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "norm": "output_norm",
    }
    parts = name.split(".")
    layer = f"blk.{parts[parts.index('layers') + 1]}." if "layers" in parts else ""
    array = tensor.detach().numpy()
    if kind == "llama" and parts[-2] in ("q_proj", "k_proj"):  # rotary halves are interleaved in files of Llama
        heads = HEADS if parts[-2] == "q_proj" else KV_HEADS
        array = array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:]).swapaxes(1, 2)
        array = np.ascontiguousarray(array.reshape(tensor.shape))
    target = f"{layer}{names[parts[-2]]}.{parts[-1]}"
    if array.ndim == 1 or quantisation == "F32":
        writer.add_tensor(target, array)
    else:
        dtype = gguf.GGMLQuantizationType[quantisation]
        writer.add_tensor(target, gguf.quants.quantize(array, dtype), raw_dtype=dtype)
