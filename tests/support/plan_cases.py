"""The plans that models are tested under: every variant at every window, and plans written by hand."""

from __future__ import annotations

from painters import Plan
from painters.variants import VARIANTS, windows

OPTIONS: dict[str, list[dict[str, int | str]]] = {
    "shuffle": [{"seed": 0}, {"seed": 1}],
    "parallel": [{"loops": 1}, {"loops": 3}],
    "loop": [{"by": "block"}, {"by": "layer"}],
}
"""What else a variant is tried with besides its window or layer; a new variant is tried with its defaults."""


def variant_plans(num_layers: int) -> dict[str, Plan]:
    """Every variant at every valid window or layer, by a label; plans that come out equal are listed once."""
    found: dict[Plan, str] = {}
    for name, variant in VARIANTS.items():
        places: list[dict[str, int]] = [{}]
        if "start" in variant.parameters:
            places = [{"start": start} for start in windows(num_layers)]
        elif "layer" in variant.parameters:
            last = num_layers - (name == "swap")
            places = [{"layer": layer} for layer in range(last)]
        for place in places:
            for options in OPTIONS.get(name, [{}]):
                plan = variant.rule(num_layers=num_layers, **place, **options)
                values = (*place.values(), *options.values())
                found.setdefault(plan, "-".join(map(str, (name, *values))))
    return {label: plan for plan, label in found.items()}


def hand_written(num_layers: int) -> dict[str, Plan]:
    """Shapes that no variant has."""
    last = num_layers - 1
    texts = {
        "all-in-parallel": f"{{0-{last}}}",
        "last-alone": f"{last}",
        "first-skipped": f"1-{last}",
        "first-last": f"1-{last} 0",
        "twice-in-a-group": f"0-1 {{2 2 3}} 4-{last}",
        "sum": f"0-1 {{2-4}}:sum 5-{last}",
        "sum-of-loops": f"0 {{1 2 (3 3)}}:sum*2 {last}",
        "nested": f"0 {{(1 2) {{3 (4 {{5 6}}:sum)}} 1}} {last}",
        "sequences": f"{{(0 1) (2 3 4)}} ({{5 (6 0)}} 1)*2 {last}",
    }
    return {label: Plan.parse(text) for label, text in texts.items()}


def every_plan(num_layers: int) -> dict[str, Plan]:
    return variant_plans(num_layers) | hand_written(num_layers)


FEW = (
    "skip-1",
    "reverse-0",
    "middle-repeat-1",
    "parallel-1-3",
    "loop-1-block",
    "loop-1-layer",
    "skip-layer-0",
    "swap-0",
    "twice-in-a-group",
    "nested",
    "sequences",
)
"""A choice for what is slow: idle and repeated layers, layer 0 skipped and moved, groups of all kinds."""


def few_plans(num_layers: int) -> dict[str, Plan]:
    plans = every_plan(num_layers)
    return {label: plans[label] for label in FEW}
