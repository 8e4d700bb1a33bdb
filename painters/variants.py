"""Named rules that build plans: the paper's ways to run a stack of layers, and the table `VARIANTS`.

The window rules touch layers `start + 1` to `num_layers - start - 1`, both included; `start` is the paper's
N. The layers before and after run as they are. Layer 0 is never touched; with `start=0` the last layer is.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Literal, TypeAlias

from painters.errors import PaintersError
from painters.plan import MAX_LAYER_RUNS, MAX_LAYERS, Parallel, Plan, Step

Parameter: TypeAlias = int | str


class VariantError(PaintersError, ValueError):
    """A variant that does not exist, or that cannot be built for a stack of this size."""

    exit_code = 2


def identity(*, num_layers: int) -> Plan:
    """Every layer once, in order: the model as it is."""
    _check_int("num_layers", num_layers, 1, MAX_LAYERS)
    return Plan.identity(num_layers)


def skip(*, num_layers: int, start: int) -> Plan:
    """The window left out (Fig. 4)."""
    window(num_layers, start)
    return _around(num_layers, start)


def middle_repeat(*, num_layers: int, start: int) -> Plan:
    """The window replaced by as many runs of the stack's middle layer, `num_layers // 2` (Fig. 5)."""
    layers = window(num_layers, start)
    return _around(num_layers, start, *[num_layers // 2] * len(layers))


def reverse(*, num_layers: int, start: int) -> Plan:
    """The window from its last layer to its first (Fig. 6)."""
    return _around(num_layers, start, *reversed(window(num_layers, start)))


def shuffle(*, num_layers: int, start: int, seed: int = 0) -> Plan:
    """The window in random order, the released code's for the same seed (Fig. 7)."""
    layers = list(window(num_layers, start))
    if type(seed) is not int:
        raise VariantError(f"seed {seed!r:.60} is not an int: give a whole number")
    random.Random(seed).shuffle(layers)
    return _around(num_layers, start, *layers)


def parallel(*, num_layers: int, start: int, loops: int = 1) -> Plan:
    """The window's layers side by side, their mean fed back `loops` times (Fig. 8; looped: Fig. 9 and 10)."""
    layers = window(num_layers, start)
    _check_loops(loops, len(layers), num_layers)
    return _around(num_layers, start, *[Parallel.of(*layers)] * loops)


def loop(*, num_layers: int, start: int, loops: int = 2, by: Literal["block", "layer"] = "block") -> Plan:
    """The window `loops` times in sequence, as a block (ABAB) or layer by layer (AABB) (Fig. 17)."""
    layers = window(num_layers, start)
    _check_loops(loops, len(layers), num_layers)
    if by == "block":
        return _around(num_layers, start, *list(layers) * loops)
    if by == "layer":
        return _around(num_layers, start, *[layer for layer in layers for _ in range(loops)])
    raise VariantError(f"loop cannot go by {by!r:.60}: by is 'block' (ABAB) or 'layer' (AABB)")


def skip_layer(*, num_layers: int, layer: int) -> Plan:
    """One layer left out (Fig. 2)."""
    _check_int("num_layers", num_layers, 2, MAX_LAYERS)
    _check_int("layer", layer, 0, num_layers - 1, f" in a {num_layers}-layer model")
    return Plan.of(*range(layer), *range(layer + 1, num_layers))


def swap(*, num_layers: int, layer: int) -> Plan:
    """One layer exchanged with the one after it (Fig. 2)."""
    _check_int("num_layers", num_layers, 2, MAX_LAYERS)
    _check_int("layer", layer, 0, num_layers - 2, f" to swap with the next in a {num_layers}-layer model")
    return Plan.of(*range(layer), layer + 1, layer, *range(layer + 2, num_layers))


@dataclass(frozen=True, slots=True)
class Variant:
    """A named rule: the function that builds the plan, what it does in a line, and where the paper has it."""

    name: str
    rule: Callable[..., Plan]
    summary: str
    paper: str

    @property
    def parameters(self) -> Mapping[str, Parameter | None]:
        """The parameters besides `num_layers`, each with its default, or None where it has no fixed one."""
        signature = inspect.signature(self.rule).parameters
        return {
            name: None if parameter.default is parameter.empty else parameter.default
            for name, parameter in signature.items()
            if name != "num_layers"
        }


VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        variant.name: variant
        for variant in (
            Variant("identity", identity, "the model as it is", "full model"),
            Variant("skip", skip, "leave the window out", "Fig. 4"),
            Variant("middle-repeat", middle_repeat, "replace the window by runs of the middle layer", "Fig. 5"),
            Variant("reverse", reverse, "run the window backwards", "Fig. 6"),
            Variant("shuffle", shuffle, "run the window in random order", "Fig. 7"),
            Variant("parallel", parallel, "run the window side by side and take the mean", "Figs. 8, 9, 10"),
            Variant("loop", loop, "run the window several times in sequence", "Fig. 17"),
            Variant("skip-layer", skip_layer, "leave one layer out", "Fig. 2"),
            Variant("swap", swap, "exchange one layer with the next", "Fig. 2"),
        )
    }
)


