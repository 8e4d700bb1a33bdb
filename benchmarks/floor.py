"""The floor: what a sweep takes at least, counted in layer executions on token positions and priced by measurement."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import timing
import torch

from painters import Plan
from painters.sharing.trie import Trie


@dataclass(frozen=True)
class Positions:
    """What of a task's requests has to be run: token positions with different tokens up to them.

    `within` counts them document by document, whose requests share their beginnings; `across` counts also what
    documents have in common once. `scored` are those from which an answer's token is predicted. `padded` are the
    positions that lm-eval runs at a batch size.
    """

    within: int
    across: int
    scored: int
    padded: int

    @classmethod
    def of(cls, requests: Iterable[tuple[int, Sequence[int], Sequence[int]]], batch_size: int) -> Positions:
        """Of (document, tokens of the context, tokens of the answer)."""
        within, across, scored = set(), set(), set()
        rows = set()
        for document, context, answer in requests:
            inputs = (*context, *answer[:-1])
            for end in range(1, len(inputs) + 1):
                across.add(inputs[:end])
                within.add((document, inputs[:end]))
                if end >= len(context):
                    scored.add((document, inputs[:end]))
            rows.add(inputs)
        lengths = sorted(map(len, rows), reverse=True)
        batches = [lengths[begin : begin + batch_size] for begin in range(0, len(lengths), batch_size)]
        return cls(len(within), len(across), len(scored), sum(len(batch) * batch[0] for batch in batches))


def tokenised(tokenizer: Any, requests: Iterable[Any]) -> list[tuple[int, list[int], list[int]]]:
    """(document, tokens of the context, tokens of the answer) of lm-eval's requests, split as lm-eval splits them."""
    found = []
    for request in requests:
        context, answer = request.args
        spaces = len(context) - len(context.rstrip())
        if spaces:
            context, answer = context[:-spaces], context[-spaces:] + answer
        whole = tokenizer.encode(context + answer)
        length = len(tokenizer.encode(context))
        found.append((request.doc_id, whole[:length], whole[length:]))
    return found


@dataclass(frozen=True)
class Unit:
    """The seconds of one layer and of the head (final norm, logits and log-softmax) for a token position, each at
    the shape that is best among those tried."""

    layer: float
    head: float


SHAPES = ((8, 32), (16, 32), (32, 32), (64, 32), (8, 64), (16, 64), (32, 64))


def unit(model: Any, repeats: int = 5, shapes: Sequence[tuple[int, int]] = SHAPES) -> Unit:
    """Measured on random streams, all layers in turn, so that each finds the caches as in a forward."""
    base, clock = model.model, timing.clock(model.device)

    def cheapest(call: Callable[[torch.Tensor], object], times: int) -> float:
        best = math.inf
        for rows, length in shapes:
            stream = torch.randn(rows, length, model.config.hidden_size, dtype=model.dtype, device=model.device)
            taken = []
            for _ in range(repeats + 1):
                began = clock()
                call(stream)
                taken.append((clock() - began) / (times * rows * length))
            best = min(best, statistics.median(taken[1:]))
        return best

    def layers(stream: torch.Tensor) -> None:
        rotary = base.rotary_emb(stream, torch.arange(stream.shape[1], device=stream.device)[None])
        for layer in base.layers:
            layer(stream, attention_mask=None, position_embeddings=rotary)

    def head(stream: torch.Tensor) -> None:
        torch.log_softmax(model.lm_head(base.norm(stream)), dim=-1)

    with torch.no_grad():
        return Unit(cheapest(layers, len(base.layers)), cheapest(head, 1))


def floor(
    plans_by_task: Mapping[str, Sequence[Plan]], positions: Mapping[str, Positions], unit: Unit, *, across: bool = False
) -> float:
    """The seconds that a sweep takes at least: every distinct execution of a layer on every distinct position, and the
    head for every plan where an answer is scored."""
    seconds = 0.0
    for task, plans in plans_by_task.items():
        found = positions[task]
        runs = Trie.of(plans).layer_runs * (found.across if across else found.within)
        seconds += runs * unit.layer + len(plans) * found.scored * unit.head
    return seconds
