"""A folder of one's own documents, `--data DIR`: which tasks it has, and where."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from painters.tasks.bundled import FOLDER, bundled
from painters.tasks.documents import is_documents
from painters.tasks.errors import TaskError

__all__ = ["available", "check_folder", "in_folder", "located", "task_name"]

_FOR_ENCODERS = FOLDER.parent / "glue"
_SHOWN = 12  # names of tasks in a message


def in_folder(folder: Path, name: str) -> Path | None:
    """Return where a folder of documents has a task.

    Args:
        folder: The folder, `--data DIR`.
        name: The name of the task.

    Returns:
        `DIR/NAME.yaml` or `DIR/NAME/NAME.yaml`, a task of its own; else the folder `DIR/NAME`, with documents for
        lm-eval's or the bundled task of this name. None where there is none, and for what is no plain name: a path
        could lead out of the folder.

    Examples:
        >>> from pathlib import Path
        >>> from painters import tasks
        >>> Path("data/arc_easy").mkdir(parents=True)
        >>> _ = Path("data/arc_easy/test.jsonl").write_text("{}")
        >>> tasks.in_folder(Path("data"), "arc_easy").as_posix(), tasks.in_folder(Path("data"), "piqa")
        ('data/arc_easy', None)
    """
    if name in ("", ".", "..") or Path(name).name != name:
        return None
    own = (folder / f"{name}.yaml", folder / name / f"{name}.yaml")
    return next((path for path in own if path.is_file()), folder / name if _has_documents(folder / name) else None)


def _has_documents(folder: Path) -> bool:
    """Return whether there is a file of documents in `folder`, or in a folder in it, as those of a group's tasks."""
    places = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())] if folder.is_dir() else []
    return any(is_documents(path) for place in places for path in place.iterdir())


def task_name(path: Path) -> str:
    """Return the name of the task that a path stands for.

    Args:
        path: A YAML, a file of texts, or a folder of documents. The path need not exist.

    Returns:
        The name of the file without its suffix, or that of the folder.

    Examples:
        >>> from pathlib import Path
        >>> from painters import tasks
        >>> tasks.task_name(Path("mine/sums.yaml")), tasks.task_name(Path("data/arc_easy"))
        ('sums', 'arc_easy')
    """
    return path.stem if path.suffix in (".yaml", ".yml", ".txt") else path.name


def available(folder: Path) -> list[str]:
    """Return the names of the tasks that a folder of documents has.

    Args:
        folder: The folder, `--data DIR`.

    Returns:
        The names, in alphabetical order.

    Examples:
        >>> from pathlib import Path
        >>> from painters import tasks
        >>> Path("data/arc_easy").mkdir(parents=True)
        >>> _ = Path("data/arc_easy/test.jsonl").write_text("{}")
        >>> tasks.available(Path("data"))
        ['arc_easy']
    """
    names = {path.stem for path in folder.glob("*.yaml")} | {path.name for path in folder.iterdir() if path.is_dir()}
    return sorted(name for name in names if in_folder(folder, name) is not None)


def located(names: Iterable[str], folder: str | Path) -> list[str]:
    """Return tasks by the paths where a folder of documents has them.

    Args:
        names: The tasks. Paths stay as they are, and so do bundled tasks that the folder does not have.
        folder: The folder: NAME/ holds the documents of the task NAME, a file for each split.

    Returns:
        For each name a path, or the name of a bundled task.

    Raises:
        TaskError: There is no such folder, or it does not have one of the tasks.

    Examples:
        >>> from pathlib import Path
        >>> from painters import tasks
        >>> Path("data/arc_easy").mkdir(parents=True)
        >>> _ = Path("data/arc_easy/test.jsonl").write_text("{}")
        >>> [Path(name).name for name in tasks.located(["arc_easy", "nano_arc"], "data")]
        ['arc_easy', 'nano_arc']
        >>> tasks.located(["piqa"], "data")
        Traceback (most recent call last):
        painters.tasks.errors.TaskError: --data data has no piqa: it has arc_easy. ...
    """
    path = check_folder(folder)
    names = list(names)
    known = {*bundled(), *(file.parent.name for file in _FOR_ENCODERS.glob("*/validation.jsonl"))}
    places = {name: in_folder(path, name) for name in names}
    missing = [
        name
        for name, place in places.items()
        if place is None and name not in known and "/" not in name and not name.endswith((".yaml", ".yml", ".txt"))
    ]
    if missing:
        has = available(path)
        shown = ", ".join(has[:_SHOWN]) + (f" and {len(has) - _SHOWN} more" if len(has) > _SHOWN else "")
        raise TaskError(
            f"--data {folder} has no {', '.join(missing)}: it has {shown or 'no tasks'}. Put the documents into "
            f"{path / missing[0]}, a .jsonl for each split; or leave --data out, and give those that it has as "
            f"{path / 'NAME'}"
        )
    return [name if (place := places[name]) is None else str(place.resolve()) for name in names]


def check_folder(folder: str | Path) -> Path:
    """Return the path of a folder of documents.

    Args:
        folder: The folder, `--data DIR`.

    Returns:
        The same as a path.

    Raises:
        TaskError: There is no such folder.

    Examples:
        >>> from painters import tasks
        >>> tasks.check_folder("nowhere")
        Traceback (most recent call last):
        painters.tasks.errors.TaskError: --data nowhere: there is no such folder. ...
    """
    path = Path(folder)
    if not path.is_dir():
        raise TaskError(f"--data {folder}: there is no such folder. Give one with a folder NAME/ for each task NAME")
    return path
