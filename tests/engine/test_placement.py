"""Wherever accelerate puts the weights, plans compute what they do in memory, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model
from support import reference
from support.models import ARCHITECTURES, make_model, padded_batch, prompts, shared_model
from support.plan_cases import few_plans
from support.reference import assert_same
from support.second_device import There, TwoDevices, split

from painters import Plan, surgery
from painters.engine import LayerStack
from painters.engine.merges import MERGES

PLANS = {label: few_plans(7)[label] for label in ("reverse-0", "loop-1-block", "skip-layer-0", "nested", "sequences")}
PLANS["halves"] = Plan.parse("0 1.mlp {2.attn 3.attn}:sum {4 5}:sum 6.attn 6.attn 6.mlp")
CPU = torch.device("cpu")


def on_cpu(model: Any, folder: Path) -> Any:
    return cpu_offload(model, execution_device=CPU)


def on_disk(model: Any, folder: Path) -> Any:
    disk_offload(model, str(folder), execution_device=CPU)
    return model


def by_map(model: Any, folder: Path) -> Any:
    """Every other layer on the disk, everything else in memory."""
    stack = LayerStack.find(model)
    places = {f"{stack.path}.{index}": "disk" if index % 2 else "cpu" for index in range(stack.num_layers)}
    above = {"", *(stack.path[:i] for i, letter in enumerate(stack.path) if letter == "."), stack.path}
    for name, _ in model.named_modules():
        if name not in above and name.rpartition(".")[0] in above - {stack.path}:
            places[name] = "cpu"
    return dispatch_model(model, places, main_device="cpu", offload_dir=str(folder), force_hooks=True)


def automatic(model: Any, folder: Path) -> Any:
    """Loaded with less memory than it needs, so that the last layers stay on the disk."""
    model.save_pretrained(folder / "saved")
    memory = {"cpu": 3 * sum(p.numel() for p in model.parameters())}
    kind: Any = type(model)
    loaded = kind.from_pretrained(
        folder / "saved", device_map="auto", max_memory=memory, offload_folder=folder / "offload"
    )
    assert {*loaded.hf_device_map.values()} == {"cpu", "disk"}
    return loaded


@pytest.mark.filterwarnings("ignore:You are calling .generate.. with the `input_ids` being on a device:UserWarning")
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "bert"])
@pytest.mark.parametrize("place", [on_cpu, on_disk, by_map, automatic])
def test_offloaded(architecture: str, place: Callable[[Any, Path], Any], tmp_path: Path) -> None:
    model = place(make_model(architecture, 7), tmp_path)
    assert any(parameter.is_meta for parameter in model.parameters())
    (ids, mask), prompt = padded_batch(), prompts()
    for plan in PLANS.values():
        with torch.inference_mode(), surgery(model, plan):
            expected = reference.logits(architecture, shared_model(architecture, 7), plan, ids, mask)
            assert_same(model(ids, attention_mask=mask).logits, expected)
    if ARCHITECTURES[architecture].generates:
        plan = PLANS["nested"]
        with torch.inference_mode(), surgery(model, plan):
            decoded, _ = reference.greedy(architecture, shared_model(architecture, 7), plan, *prompt.values(), 6)
            assert torch.equal(model.generate(**prompt, max_new_tokens=6, do_sample=False), decoded)


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt_neox", "bert"])
def test_over_two_devices(architecture: str) -> None:
    """With eager attention, because the fused one has other rounding on the device that stands in."""
    intact = shared_model(architecture, 7, attention="eager")
    model = make_model(architecture, 7, attention="eager")
    split(model)
    assert any(isinstance(parameter, There) for parameter in model.parameters())
    (ids, mask), prompt = padded_batch(), prompts()
    with torch.no_grad():
        for plan in PLANS.values():
            expected = reference.logits(architecture, intact, plan, ids, mask)
            with TwoDevices(), surgery(model, plan):
                assert_same(model(ids, attention_mask=mask).logits, expected)
        if ARCHITECTURES[architecture].generates:
            for plan in (PLANS["nested"], PLANS["halves"]):
                decoded, _ = reference.greedy(architecture, intact, plan, *prompt.values(), 4)
                with TwoDevices(), surgery(model, plan):
                    assert torch.equal(model.generate(**prompt, max_new_tokens=4, do_sample=False), decoded)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("merge", MERGES)
def test_outputs_are_merged_where_the_stream_is(merge: str, dtype: torch.dtype) -> None:
    stream, *outputs = torch.randn(5, 2, 3, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = MERGES[merge](stream, iter(outputs))
    spread = [output if index % 2 else There(output) for index, output in enumerate(outputs)]
    with TwoDevices():
        assert_same(MERGES[merge](stream, iter(spread)), expected)


def test_the_averaged_cache_over_two_devices() -> None:
    intact, model = (make_model("llama", 7, attention="eager") for _ in range(2))
    split(model)
    options = {"max_new_tokens": 4, "do_sample": False}
    with torch.no_grad():
        with surgery(intact, "0 {1-4}*2 5-6", kv="averaged"):
            expected = intact.generate(**prompts(), **options)
        with TwoDevices(), surgery(model, "0 {1-4}*2 5-6", kv="averaged"):
            assert torch.equal(model.generate(**prompts(), **options), expected)


def test_the_second_device_is_one() -> None:
    here, there = torch.ones(3), There(torch.ones(3))
    with TwoDevices():
        assert_same((there * 2).to(CPU), here * 2)
        with pytest.raises(RuntimeError, match="expected all tensors to be on the same device"):
            here + there
    assert (here + 0).device == CPU
