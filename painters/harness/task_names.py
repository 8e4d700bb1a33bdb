"""Check the names of tasks before a model is loaded, without lm-eval's index wherever that is not needed."""

from __future__ import annotations

import difflib
import functools
import importlib.util
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from painters import tasks
from painters.tasks import TaskError

__all__ = ["check_names", "hint", "unknown_task"]

_DEFINED = re.compile(rb"^\s*(?:-\s*)?(?:task|group|tag):[ \t]*[\"']?([\w.+-]+)[\"']?[ \t]*\r?$", re.MULTILINE)
_ALIKE = 0.8
"""How alike a name and a bundled task are where surely the bundled one is meant."""


def check_names(names: Iterable[str]) -> None:
    """Raise TaskError for the first name that no task has.

    Paths are not looked at. lm-eval's files are searched for a name first, which takes a second. Its index, which takes
    half a minute, is made only for a name that they do not contain and that is unlike the bundled ones.

    Args:
        names: Names of tasks as users give them.

    Raises:
        TaskError: No task has the name; the message gives the nearest ones.

    Examples:
        >>> from painters.harness.task_names import check_names
        >>> check_names(["nano_arc", "hellaswag", "mine/task.yaml"])
        >>> check_names(["nano_ark"])
        Traceback (most recent call last):
            ...
        painters.tasks.errors.TaskError: task 'nano_ark': neither bundled (...) nor in lm-eval; did you mean nano_arc...
    """
    bundled = list(tasks.bundled())
    for name in names:
        if name in bundled or "/" in name or name.endswith((".yaml", ".yml")) or name in _defined_in_lm_eval():
            continue
        if difflib.get_close_matches(name, bundled, 1, _ALIKE):
            raise unknown_task(name, bundled)
        from painters.harness.task_index import lm_eval_names

        known = lm_eval_names()
        if name not in known:
            raise unknown_task(name, [*bundled, *known])


def unknown_task(name: str, known: Sequence[str]) -> TaskError:
    """Return the error for a name that no task has; `known` are those that may have been meant."""
    return TaskError(
        f"task {name!r}: neither bundled ({', '.join(tasks.bundled())}) nor in lm-eval; {hint(name, known)}"
    )


def hint(name: str, known: Sequence[str]) -> str:
    """Return what a name that no task has may have meant, among the names `known`."""
    close = difflib.get_close_matches(name, known, 3, 0.5)
    return f"did you mean {' or '.join(close)}?" if close else "`lm_eval ls tasks` lists lm-eval's"


@functools.lru_cache(maxsize=1)
def _defined_in_lm_eval() -> frozenset[str]:
    """Return the names that lm-eval's files define one by one; its index has a few more."""
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or spec.origin is None:
        return frozenset()
    files = (Path(spec.origin).parent / "tasks").rglob("*.yaml")
    return frozenset(
        found.decode("ascii", "replace") for path in files for found in _DEFINED.findall(path.read_bytes())
    )
