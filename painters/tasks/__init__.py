"""Tasks as files: the bundled ones, those of users, and the documents of either.

To add a bundled task, add a folder with its YAML and its documents. The package needs neither lm-eval nor torch.
"""

from __future__ import annotations

from painters.tasks.bundled import FOLDER, FOR_LM_EVAL, bundled, config, describe, output_type
from painters.tasks.documents import SUFFIXES, reader
from painters.tasks.errors import ScoringError, TaskError, TaskUnavailableError
from painters.tasks.folders import available, check_folder, in_folder, located, task_name

__all__ = [
    "FOLDER",
    "FOR_LM_EVAL",
    "SUFFIXES",
    "ScoringError",
    "TaskError",
    "TaskUnavailableError",
    "available",
    "bundled",
    "check_folder",
    "config",
    "describe",
    "in_folder",
    "located",
    "output_type",
    "reader",
    "task_name",
]
