"""The benchmarks run on tiny settings, and their counts and computations are right."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from support.models import make_model, tokens

from painters import Plan, surgery, variants

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a script of benchmarks/ by name; scripts find one another as when they are run."""
    import importlib

    monkeypatch.syspath_prepend(str(FOLDER))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def test_ratios_are_those_of_medians_with_the_spread_of_rounds(script: Any) -> None:
    timing = script("timing")
    ratio = timing.Timing((2.0, 4.0, 9.0)).over(timing.Timing((1.0, 4.0, 3.0)))
    assert ratio.value == 4 / 3
    assert (ratio.low, ratio.high) == (1.5, 2.5)  # of 2, 1 and 3


def test_alternatives_take_turns(script: Any) -> None:
    order: list[str] = []

    def alternative(name: str) -> Any:
        @contextmanager
        def enter() -> Iterator[Any]:
            order.append("(" + name)
            yield lambda: order.append(name)
            order.append(")")

        return enter

    clock = iter(range(1000))
    timings = script("timing").in_turn(
        {name: alternative(name) for name in "ab"}, rounds=2, number=3, clock=lambda: float(next(clock))
    )
    first, second = ["(a", "a", "a", "a", ")"], ["(b", "b", "b", "b", ")"]
    assert order == [*second, *first, *first, *second, *second, *first]
    assert {name: timing.seconds for name, timing in timings.items()} == {"a": (1 / 3, 1 / 3), "b": (1 / 3, 1 / 3)}


@pytest.mark.parametrize("text", ["0-5", "0-2 4-5", "0 2 1 3-5", "0 {1-4}*3 5", "{(0 1) 2} 3 3", "5 4", "0 {1 {2 3}}"])
def test_a_list_edited_by_hand_computes_the_plan(script: Any, text: str) -> None:
    model, ids = make_model("llama", 6), tokens(2, 7)
    plan, layers = Plan.parse(text), model.model.layers
    with torch.no_grad():
        with surgery(model, plan):
            expected = model(ids).logits
        with script("rivals").edited(model, plan):
            assert torch.equal(model(ids).logits, expected)
    assert model.model.layers is layers
    assert (model.config.num_hidden_layers, model.config.use_cache) == (6, True)


def test_nnsight_touches_only_what_a_plan_changes(script: Any) -> None:
    difference = script("rivals")._difference

    def of(text: str) -> tuple[int, int, str]:
        first, stop, steps = difference(Plan.parse(text), 6)
        return first, stop, str(Plan(steps)) if steps else ""

    assert of("0-2 4-5") == (3, 4, "")
    assert of("0-4") == (5, 6, "")
    assert of("0 2 1 3-5") == (1, 3, "2-1")
    assert of("0-3 3 4-5") == (4, 5, "3-4")
    assert of("0-5 5") == (5, 6, "5*2")
    assert of("0 {1-4} 5") == (1, 5, "{1-4}")
    assert difference(Plan.identity(6), 6) == (0, 0, ())


def test_sweeps_are_the_plans_of_the_figures(script: Any) -> None:
    sweeps = script("sweeps")
    assert [len(sweeps.SWEEPS[name](12)) for name in ("fig2", "windows", "fig10")] == [23, 36, 96]
    (part,) = sweeps.parts_of("windows", ("nano_arc",), 12)
    assert len(part.plans) == 33  # a window of one layer: reversed, shuffled and side by side are the identity
    parts = sweeps.parts_of("all", sweeps.TASKS["ll"], 12)
    by_task = sweeps.plans_by_task(parts)
    assert set(by_task) == set(sweeps.TASKS["ll"])
    assert {variants.swap(num_layers=12, layer=3)} <= set(by_task["nano_lambada"]) - set(by_task["nano_arc"])
    assert variants.parallel(num_layers=12, start=2, loops=16) in by_task["nano_arc"]
    assert variants.shuffle(num_layers=12, start=1, seed=9) in by_task["nano_hellaswag"]


