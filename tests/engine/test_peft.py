"""Adapters of peft on models under a plan: attached before and inside, trained, switched, merged; exact throughout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from support import reference
from support.learners import PLANS, loss_of, make_learner, under, with_checkpoints
from support.models import make_model, padded_batch, prompts, shared_model
from support.reference import assert_same
from transformers import CompileConfig

from painters import Plan, surgery
from painters.engine import LayerStack, SurgeryError
from painters.sharing import Sharing

peft = pytest.importorskip("peft", reason="needs pip install -e '.[dev]'")
from peft import (  # noqa: E402
    IA3Config,
    LoraConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptTuningConfig,
    get_peft_model,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),  # peft asks for it
    pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute:UserWarning"),  # of a second wrapping
]
TEXTS = [*PLANS.values(), "6-0", "0 1.attn {2.mlp 3}:sum (4 5.attn)*2 6"]


def lora(targets: Any = ("q_proj", "v_proj"), **more: Any) -> LoraConfig:
    """Adapters that do something from the start."""
    targets = targets if isinstance(targets, str) else list(targets)
    return LoraConfig(r=4, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM", **more)


def assert_exact(adapted: Any, model: Any, texts: list[str] = TEXTS, architecture: str = "llama") -> None:
    """Nothing. The adapted model runs plans as the loop over the layers of the model in it does."""
    (ids, mask), prompt = padded_batch(), prompts()
    for text in texts:
        plan = Plan.parse(text)
        with torch.inference_mode():
            expected = reference.logits(architecture, model, plan, ids, mask)
            with surgery(adapted, plan):
                assert_same(adapted(input_ids=ids, attention_mask=mask).logits, expected)
    decoded, _ = reference.greedy(architecture, model, plan, *prompt.values(), 4)
    with torch.inference_mode(), surgery(adapted, plan):
        assert torch.equal(adapted.generate(**prompt, max_new_tokens=4, do_sample=False), decoded)


@pytest.mark.parametrize(
    "config",
    [lora(), lora("all-linear"), lora(use_dora=True), lora(layers_to_transform=[1, 5]), IA3Config(
        target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"], init_ia3_weights=False)],
    ids=["query-value", "all-linear", "dora", "two-layers", "ia3"],
)  # fmt: skip
def test_adapters_attached_before(config: Any) -> None:
    model = make_model("llama", 7)
    adapted = get_peft_model(model, config)
    assert LayerStack.find(adapted).path == "base_model.model.model.layers"
    intact = shared_model("llama", 7)
    ids, mask = padded_batch()
    with torch.inference_mode():
        change = (adapted(input_ids=ids, attention_mask=mask).logits - intact(ids, attention_mask=mask).logits).abs()
    assert change.mean() > 1e-3
    assert_exact(adapted, model)


@pytest.mark.parametrize("architecture", ["gpt2", "bert"])
@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning")
def test_other_architectures(architecture: str) -> None:
    model = make_model(architecture, 7)
    adapted = get_peft_model(model, LoraConfig(target_modules="all-linear", init_lora_weights=False))
    ids, mask = padded_batch()
    for text in TEXTS:
        with torch.inference_mode(), surgery(adapted, text):
            expected = reference.logits(architecture, model, Plan.parse(text), ids, mask)
            assert_same(adapted(input_ids=ids, attention_mask=mask).logits, expected)


def test_adapters_attached_inside() -> None:
    """The context goes on with the adapters, and leaves the adapted model intact."""
    model, plan, (ids, mask) = make_model("llama", 7), Plan.parse(PLANS["nested"]), padded_batch()
    with torch.inference_mode():
        with surgery(model, plan):
            adapted = get_peft_model(model, lora())
            found = adapted(input_ids=ids, attention_mask=mask).logits
            same = model(ids, attention_mask=mask).logits
        expected = reference.logits("llama", model, plan, ids, mask)
        assert_same(found, expected)
        assert_same(same, expected)
        intact = reference.logits("llama", model, Plan.identity(7), ids, mask)
        assert_same(adapted(input_ids=ids, attention_mask=mask).logits, intact)


def test_a_second_adapter_and_none() -> None:
    model, plan, (ids, mask) = make_model("llama", 7), Plan.parse(PLANS["loop"]), padded_batch()
    with torch.inference_mode():
        bare = reference.logits("llama", model, plan, ids, mask)
        adapted = get_peft_model(model, lora())
        adapted.add_adapter("second", lora("all-linear"))
        with surgery(adapted, plan):
            answers = []
            for name in ("default", "second"):
                adapted.set_adapter(name)
                answers.append(adapted(input_ids=ids, attention_mask=mask).logits)
                assert_same(answers[-1], reference.logits("llama", model, plan, ids, mask))
            assert not torch.equal(*answers)
            with adapted.disable_adapter():
                assert_same(adapted(input_ids=ids, attention_mask=mask).logits, bare)
            adapted.set_adapter("default")
            assert_same(adapted(input_ids=ids, attention_mask=mask).logits, answers[0])


@pytest.mark.parametrize("inside", [False, True])
def test_merged_and_unloaded(inside: bool) -> None:
    model = make_model("llama", 7)
    adapted = get_peft_model(model, lora("all-linear"))
    if inside:
        with surgery(adapted, "6-0"):
            merged = adapted.merge_and_unload()
    else:
        merged = adapted.merge_and_unload()
    assert not any("lora" in name for name, _ in merged.named_parameters())
    assert_exact(merged, merged)


def test_saved_inside_and_loaded(tmp_path: Path) -> None:
    model = make_model("llama", 7)
    adapted = get_peft_model(model, lora())
    with surgery(adapted, "6-0"):
        adapted.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(make_model("llama", 7), tmp_path).eval()
    assert_exact(loaded, model, [PLANS["nested"]])


@pytest.mark.parametrize("reentrant", [None, False, True], ids=["stored", "checkpointed", "reentrant"])
@pytest.mark.parametrize("label", ["skip", "loop", "parallel"])
def test_one_step_of_adamw_on_the_adapters(label: str, reentrant: bool | None) -> None:
    """The frozen weights stay, and the adapters get what the plain loop gives them; those of skipped layers nothing."""
    plan, (ids, mask) = Plan.parse(PLANS[label]), padded_batch()

    def trained(by_plan: bool) -> dict[str, torch.Tensor]:
        model = with_checkpoints(make_learner("llama"), reentrant)
        torch.manual_seed(1)
        adapted = get_peft_model(model, lora("all-linear", lora_dropout=0.1))
        optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=0.01)
        torch.manual_seed(2)
        if by_plan:
            loss = loss_of(under(plan, ids, mask, use_cache=False)(adapted), ids)
        else:
            loss = loss_of(reference.logits("llama", model, plan, ids, mask), ids)
        loss.backward()
        optimizer.step()
        for name, parameter in adapted.named_parameters():
            assert (parameter.grad is None) == ("lora" not in name or layer_of(name) not in plan.layers), name
        return dict(adapted.named_parameters())

    found, expected = trained(True), trained(False)
    for name, parameter in expected.items():
        assert_same(found[name], parameter)


def test_the_model_inside_is_not_compiled() -> None:
    """With a static cache `generate` would compile it on an accelerator, and the plan would be ignored or stay."""
    model, plan, prompt = make_model("llama", 7), Plan.parse("6-0"), prompts()
    adapted = get_peft_model(model, lora()).eval()
    compiling = CompileConfig()
    compiling._compile_all_devices = True
    options = {"max_new_tokens": 4, "do_sample": False, "cache_implementation": "static", "compile_config": compiling}
    with torch.inference_mode():
        with surgery(adapted, plan):
            found = adapted.generate(**prompt, **options)
        decoded, _ = reference.greedy("llama", model, plan, *prompt.values(), 4)
    assert torch.equal(found, decoded)
    assert not hasattr(model, "_compiled_call")
    assert "get_compiled_call" not in vars(model)


def layer_of(name: str) -> int:
    return int(name.partition(".layers.")[2].partition(".")[0])


def test_plans_that_share_their_runs() -> None:
    model, (ids, mask) = make_model("llama", 7), padded_batch()
    adapted = get_peft_model(model, lora()).eval()
    with torch.inference_mode():
        for plan, output in Sharing(adapted, TEXTS).run(input_ids=ids, attention_mask=mask):
            assert_same(output.logits, reference.logits("llama", model, plan, ids, mask))


@contextmanager
def refused(message: str) -> Iterator[None]:
    with pytest.raises(SurgeryError, match=message):
        yield


# peft's, which gives a prefix by the name that transformers 5.24 has left
@pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")
def test_learned_prefixes_are_refused_and_prompts_follow() -> None:
    """A prefix is keys and values of the intact model's layers; a prompt is only more tokens."""
    prefixed = get_peft_model(make_model("llama", 7), PrefixTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"))
    ids, mask = padded_batch()
    with torch.inference_mode(), surgery(prefixed, "6-0"), refused("a cache that was filled under the intact model"):
        prefixed(input_ids=ids, attention_mask=mask)

    model = make_model("llama", 7)
    prompted = get_peft_model(model, PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")).eval()
    plan = Plan.parse(PLANS["nested"])
    with torch.inference_mode():
        with surgery(prompted, plan):
            found = prompted(input_ids=ids, attention_mask=mask).logits
        virtual = prompted.get_prompt(batch_size=len(ids))
        embeds = torch.cat([virtual, model.model.embed_tokens(ids)], dim=1)
        seen = torch.cat([mask.new_ones(len(ids), 3), mask], dim=1)
        with surgery(model, plan):
            assert_same(found, model(inputs_embeds=embeds, attention_mask=seen).logits)
