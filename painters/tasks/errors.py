"""The errors of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from painters.errors import PaintersError

__all__ = ["ScoringError", "TaskError", "TaskUnavailableError"]


class TaskError(PaintersError, ValueError):
    """A task that does not exist, is malformed, or cannot be loaded."""

    exit_code = 2


class TaskUnavailableError(TaskError):
    """A task that exists, but whose documents cannot be loaded at the moment."""

    exit_code = 1


class ScoringError(TaskError):
    """A task that could not be scored: lm-eval, transformers or the task's own code raised an error.

    Attributes:
        records: The records of what else the call scored, for `painters.results.frame`.
    """

    exit_code = 1
    records: Sequence[Any] = ()
