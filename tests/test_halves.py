"""`7.attn 7.mlp` is layer 7, bit for bit, and each half alone is what the plain loop computes."""

from __future__ import annotations

import pytest
import reference
import torch
from models import ARCHITECTURES, make_model, padded_batch, prompts, shared_model, tokens
from reference import assert_same

from painters import Plan, surgery
from painters.engine import LayerStack, SurgeryError

WITH_HALVES = [name for name, row in ARCHITECTURES.items() if row.halves]
WITHOUT = [name for name, row in ARCHITECTURES.items() if not row.halves]


@pytest.mark.parametrize("architecture", WITH_HALVES)
def test_two_halves_are_the_layer(architecture: str) -> None:
    model, prompt = shared_model(architecture, 7), prompts()
    ids, mask = padded_batch()
    halves = " ".join(f"{i}.attn {i}.mlp" for i in range(7))
    options = {
        "max_new_tokens": 12,
        "do_sample": False,
        "output_logits": True,
        "return_dict_in_generate": True,
    }
    with torch.inference_mode():
        expected = model(ids, attention_mask=mask).logits
        decoded = model.generate(**prompt, **options)
        with surgery(model, halves):
            assert_same(model(ids, attention_mask=mask).logits, expected)
            assert_same(model(ids, attention_mask=mask, use_cache=False).logits, expected)
            found = model.generate(**prompt, **options)
    assert torch.equal(found.sequences, decoded.sequences)
    for scores, expected_scores in zip(found.logits, decoded.logits, strict=True):
        assert_same(scores, expected_scores)


@pytest.mark.parametrize("architecture", WITH_HALVES)
@pytest.mark.parametrize(
    "text",
    [
        "0-2 3.attn 4.mlp 5-6",
        "0 1.mlp 1.attn 2-6",
        "0 {1.attn 2.attn}:sum {1.mlp 2.mlp}:sum 3-6",
        "0-2 3.attn 3.attn 3.mlp {(4.attn 5.mlp) 5.attn} 6",
        "0.mlp 1-5 6.attn",
    ],
)
def test_halves_alone(architecture: str, text: str) -> None:
    model, plan, prompt = shared_model(architecture, 7), Plan.parse(text), prompts()
    ids, mask = padded_batch()
    with torch.inference_mode():
        expected = reference.logits(architecture, model, plan, ids, mask)
        decoded, _ = reference.greedy(architecture, model, plan, *prompt.values(), 8)
        with surgery(model, plan):
            assert_same(model(ids, attention_mask=mask).logits, expected)
            assert_same(model(ids, attention_mask=mask, use_cache=False).logits, expected)
            assert torch.equal(model.generate(**prompt, max_new_tokens=8, do_sample=False), decoded)


def test_an_mlp_takes_no_slot() -> None:
    model = shared_model("llama", 7)
    with torch.inference_mode(), surgery(model, "0 1.mlp 1.mlp 2.attn 2.attn 2.mlp"):
        cache = model(tokens(2, 9), use_cache=True).past_key_values
    assert len(cache.layers) == 7 + 1
    assert cache.layers[1].keys.shape[1::2] == (1, 1)


@pytest.mark.parametrize("architecture", WITHOUT)
def test_unknown_halves_are_refused_by_name(architecture: str) -> None:
    model = shared_model(architecture, 7)
    kind = type(LayerStack.find(model).layers[0]).__name__
    message = rf"plan runs 3\.attn of {type(model).__name__}, but the halves of its {kind} are not known .*Llama"
    with pytest.raises(SurgeryError, match=message):
        surgery(model, "0-2 3.attn").__enter__()


def test_a_class_of_the_same_name_from_elsewhere() -> None:
    model = make_model("llama", 7)
    for layer in model.model.layers:
        layer.__class__ = type("LlamaDecoderLayer", (type(layer),), {"__module__": "somebodys_code"})
    with pytest.raises(SurgeryError, match="the halves of its LlamaDecoderLayer are not known"):
        surgery(model, "0.attn").__enter__()


def test_layers_that_accelerate_placed() -> None:
    """It moves the inputs of the modules it hooked, so halves would meet tensors of another device."""
    from accelerate.hooks import ModelHook, add_hook_to_module

    model, ids = make_model("llama", 7), tokens(2, 9)
    for layer in model.model.layers:
        add_hook_to_module(layer, ModelHook())
    with pytest.raises(SurgeryError, match=r"plan runs 0\.attn .* accelerate placed its layers.*on one device"):
        surgery(model, "0.attn").__enter__()
    with torch.inference_mode():
        expected = reference.logits("llama", model, plan := Plan.parse("0 {1 2}*2 6"), ids)
        with surgery(model, plan):
            assert_same(model(ids).logits, expected)
