"""Named rules that build plans: the paper's ways to run a stack of layers, and the table `VARIANTS`.

Most rules change a *window* in the middle of the stack and run the layers before and after it as they are. The window
is layers `start + 1` to `num_layers - start - 1`, both included; `start` is the paper's N. Layer 0 is never in it; the
last layer is in it only if `start` is 0.
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

__all__ = [
    "VARIANTS",
    "Parameter",
    "Variant",
    "VariantError",
    "build",
    "default_start",
    "find",
    "identity",
    "loop",
    "middle_repeat",
    "parallel",
    "reverse",
    "shuffle",
    "skip",
    "skip_layer",
    "swap",
    "window",
    "windows",
]

Parameter: TypeAlias = int | str
"""The type of a rule's parameters."""


class VariantError(PaintersError, ValueError):
    """A variant that does not exist, or that cannot be built for a stack of this size."""

    exit_code = 2


def identity(*, num_layers: int) -> Plan:
    """Return the plan that runs every layer once, in order: the model as it is.

    Args:
        num_layers: The number of layers in the stack.

    Returns:
        The plan.

    Raises:
        VariantError: `num_layers` is out of range.

    Examples:
        >>> from painters import variants
        >>> variants.identity(num_layers=32)
        Plan('0-31')
    """
    _check_int("num_layers", num_layers, 1, MAX_LAYERS)
    return Plan.identity(num_layers)


def skip(*, num_layers: int, start: int) -> Plan:
    """Return the plan that leaves the window out (Fig. 4).

    Args:
        num_layers: The number of layers in the stack.
        start: The paper's N: the window begins at layer `start + 1`. See `windows` for the valid values.

    Returns:
        The plan.

    Raises:
        VariantError: There is no such window in a stack of `num_layers` layers.

    Examples:
        >>> from painters import variants
        >>> variants.skip(num_layers=32, start=14)
        Plan('0-14 18-31')
    """
    window(num_layers, start)
    return _around(num_layers, start)


