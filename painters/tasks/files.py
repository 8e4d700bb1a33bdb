"""Task files: plain YAML as lm-eval has it, with what it includes, and without Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from painters.errors import first_line
from painters.tasks.errors import TaskError

__all__ = ["Definitions", "read"]

_MOST_FILES = 50_000
_WITH_CODE = "`painters lm-eval --include_path {folder} --tasks {name}` runs it, and the code that it names"


def read(path: Path, folder: Path | None = None) -> dict[str, Any]:
    """Return the fields of a task's YAML, with those of the files that it includes.

    As in lm-eval, later files in `include:` go before earlier ones, and the file's own fields before both.

    Args:
        path: The YAML. It names a task or a group.
        folder: The folder that included files must lie in; None for that of `path`.

    Returns:
        The fields.

    Raises:
        TaskError: A file is missing or malformed, lies outside of the folder, names Python, or includes
            itself; or there is no task in it.
    """
    fields = _read(path, folder or path.parent, ())
    if isinstance(fields.get("group"), str) or isinstance(fields.get("task"), str):
        return fields
    raise TaskError(
        f"task in {path.name}: it names no task. A task of this kind is a YAML as lm-eval has them, with task: and "
        f"the documents under dataset_kwargs: data_files:, or with group: and a list of tasks"
    )


@dataclass(frozen=True, slots=True)
class Definitions:
    """The tasks, groups and tags that the YAML files of a folder define, at any depth.

    Files that are something else, or malformed, define nothing; a task that is asked for by the name of one raises the
    error that its file has.

    Attributes:
        folder: The folder.
        tasks: The file of each task.
        groups: The fields of each group.
        tags: The tasks of each tag.
        errors: What is wrong with other files, by their names without the suffix.
    """

    folder: Path
    tasks: Mapping[str, Path]
    groups: Mapping[str, Mapping[str, Any]]
    tags: Mapping[str, list[str]]
    errors: Mapping[str, TaskError]

    @classmethod
    def of(cls, folder: Path) -> Definitions:
        """Read the YAML files of a folder."""
        tasks: dict[str, Path] = {}
        groups: dict[str, Mapping[str, Any]] = {}
        tags: dict[str, list[str]] = {}
        errors: dict[str, TaskError] = {}
        for number, path in enumerate(sorted(folder.rglob("*.yaml"))):
            if number >= _MOST_FILES:
                raise TaskError(f"tasks in {folder}: more than {_MOST_FILES} YAML files; put the group's into a folder")
            try:
                fields = read(path, folder)
            except TaskError as error:
                errors[path.stem] = error
                continue
            if "group" in fields:
                groups.setdefault(fields["group"], fields)
            elif fields["task"] not in tasks:
                tasks[fields["task"]] = path
                tag = fields.get("tag") or []
                for name in [tag] if isinstance(tag, str) else tag:
                    tags.setdefault(str(name), []).append(fields["task"])
        return cls(folder, tasks, groups, {name: sorted(tagged) for name, tagged in tags.items()}, errors)

    @property
    def names(self) -> list[str]:
        """The names of tasks, groups and tags, in alphabetical order."""
        return sorted({*self.tasks, *self.groups, *self.tags})

    def task(self, name: str) -> Path | None:
        """Return the file of a task; None where there is none."""
        if name not in self.tasks and name in self.errors:
            raise self.errors[name]
        return self.tasks.get(name)

    def group_or_tag(self, name: str) -> Mapping[str, Any] | list[str] | None:
        """Return the fields of a group or the tasks of a tag; None for any other name, and for that of a task."""
        return None if name in self.tasks else self.groups.get(name) or self.tags.get(name)


def _read(path: Path, folder: Path, including: tuple[Path, ...]) -> dict[str, Any]:
    """Return the fields of a YAML in `folder` that the files `including` include, outermost first."""
    where = f"task in {(including or (path,))[0].name}"
    resolved = path.resolve()
    if not resolved.is_relative_to(folder.resolve()):
        raise TaskError(f"{where}: {path} leaves the folder of the task's YAML: put what it includes beside it")
    if resolved in [other.resolve() for other in including]:
        raise TaskError(f"{where}: {path.name} includes itself")
    fields = _plain(path, where, folder, (including or (path,))[0].stem)
    included = fields.pop("include", None) or []
    merged: dict[str, Any] = {}
    for name in included if isinstance(included, list) else [included]:
        if not isinstance(name, str):
            raise TaskError(f"{where}: include: {name!r} in {path.name} is not the name of a file")
        merged |= _read(path.parent / name, folder, (*including, path))
    return merged | fields


def _plain(path: Path, where: str, folder: Path, name: str) -> dict[str, Any]:
    """Return the fields of one YAML of the task `name`, which must be plain: no tags, so no Python."""
    import yaml

    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.constructor.ConstructorError as error:
        if "!function" not in str(error.problem):
            raise TaskError(f"{where}: {path.name}: {error.problem}; use plain YAML") from error
        line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        way_out = _WITH_CODE.format(folder=folder.as_posix(), name=name)
        raise TaskError(
            f"{where}: !function in {path.name}{line}. painters takes task files as data and runs no Python that they "
            f"name; {way_out}"
        ) from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise TaskError(f"{where}: {path.name} cannot be read: {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(fields, dict):
        raise TaskError(
            f"{where}: {path.name} holds no fields. A task is a YAML as lm-eval has them, with task: and the documents "
            f"under dataset_kwargs: data_files:"
        )
    return fields
