"""The bundled tasks, and task files as configurations for lm-eval.

Each bundled task is a folder with a YAML and its documents as JSON lines. To add a task, add such a folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from painters.errors import first_line
from painters.tasks.documents import files_named, with_documents
from painters.tasks.errors import TaskError
from painters.tasks.files import read

__all__ = ["FOLDER", "FOR_LM_EVAL", "bundled", "config", "describe", "output_type"]

FOLDER: Final = Path(__file__).parents[1] / "nano" / "tasks"
"""The folder of the bundled tasks."""
FOR_LM_EVAL: Final = FOLDER / "for_lm_eval"
"""The bundled tasks as lm-eval's own command line finds them from anywhere, with `--include_path`."""


def bundled(folder: Path = FOLDER) -> dict[str, Path]:
    """Return the tasks in a folder.

    Args:
        folder: A folder with a folder for each task; by default that of the tasks that come with painters.

    Returns:
        The path of each task's YAML, by the name of the task, in alphabetical order.

    Examples:
        >>> from painters import tasks
        >>> list(tasks.bundled())
        ['nano_arc', 'nano_gsm8k', 'nano_hellaswag', 'nano_lambada', 'nano_winogrande']
    """
    paths = sorted(folder.glob("*/*.yaml"))
    return {path.stem: path for path in paths if path.stem == path.parent.name}


def describe(path: Path) -> dict[str, Any]:
    """Return a description of a task.

    Args:
        path: The task's YAML.

    Returns:
        A dict with `documents` (their number), `answer` (the type of the answers, in lm-eval's words), `metrics`
        (their names), `shots`, `version` and `about` (one sentence).

    Raises:
        TaskError: The YAML or its documents are missing or malformed.

    Examples:
        >>> from painters import tasks
        >>> about = tasks.describe(tasks.bundled()["nano_arc"])
        >>> about["documents"], about["answer"], about["metrics"]
        (500, 'multiple_choice', ['acc', 'acc_norm'])
    """
    fields = read(path)
    metadata = fields.get("metadata", {})
    return {
        "documents": _count(path, fields),
        "answer": fields["output_type"],
        "metrics": [metric["metric"] for metric in fields["metric_list"]],
        "shots": fields.get("num_fewshot", 0),
        "version": metadata.get("version"),
        "about": metadata.get("about", ""),
    }


def output_type(path: Path) -> str | None:
    """Return the type of a task's answers, in lm-eval's words.

    Args:
        path: The task's YAML.

    Returns:
        The type, such as "multiple_choice"; None if the YAML does not say.

    Raises:
        TaskError: The YAML is missing or malformed.

    Examples:
        >>> from painters import tasks
        >>> tasks.output_type(tasks.bundled()["nano_gsm8k"])
        'generate_until'
    """
    value = read(path).get("output_type")
    return value if isinstance(value, str) else None


def config(path: Path) -> dict[str, Any]:
    """Return the configuration of a task for lm-eval's `ConfigurableTask`.

    The documents are read into memory when lm-eval builds the task. Its own `dataset_path: json` would look for them
    relative to the working directory, and would leave a copy in the user's cache.

    Args:
        path: The task's YAML: plain YAML, which may include other files in its folder.

    Returns:
        The fields of the YAML, with a function that reads the documents as `custom_dataset`, unless they are on the
        hub.

    Raises:
        TaskError: The YAML is missing or malformed, names Python, or its documents are outside of its folder.

    Examples:
        >>> from painters import tasks
        >>> fields = tasks.config(tasks.bundled()["nano_lambada"])
        >>> fields["task"], callable(fields["custom_dataset"])
        ('nano_lambada', True)
    """
    fields = read(path)
    if "group" in fields:
        raise TaskError(f"task in {path.name}: it is a group, {fields['group']}: give one of its tasks")
    return with_documents(fields, path.parent)


def _count(path: Path, fields: dict[str, Any]) -> int:
    """Return the number of documents that a task with JSON lines is scored on, without loading `datasets`."""
    count = 0
    for file in files_named(fields, path.parent).get(fields["test_split"], []):
        try:
            count += sum(bool(line.strip()) for line in file.read_text(encoding="utf-8").split("\n"))
        except OSError as error:
            raise TaskError(
                f"task {fields['task']!r} needs {file.name} beside its YAML: {first_line(error)}"
            ) from error
    return count
