"""The notation of a plan: steps folded into spans, repeats and groups, each with its text.

The text of a plan joins the texts of its shapes. Drawings are made from the same shapes.
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
"""The longest body, in steps, of a repeat that printing looks for."""
FOLD_PASSES = 3
"""The levels of repeats inside repeats that printing looks for. The two limits keep printing linear."""

# A repeat in a string of letters: the leftmost one, with the shortest period, taken as often as it follows itself.
_REPEAT = re.compile(rf"([^\0]{{1,{MAX_PERIOD}}}?)\1+")


@dataclass(frozen=True, slots=True)
class Span:
    """Layers `first` to `last`, both included and in either direction, or one half of each."""

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
class ParallelShape:
    """A parallel group: branches that run side by side."""

    branches: tuple[tuple[Shape, ...], ...]
    merge: Merge
    text: str = field(init=False)

    def __post_init__(self) -> None:
        inside = " ".join(_branch_texts(self.branches))
        object.__setattr__(self, "text", f"{{{inside}}}" + ("" if self.merge == "mean" else f":{self.merge}"))


@dataclass(frozen=True, slots=True)
class Repeat:
    """A body that runs `times` times, each time on its own output."""

    body: tuple[Shape, ...]
    times: int
    text: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", f"{_bracketed(self.body)}*{self.times}")


Shape: TypeAlias = Span | ParallelShape | Repeat
"""One element of the notation."""


def fold(steps: Sequence[Step]) -> tuple[Shape, ...]:
    """Return the shapes that `steps` are written as. Equal steps always give equal shapes."""
    layer_spans: dict[Layer, Span] = {}
    return _fold_shapes([_shape(step, layer_spans) for step in steps])


def _fold_shapes(shapes: list[Shape]) -> tuple[Shape, ...]:
    """Return the shapes with repeats and spans folded.

    Repeats are folded first: from left to right, each with the shortest period and as many times as it follows
    itself. Their bodies are folded in the same way, and so is the result, `FOLD_PASSES` times at most. Then
    neighbouring layers outside of repeats become spans.
    """
    for _ in range(FOLD_PASSES):
        folded: list[Shape] = []
        end = 0  # of the last repeat
        for match in _REPEAT.finditer(_letters(shapes)):
            start, period = match.start(), len(match[1])
            folded += shapes[end:start]
            end = match.end()
            folded.append(Repeat(_fold_shapes(shapes[start : start + period]), (end - start) // period))
        if not end:
            break
        shapes = folded + shapes[end:]
    return _join_spans(shapes)


@functools.lru_cache(maxsize=1024)  # a sweep needs the text of a plan for every task and for every record
def text_of(steps: tuple[Step, ...]) -> str:
    """Return the canonical text of `steps`."""
    return " ".join(shape.text for shape in fold(steps))


def _shape(step: Step, layer_spans: dict[Layer, Span]) -> Shape:
    """Return the shape of one step.

    `layer_spans` keeps the shape of each layer, because long plans run the same layers often.
    """
    if isinstance(step, Layer):
        if step not in layer_spans:
            layer_spans[step] = Span(step.index, step.index, step.half)
        return layer_spans[step]
    return ParallelShape(tuple([_branch(branch, layer_spans) for branch in step.branches]), step.merge)


def _branch(steps: Sequence[Step], layer_spans: dict[Layer, Span]) -> tuple[Shape, ...]:
    """Return the shapes of one branch of a group."""
    return (_shape(steps[0], layer_spans),) if len(steps) == 1 else fold(steps)


def _letters(shapes: Sequence[Shape]) -> str:
    """Return a string with one character for each shape, so that a regular expression can find repeats.

    Equal shapes have equal characters. A shape that occurs once cannot be in a repeat: its character is NUL, at which
    the expression stops.
    """
    counts = Counter(shape.text for shape in shapes)
    letters = {text: chr(number) if count > 1 else "\0" for number, (text, count) in enumerate(counts.items(), 1)}
    return "".join([letters[shape.text] for shape in shapes])


def _join_spans(shapes: Iterable[Shape]) -> tuple[Shape, ...]:
    """Return the shapes with consecutive layers, of one direction and one half, joined to spans."""
    result: list[Shape] = []
    direction = 0  # of the last span in the result: 1 or -1 once it has two layers
    for shape in shapes:
        before = result[-1] if result else None
        if isinstance(shape, Span) and isinstance(before, Span) and shape.half == before.half:
            distance = shape.first - before.last
            if abs(distance) == 1 and direction in (0, distance):
                result[-1] = Span(before.first, shape.first, shape.half)
                direction = distance
                continue
        result.append(shape)
        direction = 0
    return tuple(result)


def _is_layer(shapes: Sequence[Shape]) -> bool:
    """Return whether the shapes are a single layer."""
    return len(shapes) == 1 and isinstance(shapes[0], Span) and shapes[0].first == shapes[0].last


def _bracketed(body: Sequence[Shape]) -> str:
    """Return the text of a repeat's body: in brackets, unless it is one layer or one group."""
    if _is_layer(body) or (len(body) == 1 and isinstance(body[0], ParallelShape)):
        return body[0].text
    return f"({' '.join(shape.text for shape in body)})"


def _branch_texts(branches: Iterable[Sequence[Shape]]) -> list[str]:
    """Return the texts of a group's branches; consecutive branches of one layer share a span."""
    texts: list[str] = []
    layers: list[Shape] = []  # the one-layer branches since the last other branch
    for branch in branches:
        if _is_layer(branch):
            layers.append(branch[0])
            continue
        texts += [span.text for span in _join_spans(layers)]
        layers = []
        texts.append(branch[0].text if len(branch) == 1 and isinstance(branch[0], Repeat) else _bracketed(branch))
    return texts + [span.text for span in _join_spans(layers)]