def test_a_sample_is_spread_over_layer_runs(script: Any) -> None:
    by_hand, plans = script("by_hand"), script("sweeps").fig10(12)
    chosen = by_hand.sample(plans, 4)
    assert len(set(chosen)) == 4
    runs = sorted(plan.layer_runs for plan in plans)
    for i, plan in enumerate(chosen):
        assert runs[24 * i] <= plan.layer_runs <= runs[24 * i + 23]
    assert by_hand.sample(plans, 4) == chosen != by_hand.sample(plans, 4, seed=1)
    assert by_hand.sample(plans, 1000) == plans


def test_the_line_through_measured_plans(script: Any) -> None:
    line = script("by_hand").Line.through([(10, 7.0), (20, 12.0), (30, 17.0)])
    assert (line.fixed, line.per_run, line.error) == pytest.approx((2.0, 0.5, 0.0))
    assert line.total([Plan.parse("0-11"), Plan.parse("0-3 8-11")]) == pytest.approx(2 * 2 + 0.5 * (12 + 8))
    off = script("by_hand").Line.through([(10, 1.0), (10, 3.0)])
    assert (off.fixed, off.per_run, off.error) == pytest.approx((2.0, 0.0, 0.5))


def test_the_floor_counts_what_no_order_avoids(script: Any) -> None:
    """Two documents begin with token 1; the first has two answers after [1, 2], one of them of two tokens."""
    floor = script("floor")
    requests = [(0, [1, 2], [3]), (0, [1, 2], [4, 5]), (1, [1, 6], [3])]
    positions = floor.Positions.of(requests, batch_size=2)
    # document 0: 1, 1 2, 1 2 4; document 1: 1, 1 6. Scored: after 1 2, after 1 2 4, after 1 6.
    assert positions == floor.Positions(within=5, across=4, scored=3, padded=3 * 2 + 2)
    plans = {"task": [Plan.parse("0-3"), Plan.parse("0-1 3")]}  # five distinct runs: 0 1 2 3, and 3 after 1
    cost = floor.UnitCost(layer=10.0, head=1.0)
    assert floor.floor(plans, {"task": positions}, cost) == 5 * 5 * 10 + 2 * 3
    assert floor.floor(plans, {"task": positions}, cost, across=True) == 5 * 4 * 10 + 2 * 3


def test_positions_are_those_of_lm_eval(script: Any) -> None:
    from painters.harness import load_model, prepare

    _, tokenizer = load_model("nano-llama")
    (task,) = prepare("nano_hellaswag", limit=2)
    requests = script("floor").tokenised(tokenizer, task.requests)
    assert len(requests) == 8
    for request, (document, context, answer) in zip(task.requests, requests, strict=True):
        assert document == request.doc_id
        assert tokenizer.decode(context + answer) == "".join(request.args)
        assert tokenizer.decode(context) == request.args[0]


def test_scores_that_differ_are_found(script: Any) -> None:
    check = script("sweeps").check
    ours = {("0-1", "task", "acc"): 0.5, ("0-1", "task", "perplexity"): None}
    check({("0-1", "task", "acc"): 0.5, ("0-1", "task", "perplexity"): math.inf}, ours, {"task": 100}, 1e-5)
    check({("0-1", "task", "acc"): 0.51}, ours, {"task": 100}, 0.01)
    with pytest.raises(AssertionError, match=r"acc of task under 0-1: 0\.5 here, 0\.51 by lm-eval"):
        check({("0-1", "task", "acc"): 0.51}, ours, {"task": 100}, 1e-5)


