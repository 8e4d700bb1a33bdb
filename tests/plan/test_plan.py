"""The plan language: what a text means, one text per plan, and what a plan knows of its cost."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.plan_strategies import plans

from painters.plan import MAX_LAYER_RUNS, MAX_NESTING, MAX_TEXT, Layer, Parallel, Plan, PlanError, as_plan, distinct
from painters.plan.shapes import Repeat, Shape, Span, fold

CANONICAL = {
    "7": "7",
    "007": "7",
    "0000000000": "0",
    "0 1": "0-1",
    "0 1 2 3": "0-3",
    "3 2 1": "3-1",
    "5-5": "5",
    "0-14 {15-17}*3 18-31": "0-14 {15-17}*3 18-31",
    "0-14 {15 16 17} {15-17}{15-17}18-31": "0-14 {15-17}*3 18-31",
    "0-13 16*5 19-31": "0-13 16*5 19-31",
    "0-17 15-31": "0-14 (15-17)*2 18-31",
    "0-14 15 15 16 16 17 17 18-31": "0-14 15*2 16*2 17*2 18-31",
    "0-14 17-15 18-31": "0-14 17-15 18-31",
    "0-6 8 7 9-31": "0-6 8-7 9-31",
    "0-13 16 15 14 18 17 19-31": "0-13 16-14 18-17 19-31",
    "2 1 2 3": "2-1 2-3",
    "0 1 0 1 0": "(0-1)*2 0",
    "((1 1 2)*2 3)*2": "((1*2 2)*2 3)*2",
    "0 5 5 0 5 5": "(0 5*2)*2",
    "(3*2)*2": "3*4",
    "16*1": "16",
    "3-5.attn": "3-5.attn",
    "3.attn 4.attn 5.mlp": "3-4.attn 5.mlp",
    "3.attn 3.mlp 4.attn 4.mlp": "3.attn 3.mlp 4.attn 4.mlp",
    "5.mlp*2": "5.mlp*2",
    "3.attn 4": "3.attn 4",
    "{3 4 5 9}": "{3-5 9}",
    "{(3 4) (5 6)}": "{(3-4) (5-6)}",
    "{5*3 7}": "{5*3 7}",
    "{5 5}": "{5 5}",
    "{(3 4)*2 {5 6}:sum}": "{(3-4)*2 {5-6}:sum}",
    "{15-17}:sum*2": "{15-17}:sum*2",
    "{ 15 - 17 } : sum * 2": "{15-17}:sum*2",
    "{3-5.mlp 7}": "{3-5.mlp 7}",
    "{3 4}:mean": "{3-4}",
    "{(3 {4 5}) 9}": "{(3 {4-5}) 9}",
    "{{3 4} 5}": "{{3-4} 5}",
    "{{3 4}*2 5}": "{{3-4}*2 5}",
    "\t0-2\n{3\r\n4}\v5\f": "0-2 {3-4} 5",
    "((((7))))": "7",
    # a group of one branch is that branch (M = 1)
    "{7}": "7",
    "{7}:sum": "7",
    "{7}*3": "7*3",
    "{(3 4)}": "3-4",
    "{{{3 4}}}": "{3-4}",
    "{{7} 8}": "{7-8}",
    "{({7} {8}) {(9)}}": "{(7-8) 9}",
}


@pytest.mark.parametrize(("text", "canonical"), CANONICAL.items())
def test_canonical_text(text: str, canonical: str) -> None:
    plan = Plan.parse(text)
    assert str(plan) == canonical
    assert Plan.parse(canonical) == plan
    assert repr(plan) == f"Plan({canonical!r})"


# What each text means, built by hand: printing and reading could agree and both be wrong.
MEANINGS = {
    "0-2 17-15": Plan.of(0, 1, 2, 17, 16, 15),
    "3-5.attn": Plan.of(Layer(3, "attn"), Layer(4, "attn"), Layer(5, "attn")),
    "{15-17}": Plan((Parallel(((Layer(15),), (Layer(16),), (Layer(17),))),)),
    "{(3 4) 5}:sum": Plan((Parallel(((Layer(3), Layer(4)), (Layer(5),)), "sum"),)),
    "{5*3 7}": Plan((Parallel(((Layer(5),) * 3, (Layer(7),))),)),
    "(1 {2 3})*2": Plan.of(1, Parallel.of(2, 3), 1, Parallel.of(2, 3)),
    "{7 7}": Plan((Parallel(((Layer(7),), (Layer(7),))),)),
}


@pytest.mark.parametrize(("text", "plan"), MEANINGS.items())
def test_meaning(text: str, plan: Plan) -> None:
    assert Plan.parse(text) == plan


@pytest.mark.parametrize("halves", [False, True])
def test_parse_undoes_print(halves: bool) -> None:
    @given(plans(40, 60, halves))
    @settings(max_examples=200, deadline=None)
    def check(plan: Plan) -> None:
        text = str(plan)
        read = Plan.parse(text)
        assert read == plan
        assert hash(read) == hash(plan)
        assert str(read) == text
        assert not set(text) & set(",=")
        assert plan.layer_runs <= 60
        assert pickle.loads(pickle.dumps(plan)) == plan

    check()


def runs_of(shapes: Iterable[Shape]) -> list[int]:
    """The layers that these shapes stand for, in the order in which they run."""
    runs: list[int] = []
    for shape in shapes:
        if isinstance(shape, Span):
            runs += shape.layers
        elif isinstance(shape, Repeat):
            runs += runs_of(shape.body) * shape.times
        else:
            runs += [layer for branch in shape.branches for layer in runs_of(branch)]
    return runs


@given(plans(12, 40))
@settings(max_examples=200, deadline=None)
def test_shapes_hold_every_run(plan: Plan) -> None:
    """Drawings walk them."""
    assert runs_of(fold(plan.steps)) == [layer.index for layer in plan.walk()]


@given(st.lists(st.integers(0, 2), min_size=1, max_size=400))
@settings(deadline=None)
def test_parse_undoes_print_where_repeats_abound(layers: list[int]) -> None:
    assert Plan.parse(str(Plan.of(*layers))) == Plan.of(*layers)


def test_different_computations_are_different_plans() -> None:
    texts = [
        "{3 4}",
        "{4 3}",
        "{3 4}:sum",
        "3 4",
        "{5 5}",
        "5*2",
        "5",
        "{{3 4} 5}",
        "{3 4 5}",
        "3.attn 4",
        "3.mlp 4",
    ]
    assert len({Plan.parse(text) for text in texts}) == len({str(Plan.parse(text)) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("text", "runs", "depth", "layers"),
    [
        ("0-14 {15-17}*3 18-31", 38, 32, tuple(range(32))),
        ("7 3 7.attn", 3, 3, (7, 3)),
        ("{(3 4)*2 9 {5 6}:sum}", 7, 4, (3, 4, 9, 5, 6)),
        ("{(1 {2 (3 4)}) 5} 0", 6, 4, (1, 2, 3, 4, 5, 0)),
    ],
)
def test_cost(text: str, runs: int, depth: int, layers: tuple[int, ...]) -> None:
    plan = Plan.parse(text)
    assert (plan.layer_runs, plan.depth, plan.layers) == (runs, depth, layers)


def test_kinds() -> None:
    assert Plan.parse("3.attn 4").has_halves
    assert Plan.parse("{3 4.mlp}").has_halves
    assert not Plan.parse("{3 4}").has_halves
    assert Plan.parse("(3 4)*2").is_sequence
    assert not Plan.parse("0 {3 4}").is_sequence
    assert Plan.identity(12) == Plan.parse("0-11")
    assert Plan.identity(1) == Plan.of(0)
    assert Plan.of(Parallel.of(3, 4, merge="sum")) == Plan.parse("{3 4}:sum")


def test_check_names_the_layer_and_the_model() -> None:
    plan = Plan.parse("0-13")
    plan.check(14)
    with pytest.raises(PlanError, match=r"^plan runs layer 12, but bert-base-uncased has 12 layers \(0 to 11\)$"):
        plan.check(12, "bert-base-uncased")
    with pytest.raises(PlanError, match=r"^plan runs layer 1, but the model has 1 layer \(0\)$"):
        plan.check(1)


def test_the_largest_plans_print_and_read() -> None:
    steps = tuple(
        Parallel(((Layer(9999 - place, "attn"),), (Layer(4000 + place, "attn"),)), "sum") for place in range(5_000)
    )
    plan = Plan(steps)
    assert plan.layer_runs == MAX_LAYER_RUNS
    assert len(str(plan)) < MAX_TEXT
    assert Plan.parse(str(plan)) == plan
    assert Plan.parse(str(plan).ljust(MAX_TEXT)) == plan


def test_the_deepest_plan_prints_and_reads() -> None:
    steps: tuple[Layer | Parallel, ...] = (Layer(1), Layer(3)) * 2
    for place in range(MAX_NESTING):
        steps = (Layer(place), Parallel((steps, (Layer(5),))))
    plan = Plan(steps * 2)
    assert Plan.parse(str(plan)) == plan
    assert Plan((Parallel((plan.steps,)),)) == plan  # a group of one branch nests nothing
    with pytest.raises(PlanError, match=r"^parallel groups are nested 33 deep: a plan may nest 32$"):
        Parallel((steps, (Layer(5),)))


def test_printing_is_fast_for_any_plan() -> None:
    # Nested repeats make printing look again and again at a rest in which no repeat is ever found.
    word = "a"
    while len(word) < 9_000:
        word = "".join({"a": "abc", "b": "ac", "c": "b"}[letter] for letter in word)
    nested = [7]
    for place in range(8):
        nested = [*nested, 100 + place] * 2
    plan = Plan.of(*nested, *(ord(letter) for letter in word[:8_900]))

    def printing() -> float:
        start = time.perf_counter()
        str(plan)
        return time.perf_counter() - start

    # 0.1 s on an idle machine; the bound is loose because this one may be busy.
    assert min(printing() for _ in range(3)) < 0.5
    assert Plan.parse(str(plan)) == plan


def test_plans_cannot_be_changed() -> None:
    plan = Plan.parse("0-3")
    with pytest.raises(AttributeError):
        plan.steps = ()  # type: ignore[misc]
    assert not hasattr(plan, "__dict__")


def test_import_is_light() -> None:
    code = (
        "import sys, painters, painters.drawing;"
        "painters.drawing.plan_text(painters.variants.skip(num_layers=4, start=0));"
        "print(sorted({'torch', 'transformers', 'matplotlib', 'numpy', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_distinct_plans_in_order() -> None:
    assert distinct(["1 0", Plan.of(0), "1-0", "0"]) == (Plan.of(1, 0), Plan.of(0))
    assert distinct("0-1") == distinct(Plan.of(0, 1)) == (Plan.of(0, 1),)
    with pytest.raises(PlanError, match=r"^no plan given: name one or more, such as '0-14 \{15-17\}\*3 18-31'$"):
        distinct([])


@pytest.mark.parametrize(
    "value",
    [
        "0-1 3",
        [0, 1, 3],
        (0, 1, 3),
        Plan.of(0, 1, 3),
        [Layer(0), 1, 3],
        iter([0, 1, 3]),
        np.array([0, 1, 3]),
        [np.int64(0), np.int32(1), 3],
        torch.tensor([0, 1, 3]),
    ],
    ids=lambda item: re.sub(r" at 0x[0-9a-f]+", "", repr(item)),
)
def test_what_is_taken_for_a_plan(value: Any) -> None:
    value = list(value) if not isinstance(value, str | Plan | np.ndarray | torch.Tensor) else value
    plan = Plan.parse("0-1 3")
    assert as_plan(value) == plan
    assert distinct(value) == distinct([value]) == (plan,)


def test_ranges_and_groups_are_taken_for_plans() -> None:
    assert as_plan(range(4)) == Plan.parse("0-3")
    assert as_plan(range(3, -1, -1)) == Plan.parse("3-0")
    assert as_plan([0, Parallel.of(1, 2), 3]) == Plan.parse("0 {1-2} 3")
    assert distinct([range(2), "1 0", [1, 0], Plan.of(2)]) == (Plan.of(0, 1), Plan.of(1, 0), Plan.of(2))
    assert distinct({"0-1"}) == (Plan.of(0, 1),)


@pytest.mark.parametrize(
    "value",
    [
        *(None, 7, True, 1.5, b"0-3", {0, 1}, {"0": 1}, object(), [0, 1.5], [0, None], [[0, 1], [2]], ["0", "1"]),
        *([True, False], [0, "1"], [float("nan")], [-1], [10**6], [], np.array([0.5]), np.array(3), range(10**12)),
    ],
    ids=lambda item: re.sub(r" at 0x[0-9a-f]+", "", repr(item))[:30],
)
def test_what_is_no_plan(value: Any) -> None:
    with pytest.raises(PlanError) as caught:
        as_plan(value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 240


@pytest.mark.parametrize(
    "value", [None, 7, 1.5, {0, 1}, [[0, 1.5]], [[]], [], [None], [["0", "1"]], ["0-3", 2]], ids=repr
)
def test_what_are_no_plans(value: Any) -> None:
    with pytest.raises(PlanError):
        distinct(value)
