"""The paper's rules: windows, plans, equal plans, and the errors of wrong requests."""

from __future__ import annotations

from typing import Any

import pytest

from painters import variants
from painters.plan import Parallel, Plan
from painters.variants import VARIANTS, Variant, VariantError, build, default_start, window, windows

WINDOW_RULES = [name for name, variant in VARIANTS.items() if "start" in variant.parameters]
LAYER_RULES = [name for name, variant in VARIANTS.items() if "layer" in variant.parameters]


def text(name: str, num_layers: int, **params: int | str) -> str:
    return str(build(name, num_layers, **params))


@pytest.mark.parametrize(
    ("num_layers", "start", "first", "last", "count"),
    [
        (32, 15, 16, 16, 1),
        (32, 14, 15, 17, 3),
        (32, 13, 14, 18, 5),
        (32, 8, 9, 23, 15),
        (32, 1, 2, 30, 29),
        (32, 0, 1, 31, 31),
        (24, 11, 12, 12, 1),
        (24, 9, 10, 14, 5),
        (24, 1, 2, 22, 21),
        (24, 0, 1, 23, 23),
        (40, 19, 20, 20, 1),
        (40, 0, 1, 39, 39),
        (80, 39, 40, 40, 1),
        (80, 0, 1, 79, 79),
    ],
)
def test_windows_are_the_papers(num_layers: int, start: int, first: int, last: int, count: int) -> None:
    touched = window(num_layers, start)
    assert (touched[0], touched[-1], len(touched)) == (first, last, count)
    assert count == num_layers - 2 * start - 1


