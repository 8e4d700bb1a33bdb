"""Plans that run together answer as each does alone, bit for bit, and run every edge of their trie once."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import reference
from support.layer_lists import find_layers
from support.models import ARCHITECTURES, make_model, padded_batch, shared_model, tokens
from support.plan_cases import every_plan, few_plans
from support.plan_strategies import plans
from support.reference import assert_same
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, BloomConfig

from painters import Plan, PlanError, SurgeryError, surgery
from painters.engine import LayerStack, Program
from painters.engine.merges import MERGES
from painters.sharing import Sharing
from painters.sharing import sharing as sharing_module
from painters.sharing.trie import LayerEdge, Trie


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_plan_answers_as_it_does_alone(architecture: str) -> None:
    """With masks and rotary tables that differ from layer to layer, and with padding on both sides."""
    model = shared_model(architecture, 7)
    ids, mask = padded_batch()
    together = Sharing(model, every_plan(7).values())
    with torch.inference_mode():
        found = dict(together.run(input_ids=ids, attention_mask=mask))
        assert found.keys() == set(every_plan(7).values())
        for plan, output in found.items():
            with surgery(model, plan):
                assert_same(output.logits, model(ids, attention_mask=mask).logits)
        for plan, output in together.run(input_ids=ids):  # prepared once, for any number of batches
            assert_same(output.logits, reference.logits(architecture, model, plan, ids))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(wanted=st.lists(plans(6, 14, halves=True), min_size=1, max_size=6))
def test_any_plans_on_llama(wanted: list[Plan]) -> None:
    model = shared_model("llama", 6)
    ids, mask = padded_batch()
    with torch.inference_mode():
        for plan, output in Sharing(model, wanted).run(input_ids=ids, attention_mask=mask):
            assert_same(output.logits, reference.logits("llama", model, plan, ids, mask))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_head(architecture: str) -> None:
    ids, mask = padded_batch()
    wanted = few_plans(7).values()
    with torch.inference_mode():
        model = shared_model(architecture, 7, "bare")
        for plan, output in Sharing(model, wanted).run(input_ids=ids, attention_mask=mask):
            expected = reference.hidden_states(architecture, model, plan, ids, mask)
            assert_same(output.last_hidden_state, expected)
        model = shared_model(architecture, 7, "classifier")
        for plan, output in Sharing(model, wanted).run(input_ids=ids, attention_mask=mask):
            assert_same(output.logits, reference.classes(architecture, model, plan, ids, mask))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    """Where a mean is a running sum in float32, members that other plans go on from are still theirs."""
    model, ids = make_model("llama", 8).to(dtype), tokens(3, 9)
    with torch.inference_mode():
        found = dict(Sharing(model, every_plan(8).values()).run(input_ids=ids))
        for plan, output in found.items():
            with surgery(model, plan):
                assert_same(output.logits, model(ids, use_cache=False).logits)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "bert"])
def test_layers_run_once_for_every_edge(architecture: str) -> None:
    model = make_model(architecture, 7)
    runs: list[int] = []
    for i, layer in enumerate(find_layers(model)):
        layer.register_forward_hook(lambda *_, i=i: runs.append(i))
    together = Sharing(model, every_plan(7).values())
    with torch.inference_mode():
        for _ in together.run(input_ids=tokens(2, 5)):
            pass
    assert Counter(runs) == Counter(edge.layer.index for edge in together.trie.edges if isinstance(edge, LayerEdge))
    assert len(runs) == together.trie.layer_runs < together.trie.layer_runs_alone


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("labels", ["few", "every", "chains"])
def test_no_more_states_are_alive_than_said(labels: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mean does not wait for its members, so with groups there are fewer."""
    chains = {str(start): Plan.of(*range(start), *range(start + 1, 8)) for start in range(8)}
    chosen = {"few": few_plans(8), "every": every_plan(8), "chains": chains}[labels].values()
    model = make_model("llama", 8).to(dtype)
    states: list[weakref.ref[Tensor]] = []
    most = 0

    def made(state: Tensor) -> Tensor:
        nonlocal most
        states.append(weakref.ref(state))
        most = max(most, sum(ref() is not None for ref in states))
        return state

    for layer in find_layers(model):
        layer.register_forward_hook(lambda _module, _args, output: made(output))
    for name, merge in list(MERGES.items()):
        monkeypatch.setitem(
            sharing_module.MERGES, name, lambda stream, members, merge=merge: made(merge(stream, members))
        )
    trie = Trie.of(chosen)
    with torch.inference_mode():
        for _plan, output in Sharing(model, chosen).run(input_ids=tokens(2, 5)):
            del output
    assert all(ref() is None for ref in states)
    if labels == "chains":
        assert most in (trie.live_states - 1, trie.live_states)  # the embeddings are not counted here
    else:
        assert most < trie.live_states - 1


