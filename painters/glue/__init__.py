"""Fine-tune and score encoders under a plan, on GLUE's tasks and on the bundled ones."""

from __future__ import annotations

from painters.glue.evaluation import evaluate
from painters.glue.loading import load_encoder
from painters.glue.scorer import Scorer
from painters.glue.tasks import TASKS, Prepared, Task, prepare
from painters.models import ModelError

__all__ = ["TASKS", "ModelError", "Prepared", "Scorer", "Task", "evaluate", "load_encoder", "prepare"]
