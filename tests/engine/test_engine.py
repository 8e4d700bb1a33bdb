"""The engine computes what the plain loop of tests/support/reference.py does, bit for bit, and leaves no trace."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from support import reference
from support.layer_lists import find_layers
from support.models import ARCHITECTURES, make_model, padded_batch, shared_model, tokens
from support.plan_cases import every_plan, few_plans
from support.plan_strategies import plans
from support.reference import assert_same
from torch import Tensor, nn

from painters import Plan, surgery
from painters.engine import LayerStack, Program, operate
from painters.engine.merges import MERGES

DEPTHS = (7, 8)
CASES = [
    pytest.param(architecture, depth, plan, id=f"{architecture}-{depth}-{label}")
    for architecture in ARCHITECTURES
    for depth in DEPTHS
    for label, plan in every_plan(depth).items()
]


@pytest.mark.parametrize(("architecture", "depth", "plan"), CASES)
def test_logits_are_those_of_the_plain_loop(architecture: str, depth: int, plan: Plan) -> None:
    """Without a mask, and with rows padded left and right; with the default cache and without one."""
    model = shared_model(architecture, depth)
    ids, mask = padded_batch()
    no_cache = {"use_cache": False} if ARCHITECTURES[architecture].generates else {}
    with torch.inference_mode():
        bare = reference.logits(architecture, model, plan, ids)
        padded = reference.logits(architecture, model, plan, ids, mask)
        with surgery(model, plan):
            assert_same(model(ids).logits, bare)
            assert_same(model(ids, attention_mask=mask).logits, padded)
            if no_cache:
                assert_same(model(ids, **no_cache).logits, bare)
                assert_same(model(ids, attention_mask=mask, **no_cache).logits, padded)


def test_plans_differ_from_the_intact_model() -> None:
    """The comparison above means something: another plan gives other logits, far above rounding."""
    for architecture in ARCHITECTURES:
        model = shared_model(architecture, 7)
        with torch.inference_mode():
            intact = model(tokens(2, 11)).logits
            for plan in few_plans(7).values():
                with surgery(model, plan):
                    assert (model(tokens(2, 11)).logits - intact).abs().mean() > 0.1, (architecture, plan)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("label", ["reverse-0", "parallel-1-3", "nested"])
def test_every_head(architecture: str, label: str) -> None:
    plan = few_plans(7)[label]
    ids, mask = padded_batch()
    with torch.inference_mode():
        model = shared_model(architecture, 7, "bare")
        with surgery(model, plan):
            assert_same(
                model(ids, attention_mask=mask).last_hidden_state,
                reference.hidden_states(architecture, model, plan, ids, mask),
            )
        model = shared_model(architecture, 7, "classifier")
        with surgery(model, plan):
            assert_same(
                model(ids, attention_mask=mask).logits,
                reference.classes(architecture, model, plan, ids, mask),
            )


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "qwen3", "bert", "modernbert"])
@pytest.mark.parametrize("label", few_plans(7))
def test_eager_attention(architecture: str, label: str) -> None:
    plan, model = few_plans(7)[label], shared_model(architecture, 7, attention="eager")
    ids, mask = padded_batch()
    with torch.inference_mode(), surgery(model, plan):
        expected = reference.logits(architecture, model, plan, ids, mask)
        assert_same(model(ids, attention_mask=mask).logits, expected)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(plan=plans(6, 14, halves=True))
def test_any_plan_on_llama(plan: Plan) -> None:
    model = shared_model("llama", 6)
    ids, mask = padded_batch()
    with torch.inference_mode(), surgery(model, plan):
        assert_same(model(ids, attention_mask=mask).logits, reference.logits("llama", model, plan, ids, mask))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(plan=plans(6, 14))
def test_any_plan_on_bert(plan: Plan) -> None:
    model = shared_model("bert", 6)
    ids, mask = padded_batch()
    with torch.inference_mode(), surgery(model, plan):
        assert_same(model(ids, attention_mask=mask).logits, reference.logits("bert", model, plan, ids, mask))


def test_a_plan_may_be_a_text() -> None:
    model, ids = shared_model("llama", 7), tokens(2, 9)
    with torch.inference_mode():
        with surgery(model, "0-2 {3-5}*2 6") as inside:
            assert inside is model
            found = model(ids).logits
        assert_same(found, reference.logits("llama", model, Plan.parse("0-2 {3-5}*2 6"), ids))


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "bert"])
def test_layers_run_as_often_as_the_plan_says(architecture: str) -> None:
    """A skip really skips: nothing runs that the plan does not name."""
    model = make_model(architecture, 7)
    layers = find_layers(model)
    runs: list[int] = []
    for i, layer in enumerate(layers):
        layer.register_forward_hook(lambda *_, i=i: runs.append(i))
    for plan in every_plan(7).values():
        runs.clear()
        with torch.inference_mode(), surgery(model, plan):
            model(tokens(2, 5))
        assert runs == [layer.index for layer in plan.walk()]
        assert len(runs) == plan.layer_runs


def test_observe_sees_the_stream_before_the_plan_and_after_every_step() -> None:
    model, ids, plan = shared_model("llama", 7), tokens(2, 9), Plan.parse("0 {1-3} {4 (5 6)}:sum")
    states: list[Tensor] = []

    def keep(index: int, stream: Tensor) -> None:
        assert index == len(states)
        states.append(stream)

    with torch.inference_mode():
        with surgery(model, plan, observe=keep):
            model(ids)
        assert len(states) == 1 + len(plan.steps)
        assert_same(states[0], model.model.embed_tokens(ids))
        for i in (1, 2, 3):
            expected = reference.hidden_states("llama", model, Plan(plan.steps[:i]), ids)
            assert_same(model.model.norm(states[i]), expected)


def test_output_hidden_states_lists_the_embeddings_and_every_execution() -> None:
    """Also when the first call that asks for them, which installs hooks for good, comes inside."""
    model, ids = make_model("llama", 7), tokens(2, 9)
    with torch.inference_mode():
        with surgery(model, "0 {1-3} 6"):
            inside = model(ids, output_hidden_states=True).hidden_states
        assert len(inside) == 1 + 5
        assert_same(inside[1], reference_states(model, ids, "0")[0])
        intact = model(ids, output_hidden_states=True).hidden_states
        assert len(intact) == 1 + 7


def reference_states(model: Any, ids: Tensor, text: str) -> list[Tensor]:
    kept: list[Tensor] = []
    with surgery(model, Plan.identity(7), observe=lambda i, stream: kept.append(stream)):
        model(ids)
    return [kept[int(text) + 1]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("members", [2, 3, 5, 7])
def test_half_precision_mean_is_that_of_the_stack(dtype: torch.dtype, members: int) -> None:
    """The running float32 sum gives torch.stack(outputs).mean(0) to the bit, here and in the next test."""
    model, ids = make_model("llama", 8).to(dtype), tokens(3, 9)
    plan = Plan.parse(f"0 {{1-{members}}}*2 7")
    with torch.inference_mode(), surgery(model, plan):
        assert_same(model(ids, use_cache=False).logits, reference.logits("llama", model, plan, ids))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_mean_of_many(dtype: torch.dtype) -> None:
    for members in range(2, 31):
        outputs = torch.randn(members, 2, 17, 64, generator=torch.Generator().manual_seed(members)).to(dtype)
        assert_same(MERGES["mean"](outputs[0], iter(outputs)), outputs.mean(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "shape", [(2, 17, 64), (3, 9, 160), (2, 5, 7), (1, 3, 32), (1, 1, 1), (31, 63, 33), (2, 3, 19)]
)
def test_a_running_mean_is_that_of_the_stack(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """To the bit, though few outputs are kept: torch adds in blocks of 16, and those in blocks of 16."""
    for members in [*range(1, 34), 47, 48, 49, 255, 256, 257, 300]:
        draw = torch.Generator().manual_seed(members)
        outputs = torch.randn(members, *shape, generator=draw, dtype=dtype)
        outputs = outputs * 10 ** torch.linspace(-3, 3, members)[torch.randperm(members, generator=draw)].view(
            -1, 1, 1, 1
        )
        outputs = outputs.to(dtype)
        assert_same(MERGES["mean"](outputs[0], iter(outputs)), outputs.mean(0))


def test_a_running_mean_keeps_few_outputs() -> None:
    """Those of its members are gone when the next one is made."""
    alive: list[int] = []
    made: list[weakref.ref[torch.Tensor]] = []

    def outputs() -> Iterator[torch.Tensor]:
        for _ in range(15):
            alive.append(sum(ref() is not None for ref in made))
            output = torch.randn(2, 3, 64)
            made.append(weakref.ref(output))
            yield output
            del output

    MERGES["mean"](torch.zeros(2, 3, 64), outputs())
    assert max(alive) <= 2  # the last one, and the first while it is the sum itself


def test_half_precision_sum_is_done_in_float32() -> None:
    outputs = torch.randn(5, 2, 17, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    x = outputs[0] / 3
    wide = x.float() + sum((o.float() - x.float() for o in outputs[1:]), start=outputs[0].float() - x.float())
    assert_same(MERGES["sum"](x, iter(outputs)), wide.bfloat16())


def test_double_precision_sum_is_done_in_double_precision() -> None:
    x, *outputs = torch.randn(4, 2, 17, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert_same(MERGES["sum"](x, iter(outputs)), x + ((outputs[0] - x) + (outputs[1] - x) + (outputs[2] - x)))


def test_layers_in_a_sequential_follow_the_plan() -> None:
    """Its forward is the loop."""

    class Stage(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))

        def forward(self, stream: Tensor) -> Tensor:
            return self.layers(stream) * 2

    model, stream = Stage(), torch.ones(1, 3, 4)
    first, _, third = model.layers
    with surgery(model, "2 0", path="layers"):
        assert_same(model(stream), first(third(stream)) * 2)


def test_layers_within_dictionaries_of_modules_follow_the_plan() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
            self.core = nn.ModuleDict({"stack": nn.ModuleDict({"layers": layers})})

        def forward(self, stream: Tensor) -> Tensor:
            for layer in self.core["stack"]["layers"]:
                stream = layer(stream)
            return stream

    model, stream = Deep(), torch.ones(1, 3, 4)
    first, _, third = model.core["stack"]["layers"]
    with surgery(model, "2 0", path="core.stack.layers"):
        assert_same(model(stream), first(third(stream)))


def test_a_stack_is_found_and_a_plan_checked_once_for_any_number_of_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = make_model("llama", 4), tokens(2, 9)
    stack = LayerStack.find(model)
    programs = [Program(Plan.parse(text), stack) for text in ("3-0", "0 {1 2} 3")]
    with torch.inference_mode():
        expected = []
        for text in ("3-0", "0 {1 2} 3"):
            with surgery(model, text):
                expected.append(model(ids).logits)
        for name in ("find", "check"):
            monkeypatch.setattr(LayerStack if name == "find" else Plan, name, None)
        for _ in range(2):
            for program, logits in zip(programs, expected, strict=True):
                with operate(model, stack, program) as operated:
                    assert operated is model
                    assert_same(model(ids).logits, logits)


def test_a_program_of_another_stack_is_refused() -> None:
    model = shared_model("llama", 7)
    program = Program(Plan.parse("0-6"), LayerStack.find(model))
    with (
        pytest.raises(ValueError, match="the program was made for another stack than this one of LlamaForCausalLM"),
        operate(model, LayerStack.find(model), program),
    ):
        pass


def test_the_self_check_makes_one_program_of_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Plan] = []
    right = Program.__init__

    def counted(self: Program, plan: Plan, *args: Any, **kwargs: Any) -> None:
        made.append(plan)
        right(self, plan, *args, **kwargs)

    monkeypatch.setattr(Program, "__init__", counted)
    model, plan = make_model("llama", 4), Plan.parse("3-0")
    for _ in range(2):
        with surgery(model, plan):
            model(tokens(2, 9))
    assert made == [plan, Plan.identity(4), plan]
