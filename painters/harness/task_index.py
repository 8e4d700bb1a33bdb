"""lm-eval's own tasks: where each is defined, without the seconds that an index of all of them takes where possible."""

from __future__ import annotations

import functools
import os
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import lm_eval.tasks

from painters import _compat

ROOT = Path(lm_eval.tasks.__file__).parent
_NAMES = re.compile(rb"""^[\s-]*["']?(?:task|group|tag)["']?[ ]*:[ ]*["']?([^"'#\n\[\]{}]+)""", re.MULTILINE)


@functools.lru_cache(maxsize=1)
def index() -> Any:
    """Return lm-eval's manager with the index of all of its tasks, which is made once and takes seconds."""
    return lm_eval.tasks.TaskManager()


def lm_eval_names() -> list[str]:
    """Return the names of all tasks, groups and tags of lm-eval."""
    return list(index().all_tasks)


def yaml_of(name: str) -> Path | None:
    """Return the YAML in lm-eval that defines the task `name`; None where there is none, or a group has the name.

    Most tasks are in a file or a folder of their name. Only for others is the index made, and for none whose name is
    nowhere in lm-eval's files.
    """
    for path in _by_name().get(name, ()):
        if _defines(path, name):
            return path
    if not mentions(name)[0] or is_group(name) or name not in index().all_tasks:
        return None
    defined: Path | None = index().task_index[name].yaml_path
    return defined


def is_group(name: str) -> bool:
    """Return whether `name` is a group or a tag of lm-eval."""
    return mentions(name)[0] and (name in index().all_groups or name in index().all_tags)


def group_fields(name: str) -> dict[str, Any]:
    """Return the fields of lm-eval's group `name` as its YAML has them; of a tag, its tasks as such a list."""
    entry = index().task_index[name]
    if entry.yaml_path is None:
        return {"group": name, "task": sorted(entry.tags)}
    return _compat.lm_eval_config(entry.yaml_path, resolve=False)


@functools.lru_cache(maxsize=64)
def mentions(name: str) -> tuple[bool, list[str]]:
    """Return whether the text `name` is anywhere in lm-eval's task files, and all names that they seem to define.

    This reads the files as texts, in less than a second: a name that is mistyped does not wait for the index.
    """
    names: set[bytes] = set()
    wanted, is_anywhere = name.encode(), False
    for folder, _, files in os.walk(ROOT):
        for file in files:
            if not file.endswith((".py", ".pyc", ".md", ".json", ".txt")):
                text = Path(folder, file).read_bytes()
                is_anywhere = is_anywhere or wanted in text
                names.update(match.strip() for match in _NAMES.findall(text))
    return is_anywhere, sorted(text.decode(errors="replace") for text in names)


@functools.lru_cache(maxsize=1)
def _by_name() -> dict[str, list[Path]]:
    """Return lm-eval's YAML files by their own name and by that of their folder, in the order of its index."""
    paths: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(ROOT.rglob("*.yaml"), key=lambda path: path.as_posix()):
        for name in {path.stem, path.parent.name}:
            paths[name].append(path)
    return dict(paths)


def _defines(path: Path, name: str) -> bool:
    """Return whether the YAML defines the single task `name`."""
    if name.encode() not in path.read_bytes():  # a name that is included is left to the index
        return False
    try:
        fields = _compat.lm_eval_config(path, resolve=False)
    except Exception:  # lm-eval's index leaves out what it cannot read, too
        return False
    return fields.get("task") == name and "group" not in fields
