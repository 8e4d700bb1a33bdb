"""Layers that hand a position bias on: it is the model's, under every plan, and nobody notices how it is found."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from architectures.check import examine, forward, ready
from support.models import CACHE
from support.reference import assert_same, follow
from torch import Tensor
from transformers import T5Config, T5EncoderModel, T5ForConditionalGeneration
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from painters import Plan, surgery
from painters.engine.side_outputs import side_outputs_of
from painters.stack import SPECIAL, LayerStack
from painters.stack.stack import _POSITION_BIAS_LAYERS

SIZE: dict[str, Any] = {"vocab_size": 60, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 4, "num_heads": 4}
PLANS = ["0-3", "1-3", "3 2 1", "1 0 2 3", "{0-3}", "(1 0)*2", "2", "{1 2}:sum 0"]
IDS = torch.arange(3, 19).reshape(2, 8)


def make(kind: Any, **more: Any) -> Any:
    torch.manual_seed(0)
    model = kind(T5Config(**SIZE | more, decoder_start_token_id=0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.eval()


@pytest.mark.parametrize("plan", PLANS)
@torch.inference_mode()
def test_every_plan_is_the_loop_with_the_table_of_layer_0(plan: str) -> None:
    model = make(T5EncoderModel)
    stack = model.encoder
    table = stack.block[0].layer[0].SelfAttention
    bias = table.compute_bias(8, 8)

    def run(index: int, half: Any, hidden: Tensor) -> Tensor:
        return stack.block[index](hidden, None, bias)[0]

    expected = stack.final_layer_norm(follow(Plan.parse(plan).steps, stack.embed_tokens(IDS), run))
    with surgery(model, plan):
        assert torch.equal(model(input_ids=IDS).last_hidden_state, expected)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("cache", ["dynamic", "static"])
@torch.inference_mode()
def test_a_decoder_generates_the_same_with_and_without_a_cache(plan: str, cache: str) -> None:
    model = make(T5ForConditionalGeneration)
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "num_beams": 2}
    with surgery(model, plan, stack="decoder"):
        found = model.generate(IDS, **options, cache_implementation="static" if cache == "static" else None)
        assert torch.equal(found, model.generate(IDS, **options, use_cache=False))


@pytest.mark.parametrize(("layers", "plan"), [(4, "0-3"), (4, "1 0 2 3"), (1, "0"), (1, "0 0")])
@torch.inference_mode()
def test_a_cache_may_have_no_other_slots(layers: int, plan: str) -> None:
    """As one that the caller made, before the first forward, and one of a single layer, at every step."""
    model = make(T5ForConditionalGeneration, num_layers=layers)
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    with surgery(model, plan, stack="decoder"):
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        found = model.generate(IDS, **options, **{CACHE: cache})
        assert torch.equal(found, model.generate(IDS, **options, use_cache=False))
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        given = {"input_ids": IDS, "decoder_input_ids": IDS}
        assert_same(model(**given, **{CACHE: cache}).logits, model(**given, use_cache=False).logits)


@torch.inference_mode()
def test_the_layer_that_runs_aside_is_not_noticed() -> None:
    model = make(T5ForConditionalGeneration)
    given = {"input_ids": IDS, "decoder_input_ids": IDS}
    calls: list[int] = []
    for index, block in enumerate(model.decoder.block):
        block.register_forward_hook(lambda *_, index=index: calls.append(index))
    with surgery(model, "1 0 3", stack="decoder"):
        out = model(**given, output_hidden_states=True, use_cache=True)
    assert calls == [1, 0, 3]
    assert len(out.decoder_hidden_states) == 1 + 3
    slots = out[CACHE].self_attention_cache.layers
    assert [slot.get_seq_length() for slot in slots[:4]] == [8] * 4
    assert {index for index, done in out[CACHE].is_updated.items() if done} == {0, 1, 3}


def test_in_training_the_random_numbers_stay_in_step() -> None:
    model = make(T5ForConditionalGeneration, dropout_rate=0.3).train()

    def loss() -> Tensor:
        torch.manual_seed(3)
        return model(input_ids=IDS, labels=IDS).loss

    plain = loss()
    plain.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    with surgery(model, "0-3", stack="encoder"):
        found = loss()
    found.backward()
    assert torch.equal(found, plain)
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter.grad, gradients[name], atol=1e-6), name


@pytest.mark.parametrize("model_type", ["longt5", "mt5", "pop2piano", "switch_transformers", "t5", "udop", "wavlm"])
def test_what_is_handed_on_does_not_depend_on_the_stream(model_type: str) -> None:
    """Otherwise no plan could have it: a bias would be that of whatever stream entered layer 0."""
    model, given = ready(model_type)
    for stack in ("decoder", "encoder") if model.config.is_encoder_decoder else (None,):
        found = LayerStack.find(model, stack)
        assert found.hands_on
        (first, *_) = found.layers
        seen: list[Any] = []
        handle = first.register_forward_pre_hook(lambda _, a, k, seen=seen: seen.append((a, k)), with_kwargs=True)
        forward(model, given)
        handle.remove()
        (stream, *rest), kwargs = seen[0]
        with torch.inference_mode():
            slots = {index: index for index in found.cache_indices[0]}
            one = side_outputs_of(first, slots, (stream, *rest), kwargs)
            two = side_outputs_of(
                first, {index: index for index in found.cache_indices[0]}, (stream.flip(1) * 3 + 1, *rest), kwargs
            )
        biases = [pair for pair in zip(one, two, strict=True) if isinstance(pair[0], Tensor) and pair[0].ndim >= 3]
        assert torch.equal(*biases[0])


def test_layers_that_return_nothing_but_the_bias_besides() -> None:
    (row,) = examine("wavlm")
    assert row["plans"] == "exact", row


def test_every_class_is_in_the_table() -> None:
    assert all(SPECIAL[name].hands_on for name in _POSITION_BIAS_LAYERS.split())