def windows(num_layers: int) -> range:
    """The valid values of `start`, 0 to (num_layers - 2) // 2; none for a stack of one layer."""
    _check_int("num_layers", num_layers, 1, MAX_LAYERS)
    return range(num_layers // 2)


def window(num_layers: int, start: int) -> range:
    """The layers that a window rule touches; raises VariantError where there are none."""
    starts = windows(num_layers)
    if type(start) is not int:
        raise VariantError(f"start {start!r:.60} is not an int: give the paper's N, a whole number")
    if start not in starts:
        legal = f"start must be 0 to {starts[-1]}" if starts else "a window needs at least 2 layers"
        found = "comes before the first layer of" if start < 0 else "leaves no layer to touch in"
        raise VariantError(f"start {start} {found} a {num_layers}-layer model: {legal}")
    return range(start + 1, num_layers - start)


def default_start(num_layers: int) -> int:
    """The `start` of a window over the middle half of the stack: a quarter of its layers lie before it."""
    _check_int("num_layers", num_layers, 1, MAX_LAYERS)
    return num_layers // 4


def find(name: str) -> Variant:
    """The variant of this name, written with '-' or '_'; raises VariantError with the nearest names."""
    known = name.replace("_", "-")
    if known in VARIANTS:
        return VARIANTS[known]
    near = get_close_matches(known, VARIANTS, n=1)
    hint = f"did you mean {near[0]!r}? The variants" if near else "the variants"
    raise VariantError(f"no variant is called {name!r:.60}: {hint} are {', '.join(VARIANTS)}")


def build(name: str, num_layers: int, **params: Parameter) -> Plan:
    """The plan of the variant `name` for a stack of `num_layers`; `start` defaults to `default_start`."""
    variant = find(name)
    takes = variant.parameters
    for param in params:
        if param not in takes:
            legal = f"it takes {' and '.join(takes)}" if takes else "it takes none besides the number of layers"
            raise VariantError(f"variant {variant.name} takes no parameter {param!r:.60}: {legal}")
    if "start" in takes and "start" not in params:
        params["start"] = default_start(num_layers)
    for param, default in takes.items():
        if default is None and param not in params:
            raise VariantError(f"variant {variant.name} needs the parameter {param!r}: give it a value")
    return variant.rule(num_layers=num_layers, **params)


def _around(num_layers: int, start: int, *middle: int | Step) -> Plan:
    """The plan with `middle` in the place of the window."""
    return Plan.of(*range(start + 1), *middle, *range(num_layers - start, num_layers))


def _check_int(name: str, value: int, low: int, high: int, where: str = "") -> None:
    if type(value) is not int:
        raise VariantError(f"{name} {value!r:.60} is not an int: it must be {low} to {high}{where}")
    if not low <= value <= high:
        raise VariantError(f"{name} {value} is out of range: it must be {low} to {high}{where}")


def _check_loops(loops: int, layers: int, num_layers: int) -> None:
    """Nothing; raises VariantError where so many loops over so many layers are more than a plan may run."""
    most = (MAX_LAYER_RUNS - (num_layers - layers)) // layers
    _check_int("loops", loops, 1, most, f" for a window of {layers} layers")
