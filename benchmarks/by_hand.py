"""Score plans without painters: lm-eval's `hf` model with an edited layer list, one run per plan."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import math
import random
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lm_eval
import lm_eval.api.task
import lm_eval.tasks
import timing
from lm_eval.models.huggingface import HFLM
from rivals import edited

from painters import Plan, tasks


class ByHand:
    """lm-eval's `hf` model around a loaded one, with task objects that are made once for all plans.

    Args:
        model: A loaded model.
        tokenizer: Its tokenizer.
        names: Names of bundled tasks, or paths of others.
        batch_size: The batch size of lm-eval.
    """

    def __init__(self, model: Any, tokenizer: Any, names: Sequence[str], batch_size: int) -> None:
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        self._lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
        self._model = model
        self._manager = lm_eval.tasks.TaskManager(include_defaults=False)
        paths = tasks.bundled()
        self._tasks = {
            name: lm_eval.api.task.ConfigurableTask(config=tasks.config(paths.get(name, Path(name)))) for name in names
        }
        self._clock = timing.clock(model.device)

    def score(self, plan: Plan, names: Sequence[str], limit: int | None) -> tuple[float, dict[tuple[str, str], float]]:
        """Return the seconds of one evaluation, and its values by (task, metric).

        On the CPU the seconds are this process's alone: lm-eval also starts others, to describe its environment.
        """
        bars = io.StringIO()
        with edited(self._model, plan) as model, contextlib.redirect_stderr(bars):
            assert not model.config.use_cache
            start = self._clock()
            results = lm_eval.simple_evaluate(
                model=self._lm,
                tasks=[self._tasks[name] for name in names],
                task_manager=self._manager,
                bootstrap_iters=0,
                limit=limit,
                log_samples=False,
            )
            seconds = self._clock() - start
        values = {
            (task, key.split(",")[0]): value
            for task, metrics in results["results"].items()
            for key, value in metrics.items()
            if key.endswith(",none") and "stderr" not in key
        }
        return seconds, values


@dataclass(frozen=True)
class Line:
    """The least-squares line seconds = fixed + per_run x layer runs.

    `error` is the root mean square of its residuals, as a share of the mean seconds.
    """

    fixed: float
    per_run: float
    error: float

    @classmethod
    def through(cls, points: Sequence[tuple[int, float]]) -> Line:
        """Return the line through points (layer runs, seconds); flat where all have the same layer runs."""
        runs, seconds = zip(*points, strict=True)
        if len(set(runs)) == 1:
            fixed, per_run = statistics.mean(seconds), 0.0
        else:
            per_run, fixed = statistics.linear_regression(runs, seconds)
        residuals = [fixed + per_run * x - y for x, y in points]
        return cls(fixed, per_run, math.sqrt(statistics.mean(r * r for r in residuals)) / statistics.mean(seconds))

    def total(self, plans: Iterable[Plan]) -> float:
        """Return the seconds of all plans together."""
        return sum(self.fixed + self.per_run * plan.layer_runs for plan in plans)


def sample(plans: Sequence[Plan], count: int, seed: int = 0) -> list[Plan]:
    """Return one random plan from each of `count` equal ranges of layer runs; all if there are fewer."""
    if count >= len(plans):
        return list(plans)
    ordered = sorted(plans, key=lambda plan: (plan.layer_runs, str(plan)))
    draw = random.Random(seed)
    bounds = [round(i * len(ordered) / count) for i in range(count + 1)]
    return [draw.choice(ordered[low:high]) for low, high in itertools.pairwise(bounds)]
