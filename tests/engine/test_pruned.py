"""Layers taken out of a model by hand, whose `layer_idx` was left as it was: each keeps the cache slot of its place."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from support.models import make_model, tokens
from torch import Tensor, nn
from transformers import StaticCache

from painters import Plan, SurgeryError, evaluate, export, surgery
from painters.models import load_model
from painters.stack import LayerStack

KEPT = {"not the last ones": (0, 1, 3, 5), "not the first": (1, 2, 5, 6), "one twice": (0, 5, 5, 6)}
PLANS = ("0-3", "0 2 1 3", "1-3", "0 {1 2}*2 3", "0 2*3 1", "3-0")
MODELS = ("llama", "gemma3", "gpt2", "qwen3")


def pruned(name: str, kept: tuple[int, ...], renumbered: bool, layers: int = 7) -> Any:
    """A model of the layers `kept`, with the configuration of so many."""
    model = make_model(name, layers)
    path = LayerStack.find(model).path
    holder, _, attribute = path.rpartition(".")
    modules = [copy.deepcopy(model.get_submodule(f"{path}.{index}")) for index in kept]
    setattr(model.get_submodule(holder), attribute, nn.ModuleList(modules))
    model.config.num_hidden_layers = len(kept)
    kinds = getattr(model.config, "layer_types", None)
    if kinds is not None:
        model.config.layer_types = [kinds[index] for index in kept]
    if renumbered:
        for place, layer in enumerate(modules):
            for module in layer.modules():
                if "layer_idx" in vars(module):
                    module.layer_idx = place
    return model


def answer(model: Any, plan: str, **options: Any) -> list[Tensor]:
    """The logits of a left-padded prompt and of each token that is decoded after it."""
    ids, mask = tokens(2, 9), torch.ones(2, 9, dtype=torch.long)
    mask[1, :3] = 0
    kv = options.pop("kv", "exact")
    with torch.no_grad(), surgery(model, plan, kv=kv):
        output = model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=4,
            min_new_tokens=4,
            do_sample=False,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
            **options,
        )
    return [output.sequences, *output.logits]


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kept", KEPT.values(), ids=KEPT.keys())
def test_generation_is_that_of_the_renumbered_model(name: str, kept: tuple[int, ...]) -> None:
    model, renumbered = (pruned(name, kept, is_renumbered) for is_renumbered in (False, True))
    for plan in PLANS:
        assert_same(answer(model, plan), answer(renumbered, plan))


def test_other_caches() -> None:
    model, renumbered = (pruned("llama", KEPT["not the first"], is_renumbered) for is_renumbered in (False, True))
    for options in ({"kv": "averaged"}, {"cache_implementation": "static"}, {"num_beams": 2}, {"use_cache": False}):
        assert_same(answer(model, "0 {1 2}*2 3", **options), answer(renumbered, "0 {1 2}*2 3", **options))


def test_the_cache_of_a_plan_is_refused_to_the_intact_model() -> None:
    """It asks for slots that are not there, and not for those that the identity plan filled."""
    model = pruned("llama", KEPT["not the last ones"], renumbered=False)
    ids = tokens(2, 9)
    with torch.no_grad():
        with surgery(model, "0-3"):
            cache = model(ids).past_key_values
            again = model(ids[:, :1], past_key_values=copy.deepcopy(cache)).logits
        assert torch.isfinite(again).all()
        with pytest.raises(SurgeryError, match="not by the intact model"):
            model(ids[:, :1], past_key_values=cache)


def test_a_static_cache_is_given_by_the_user() -> None:
    model, renumbered = (pruned("llama", KEPT["not the last ones"], numbered) for numbered in (False, True))
    ids, outputs = tokens(2, 9), []
    for each in (model, renumbered):
        cache = StaticCache(config=each.config, max_cache_len=16)
        with torch.no_grad(), surgery(each, "0 1*2 3"):
            outputs.append([each(part, past_key_values=cache).logits for part in (ids[:, :6], ids[:, 6:7])])
    assert_same(*outputs)


def test_evaluation_and_export_of_a_pruned_model(tmp_path: Any) -> None:
    scores = []
    for renumber in (False, True):
        model, tokenizer = load_model("nano-llama", device="cpu")
        model.model.layers = nn.ModuleList(
            layer for place, layer in enumerate(model.model.layers) if place not in (2, 5)
        )
        model.config.num_hidden_layers = 10
        if renumber:
            for place, layer in enumerate(model.model.layers):
                layer.self_attn.layer_idx = place
        table = evaluate(model, "0-4 6 5 7-9", "nano_gsm8k", tokenizer=tokenizer, limit=4, progress=False)
        scores.append(table[["task", "metric", "value", "intact"]].values.tolist())
        exported = export(model, "0-4 6 5 7-9", tmp_path / str(renumber), source="pruned")
        assert exported.num_layers == 10
    assert scores[0] == scores[1]
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("False", "True")]
    assert files[0] == files[1]


def test_where_the_configuration_counts_all_layers_indices_stay() -> None:
    model = pruned("llama", KEPT["not the last ones"], renumbered=False)
    model.config.num_hidden_layers = 7
    assert LayerStack.find(model).cache_slots == ((0,), (1,), (3,), (5,))
    plan = Plan.parse("0 2 1 3")
    assert_same(
        answer(model, str(plan)), answer(pruned("llama", KEPT["not the last ones"], renumbered=True), str(plan))
    )
