"""Measure sweeps of many plans: `score_together` against lm-eval by hand, and against the floor.

*By hand* is lm-eval's own `hf` model with an edited list of layers, one evaluation per plan. The *floor* is the work
that no order of running can avoid.

    python benchmarks/sweeps.py fig2 windows fig10 all --tasks mc ll

Where lm-eval's side is sampled (`--sample`), the seconds of a whole sweep come from a line through the plans that were
measured, seconds = fixed + per layer run x layer runs. Its largest error is printed.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timing
import torch
from by_hand import ByHand, Line, sample
from floor import Positions, floor, measure_unit_cost, tokenised

from painters import Plan, experiment, variants
from painters.harness import load_model, prepare, score_together
from painters.sharing.trie import Trie

TASKS = {
    "mc": ("nano_arc", "nano_hellaswag"),
    "ll": ("nano_arc", "nano_hellaswag", "nano_winogrande", "nano_lambada"),
}
"""Set -> the multiple-choice tasks, and all that are scored by log-likelihoods."""


@dataclass(frozen=True)
class Part:
    """Plans, and the tasks that all of them are scored on."""

    plans: tuple[Plan, ...]
    tasks: tuple[str, ...]


def fig2(num_layers: int) -> list[Plan]:
    """Return the plans of figure 2: every layer skipped, and every two neighbours swapped."""
    return [
        *(variants.skip_layer(num_layers=num_layers, layer=layer) for layer in range(num_layers)),
        *(variants.swap(num_layers=num_layers, layer=layer) for layer in range(num_layers - 1)),
    ]


def windows(num_layers: int) -> list[Plan]:
    """Return the plans of figures 4 to 9: all rules on every window, the parallel one also three times."""
    return [
        plan
        for start in variants.windows(num_layers)
        for plan in (
            variants.skip(num_layers=num_layers, start=start),
            variants.middle_repeat(num_layers=num_layers, start=start),
            variants.reverse(num_layers=num_layers, start=start),
            variants.shuffle(num_layers=num_layers, start=start, seed=0),
            variants.parallel(num_layers=num_layers, start=start),
            variants.parallel(num_layers=num_layers, start=start, loops=3),
        )
    ]


def fig10(num_layers: int) -> list[Plan]:
    """Return the plans of figure 10: every window in parallel, 1 to 16 times."""
    return [
        variants.parallel(num_layers=num_layers, start=start, loops=loops)
        for start in variants.windows(num_layers)
        for loops in range(1, 17)
    ]


SWEEPS: dict[str, Callable[[int], list[Plan]]] = {"fig2": fig2, "windows": windows, "fig10": fig10}


def parts_of(sweep: str, tasks: Sequence[str], num_layers: int) -> list[Part]:
    """Return the plans of a sweep with their tasks; `all` is every cell of figures 2 to 11."""
    if sweep != "all":
        return [Part(tuple(dict.fromkeys(SWEEPS[sweep](num_layers))), tuple(tasks))]
    figures = [experiment.load(experiment.find(f"fig{number}")) for number in range(2, 12)]
    tasks_of: dict[Plan, list[str]] = {}
    for cell in experiment.cells(figures, lambda model: num_layers):
        if cell.model == "nano-llama" and cell.task in tasks:
            tasks_of.setdefault(cell.plan, []).append(cell.task)
    parts: dict[tuple[str, ...], list[Plan]] = {}
    for plan, its_tasks in tasks_of.items():
        parts.setdefault(tuple(task for task in tasks if task in its_tasks), []).append(plan)
    return [Part(tuple(plans), shared_tasks) for shared_tasks, plans in parts.items()]


def plans_by_task(parts: Iterable[Part]) -> dict[str, list[Plan]]:
    """Return the distinct plans of each task, in order."""
    by_task: dict[str, dict[Plan, None]] = {}
    for part in parts:
        for task in part.tasks:
            by_task.setdefault(task, {}).update(dict.fromkeys(part.plans))
    return {task: list(plans) for task, plans in by_task.items()}


@dataclass(frozen=True)
class Turn:
    """One measurement of a sweep, in seconds.

    Attributes:
        ours: The seconds of all plans with `score_together`.
        by_hand_measured: lm-eval's seconds for the sampled plans.
        by_hand: lm-eval's seconds for all plans, by the line.
        fit_error: The line's largest error, as a share.
        floor: The floor with positions shared within documents.
        floor_across: The floor with positions shared across documents too.
    """

    ours: float
    by_hand_measured: float
    by_hand: float
    fit_error: float
    floor: float
    floor_across: float


class PreparedSweep:
    """A sweep that is prepared on both sides, with its layer runs and positions counted."""

    def __init__(
        self, model: Any, tokenizer: Any, parts: Sequence[Part], sizes: BatchSizes, limit: int | None, exact: bool
    ) -> None:
        self._model, self._tokenizer, self._parts, self._exact = model, tokenizer, parts, exact
        self._sizes, self._limit = sizes, limit
        # Other batches add up in another order, and half precision rounds differently.
        self._rounding = 0.1 if model.dtype != torch.float32 else 1e-5 if exact else 0.01
        self.plans_by_task = plans_by_task(parts)
        self._by_hand = ByHand(model, tokenizer, list(self.plans_by_task), sizes.by_hand)
        self._prepared = prepared(self.plans_by_task, limit)
        self._positions = {
            name: Positions.of(tokenised(tokenizer, task.requests), sizes.by_hand)
            for name, task in self._prepared.items()
        }

    @property
    def counted(self) -> dict[str, int]:
        """The plans and cells, and over all tasks the layer runs, alone and shared, and token positions."""
        plans_of_tasks = self.plans_by_task.values()
        return {
            "plans": len({plan for plans in plans_of_tasks for plan in plans}),
            "cells": sum(map(len, plans_of_tasks)),
            "layer_runs_alone": sum(plan.layer_runs for plans in plans_of_tasks for plan in plans),
            "layer_runs_shared": sum(Trie.of(plans).layer_runs for plans in plans_of_tasks),
            **{
                f"positions_{kind}": sum(getattr(positions, kind) for positions in self._positions.values())
                for kind in ("padded", "within", "across", "scored")
            },
        }

    def measured(self, name: str, tasks: str, turns: int, count: int) -> dict[str, Any]:
        """Measure `turns` times; return a report with the names of the sweep and of its tasks."""
        return {
            "sweep": name,
            "tasks": tasks,
            "exact": self._exact,
            "batch_sizes": asdict(self._sizes),
            "counted": self.counted,
            "turns": [asdict(self.turn(count, seed)) for seed in range(turns)],
        }

    def turn(self, count: int, seed: int) -> Turn:
        """Measure both sides and the floor in turn; lm-eval scores `count` plans of each part."""
        measured = total = 0.0
        errors, scores = [], {}
        for part in self._parts:
            points = []
            for plan in sample(part.plans, count, seed):
                seconds, values = self._by_hand.score(plan, part.tasks, self._limit)
                points.append((plan.layer_runs, seconds))
                scores.update({(str(plan), *key): value for key, value in values.items()})
            line = Line.through(points)
            measured += sum(seconds for _, seconds in points)
            total += line.total(part.plans)
            errors.append(line.error)
        ours, values = together(
            self._model, self._tokenizer, self.plans_by_task, self._prepared, self._sizes.ours, self._exact
        )
        documents = {task.name: task.documents for task in self._prepared.values()}
        check(scores, values, documents, self._rounding)
        cost = measure_unit_cost(self._model)
        lower = floor(self.plans_by_task, self._positions, cost)
        lowest = floor(self.plans_by_task, self._positions, cost, across=True)
        return Turn(ours, measured, total, max(errors), lower, lowest)


@dataclass(frozen=True)
class BatchSizes:
    """The batch size at which each side is fastest."""

    by_hand: int
    ours: int

    @classmethod
    def best(
        cls, model: Any, tokenizer: Any, names: Sequence[str], tried: Sequence[int], limit: int | None
    ) -> BatchSizes:
        """Return the sizes among `tried` that are fastest on the intact model."""
        if len(tried) == 1:
            return cls(tried[0], tried[0])
        identity = Plan.identity(model.config.num_hidden_layers)
        tasks = prepared(names, limit)
        by_hand, ours = {}, {}
        for size in tried:
            by_hand[size], _ = ByHand(model, tokenizer, names, size).score(identity, names, limit)
            plans = {name: [identity] for name in names}
            ours[size], _ = together(model, tokenizer, plans, tasks, size, exact=False)
        return cls(min(by_hand, key=by_hand.__getitem__), min(ours, key=ours.__getitem__))


def prepared(names: Iterable[str], limit: int | None) -> dict[str, Any]:
    """Return the prepared tasks by name; a name is that of a bundled task, or the path of another."""
    return dict(zip(names, prepare(list(names), limit=limit), strict=True))


def together(
    model: Any,
    tokenizer: Any,
    plans_by_task: Mapping[str, Sequence[Plan]],
    tasks: Mapping[str, Any],
    batch_size: int,
    exact: bool,
) -> tuple[float, dict[tuple[str, str, str], float | None]]:
    """Return the seconds of all plans on their tasks, and the values by (plan, task, metric)."""
    values = {}
    clock = timing.clock(model.device)
    start = clock()
    for task, plans in plans_by_task.items():
        for record in score_together(model, tokenizer, plans, tasks[task], batch_size=batch_size, exact_batching=exact):
            values[record.plan, record.task, record.metric] = record.value
    return clock() - start, values


def check(
    by_hand: Mapping[tuple[str, str, str], float],
    ours: Mapping[tuple[str, str, str], float | None],
    documents: Mapping[str, int],
    share: float,
) -> None:
    """Raise AssertionError where a score differs by more than `share` of it and of the documents."""
    for (plan, task, metric), value in by_hand.items():
        our_value = ours[plan, task, metric]
        if our_value is None:
            continue  # a perplexity that is not finite
        tolerance = max(share * abs(value), math.floor(share * documents[task] + 0.5) / documents[task])
        assert abs(our_value - value) <= tolerance + 1e-9, (
            f"{metric} of {task} under {plan}: {our_value} here, {value} by lm-eval"
        )


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure and print; return for every sweep and set of tasks the turns and the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweeps", nargs="*", default=["fig2", "windows", "fig10"], help="fig2, windows, fig10, all")
    parser.add_argument("--tasks", nargs="+", default=["mc", "ll"], choices=list(TASKS))
    parser.add_argument("--limit", type=int, default=100, help="documents of each task")
    parser.add_argument("--turns", type=int, default=3, help="measurements of each sweep")
    parser.add_argument("--sample", type=int, default=5, help="plans that lm-eval scores in a turn")
    parser.add_argument(
        "--batch-sizes", type=int, nargs="+", default=[16, 32, 64], help="each side takes the fastest of them"
    )
    parser.add_argument("--exact-batching", action="store_true", help="ours in lm-eval's batches, to the last digit")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    model, tokenizer = load_model("nano-llama")
    report: dict[str, Any] = {"machine": timing.machine(), "limit": options.limit, "sweeps": []}
    sizes = {
        name: BatchSizes.best(model, tokenizer, TASKS[name], options.batch_sizes, options.limit)
        for name in dict.fromkeys(options.tasks)
    }
    for sweep in options.sweeps:
        for name, size in sizes.items():
            parts = parts_of(sweep, TASKS[name], model.config.num_hidden_layers)
            ready = PreparedSweep(model, tokenizer, parts, size, options.limit, options.exact_batching)
            report["sweeps"].append(ready.measured(sweep, name, options.turns, options.sample))
            timing.write(options.json, report)
            show(report["sweeps"][-1])
    return report


def show(sweep: dict[str, Any]) -> None:
    """Print the times and counts of one sweep."""
    turns, counted = sweep["turns"], sweep["counted"]

    def spread(values: list[float]) -> str:
        return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"

    def seconds(name: str) -> str:
        return spread([turn[name] for turn in turns])

    def over(name: str, base: str) -> str:
        return spread([turn[name] / turn[base] for turn in turns])

    batching = "lm-eval's batches" if sweep["exact"] else "token trees"
    timing.show(
        f"{sweep['sweep']} on {sweep['tasks']} ({batching}), medians of {len(turns)} turns (least to most)",
        ["", ""],
        [
            ["plans, cells", f"{counted['plans']}, {counted['cells']}"],
            ["layer runs alone, shared", f"{counted['layer_runs_alone']}, {counted['layer_runs_shared']}"],
            ["positions padded, within documents", f"{counted['positions_padded']}, {counted['positions_within']}"],
            ["positions across documents, scored", f"{counted['positions_across']}, {counted['positions_scored']}"],
            ["batch size by hand, ours", "{by_hand}, {ours}".format(**sweep["batch_sizes"])],
            ["by hand, plans measured (s)", seconds("by_hand_measured")],
            ["by hand, all plans by the line (s)", seconds("by_hand")],
            ["largest error of the line", f"{max(turn['fit_error'] for turn in turns):.1%} at most"],
            ["ours (s)", seconds("ours")],
            ["floor (s)", seconds("floor")],
            ["by hand / ours", over("by_hand", "ours")],
            ["ours / floor within documents", over("ours", "floor")],
            ["ours / floor across documents", over("ours", "floor_across")],
        ],
    )


if __name__ == "__main__":
    main()
