"""How a plan is written: steps folded into spans, repeats and groups, each with its text.

The text of a plan is the join of its shapes' texts; drawings walk the same shapes.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from painters.plan.steps import Half, Layer, Merge, Step

MAX_PERIOD = 128
"""Steps in the body of a repeat that printing looks for."""
FOLD_PASSES = 3
"""Repeats inside repeats that printing looks for; with the period this keeps printing linear."""

# The shortest period at the leftmost place, repeated as often as it goes.
_TANDEM = re.compile(rf"([^\0]{{1,{MAX_PERIOD}}}?)\1+")


@dataclass(frozen=True, slots=True)
class Span:
    """Layers `first` to `last` (both included, either direction), or one half of each."""

    first: int
    last: int
    half: Half | None
    text: str = field(init=False)

    def __post_init__(self) -> None:
        ends = f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"
        object.__setattr__(self, "text", ends if self.half is None else f"{ends}.{self.half}")

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers in the order in which they run."""
        step = 1 if self.last >= self.first else -1
        return tuple(range(self.first, self.last + step, step))


@dataclass(frozen=True, slots=True)
class Group:
    """Branches that run side by side."""

    branches: tuple[tuple[Shape, ...], ...]
    merge: Merge
    text: str = field(init=False)

    def __post_init__(self) -> None:
        inside = " ".join(_branch_texts(self.branches))
        object.__setattr__(self, "text", f"{{{inside}}}" + ("" if self.merge == "mean" else f":{self.merge}"))


@dataclass(frozen=True, slots=True)
class Repeat:
    """A body that runs `times` times, each time on its own result."""

    body: tuple[Shape, ...]
    times: int
    text: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", f"{_bracketed(self.body)}*{self.times}")


Shape: TypeAlias = Span | Group | Repeat


def fold(steps: Sequence[Step]) -> tuple[Shape, ...]:
    """The shapes in which `steps` are written: one choice for every sequence of steps."""
    known: dict[Layer, Span] = {}
    return _folded([_shape(step, known) for step in steps])


def _folded(shapes: list[Shape]) -> tuple[Shape, ...]:
    """The shapes with repeats and spans.

    Repeats come first: from the left, the shortest period and then as many times as it goes, in their bodies
    too, and again over the result. Neighbouring layers that no repeat has taken become spans.
    """
    for _ in range(FOLD_PASSES):
        folded: list[Shape] = []
        done = 0
        for match in _TANDEM.finditer(_letters(shapes)):
            start, period = match.start(), len(match[1])
            folded += shapes[done:start]
            done = match.end()
            folded.append(Repeat(_folded(shapes[start : start + period]), (done - start) // period))
        if not done:
            break
        shapes = folded + shapes[done:]
    return _spans(shapes)


@functools.lru_cache(maxsize=1024)  # a sweep asks for the text of a plan once for every task, and again for its store
def text_of(steps: tuple[Step, ...]) -> str:
    """The canonical text of `steps`."""
    return " ".join(shape.text for shape in fold(steps))


def _shape(step: Step, known: dict[Layer, Span]) -> Shape:
    """The shape of one step; `known` keeps the shapes of layers, since long plans run the same ones often."""
    if isinstance(step, Layer):
        if step not in known:
            known[step] = Span(step.index, step.index, step.half)
        return known[step]
    return Group(tuple([_branch(branch, known) for branch in step.branches]), step.merge)


def _branch(steps: Sequence[Step], known: dict[Layer, Span]) -> tuple[Shape, ...]:
    return (_shape(steps[0], known),) if len(steps) == 1 else fold(steps)


def _letters(shapes: Sequence[Shape]) -> str:
    """One character per shape, equal where the shapes are, so that repeats are found by a pattern.

    It is NUL for a shape that is there once, which can be in no repeat: the pattern stops there.
    """
    counts = Counter(shape.text for shape in shapes)
    letters = {text: chr(number) if count > 1 else "\0" for number, (text, count) in enumerate(counts.items(), 1)}
    return "".join([letters[shape.text] for shape in shapes])


def _spans(shapes: Iterable[Shape]) -> tuple[Shape, ...]:
    """The shapes with runs of consecutive layers (same direction, same half) as one span each."""
    result: list[Shape] = []
    direction = 0  # of the span at the end of the result, once it has two layers
    for shape in shapes:
        before = result[-1] if result else None
        if isinstance(shape, Span) and isinstance(before, Span) and shape.half == before.half:
            ahead = shape.first - before.last
            if abs(ahead) == 1 and direction in (0, ahead):
                result[-1] = Span(before.first, shape.first, shape.half)
                direction = ahead
                continue
        result.append(shape)
        direction = 0
    return tuple(result)


def _is_layer(shapes: Sequence[Shape]) -> bool:
    return len(shapes) == 1 and isinstance(shapes[0], Span) and shapes[0].first == shapes[0].last


def _bracketed(body: Sequence[Shape]) -> str:
    """The text of a repeat's body, bare where it is one layer or one group."""
    if _is_layer(body) or (len(body) == 1 and isinstance(body[0], Group)):
        return body[0].text
    return f"({' '.join(shape.text for shape in body)})"


def _branch_texts(branches: Iterable[Sequence[Shape]]) -> list[str]:
    """The texts of a group's branches; consecutive one-layer branches share a span."""
    texts: list[str] = []
    single: list[Shape] = []
    for branch in branches:
        if _is_layer(branch):
            single.append(branch[0])
            continue
        texts += [span.text for span in _spans(single)]
        single = []
        texts.append(branch[0].text if len(branch) == 1 and isinstance(branch[0], Repeat) else _bracketed(branch))
    return texts + [span.text for span in _spans(single)]
