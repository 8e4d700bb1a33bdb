"""What tasks ask of a model, by their YAML files, which are searched as text: no library is loaded for it."""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from painters import tasks
from painters.tasks import TaskError

__all__ = ["lm_eval_output_type", "output_type"]

_TASK = re.compile(rb"""^["']?task["']?:[ \t]*["']?([\w.-]+)["']?[ \t\r]*(?:#.*)?$""", re.MULTILINE)
_OUTPUT_TYPE = re.compile(rb"""^["']?output_type["']?:[ \t]*["']?(\w+)""", re.MULTILINE)
_INCLUDE = re.compile(rb"""^["']?include["']?:[ \t]*["']?([^\s"']+)""", re.MULTILINE)
_CLASS = re.compile(rb"""^["']?class["']?:""", re.MULTILINE)
_MOST_INCLUDES = 10
_DEFAULT = "generate_until"  # lm-eval's, for files that do not say


def output_type(path: Path) -> str | None:
    """Return the output type of the task in a YAML file, in lm-eval's words.

    Args:
        path: The file. Files that it includes are read too.

    Returns:
        The type, such as "multiple_choice"; None where the file does not say, as where code makes the task.
    """
    try:
        if stated := tasks.output_type(path):
            return stated
    except TaskError:
        pass  # a file that lm-eval can read may have more in it, such as functions
    texts = list(_texts(path))
    if not texts or any(map(_CLASS.search, texts)):
        return None
    found = next((match for match in map(_OUTPUT_TYPE.search, texts) if match), None)
    return found[1].decode() if found else _DEFAULT


def lm_eval_output_type(name: str) -> str | None:
    """Return the output type of one of lm-eval's own tasks, or None where it has none of this name in a YAML file."""
    path = _lm_eval_files().get(name)
    return None if path is None else output_type(path)


def _texts(path: Path) -> Iterator[bytes]:
    """Yield the text of a YAML file, and those of the files that it includes, one after the other."""
    for _ in range(_MOST_INCLUDES):
        try:
            text = path.read_bytes()
        except OSError:
            return
        yield text
        include = _INCLUDE.search(text)
        if include is None:
            return
        path = path.parent / include[1].decode(errors="replace")


@functools.cache
def _lm_eval_files() -> dict[str, Path]:
    """Return the YAML file of each of lm-eval's tasks by its name: a second's work, done once."""
    package = importlib.util.find_spec("lm_eval")
    if package is None or package.origin is None:
        return {}
    files: dict[str, Path] = {}
    for path in sorted((Path(package.origin).parent / "tasks").rglob("*.yaml")):
        try:
            task = _TASK.search(path.read_bytes())
        except OSError:
            continue
        if task is not None:
            files.setdefault(task[1].decode(), path)
    return files