def test_memory_is_counted_while_tensors_live(script: Any) -> None:
    memory = script("memory")
    with memory.PeakBytes() as peak:
        kept = torch.zeros(1000)
        for _ in range(3):
            made = torch.ones(500) + 1  # two at once
            view = made[:10]
            del made, view
        del kept
    assert (peak.most, peak.now) == (4 * 2000, 0)
    assert memory.live_states([Plan.parse("0-5")], 4) == 2
    assert memory.live_states([Plan.parse("0 {1-8} 9")], 4) == 4  # what enters, the sum, a member, the next
    assert memory.live_states([Plan.parse("0 {1-8} 9")], 2) == 5  # what enters, the sum as two, a member, the next


def test_grouped_products_are_the_layers(script: Any) -> None:
    """`grouped_over_separate` compares the two, at more than one row and member."""
    gpu = script("gpu")
    model = script("rivals").random_llama(**gpu.TINY)
    assert gpu.grouped_over_separate(model, members=3, batch=2, past=5, rounds=1).value > 0
    torch.nn.init.ones_(model.model.layers[1].mlp.down_proj.weight)
    layers = list(model.model.layers)[:3]
    grouped = gpu.GroupedLayers(layers)
    grouped._down[1] = 0
    hidden, past = torch.randn(2, 1, 64), torch.randn(3, 2, 4, 5, 16)
    rotary = model.model.rotary_emb(hidden, torch.full((1, 1), 5))
    with torch.no_grad():
        outputs = [
            layer(hidden, None, None, gpu.FixedCache(past, past), position_embeddings=rotary) for layer in layers
        ]
        assert not torch.allclose(grouped(hidden, rotary, past, past), torch.stack(outputs).mean(0))


def test_one_plan_runs(script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = tmp_path / "report.json"
    report = script("one_plan").main(
        [
            "--rounds",
            "2",
            "--models",
            "nano-llama",
            "--inputs",
            "1 x 16 tokens",
            "--plans",
            "0-5 7-11",
            "--json",
            str(written),
        ]
    )
    assert {ratio["side"] for ratio in report["ratios"]} >= {"painters", "entered each time", "list edited"}
    assert json.loads(written.read_text())["machine"]["threads"] == 1
    assert "0-5 7-11" in capsys.readouterr().out


@pytest.mark.parametrize("batching", [[], pytest.param(["--exact-batching"], marks=pytest.mark.slow)])
def test_sweeps_run(script: Any, batching: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "fig2",
        "--tasks",
        "mc",
        "--limit",
        "2",
        "--turns",
        "1",
        "--sample",
        "2",
        "--batch-sizes",
        "8",
        *batching,
    ]
    (sweep,) = script("sweeps").main(arguments)["sweeps"]
    assert sweep["exact"] == bool(batching)
    assert sweep["counted"]["layer_runs_shared"] == 2 * 143 < sweep["counted"]["layer_runs_alone"] == 2 * 264
    (turn,) = sweep["turns"]
    assert 0 < turn["by_hand_measured"] < turn["by_hand"]
    assert 0 < turn["floor_across"] <= turn["floor"] < turn["ours"]
    assert "by hand / ours" in capsys.readouterr().out


@pytest.mark.slow
def test_memory_runs(script: Any) -> None:
    """The formula holds within a sixth, and a sweep keeps a fraction of what its plans would."""
    report = script("memory").main(["--plans", "30", "--limit", "32"])["nano"]
    for case in report.values():
        assert case["peak"] == pytest.approx(case["tensors"], rel=1 / 6)


def test_gpu_runs_on_the_cpu(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--tiny", "--limit", "2", "--turns", "1", "--sample", "2", "--batch-sizes", "8", "--rounds", "1"]
    report = script("gpu").main([*arguments, "--members", "2", "8"])
    assert [sweep["sweep"] for sweep in report["sweeps"]] == ["fig2", "fig10"]
    assert [(group["members"], group["batch"]) for group in report["groups"]] == [(2, 1), (2, 16)]
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit):
            script("gpu").main([])
        assert "torch finds no CUDA device here; `--tiny` runs the same code on the CPU" in capsys.readouterr().err
