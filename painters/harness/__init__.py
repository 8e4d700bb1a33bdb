"""Score plans with lm-eval's tasks, prompts and metrics.

Importing the package loads neither torch nor lm-eval: the names below bring them when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from painters._lazy import attach

if TYPE_CHECKING:
    from painters.harness.evaluation import evaluate, score, score_all, score_beside_intact, score_together
    from painters.harness.lm import PaintersLM
    from painters.harness.scorer import Progress, Scorer
    from painters.harness.task_texts import texts
    from painters.harness.tasks import Prepared, prepare
    from painters.models import ModelError, load_model
    from painters.tasks import ScoringError, TaskError

__all__ = [
    "ModelError",
    "PaintersLM",
    "Prepared",
    "Progress",
    "Scorer",
    "ScoringError",
    "TaskError",
    "evaluate",
    "load_model",
    "prepare",
    "score",
    "score_all",
    "score_beside_intact",
    "score_together",
    "texts",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "evaluate": "painters.harness.evaluation",
        "score": "painters.harness.evaluation",
        "score_all": "painters.harness.evaluation",
        "score_beside_intact": "painters.harness.evaluation",
        "score_together": "painters.harness.evaluation",
        "PaintersLM": "painters.harness.lm",
        "Progress": "painters.harness.scorer",
        "Scorer": "painters.harness.scorer",
        "texts": "painters.harness.task_texts",
        "Prepared": "painters.harness.tasks",
        "prepare": "painters.harness.tasks",
        "ModelError": "painters.models",
        "load_model": "painters.models",
        "ScoringError": "painters.tasks",
        "TaskError": "painters.tasks",
    },
)