def test_logits_at_positions() -> None:
    """The head on some rows rounds differently from the head on all: here by less than 2e-6 of logits near 10."""
    ids, mask = padded_batch()
    rows, columns = torch.tensor([0, 0, 2, 3]), torch.tensor([0, 10, 4, 6])
    for architecture in ("llama", "gemma2", "gpt2", "opt"):
        model = shared_model(architecture, 7)
        together = Sharing(model, few_plans(7).values())
        with torch.inference_mode():
            whole = {plan: output.logits for plan, output in together.run(input_ids=ids, attention_mask=mask)}
            for plan, output in together.run((rows, columns), input_ids=ids, attention_mask=mask):
                assert output.logits.shape == (1, 4, whole[plan].shape[-1])
                torch.testing.assert_close(output.logits[0], whole[plan][rows, columns], rtol=0, atol=2e-6)


def hooks_of(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_the_model_is_left_as_it_was() -> None:
    """Also while somebody looks at an answer, when they stop before the last, and after an error in a layer."""
    model, ids = make_model("llama", 7), tokens(2, 9)
    before = hooks_of(model)
    positions = torch.tensor([0]), torch.tensor([1])
    with torch.inference_mode():
        intact = model(ids).logits
        for _ in Sharing(model, few_plans(7).values()).run(positions, input_ids=ids):
            assert hooks_of(model) == before
            assert_same(model(ids).logits, intact)
            break

        def fail(*_: Any) -> None:
            raise ZeroDivisionError

        handle = model.model.layers[3].register_forward_hook(fail)
        with pytest.raises(ZeroDivisionError):
            list(Sharing(model, few_plans(7).values()).run(positions, input_ids=ids))
        handle.remove()
        assert hooks_of(model) == before
        assert_same(model(ids).logits, intact)


def test_a_plan_may_be_a_text() -> None:
    together = Sharing(shared_model("llama", 7), ["0-6", "0 1-6", "0 2"])
    assert together.trie.plans == (Plan.identity(7), Plan.parse("0 2"))


class Twice(nn.Module):
    """Runs its layers twice in a forward, as a model with a shared encoder does."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.encoder.forward = self.encode

    def encode(self, stream: Tensor) -> Tensor:
        for layer in self.encoder.layers:
            stream = layer(stream)
        return stream

    def forward(self, stream: Tensor) -> Tensor:
        return self.encoder(self.encoder(stream))


PER_LAYER = (
    r"^LlamaForCausalLM is asked for output_hidden_states, and a layer that plans share reports to one of them only: "
    r"leave it out, or run the plans one by one with painters\.surgery$"
)
NO_HEAD = r" has no output head \(get_output_embeddings\) to apply at single positions: leave positions out$"
TRAINING = (
    r"^LlamaForCausalLM is in training mode, and what a layer draws at random would be the same for all plans that "
    r"share it: call model\.eval\(\), or train under one plan with painters\.surgery$"
)


class Towers(nn.Module):
    """Two lists of layers, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (self.tower(scale) for scale in (2.0, 3.0))

    def tower(self, scale: float) -> nn.Module:
        tower = nn.Module()
        tower.layers = nn.ModuleList(nn.Linear(1, 1, bias=False) for _ in range(2))
        for layer in tower.layers:
            layer.weight.data.fill_(scale)
        tower.forward = lambda stream: tower.layers[1](tower.layers[0](stream))
        return tower

    def forward(self, stream: Tensor) -> Tensor:
        return self.b(self.a(stream))


def test_a_path_says_which_layers() -> None:
    model, one = Towers().eval(), torch.ones(1, 1, 1)
    for path, alone in (("a.layers", 2 * 9), ("b.layers", 4 * 3)):
        found = {str(plan): output.item() for plan, output in Sharing(model, ["0 1", "1"], path=path).run(stream=one)}
        assert found == {"0-1": 36, "1": alone}


def test_a_forward_that_does_not_run_the_layers() -> None:
    class Second(Towers):
        def forward(self, stream: Tensor) -> Tensor:
            return self.b(stream)

    with pytest.raises(SurgeryError, match=r"ended without the plan, for its loop met 0 of the 2 layers at a\.layers"):
        next(Sharing(Second().eval(), ["0 1"], path="a.layers").run(stream=torch.ones(1, 1, 1)))


def test_messages() -> None:
    model, ids = make_model("llama", 7), tokens(2, 9)

    def run(wanted: Any = ("0-6", "0"), model: Any = model, positions: Any = None, **inputs: Any) -> Iterator[Any]:
        return next(Sharing(model, wanted).run(positions, input_ids=ids, **inputs))

    with pytest.raises(PlanError, match=r"plan runs layer 7, but .* has 7 layers"):
        run(["0", "7"])
    with torch.device("meta"):
        unknown = AutoModelForCausalLM.from_config(BloomConfig(n_layer=2, hidden_size=32, n_head=4))
    with pytest.raises(SurgeryError, match=r"plan runs 0.attn of .* the halves of its BloomBlock are not known"):
        run(["0.attn"], unknown)
    with pytest.raises(SurgeryError, match=r"was given a cache, and plans that share .* pass use_cache=False"):
        run(use_cache=True)
    with pytest.raises(SurgeryError, match=PER_LAYER):
        run(output_hidden_states=True)
    model.config.output_hidden_states = True
    with pytest.raises(SurgeryError, match="asked for output_hidden_states"):
        run()
    model.config.output_hidden_states = False
    with pytest.raises(SurgeryError, match=NO_HEAD):
        run(model=shared_model("llama", 7, "bare"), positions=(torch.tensor([0]), torch.tensor([0])))
    towers = Sharing(Towers().eval(), ["0 1"], path="a.layers")
    with pytest.raises(SurgeryError, match=NO_HEAD):
        next(towers.run((torch.tensor([0]), torch.tensor([0])), stream=torch.ones(1, 1, 1)))
    model.model.layers[2].train()
    with pytest.raises(SurgeryError, match=TRAINING):
        run()
    together = Sharing(Twice().eval(), ["0 1", "1"], path="encoder.layers")
    with pytest.raises(SurgeryError, match="runs its layers twice in a forward"):
        next(together.run(stream=torch.zeros(1, 3, 4)))


def test_a_stack_that_was_found_and_plans_that_were_checked_are_taken_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, ids = make_model("llama", 7), tokens(2, 9)
    wanted = list(few_plans(7).values())
    with torch.inference_mode():
        expected = list(Sharing(model, wanted).run(input_ids=ids))
        stack = LayerStack.find(model)
        for plan in wanted:
            Program(plan, stack)
        monkeypatch.setattr(LayerStack, "find", None)
        with pytest.raises(PlanError, match=r"plan runs layer 7, but .* has 7 layers"):
            Sharing(model, ["7"], stack=stack)
        monkeypatch.setattr(Plan, "check", None)
        found = list(Sharing(model, wanted, stack=stack, checked=True).run(input_ids=ids))
    assert [plan for plan, _ in found] == [plan for plan, _ in expected]
    for (_, output), (_, alone) in zip(found, expected, strict=True):
        assert_same(output.logits, alone.logits)
    with pytest.raises(ValueError, match=r"path='model\.layers' and a stack that was found already: give one"):
        Sharing(model, wanted, path="model.layers", stack=stack)
