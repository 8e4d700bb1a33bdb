"""Fine-tune and score an encoder under plans, into one table."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from painters import results
from painters.errors import PaintersWarning
from painters.experiment.tuning import PROTOCOLS, Tuning
from painters.glue.loading import load_encoder
from painters.glue.scorer import SEED, Scorer
from painters.glue.tasks import Prepared
from painters.models import by_name_or_loaded
from painters.plan import Plan, PlansLike, distinct
from painters.progress import OnProgress, progress_callback
from painters.threads import TURNS

if TYPE_CHECKING:
    import pandas as pd


def evaluate(  # noqa: PLR0913 - options of a public call, keyword-only but for the first three
    model: Any,
    plans: PlansLike,
    tasks: str | Path | Prepared | Sequence[str | Path | Prepared],
    *,
    tuning: Tuning | str = "retuned",
    tokenizer: Any = None,
    intact: bool = True,
    limit: int | float | None = None,
    sample: int | None = None,
    sample_seed: int | None = None,
    seed: int = SEED,
    batch_size: int = 32,
    progress: OnProgress | bool | None = None,
) -> pd.DataFrame:
    """Fine-tune and score an encoder under plans; `painters.evaluate` scores decoders.

    Args:
        model: A name for `load_encoder`, or a loaded model.
        plans: One plan or several, or their texts.
        tasks: One task or several: names in `TASKS`, folders, or prepared tasks.
        tuning: How to fine-tune; or "retuned", "frozen" or "operated", which are protocols with the paper's settings.
        tokenizer: The tokenizer of a loaded model; None for a name.
        intact: Whether the intact model is fine-tuned and scored too, as the baseline in the column `intact`.
        limit: Score only the first `limit` validation documents of a task, or a share of them, such as 0.1. None scores
            all.
        sample: Score this many of them, drawn at random, instead.
        sample_seed: The seed of the draw; None for 0.
        seed: Determines fresh weights, the order of documents, and dropout.
        batch_size: The batch size of scoring. That of training is the tuning's.
        progress: True shows a progress bar, False none; None shows one in notebooks. Or a callback, called with the
            documents done, their total, and what is scored.

    Returns:
        One row per plan, task and metric, plan by plan.

    Raises:
        ModelError: For a model that cannot be loaded, or is no encoder.
        PlanError: For a plan that does not fit the model.
        TaskError: For an unknown task, or documents that cannot be read.
        ValueError: For an unknown protocol, or a batch size below 1.

    Examples:
        >>> from painters import glue
        >>> from painters.experiment.tuning import Tuning
        >>> tuning = Tuning(protocol="operated", epochs=1, documents=8)
        >>> table = glue.evaluate("nano-bert", "0-4 6-11", "nano_sst2", tuning=tuning, limit=4)
        >>> table[["plan", "task", "metric", "documents"]].values.tolist()
        [['0-4 6-11', 'nano_sst2', 'accuracy', 4]]
    """
    model, tokenizer = by_name_or_loaded(model, tokenizer, load_encoder)
    if isinstance(tuning, str):
        if tuning not in PROTOCOLS:
            raise ValueError(f"tuning {tuning!r}: give a Tuning, or one of {', '.join(PROTOCOLS)}")
        tuning = Tuning.model_validate({"protocol": tuning})
    scorer = Scorer(model, tokenizer)
    requested = distinct(plans)
    for plan in requested:
        plan.check(scorer.num_layers, scorer.name)
    names = [tasks] if isinstance(tasks, str | Path | Prepared) else list(tasks)
    selected: dict[str, Any] = {"limit": limit, "sample": sample, "sample_seed": sample_seed}
    prepared = [task if isinstance(task, Prepared) else scorer.prepare(task, tuning, **selected) for task in names]
    for note in (note for task in prepared for note in task.notes):
        warnings.warn(note, PaintersWarning, stacklevel=2)
    identity = Plan.identity(scorer.num_layers)
    scored = requested if identity in requested or not intact else (identity, *requested)
    with TURNS, progress_callback(progress) as on_progress:
        options: dict[str, Any] = {"seed": seed, "batch_size": batch_size, "progress": on_progress}
        records = [record for task in prepared for record in scorer.score_together(scored, task, tuning, **options)]
    order = [str(plan) for plan in requested]
    table = results.frame(records)
    table = table[table["plan"].isin(order)]
    return table.sort_values("plan", key=lambda texts: texts.map(order.index), kind="stable", ignore_index=True)
