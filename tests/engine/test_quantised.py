"""Weights in eight and four bits: layers are called as they are, so that plans are exact over them too."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from support import reference
from support.models import GROUPED, make_model, padded_batch, prompts
from support.plan_cases import few_plans
from support.reference import assert_same
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig

from painters import Plan, surgery

PLANS = few_plans(7) | {"halves": Plan.parse("0 1.attn {2.mlp 3}:sum (4 5.attn)*2 6")}
KINDS = {
    "eight bits": ({"load_in_8bit": True}, "Linear8bitLt", torch.int8),
    "four bits": (
        {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32},
        "Linear4bit",
        torch.uint8,
    ),
}


def quantised(kind: str, folder: Path) -> Any:
    """A Llama of seven layers, wide enough for blocks of 64 weights."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script_method` is deprecated", DeprecationWarning)
        pytest.importorskip("bitsandbytes", reason="make test-quantised installs it")
    options, name, dtype = KINDS[kind]
    torch.manual_seed(0)
    shape = GROUPED | {"hidden_size": 64, "intermediate_size": 128}
    AutoModelForCausalLM.from_config(LlamaConfig(num_hidden_layers=7, **shape)).save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=BitsAndBytesConfig(**options), device_map="cpu"
    )
    linear = model.model.layers[0].mlp.up_proj
    assert (type(linear).__name__, linear.weight.dtype) == (name, dtype)
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:MatMul8bitLt. inputs will be cast:UserWarning")
def test_logits_are_those_of_the_plain_loop(kind: str, tmp_path: Path) -> None:
    model, (ids, mask) = quantised(kind, tmp_path), padded_batch()
    for plan in PLANS.values():
        with torch.inference_mode(), surgery(model, plan):
            expected = reference.logits("llama", model, plan, ids, mask)
            assert_same(model(ids, attention_mask=mask).logits, expected)


def test_generation_in_four_bits(tmp_path: Path) -> None:
    """Not in eight: which columns of a batch are kept in half precision there depends on what else is in it."""
    model, prompt = quantised("four bits", tmp_path), prompts()
    for plan in PLANS.values():
        with torch.inference_mode(), surgery(model, plan):
            decoded, _ = reference.greedy("llama", model, plan, *prompt.values(), 4)
            assert torch.equal(model.generate(**prompt, max_new_tokens=4, do_sample=False), decoded)


class PackedLinear(nn.Linear):
    """Eight-bit weights with a scale per row, which stand for a kind that nobody has heard of."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        scale = linear.weight.detach().abs().amax(1, keepdim=True) / 127
        packed = (linear.weight.detach() / scale).round().to(torch.int8)
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.weight.to(x.dtype) * self.scale).T


@pytest.mark.parametrize("label", PLANS)
def test_any_other_kind_of_weights(label: str) -> None:
    model, plan, (ids, mask) = make_model("llama", 7), PLANS[label], padded_batch()
    for layer in model.model.layers:
        for name in ("gate_proj", "up_proj", "down_proj"):
            setattr(layer.mlp, name, PackedLinear(getattr(layer.mlp, name)))
    with torch.inference_mode(), surgery(model, plan):
        assert_same(model(ids, attention_mask=mask).logits, reference.logits("llama", model, plan, ids, mask))