def middle_repeat(*, num_layers: int, start: int) -> Plan:
    """Return the plan that replaces each layer of the window by the stack's middle layer (Fig. 5).

    Args:
        num_layers: The number of layers in the stack.
        start: The paper's N: the window begins at layer `start + 1`. See `windows` for the valid values.

    Returns:
        The plan. The middle layer is layer `num_layers // 2`.

    Raises:
        VariantError: There is no such window in a stack of `num_layers` layers.

    Examples:
        >>> from painters import variants
        >>> variants.middle_repeat(num_layers=32, start=13)
        Plan('0-13 16*5 19-31')
    """
    layers = window(num_layers, start)
    return _around(num_layers, start, *[num_layers // 2] * len(layers))


def reverse(*, num_layers: int, start: int) -> Plan:
    """Return the plan that runs the window from its last layer to its first (Fig. 6).

    Args:
        num_layers: The number of layers in the stack.
        start: The paper's N: the window begins at layer `start + 1`. See `windows` for the valid values.

    Returns:
        The plan.

    Raises:
        VariantError: There is no such window in a stack of `num_layers` layers.

    Examples:
        >>> from painters import variants
        >>> variants.reverse(num_layers=32, start=14)
        Plan('0-14 17-15 18-31')
    """
    return _around(num_layers, start, *reversed(window(num_layers, start)))


def shuffle(*, num_layers: int, start: int, seed: int = 0) -> Plan:
    """Return the plan that runs the window in random order (Fig. 7).

    The order is that of the paper's released code for the same seed.

    Args:
        num_layers: The number of layers in the stack.
        start: The paper's N: the window begins at layer `start + 1`. See `windows` for the valid values.
        seed: The seed of the order.

    Returns:
        The plan.

    Raises:
        VariantError: There is no such window in a stack of `num_layers` layers, or `seed` is not an int.

    Examples:
        >>> from painters import variants
        >>> variants.shuffle(num_layers=32, start=14, seed=0)
        Plan('0-15 17-16 18-31')
    """
    layers = list(window(num_layers, start))
    if type(seed) is not int:
        raise VariantError(f"seed {seed!r:.60} is not an int: give a whole number")
    random.Random(seed).shuffle(layers)
    return _around(num_layers, start, *layers)


def parallel(*, num_layers: int, start: int, loops: int = 1) -> Plan:
    """Return the plan that runs the window's layers side by side and averages them (Figs. 8, 9 and 10).

    Args:
        num_layers: The number of layers in the stack.
        start: The paper's N: the window begins at layer `start + 1`. See `windows` for the valid values.
        loops: How many times the group runs, each time on its own mean; 1 is the paper's Fig. 8.

    Returns:
        The plan.

    Raises:
        VariantError: There is no such window in a stack of `num_layers` layers, or `loops` is out of range.

    Examples:
        >>> from painters import variants
        >>> variants.parallel(num_layers=32, start=14, loops=3)
        Plan('0-14 {15-17}*3 18-31')
    """
    layers = window(num_layers, start)
    _check_loops(loops, len(layers), num_layers)
    return _around(num_layers, start, *[Parallel.of(*layers)] * loops)


def loop(*, num_layers: int, start: int, loops: int = 2, by: Literal["block", "layer"] = "block") -> Plan:
    """Return the plan that runs the window several times in sequence (Fig. 17).

    Args:
        num_layers: The number of layers in the stack.
        start: The paper's N: the window begins at layer `start + 1`. See `windows` for the valid values.
        loops: How many times each layer of the window runs.
        by: `"block"` repeats the window as a whole (ABAB); `"layer"` repeats each layer in place (AABB).

    Returns:
        The plan.

    Raises:
        VariantError: There is no such window in a stack of `num_layers` layers, `loops` is out of range, or `by` is
            unknown.

    Examples:
        >>> from painters import variants
        >>> variants.loop(num_layers=32, start=14)
        Plan('0-14 (15-17)*2 18-31')
        >>> variants.loop(num_layers=32, start=14, by="layer")
        Plan('0-14 15*2 16*2 17*2 18-31')
    """
    layers = window(num_layers, start)
    _check_loops(loops, len(layers), num_layers)
    if by == "block":
        return _around(num_layers, start, *list(layers) * loops)
    if by == "layer":
        return _around(num_layers, start, *[layer for layer in layers for _ in range(loops)])
    raise VariantError(f"loop cannot go by {by!r:.60}: by is 'block' (ABAB) or 'layer' (AABB)")


def skip_layer(*, num_layers: int, layer: int) -> Plan:
    """Return the plan that leaves one layer out (Fig. 2).

    Args:
        num_layers: The number of layers in the stack.
        layer: The layer to leave out, from 0 to `num_layers - 1`.

    Returns:
        The plan.

    Raises:
        VariantError: The stack has fewer than 2 layers, or no such layer.

    Examples:
        >>> from painters import variants
        >>> variants.skip_layer(num_layers=32, layer=7)
        Plan('0-6 8-31')
    """
    _check_int("num_layers", num_layers, 2, MAX_LAYERS)
    _check_int("layer", layer, 0, num_layers - 1, f" in a {num_layers}-layer model")
    return Plan.of(*range(layer), *range(layer + 1, num_layers))


def swap(*, num_layers: int, layer: int) -> Plan:
    """Return the plan that exchanges one layer with the next (Fig. 2).

    Args:
        num_layers: The number of layers in the stack.
        layer: The first of the two layers, from 0 to `num_layers - 2`.

    Returns:
        The plan.

    Raises:
        VariantError: The stack has fewer than 2 layers, or no layer after `layer`.

    Examples:
        >>> from painters import variants
        >>> variants.swap(num_layers=32, layer=7)
        Plan('0-6 8-7 9-31')
    """
    _check_int("num_layers", num_layers, 2, MAX_LAYERS)
    _check_int("layer", layer, 0, num_layers - 2, f" to swap with the next in a {num_layers}-layer model")
    return Plan.of(*range(layer), layer + 1, layer, *range(layer + 2, num_layers))


@dataclass(frozen=True, slots=True)
class Variant:
    """A named rule that builds a plan for a stack of any size.

    Attributes:
        name: The name in `VARIANTS` and on the command line, with "-" between words.
        rule: The function that builds the plan.
        summary: What the rule does, in one line.
        paper: Where the paper has it.

    Examples:
        >>> from painters import variants
        >>> parallel = variants.VARIANTS["parallel"]
        >>> parallel.paper
        'Figs. 8, 9, 10'
        >>> dict(parallel.parameters)
        {'start': None, 'loops': 1}
    """

    name: str
    rule: Callable[..., Plan]
    summary: str
    paper: str

    @property
    def parameters(self) -> Mapping[str, Parameter | None]:
        """The parameters besides `num_layers`, each with its default; None if it has no fixed one."""
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
"""The rules by name."""


def windows(num_layers: int) -> range:
    """Return the valid values of `start`.

    Args:
        num_layers: The number of layers in the stack.

    Returns:
        0 to `(num_layers - 2) // 2`, both included; empty for a stack of one layer.

    Raises:
        VariantError: `num_layers` is out of range.

    Examples:
        >>> from painters import variants
        >>> variants.windows(12)
        range(0, 6)
    """
    _check_int("num_layers", num_layers, 1, MAX_LAYERS)
    return range(num_layers // 2)


def window(num_layers: int, start: int) -> range:
    """Return the layers of a window.

    Args:
        num_layers: The number of layers in the stack.
        start: The paper's N: the window begins at layer `start + 1`.

    Returns:
        Layers `start + 1` to `num_layers - start - 1`, both included.

    Raises:
        VariantError: There is no such window in a stack of this size.

    Examples:
        >>> from painters import variants
        >>> list(variants.window(32, 14))
        [15, 16, 17]
    """
    starts = windows(num_layers)
    if type(start) is not int:
        raise VariantError(f"start {start!r:.60} is not an int: give the paper's N, a whole number")
    if start not in starts:
        legal = f"start must be 0 to {starts[-1]}" if starts else "a window needs at least 2 layers"
        problem = "comes before the first layer of" if start < 0 else "leaves no layer to touch in"
        raise VariantError(f"start {start} {problem} a {num_layers}-layer model: {legal}")
    return range(start + 1, num_layers - start)


def default_start(num_layers: int) -> int:
    """Return the `start` of a window over the middle half of the stack.

    Args:
        num_layers: The number of layers in the stack.

    Returns:
        A quarter of `num_layers`, rounded down.

    Raises:
        VariantError: `num_layers` is out of range.

    Examples:
        >>> from painters import variants
        >>> start = variants.default_start(32)
        >>> start, variants.window(32, start)
        (8, range(9, 24))
    """
    _check_int("num_layers", num_layers, 1, MAX_LAYERS)
    return num_layers // 4


def find(name: str) -> Variant:
    """Return the variant of this name.

    Args:
        name: The name, its words joined by "-" or "_".

    Returns:
        The variant.

    Raises:
        VariantError: There is none; the message gives the nearest name.

    Examples:
        >>> from painters import variants
        >>> variants.find("middle_repeat").name
        'middle-repeat'
    """
    key = name.replace("_", "-")
    if key in VARIANTS:
        return VARIANTS[key]
    near = get_close_matches(key, VARIANTS, n=1)
    hint = f"did you mean {near[0]!r}? The variants" if near else "the variants"
    raise VariantError(f"no variant is called {name!r:.60}: {hint} are {', '.join(VARIANTS)}")


def build(name: str, num_layers: int, **params: Parameter) -> Plan:
    """Return the plan of a variant for a stack of this size.

    Args:
        name: The name of the variant.
        num_layers: The number of layers in the stack.
        **params: The rule's parameters. `start` defaults to `default_start(num_layers)`.

    Returns:
        The plan.

    Raises:
        VariantError: There is no such variant, it takes no such parameter, it needs one that is missing, or a
            value does not fit the stack.

    Examples:
        >>> from painters import variants
        >>> variants.build("parallel", 12, loops=2)
        Plan('0-3 {4-8}*2 9-11')
    """
    variant = find(name)
    parameters = variant.parameters
    for param in params:
        if param not in parameters:
            legal = (
                f"it takes {' and '.join(parameters)}" if parameters else "it takes none besides the number of layers"
            )
            raise VariantError(f"variant {variant.name} takes no parameter {param!r:.60}: {legal}")
    if "start" in parameters and "start" not in params:
        params["start"] = default_start(num_layers)
    for param, default in parameters.items():
        if default is None and param not in params:
            raise VariantError(f"variant {variant.name} needs a {param}: say which (--{param} N, {param}=N)")
    return variant.rule(num_layers=num_layers, **params)


def _around(num_layers: int, start: int, *middle: int | Step) -> Plan:
    """Return the plan with `middle` in place of the window."""
    return Plan.of(*range(start + 1), *middle, *range(num_layers - start, num_layers))


def _check_int(name: str, value: int, low: int, high: int, where: str = "") -> None:
    """Raise VariantError unless `value` is an int from `low` to `high`, both included.

    The message calls it `name` and ends with `where`.
    """
    if type(value) is not int:
        raise VariantError(f"{name} {value!r:.60} is not an int: it must be {low} to {high}{where}")
    if not low <= value <= high:
        raise VariantError(f"{name} {value} is out of range: it must be {low} to {high}{where}")


def _check_loops(loops: int, width: int, num_layers: int) -> None:
    """Raise VariantError if a plan cannot run a window of `width` layers `loops` times."""
    largest = (MAX_LAYER_RUNS - (num_layers - width)) // width
    _check_int("loops", loops, 1, largest, f" for a window of {width} layers")
