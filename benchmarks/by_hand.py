"""Plans scored without painters: lm-eval's `hf` model, its list of layers edited by hand, one evaluation per plan."""

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
    """lm-eval's `hf` model around a loaded one, and task objects that are made once for all plans."""

    def __init__(self, model: Any, tokenizer: Any, names: Sequence[str], batch_size: int) -> None:
        """`names` are those of bundled tasks, or the paths of others."""
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
        """The seconds of one evaluation, and (task, metric) -> value.

        On the CPU they are this process's: lm-eval also starts others, to write down its environment.
        """
        bars = io.StringIO()
        with edited(self._model, plan) as model, contextlib.redirect_stderr(bars):
            assert not model.config.use_cache
            began = self._clock()
            found = lm_eval.simple_evaluate(
                model=self._lm,
                tasks=[self._tasks[name] for name in names],
                task_manager=self._manager,
                bootstrap_iters=0,
                limit=limit,
                log_samples=False,
            )
            seconds = self._clock() - began
        values = {
            (task, key.split(",")[0]): value
            for task, metrics in found["results"].items()
            for key, value in metrics.items()
            if key.endswith(",none") and "stderr" not in key
        }
        return seconds, values


@dataclass(frozen=True)
class Line:
    """seconds = fixed + per_run x layer runs, by least squares; `error` is the root mean square of what it misses by,
    as a share of the mean seconds."""

    fixed: float
    per_run: float
    error: float

    @classmethod
    def through(cls, points: Sequence[tuple[int, float]]) -> Line:
        """The line through (layer runs, seconds); flat where all have the same layer runs."""
        runs, seconds = zip(*points, strict=True)
        if len(set(runs)) == 1:
            fixed, per_run = statistics.mean(seconds), 0.0
        else:
            per_run, fixed = statistics.linear_regression(runs, seconds)
        missed = [fixed + per_run * x - y for x, y in points]
        return cls(fixed, per_run, math.sqrt(statistics.mean(m * m for m in missed)) / statistics.mean(seconds))

    def total(self, plans: Iterable[Plan]) -> float:
        """The seconds of all plans together."""
        return sum(self.fixed + self.per_run * plan.layer_runs for plan in plans)


def sample(plans: Sequence[Plan], count: int, seed: int = 0) -> list[Plan]:
    """`count` of the plans, one at random from each of as many equal ranges of layer runs; all if there are fewer."""
    if count >= len(plans):
        return list(plans)
    ordered = sorted(plans, key=lambda plan: (plan.layer_runs, str(plan)))
    chosen = random.Random(seed)
    bounds = [round(i * len(ordered) / count) for i in range(count + 1)]
    return [chosen.choice(ordered[low:high]) for low, high in itertools.pairwise(bounds)]
