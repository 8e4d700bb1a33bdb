"""Surgery leaves no trace: not in the modules, weights and hooks, not after errors, nesting or copies."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from support import reference
from support.models import ARCHITECTURES, make_model, tokens
from support.reference import assert_same
from torch import nn

from painters import Plan, surgery


def snapshot(model: nn.Module) -> dict[str, Any]:
    """All that surgery could leave behind: modules, attributes and hooks of every module."""
    return {
        name: (
            id(module),
            sorted(map(str, vars(module))),
            list(module._forward_hooks.items()),
            list(module._forward_pre_hooks.items()),
            list(module._modules.items()),
        )
        for name, module in model.named_modules()
    }


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_model_is_intact_afterwards(architecture: str) -> None:
    model, ids = make_model(architecture, 7), tokens(2, 9)
    weights = copy.deepcopy(model.state_dict())
    with torch.inference_mode():
        before = model(ids).logits
        found = snapshot(model)
        with surgery(model, "6-0 {1-3}*2"):
            model(ids)
            assert list(model.state_dict()) == list(weights)
        assert snapshot(model) == found
        assert_same(model(ids).logits, before)
    assert all(torch.equal(model.state_dict()[name], weight) for name, weight in weights.items())


class Boom(Exception):
    pass


@pytest.mark.parametrize("error", [Boom, KeyboardInterrupt])
@pytest.mark.parametrize("place", ["model.layers.3", "model.layers.3.mlp", "model.norm", "model", "lm_head"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_model_is_intact_after_an_error(error: type[BaseException], place: str, when: str) -> None:
    """An error in a layer, in hooks before and behind it, behind the stack, and in the model's own hooks."""

    def fail(*_: Any) -> None:
        raise error

    model, ids = make_model("llama", 7), tokens(2, 9)
    plan = Plan.parse("0 {1-3}*2 4-6")
    with torch.inference_mode():
        before, under_plan = model(ids).logits, reference.logits("llama", model, plan, ids)
        found = snapshot(model)
        with surgery(model, plan):
            module = model.get_submodule(place)
            handle = module.register_forward_pre_hook(fail) if when == "before" else module.register_forward_hook(fail)
            with pytest.raises(error):
                model(ids)
            handle.remove()
            if error is Boom:  # torch runs no hooks after a KeyboardInterrupt: then the next forward or the end does
                assert type(model.model.layers).__bases__ == (
                    nn.ModuleList,
                )  # the list itself, marked, and no stand-in
                assert type(model.model.layers).__name__ == "ModuleList"
            assert_same(model(ids).logits, under_plan)  # the plan still holds
        assert snapshot(model) == found
        assert_same(model(ids).logits, before)
        handle = model.get_submodule(place).register_forward_pre_hook(fail)
        with pytest.raises(error), surgery(model, plan):
            model(ids)
        handle.remove()
        assert snapshot(model) == found
        assert_same(model(ids).logits, before)


def test_other_hooks_stay_and_act_once_per_execution() -> None:
    model, ids = make_model("llama", 7), tokens(2, 9)
    calls: list[str] = []
    model.model.register_forward_pre_hook(lambda *_: calls.append("owner"))
    model.model.layers[2].register_forward_hook(lambda *_: calls.append("layer"))
    with torch.inference_mode(), surgery(model, "0-1 2 2 {2 3} 4-6"):
        model(ids)
    assert calls == ["owner", "layer", "layer", "layer"]
    with torch.inference_mode():
        model(ids)
    assert calls[4:] == ["owner", "layer"]


def test_nested_contexts_follow_the_inner_plan() -> None:
    model, ids = make_model("llama", 7), tokens(2, 9)
    outer, inner = Plan.parse("6-0"), Plan.parse("0 {1-5} 6")
    found = snapshot(model)
    with torch.inference_mode(), surgery(model, outer):
        with surgery(model, inner):
            assert_same(model(ids).logits, reference.logits("llama", model, inner, ids))
        assert_same(model(ids).logits, reference.logits("llama", model, outer, ids))
    assert snapshot(model) == found


def test_a_deep_copy_made_inside_keeps_the_plan_with_its_own_weights() -> None:
    model, ids, plan = make_model("llama", 7), tokens(2, 9), Plan.parse("0 {1-5}*2 6")
    with torch.inference_mode():
        with surgery(model, plan):
            twin = copy.deepcopy(model)
        for parameter in twin.parameters():
            parameter.mul_(1.1)
        expected = reference.logits("llama", copy_of(twin), plan, ids)
        assert_same(twin(ids).logits, expected)
        assert not torch.equal(twin(ids).logits, reference.logits("llama", model, plan, ids))


def copy_of(model: Any) -> Any:
    """A fresh model with these weights and no hooks."""
    fresh = make_model("llama", model.config.num_hidden_layers)
    fresh.load_state_dict(model.state_dict())
    return fresh
