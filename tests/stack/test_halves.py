"""`7.attn 7.mlp` is layer 7, bit for bit, and each half alone is what the plain loop computes.

With a parallel residual both halves read the same stream, and `{7.attn 7.mlp}:sum` is layer 7 up to rounding.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from architectures.check import forward, ready
from architectures.page import read
from support import reference
from support.models import ARCHITECTURES, CACHE, make_model, padded_batch, prompts, shared_model, tokens
from support.reference import assert_same
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, BloomConfig

from painters import Plan, surgery
from painters.engine import LayerStack, SurgeryError
from painters.stack import HALVES

PARALLEL = [name for name, row in ARCHITECTURES.items() if row.parallel_residual]
HALVES_IN_TURN = " ".join(f"{i}.attn {i}.mlp" for i in range(7))


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name not in PARALLEL])
def test_two_halves_are_the_layer(architecture: str) -> None:
    assert_two_halves_are_the_layer(shared_model(architecture, 7), ARCHITECTURES[architecture].generates)


def assert_two_halves_are_the_layer(model: Any, generates: bool = True) -> None:
    prompt, (ids, mask) = prompts(), padded_batch()
    with torch.inference_mode():
        expected = model(ids, attention_mask=mask).logits
        with surgery(model, HALVES_IN_TURN):
            assert_same(model(ids, attention_mask=mask).logits, expected)
            if generates:
                assert_same(model(ids, attention_mask=mask, use_cache=False).logits, expected)
    if not generates:
        return
    options = {
        "max_new_tokens": 12,
        "do_sample": False,
        "output_logits": True,
        "return_dict_in_generate": True,
    }
    with torch.inference_mode():
        decoded = model.generate(**prompt, **options)
        with surgery(model, HALVES_IN_TURN):
            found = model.generate(**prompt, **options)
    assert torch.equal(found.sequences, decoded.sequences)
    for scores, expected_scores in zip(found.logits, decoded.logits, strict=True):
        assert_same(scores, expected_scores)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
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
        with surgery(model, plan):
            assert_same(model(ids, attention_mask=mask).logits, expected)
        if not ARCHITECTURES[architecture].generates:
            return
        decoded, _ = reference.greedy(architecture, model, plan, *prompt.values(), 8)
        with surgery(model, plan):
            assert_same(model(ids, attention_mask=mask, use_cache=False).logits, expected)
            assert torch.equal(model.generate(**prompt, max_new_tokens=8, do_sample=False), decoded)


def test_an_mlp_takes_no_slot() -> None:
    model = shared_model("llama", 7)
    with torch.inference_mode(), surgery(model, "0 1.mlp 1.mlp 2.attn 2.attn 2.mlp"):
        cache = model(tokens(2, 9), use_cache=True)[CACHE]
    assert len(cache.layers) == 7 + 1
    assert cache.layers[1].keys.shape[1::2] == (1, 1)


@pytest.mark.parametrize("architecture", PARALLEL)
def test_the_halves_of_a_parallel_residual(architecture: str) -> None:
    """Side by side they are the layer up to the order of the additions, one after the other they are not."""
    model, (ids, mask) = shared_model(architecture, 7), padded_batch()
    side_by_side = " ".join(f"{{{i}.attn {i}.mlp}}:sum" for i in range(7))
    with torch.inference_mode():
        intact = model(ids, attention_mask=mask).logits
        with surgery(model, side_by_side):
            assert_close(model(ids, attention_mask=mask).logits, intact, rtol=1e-4, atol=1e-3)
        with surgery(model, HALVES_IN_TURN):
            assert (model(ids, attention_mask=mask).logits - intact).abs().mean() > 0.1


def test_neox_without_its_parallel_residual() -> None:
    model = make_model("gpt_neox", 7)
    for layer in model.gpt_neox.layers:
        layer.use_parallel_residual = False
    assert_two_halves_are_the_layer(model)


def test_opt_with_its_norms_behind() -> None:
    """As in the 350m model."""
    config = ARCHITECTURES["opt"].config(7)
    config.do_layer_norm_before = False
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    assert_two_halves_are_the_layer(model)
    ids, plan = tokens(2, 9), Plan.parse("0 1.mlp {2.attn 3.mlp} 4-6")
    with torch.inference_mode(), surgery(model, plan):
        assert_same(model(ids).logits, reference.logits("opt", model, plan, ids))


@pytest.mark.parametrize("architecture", ["llama", "phi3", "gpt2", "gpt_neox", "opt", "bert", "distilbert"])
def test_halves_in_training(architecture: str) -> None:
    """Dropout comes where the layer has it: the same seed gives the same gradients."""

    def gradients(text: str) -> list[Tensor | None]:
        model = make_model(architecture, 7).train()
        for layer in model.modules():
            layer.use_parallel_residual = False
            if isinstance(layer, torch.nn.Dropout):
                layer.p = 0.2
        torch.manual_seed(3)
        with surgery(model, text):
            model(tokens(2, 9)).logits.square().mean().backward()
        return [parameter.grad for parameter in model.parameters()]

    for found, expected in zip(gradients(HALVES_IN_TURN), gradients("0-6"), strict=True):
        assert (found is None) == (expected is None)
        if found is not None and expected is not None:
            assert_same(found, expected)


def test_bert_in_chunks() -> None:
    model = make_model("bert", 7)
    for layer in model.bert.encoder.layer:
        layer.chunk_size_feed_forward = 1
    assert_two_halves_are_the_layer(model, generates=False)


def test_a_decoder_that_attends_to_an_encoder() -> None:
    config = ARCHITECTURES["gpt2"].config(3)
    config.add_cross_attention = True
    model, ids = AutoModelForCausalLM.from_config(config).eval(), tokens(2, 9)
    with torch.inference_mode(), surgery(model, "0.attn 0.mlp 1-2"):
        model(ids)
        with pytest.raises(SurgeryError, match="one half of a GPT2Block, but the layers also attend to an encoder"):
            model(ids, encoder_hidden_states=torch.zeros(2, 4, 32))


def test_unknown_halves_are_refused_by_name() -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(BloomConfig(n_layer=3, hidden_size=32, n_head=4))
    message = (
        r"plan runs 2\.attn of BloomForCausalLM, but the halves of its BloomBlock are not known "
        r"\(known: Llama, Mistral, .*, GPT2, .*, GPTNeoX, .*, OPT, Bert, .*\): run whole layers"
    )
    with pytest.raises(SurgeryError, match=message):
        surgery(model, "0-1 2.attn").__enter__()


def rows() -> dict[str, str]:
    """A model type for each class of layers whose halves are known."""
    survey, _ = read()
    found = {tuple(row.get("layer classes", ())): row["type"] for row in reversed(survey)}
    return {name: found[name,] for name in HALVES}


FIRST = {halves: name for name, halves in reversed(HALVES.items())}
"""A class for each way in which layers are put together."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FIRST.values() else pytest.mark.slow) for name in HALVES]
)
def test_every_class_of_the_table(name: str) -> None:
    """On the tiny models of the survey, layer by layer."""
    model, inputs = ready(rows()[name])
    calls: list[tuple[nn.Module, Any, Any, Any]] = []
    layers = LayerStack.find(model).layers
    for layer in layers:
        layer.register_forward_hook(lambda *call: calls.append(call), with_kwargs=True)
    forward(model, inputs)
    assert len(calls) == len(layers)
    side_by_side = FIRST[HALVES[name]] in ("GPTNeoXLayer", "GPTJBlock", "CohereDecoderLayer", "PhiDecoderLayer")
    for layer, (x, *args), given, output in calls:
        expected = output if isinstance(output, Tensor) else output[0]
        with torch.inference_mode():
            after = HALVES[name].run(layer, "attn", x, tuple(args), given)
            if not side_by_side:
                assert_same(HALVES[name].run(layer, "mlp", after, tuple(args), given), expected)
            else:
                change = HALVES[name].run(layer, "mlp", x, tuple(args), given) - x
                assert_close(after + change, expected, rtol=1e-4, atol=1e-3)


def test_a_class_of_the_same_name_from_elsewhere() -> None:
    model = make_model("llama", 7)
    for layer in model.model.layers:
        layer.__class__ = type("LlamaDecoderLayer", (type(layer),), {"__module__": "somebodys_code"})
    with pytest.raises(SurgeryError, match="the halves of its LlamaDecoderLayer are not known"):
        surgery(model, "0.attn").__enter__()
