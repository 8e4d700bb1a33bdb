"""The floor: the least seconds of a sweep, from counted layer executions and their measured cost."""

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
    """How many token positions of a task's requests have to be run.

    Positions with the same tokens up to them count once: in `within` only if they are of one document, in `across`
    always. `scored` counts those from which an answer's token is predicted. `padded` counts the positions that lm-eval
    runs at a batch size.
    """

    within: int
    across: int
    scored: int
    padded: int

    @classmethod
    def of(cls, requests: Iterable[tuple[int, Sequence[int], Sequence[int]]], batch_size: int) -> Positions:
        """Count the positions of requests: (document, tokens of the context, tokens of the answer)."""
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
        batches = [lengths[start : start + batch_size] for start in range(0, len(lengths), batch_size)]
        return cls(len(within), len(across), len(scored), sum(len(batch) * batch[0] for batch in batches))


def tokenised(tokenizer: Any, requests: Iterable[Any]) -> list[tuple[int, list[int], list[int]]]:
    """Return (document, tokens of the context, tokens of the answer) of requests, split as by lm-eval."""
    split = []
    for request in requests:
        context, answer = request.args
        spaces = len(context) - len(context.rstrip())
        if spaces:
            context, answer = context[:-spaces], context[-spaces:] + answer
        whole = tokenizer.encode(context + answer)
        length = len(tokenizer.encode(context))
        split.append((request.doc_id, whole[:length], whole[length:]))
    return split


@dataclass(frozen=True)
class UnitCost:
    """The seconds per token position of one layer and of the head, each at its best shape.

    The head is the final norm, the logits and the log-softmax.
    """

    layer: float
    head: float


SHAPES = ((8, 32), (16, 32), (32, 32), (64, 32), (8, 64), (16, 64), (32, 64))


def measure_unit_cost(model: Any, repeats: int = 5, shapes: Sequence[tuple[int, int]] = SHAPES) -> UnitCost:
    """Measure the costs on random streams.

    All layers run in turn, so that each finds the processor's caches as in a forward.
    """
    base, clock = model.model, timing.clock(model.device)

    def cheapest(call: Callable[[torch.Tensor], object], times: int) -> float:
        best = math.inf
        for rows, length in shapes:
            stream = torch.randn(rows, length, model.config.hidden_size, dtype=model.dtype, device=model.device)
            costs = []
            for _ in range(repeats + 1):
                start = clock()
                call(stream)
                costs.append((clock() - start) / (times * rows * length))
            best = min(best, statistics.median(costs[1:]))
        return best

    def layers(stream: torch.Tensor) -> None:
        rotary = base.rotary_emb(stream, torch.arange(stream.shape[1], device=stream.device)[None])
        for layer in base.layers:
            layer(stream, attention_mask=None, position_embeddings=rotary)

    def head(stream: torch.Tensor) -> None:
        torch.log_softmax(model.lm_head(base.norm(stream)), dim=-1)

    with torch.no_grad():
        return UnitCost(cheapest(layers, len(base.layers)), cheapest(head, 1))


def floor(
    plans_by_task: Mapping[str, Sequence[Plan]],
    positions: Mapping[str, Positions],
    cost: UnitCost,
    *,
    across: bool = False,
) -> float:
    """Return the least seconds of a sweep.

    They are those of every distinct execution of a layer on every distinct position, and of the head for every plan at
    the positions where an answer is scored.
    """
    seconds = 0.0
    for task, plans in plans_by_task.items():
        counts = positions[task]
        runs = Trie.of(plans).layer_runs * (counts.across if across else counts.within)
        seconds += runs * cost.layer + len(plans) * counts.scored * cost.head
    return seconds
