"""Layers whose output is wider than their input: they keep their residual in float32 in a model in half precision."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from architectures.check import forward, ready
from architectures.replay import difference, replayed
from support.reference import assert_same
from torch import Tensor

from painters import Plan, surgery
from painters.engine import LayerStack
from painters.engine.merges import MERGES
from painters.export import modeling
from painters.sharing import Sharing

TYPES = ("mamba", "falcon_mamba", "mamba2")
HALF = (torch.bfloat16, torch.float16)
PLANS = (
    "{0 1 2} 3 4",  # a group is the first that gets the embeddings, in half precision
    "{0 1 2}:sum 3 4",
    "{0-4}",
    "{0-4}:sum",
    "{0 1}*3 2-4",
    "{(0 1) {2 3}:sum {4 {0 1}}} 2",
    "0 {1-3}*2 4",
)


@cache
def made(model_type: str, dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
    model, given = ready(model_type)
    return model.to(dtype), given


@pytest.mark.parametrize("text", PLANS)
@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("model_type", TYPES)
def test_the_stream_stays_in_float32(model_type: str, dtype: torch.dtype, text: str) -> None:
    """Logits are those of the plain loop, alone and with plans that share, and every state after a step is wide."""
    model, given = made(model_type, dtype)
    plan, stack = Plan.parse(text), LayerStack.find(model)
    streams: list[Tensor] = []
    with torch.inference_mode():
        expected = replayed(model, stack.layers, plan, given | {"use_cache": False})
        with surgery(model, plan, observe=lambda i, stream: streams.append(stream)):
            assert difference(forward(model, given), expected) is None
        answers = {str(plan): output.logits for plan, output in Sharing(model, [plan, "0-4", "{0 1 2} 3"]).run(**given)}
    assert [stream.dtype for stream in streams] == [dtype] + [torch.float32] * (len(streams) - 1)
    assert_same(answers[str(plan)], expected.logits)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_generation_with_a_cache(dtype: torch.dtype) -> None:
    model, given = made("mamba", dtype)
    options: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    ids = given["input_ids"]
    with torch.inference_mode(), surgery(model, "{0 1 2}*2 3 4"):
        cached = model.generate(ids, **options)
        for _ in range(4):
            ids = torch.cat([ids, model(ids, use_cache=False).logits[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(cached, ids)


@pytest.mark.parametrize("merge", ["mean", "sum"])
@pytest.mark.parametrize("kinds", [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)])
def test_a_merge_has_the_type_of_the_outputs(merge: str, kinds: tuple[torch.dtype, torch.dtype]) -> None:
    """In both twins; of outputs of several types it is the widest."""
    entering, leaving = kinds
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 9, generator=draw).to(entering)
    outputs = [torch.randn(2, 3, 9, generator=draw).to(leaving) for _ in range(3)]
    wide = [output.float() for output in outputs]
    change = (wide[0] - x.float()) + (wide[1] - x.float()) + (wide[2] - x.float())
    expected = torch.stack(outputs).mean(0) if merge == "mean" else (x.float() + change).to(leaving)
    twin = modeling._mean(outputs) if merge == "mean" else modeling._sum(x, outputs)
    for found in (MERGES[merge](x, iter(outputs)), twin):
        assert found.dtype == leaving
        assert_same(found, expected)
    mixed = [outputs[0].bfloat16(), outputs[1].float()]
    twin = modeling._mean(mixed) if merge == "mean" else modeling._sum(x, mixed)
    assert MERGES[merge](x, iter(mixed)).dtype == twin.dtype == torch.float32
    assert_same(MERGES[merge](x, iter(mixed)), twin)
