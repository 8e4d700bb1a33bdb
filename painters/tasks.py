"""The bundled tasks, as configurations for lm-eval.

Each is a folder with a YAML and its documents as JSON lines. To add a task, add such a folder. This module needs
neither lm-eval nor torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from painters.errors import PaintersError

__all__ = [
    "ScoringError",
    "TaskError",
    "TaskUnavailableError",
    "bundled",
    "config",
    "describe",
    "output_type",
    "reader",
]

FOLDER = Path(__file__).parent / "nano" / "tasks"


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
    fields = _read(path)
    metadata = fields.get("metadata", {})
    test_documents = _documents_path(path, fields["dataset_kwargs"]["data_files"][fields["test_split"]])
    return {
        "documents": len(_documents(test_documents, fields["task"])),
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
    value = _read(path).get("output_type")
    return value if isinstance(value, str) else None


def config(path: Path) -> dict[str, Any]:
    """Return the configuration of a task for lm-eval's `ConfigurableTask`.

    The documents are read into memory when lm-eval builds the task. Its own `dataset_path: json` would look for them
    relative to the working directory, and would leave a copy in the user's cache.

    Args:
        path: The task's YAML.

    Returns:
        The fields of the YAML, with a function that reads the documents as `custom_dataset`.

    Raises:
        TaskError: The YAML is missing or malformed, or its documents are outside of its folder.

    Examples:
        >>> from painters import tasks
        >>> fields = tasks.config(tasks.bundled()["nano_lambada"])
        >>> fields["task"], callable(fields["custom_dataset"])
        ('nano_lambada', True)
    """
    fields = _read(path)
    files = fields.pop("dataset_kwargs")["data_files"]
    paths = {split: _documents_path(path, file) for split, file in files.items()}
    fields["custom_dataset"] = reader(paths, fields["task"])
    return fields


def reader(paths: dict[str, Path], name: str) -> Callable[..., dict[str, Any]]:
    """Return a function that reads a task's documents, for `custom_dataset` in its configuration.

    Args:
        paths: The file of each split, with a document of JSON on each line.
        name: What error messages call the task.

    Returns:
        A function that returns a `datasets.Dataset` for each split. lm-eval calls it with the task's metadata. It
        raises `TaskError` if a file is missing or malformed.

    Examples:
        >>> from pathlib import Path
        >>> from painters import tasks
        >>> _ = Path("test.jsonl").write_text('{"question": "2 + 2?", "answer": "4"}')
        >>> splits = tasks.reader({"test": Path("test.jsonl")}, "sums")()
        >>> splits["test"][0]
        {'question': '2 + 2?', 'answer': '4'}
    """

    def read(**metadata: Any) -> dict[str, Any]:
        from datasets import Dataset

        return {split: Dataset.from_list(_documents(path, name)) for split, path in paths.items()}

    return read


def _read(path: Path) -> dict[str, Any]:
    """Return the fields of a task's YAML, after checking that it names the task and its documents."""
    import yaml

    try:
        fields: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        _ = fields["task"], fields["dataset_kwargs"]["data_files"].items()
    except (OSError, ValueError, RecursionError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise TaskError(
            f"task in {path.name}: {type(error).__name__}: {error}. A task of this kind is a YAML as lm-eval "
            f"has them, with task:, and its documents under dataset_kwargs: data_files:"
        ) from error
    return fields


def _documents_path(path: Path, file: str) -> Path:
    """Return the path of a file of documents beside the YAML `path`.

    Raise TaskError if it is outside of that folder.
    """
    documents = path.parent / file
    if not documents.resolve().is_relative_to(path.parent.resolve()):
        raise TaskError(f"task in {path.name}: {file} leaves the folder of its YAML: put the documents beside it")
    return documents


def _documents(path: Path, name: str) -> list[dict[str, Any]]:
    """Return the documents in `path`, one for each line that is not blank; errors name the task."""
    if not path.is_file():
        raise TaskError(
            f"task {name!r} needs {path.name} beside its YAML, and that file is missing: write it, or reinstall "
            f"painters"
        )
    documents = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            try:
                documents.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise TaskError(f"task {name!r}: line {number} of {path.name} is not JSON ({error})") from error
    if not documents:
        raise TaskError(f"task {name!r}: {path.name} holds no documents")
    return documents