@pytest.mark.parametrize("num_layers", range(1, 42))
def test_every_valid_start_touches_a_layer(num_layers: int) -> None:
    starts = list(windows(num_layers))
    assert starts == [n for n in range(num_layers) if n <= (num_layers - 2) // 2]
    for start in starts:
        assert set(window(num_layers, start)) <= set(range(1, num_layers))
        assert len(window(num_layers, start)) >= 1
    if starts:
        assert default_start(num_layers) in starts
        assert default_start(num_layers) == num_layers // 4
        with pytest.raises(VariantError):
            window(num_layers, starts[-1] + 1)


TEXTS = {
    ("identity", 12): "0-11",
    ("skip", 32, 14): "0-14 18-31",
    ("skip", 32, 0): "0",
    ("middle-repeat", 32, 13): "0-13 16*5 19-31",
    ("middle-repeat", 24, 9): "0-9 12*5 15-23",
    ("reverse", 32, 14): "0-14 17-15 18-31",
    ("parallel", 32, 14): "0-14 {15-17} 18-31",
    ("parallel", 32, 14, "loops", 3): "0-14 {15-17}*3 18-31",
    ("parallel", 32, 0): "0 {1-31}",
    ("loop", 32, 14): "0-14 (15-17)*2 18-31",
    ("loop", 32, 14, "loops", 3): "0-14 (15-17)*3 18-31",
    ("loop", 32, 14, "by", "layer"): "0-14 15*2 16*2 17*2 18-31",
    ("loop", 32, 14, "loops", 1): "0-31",
}


@pytest.mark.parametrize(("request_", "expected"), TEXTS.items())
def test_window_rules(request_: tuple[str, int], expected: str) -> None:
    name, num_layers, *rest = request_
    params = {"start": rest[0]} if rest else {}
    if rest[1:]:
        params[rest[1]] = rest[2]
    assert text(name, num_layers, **params) == expected


@pytest.mark.parametrize(
    ("start", "seed", "middle"),
    [
        (13, 0, [16, 15, 14, 18, 17]),
        (13, 1, [16, 17, 18, 14, 15]),
        (13, 3, [14, 16, 17, 18, 15]),
        (14, 0, [15, 17, 16]),
    ],
)
def test_shuffle_is_the_released_codes(start: int, seed: int, middle: list[int]) -> None:
    plan = variants.shuffle(num_layers=32, start=start, seed=seed)
    assert plan == Plan.of(*range(start + 1), *middle, *range(32 - start, 32))
    if not seed:
        assert variants.shuffle(num_layers=32, start=start) == plan


def test_single_layer_rules() -> None:
    assert text("skip-layer", 32, layer=7) == "0-6 8-31"
    assert text("skip-layer", 32, layer=0) == "1-31"
    assert text("skip-layer", 32, layer=31) == "0-30"
    assert text("swap", 32, layer=7) == "0-6 8-7 9-31"
    assert text("swap", 12, layer=0) == "1-0 2-11"
    assert text("swap", 12, layer=10) == "0-9 11-10"
    assert (text("skip-layer", 2, layer=0), text("swap", 2, layer=0)) == ("1", "1-0")


@pytest.mark.parametrize("num_layers", [12, 24, 32, 40, 80])
def test_one_layer_windows_are_the_full_model(num_layers: int) -> None:
    start = windows(num_layers)[-1]
    full = Plan.identity(num_layers)
    assert list(window(num_layers, start)) == [num_layers // 2]
    for name in ("reverse", "shuffle", "middle-repeat", "parallel"):
        assert build(name, num_layers, start=start) == full
    thrice = build("parallel", num_layers, start=start, loops=3)
    middle = num_layers // 2
    assert thrice == Plan.of(*range(middle), middle, middle, middle, *range(middle + 1, num_layers))
    assert thrice == build("loop", num_layers, start=start, loops=3)


@pytest.mark.parametrize("name", WINDOW_RULES)
@pytest.mark.parametrize("num_layers", [2, 3, 12, 13, 32])
def test_window_rules_leave_the_rest_alone(name: str, num_layers: int) -> None:
    for start in windows(num_layers):
        plan = build(name, num_layers, start=start)
        plan.check(num_layers)
        head = Plan.of(*range(start + 1)).steps
        assert plan.steps[: start + 1] == head
        if start:
            assert plan.steps[-start:] == Plan.of(*range(num_layers - start, num_layers)).steps
        middle = plan.steps[start + 1 : len(plan.steps) - start]
        touched = {
            layer.index
            for step in middle
            for layer in ([branch[0] for branch in step.branches] if isinstance(step, Parallel) else [step])
        }
        assert touched <= set(window(num_layers, start))


@pytest.mark.parametrize("name", LAYER_RULES)
def test_layer_rules_touch_one_place(name: str) -> None:
    for layer in range(11):
        plan = build(name, 12, layer=layer)
        assert plan.steps[:layer] == Plan.identity(12).steps[:layer]
        assert plan.steps[-(10 - layer) :] == Plan.identity(12).steps[layer + 2 :] or layer == 10


@pytest.mark.parametrize("name", VARIANTS)
def test_the_table_describes_its_rules(name: str) -> None:
    variant = VARIANTS[name]
    assert isinstance(variant, Variant)
    assert variant.name == name == name.lower().replace("_", "-")
    assert variant.rule is getattr(variants, name.replace("-", "_"))
    assert variant.summary
    assert variant.paper
    assert variant.rule.__doc__
    params = {"layer": 4} if name in LAYER_RULES else {}
    assert build(name, 12, **params) == build(name.replace("-", "_"), 12, **params)
    if name in WINDOW_RULES:
        assert build(name, 12) == build(name, 12, start=3)


def test_the_table_gives_defaults() -> None:
    assert dict(VARIANTS["parallel"].parameters) == {"start": None, "loops": 1}
    assert dict(VARIANTS["loop"].parameters) == {"start": None, "loops": 2, "by": "block"}
    assert dict(VARIANTS["shuffle"].parameters) == {"start": None, "seed": 0}
    assert dict(VARIANTS["swap"].parameters) == {"layer": None}
    assert dict(VARIANTS["identity"].parameters) == {}


NAMES = ", ".join(VARIANTS)
ERRORS = [
    ("skpi", {}, f"no variant is called 'skpi': did you mean 'skip'? The variants are {NAMES}"),
    (
        "midle_repeat",
        {},
        f"no variant is called 'midle_repeat': did you mean 'middle-repeat'? The variants are {NAMES}",
    ),
    ("xyz", {}, f"no variant is called 'xyz': the variants are {NAMES}"),
    ("skip", {"start": 9}, "start 9 leaves no layer to touch in a 12-layer model: start must be 0 to 5"),
    (
        "skip",
        {"start": -1},
        "start -1 comes before the first layer of a 12-layer model: start must be 0 to 5",
    ),
    ("skip", {"start": "3"}, "start '3' is not an int: give the paper's N, a whole number"),
    ("skip", {"loops": 3}, "variant skip takes no parameter 'loops': it takes start"),
    ("parallel", {"loop": 3}, "variant parallel takes no parameter 'loop': it takes start and loops"),
    (
        "identity",
        {"start": 3},
        "variant identity takes no parameter 'start': it takes none besides the number of layers",
    ),
    ("swap", {}, "variant swap needs a layer: say which (--layer N, layer=N)"),
    ("parallel", {"loops": 0}, "loops 0 is out of range: it must be 1 to 1998 for a window of 5 layers"),
    (
        "loop",
        {"loops": 10**12},
        "loops 1000000000000 is out of range: it must be 1 to 1998 for a window of 5 layers",
    ),
    ("parallel", {"loops": 1.5}, "loops 1.5 is not an int: it must be 1 to 1998 for a window of 5 layers"),
    ("loop", {"by": "row"}, "loop cannot go by 'row': by is 'block' (ABAB) or 'layer' (AABB)"),
    ("shuffle", {"seed": "a"}, "seed 'a' is not an int: give a whole number"),
    (
        "swap",
        {"layer": 11},
        "layer 11 is out of range: it must be 0 to 10 to swap with the next in a 12-layer model",
    ),
    ("skip-layer", {"layer": 12}, "layer 12 is out of range: it must be 0 to 11 in a 12-layer model"),
]


@pytest.mark.parametrize(("name", "params", "message"), ERRORS)
def test_errors(name: str, params: dict[str, int | str], message: str) -> None:
    with pytest.raises(VariantError) as caught:
        build(name, 12, **params)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "params"), [("x" * 5000, {}), ("skip", {"x" * 5000: 1}), ("loop", {"by": "x" * 5000})]
)
def test_a_long_name_is_cut_in_the_message(name: str, params: dict[str, Any]) -> None:
    with pytest.raises(VariantError) as caught:
        build(name, 12, **params)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["skip", "middle-repeat"])
@pytest.mark.parametrize("params", [{}, {"start": 3}])
def test_a_number_of_layers_that_is_none(name: str, params: dict[str, int]) -> None:
    with pytest.raises(VariantError, match="num_layers 'many' is not an int: it must be 1 to 10000"):
        build(name, "many", **params)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "num_layers", "message"),
    [
        ("skip-layer", 1, "num_layers 1 is out of range: it must be 2 to 10000"),
        ("swap", 1, "num_layers 1 is out of range: it must be 2 to 10000"),
        ("skip", 1, "start 0 leaves no layer to touch in a 1-layer model: a window needs at least 2 layers"),
        ("skip", 0, "num_layers 0 is out of range: it must be 1 to 10000"),
        ("identity", 10_001, "num_layers 10001 is out of range: it must be 1 to 10000"),
    ],
)
def test_stacks_that_are_too_small_or_large(name: str, num_layers: int, message: str) -> None:
    params = {"layer": 0} if name in LAYER_RULES else {}
    with pytest.raises(VariantError) as caught:
        build(name, num_layers, **params)
    assert str(caught.value) == message


def test_the_largest_loop_is_a_plan() -> None:
    assert build("parallel", 12, loops=1998).layer_runs == 9_997
