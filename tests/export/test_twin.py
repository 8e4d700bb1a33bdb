"""The code of exports and the engine are twins: for every kind of plan they compute the same numbers, bit for bit.

`painters/export/modeling.py` repeats in a short form what `painters.engine` does, because an export must not need
painters. Whoever changes one of them alone fails here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from architectures.check import ready
from architectures.gathered import seeded, unlike_plain
from support.export_cases import planned
from support.models import CACHE, padded_batch, prompts
from torch import Tensor

from painters import Plan, surgery
from painters.engine import cache_slots, merges, recording
from painters.export import code, modeling
from painters.stack import LayerStack

# Layers of gemma3 get other masks and rotary tables than their neighbours; both architectures have halves.
ARCHITECTURES = ("llama", "gemma3")
PLANS = {
    "sequence": "0 2 1 3 5 4",
    "skip": "0 1 4 5",
    "without the first layer": "1 2 4 5",
    "repeated layer": "0 1*3 4 4 5",
    "repeated sequence": "0 (1 2)*3 5",
    "mean": "0 {1 2 3 4} 5",
    "mean of many": "0 {1-4 1-4 1-4 1-4 1-4} 5",
    "sum": "0 {1 2 3 4}:sum 5",
    "looped mean": "0 {1-3}*3 4 5",
    "looped sum": "0 {1-3}:sum*2 4 5",
    "sequences in a group": "0 {(1 2) (3 4 3)} 5",
    "halves": "0.attn 0.mlp 1.mlp 2.attn 2.attn 3-5",
    "halves in a group": "0 {1.attn 1.mlp (2 3.mlp)}:sum 4 5",
    "nested": "0 {(1 2) {3 (4 3)}:sum 2} 5",
    "all of them": "0.attn ({1.attn (2 3.mlp) {4 4 5}}:sum 1)*2 {3 2 0} 5",
}


def outputs(model: Any) -> Iterator[Tensor]:
    """The logits of a padded batch without a cache, then of prompts and four tokens decoded with a cache."""
    ids, mask = padded_batch()
    yield model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    inputs = prompts()
    ids, mask, cache = inputs["input_ids"], inputs["attention_mask"], {}
    for _ in range(5):
        output = model(input_ids=ids, attention_mask=mask, use_cache=True, **cache)
        yield output.logits
        ids = output.logits[:, -1:].argmax(-1)
        mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
        cache = {CACHE: output[CACHE]}


def compare(architecture: str, text: str, dtype: torch.dtype = torch.float32) -> None:
    """Raise AssertionError unless the engine and the code of exports give the same bits."""
    plan = Plan.parse(text)
    source, exported = planned(architecture, plan, dtype)
    expected = []
    with torch.no_grad():
        # The check before first use would refuse a changed engine itself.
        with surgery(source, plan, check=False):
            for step, (ours, theirs) in enumerate(zip(outputs(exported), outputs(source), strict=True)):
                assert torch.equal(ours, theirs), f"{plan} of {architecture}: output {step} differs"
                expected.append(theirs)
        intact = list(outputs(source))
    assert not any(torch.equal(ours, theirs) for ours, theirs in zip(intact, expected, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("label", PLANS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_twins_compute_the_same_bits(architecture: str, label: str, dtype: torch.dtype) -> None:
    compare(architecture, PLANS[label], dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("model_type", ["bloom", "falcon", "gptj", "mamba", "deberta", "roformer", "llama"])
def test_twins_gather_the_same_hidden_states(model_type: str, dtype: torch.dtype) -> None:
    """Where the model's own loop gathers them, and where hooks of transformers do."""
    model, given = ready(model_type)
    model, exported = model.to(dtype), copy.deepcopy(model.to(dtype))
    stack = LayerStack.find(model)
    last = stack.num_layers - 1
    for text in (f"0-{last}", f"{{0 1}}*2 {last} 0", f"{last}", f"0 {{0-{last}}}:sum"):
        plan, twin = Plan.parse(text), copy.deepcopy(exported)
        modeling.follow(twin, stack.path, code.literal_steps(plan.steps), stack.returns, {})
        with torch.no_grad(), surgery(model, plan):
            for options in ({"output_hidden_states": True}, {"output_hidden_states": True, "return_dict": False}):
                ours, theirs = (seeded(each, given | options) for each in (twin, model))
                assert unlike_plain(ours, theirs) is None, text
        assert len(theirs[-1]) == 1 + plan.layer_runs


def test_an_export_refuses_what_it_cannot_gather() -> None:
    model, given = ready("longformer")
    stack = LayerStack.find(model)
    modeling.follow(model, stack.path, (0, 2), stack.returns, {})
    for option in ("output_hidden_states", "output_attentions"):
        with torch.no_grad(), pytest.raises(ValueError, match=f"leave out {option}"):
            model(**given, **{option: True})


# ------------------------------------------------------------------------------- a change to one of them alone is seen


def mean_from_the_last(outputs: list[Tensor]) -> Tensor:
    """The mean, added up from the last to the first."""
    total = outputs[-1]
    for output in outputs[-2::-1]:
        total = total + output
    return total / len(outputs)


def sum_from_the_last(stream: Tensor, outputs: list[Tensor]) -> Tensor:
    """The sum of the changes, added up from the last to the first."""
    total = outputs[-1] - stream
    for output in outputs[-2::-1]:
        total = total + (output - stream)
    return stream + total


def with_first_arguments(run: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The method `run` with the arguments of the first layer for every layer."""

    def changed(self: Any, *args: Any, **kwargs: Any) -> Tensor:
        calls, self.calls = self.calls, [self.calls[0]] * len(self.calls)
        try:
            return run(self, *args, **kwargs)
        finally:
            self.calls = calls

    return changed


def nothing(*args: Any) -> None:
    pass


# name: (plan, where something is replaced, its name, what replaces it)
CHANGES: dict[str, tuple[str, Any, str, Any]] = {
    "the export's mean": (PLANS["mean"], modeling, "_mean", mean_from_the_last),
    "the engine's mean": (PLANS["mean"], merges.MERGES, "mean", lambda _, outs: mean_from_the_last(list(outs))),
    "the export's sum": (PLANS["sum"], modeling, "_sum", sum_from_the_last),
    "the engine's sum": (PLANS["sum"], merges.MERGES, "sum", lambda x, outs: sum_from_the_last(x, list(outs))),
    "the export's arguments": (
        PLANS["sequence"], modeling.Execution, "_run", with_first_arguments(modeling.Execution._run)
    ),
    "the engine's arguments": (
        PLANS["sequence"], recording.Recording, "run", with_first_arguments(recording.Recording.run)
    ),
    "the export's idle slots": (PLANS["without the first layer"], modeling.Program, "fill_idle", nothing),
    "the engine's idle slots": (PLANS["without the first layer"], cache_slots.CacheSlots, "fill_idle", nothing),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_to_one_twin_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, target, attribute, replacement = CHANGES[name]
    if isinstance(target, dict):
        monkeypatch.setitem(target, attribute, replacement)
    else:
        monkeypatch.setattr(target, attribute, replacement)
    with pytest.raises(AssertionError, match=r"gemma3: output \d differs"):
        compare("gemma3", text)
