"""Plans scored by lm-eval: its tasks, its prompts and its metrics, and the model under a plan.

Requests are built once and answered by every plan, batched task by task, so that a number depends neither on
the other tasks nor on the other plans of a call. lm-eval's cache of answers is never used: it knows nothing
of plans.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from painters import results
from painters.harness.lm import PaintersLM
from painters.harness.scorer import Progress, Scorer, Teller
from painters.harness.task_texts import texts
from painters.harness.tasks import SEED, Prepared, prepare
from painters.models import ModelError, by_name_or_loaded, load_model
from painters.plan import Plan, distinct
from painters.progress import progress_callback
from painters.results import Record
from painters.stack import LayerStack
from painters.tasks import TaskError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ModelError",
    "PaintersLM",
    "Prepared",
    "Progress",
    "Scorer",
    "TaskError",
    "evaluate",
    "load_model",
    "prepare",
    "score",
    "score_all",
    "score_together",
    "texts",
]


def evaluate(
    model: Any,
    plans: str | Plan | Sequence[str | Plan],
    tasks: str | Prepared | Sequence[str | Prepared],
    *,
    tokenizer: Any = None,
    intact: bool = True,
    kv: str = "exact",
    limit: int | None = None,
    num_fewshot: int | None = None,
    batch_size: int = 8,
    seed: int = SEED,
    exact_batching: bool = False,
    progress: Progress | bool | None = None,
) -> pd.DataFrame:
    """One row per plan, task and metric: the value, its standard error, and how it compares with the intact
    model.

    `model` is a name for `load_model`, or a loaded model with its `tokenizer`. With `intact` the model as it
    is gets scored too, and fills the columns intact, difference, difference_stderr (paired) and normalised;
    it has rows of its own only where it is among `plans`. `painters.results.frame` lists the columns.

    Plans and requests share what they have in common, which moves log-likelihoods by float rounding only; with
    `exact_batching` they are lm-eval's to the last digit, and take longer (`Scorer.score`).
    """
    model, tokenizer = by_name_or_loaded(model, tokenizer, load_model)
    wanted = distinct(plans)
    identity = Plan.identity(LayerStack.find(model).num_layers)
    scored = wanted if identity in wanted or not intact else (identity, *wanted)
    with progress_callback(progress) as on_progress:
        records = list(
            score_together(
                model,
                tokenizer,
                scored,
                tasks,
                kv=kv,
                limit=limit,
                num_fewshot=num_fewshot,
                batch_size=batch_size,
                seed=seed,
                exact_batching=exact_batching,
                progress=on_progress,
            )
        )
    order = {str(plan): place for place, plan in enumerate(scored)}
    table = results.frame(sorted(records, key=lambda record: order[record.plan]))
    return table[table["plan"].isin([str(plan) for plan in wanted])].reset_index(drop=True)


def score(
    model: Any,
    tokenizer: Any,
    plan: str | Plan,
    tasks: str | Prepared | Sequence[str | Prepared],
    *,
    kv: str = "exact",
    limit: int | None = None,
    num_fewshot: int | None = None,
    batch_size: int = 8,
    seed: int = SEED,
    progress: Progress | bool | None = None,
) -> list[Record]:
    """The records of one plan: one for every metric of every task. `progress` as in `evaluate`."""
    with progress_callback(progress) as on_progress:
        return list(
            score_all(
                model,
                tokenizer,
                [plan],
                tasks,
                kv=kv,
                limit=limit,
                num_fewshot=num_fewshot,
                batch_size=batch_size,
                seed=seed,
                progress=on_progress,
            )
        )


def score_all(
    model: Any,
    tokenizer: Any,
    plans: str | Plan | Sequence[str | Plan],
    tasks: str | Prepared | Sequence[str | Prepared],
    *,
    kv: str = "exact",
    limit: int | None = None,
    num_fewshot: int | None = None,
    batch_size: int = 8,
    seed: int = SEED,
    progress: Progress | None = None,
) -> Iterator[Record]:
    """The records of all plans, plan by plan and task by task, each as soon as its task is scored.

    Everything is checked before the first request runs. `batch_size` is part of a number's protocol: sums
    over other batches differ in the last digits, and in bfloat16 in the first.
    """
    scorer = Scorer(model, tokenizer)
    wanted, prepared, counter = _asked(scorer, plans, tasks, kv, limit, num_fewshot, batch_size, seed, progress)
    for plan in wanted:
        for task in prepared:
            yield from scorer.score_alone(plan, task, kv=kv, batch_size=batch_size, progress=counter.onwards())


def score_together(
    model: Any,
    tokenizer: Any,
    plans: str | Plan | Sequence[str | Plan],
    tasks: str | Prepared | Sequence[str | Prepared],
    *,
    kv: str = "exact",
    limit: int | None = None,
    num_fewshot: int | None = None,
    batch_size: int = 8,
    seed: int = SEED,
    exact_batching: bool = False,
    notes: Counter[str] | None = None,
    progress: Progress | None = None,
) -> Iterator[Record]:
    """The records of all plans, task by task and plan by plan, at the price of what the plans do not have in common.

    `Scorer` says how. With `exact_batching` they are those of `score_all`, number for number; without it up to
    rounding. What a user should know of how it went is counted in `notes`, and where there are none it is a warning.
    """
    scorer = Scorer(model, tokenizer)
    wanted, prepared, counter = _asked(scorer, plans, tasks, kv, limit, num_fewshot, batch_size, seed, progress)
    for task in prepared:
        yield from scorer.score(
            wanted, task, kv=kv, batch_size=batch_size, exact_batching=exact_batching, progress=counter.onwards()
        )
    if notes is not None:
        notes.update(scorer.notes)
        return
    for note in scorer.notes:
        warnings.warn(note, stacklevel=2)


def _asked(
    scorer: Scorer,
    plans: str | Plan | Sequence[str | Plan],
    tasks: str | Prepared | Sequence[str | Prepared],
    kv: str,
    limit: int | None,
    num_fewshot: int | None,
    batch_size: int,
    seed: int,
    progress: Progress | None,
) -> tuple[tuple[Plan, ...], tuple[Prepared, ...], Teller]:
    """The distinct plans, the tasks with their requests, and what counts the answers of all; all is checked."""
    wanted = scorer.check(plans, kv, batch_size)
    prepared = prepare(tasks, limit=limit, num_fewshot=num_fewshot, seed=seed)
    return wanted, prepared, Teller(progress, total=len(wanted) * sum(len(task.requests) for task in prepared))
