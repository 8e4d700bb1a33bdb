"""The bundled tasks, as configurations for lm-eval: a YAML each, with its documents as JSONL beside it.

A new task is a folder with these two. Nothing here needs lm-eval or torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from painters.errors import PaintersError

__all__ = ["TaskError", "TaskUnavailableError", "bundled", "config", "describe", "output_type"]

FOLDER = Path(__file__).parent / "nano" / "tasks"


class TaskError(PaintersError, ValueError):
    """A task that does not exist, cannot be had here, or is not what lm-eval expects of one."""

    exit_code = 2


class TaskUnavailableError(TaskError):
    """A task that exists, whose documents cannot be had at the moment."""

    exit_code = 1


def bundled(folder: Path = FOLDER) -> dict[str, Path]:
    """Name -> YAML of the tasks in `folder`, in alphabetical order."""
    paths = sorted(folder.glob("*/*.yaml"))
    return {path.stem: path for path in paths if path.stem == path.parent.name}


def describe(path: Path) -> dict[str, Any]:
    """What the task of the YAML `path` is: documents (how many), answer, metrics, shots, version, about."""
    read = _read(path)
    metadata = read.get("metadata", {})
    test = _beside(path, read["dataset_kwargs"]["data_files"][read["test_split"]])
    return {
        "documents": len(_documents(test, read["task"])),
        "answer": read["output_type"],
        "metrics": [metric["metric"] for metric in read["metric_list"]],
        "shots": read.get("num_fewshot", 0),
        "version": metadata.get("version"),
        "about": metadata.get("about", ""),
    }


def output_type(path: Path) -> str | None:
    """How the task of the YAML `path` is answered, in lm-eval's words, such as "multiple_choice"."""
    found = _read(path).get("output_type")
    return found if isinstance(found, str) else None


def config(path: Path) -> dict[str, Any]:
    """What lm-eval's ConfigurableTask takes for the task that the YAML `path` describes.

    The documents are read into memory when the task is built. lm-eval's own way, `dataset_path: json`, would
    look for them from the working directory and leave a copy in the user's cache.
    """
    read = _read(path)
    files = read.pop("dataset_kwargs")["data_files"]
    read["custom_dataset"] = reader({split: _beside(path, file) for split, file in files.items()}, read["task"])
    return read


def _read(path: Path) -> dict[str, Any]:
    """The YAML `path`, which is known to name its task and its documents."""
    import yaml

    try:
        read: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        _ = read["task"], read["dataset_kwargs"]["data_files"].items()
    except (OSError, ValueError, RecursionError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise TaskError(
            f"task in {path.name}: {type(error).__name__}: {error}. A task of this kind is a YAML as lm-eval "
            f"has them, with task:, and its documents under dataset_kwargs: data_files:"
        ) from error
    return read


def _beside(path: Path, file: str) -> Path:
    """The file of documents beside the YAML `path`, whose folder it may not leave."""
    found = path.parent / file
    if not found.resolve().is_relative_to(path.parent.resolve()):
        raise TaskError(f"task in {path.name}: {file} leaves the folder of its YAML: put the documents beside it")
    return found


def reader(files: dict[str, Path], name: str) -> Callable[..., dict[str, Any]]:
    """A function from nothing to the splits; lm-eval calls it with the task's metadata."""

    def read(**metadata: Any) -> dict[str, Any]:
        from datasets import Dataset

        return {split: Dataset.from_list(_documents(path, name)) for split, path in files.items()}

    return read


def _documents(path: Path, name: str) -> list[dict[str, Any]]:
    """The documents in `path`, one for each line that is not blank."""
    if not path.is_file():
        raise TaskError(f"task {name!r} wants {path.name} beside its YAML, and there is none: write it, or reinstall")
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
