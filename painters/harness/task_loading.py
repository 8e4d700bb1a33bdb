"""Tasks by name, by YAML or by folder of documents, as lm-eval's objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import lm_eval.api.metrics  # registers lm-eval's metrics
import lm_eval.api.registry
import lm_eval.api.task
import lm_eval.tasks
from lm_eval.config.task import TaskConfig

from painters import _compat
from painters.errors import class_and_first_line
from painters.harness import task_index
from painters.harness.task_groups import Member, members
from painters.harness.task_names import hint, unknown_task
from painters.models.hub import patiently
from painters.tasks import TaskError, TaskUnavailableError, bundled, reader
from painters.tasks.documents import SPLITS, SUFFIXES, split_files, with_documents
from painters.tasks.files import Definitions, read

_FIELDS = frozenset(field.name for field in fields(TaskConfig))


def load(name: str) -> dict[str, Any]:
    """Return name -> lm-eval's task, of a single task or of each in a group.

    Args:
        name: A bundled task, the path of a YAML, a folder with the documents of a task, or a task, group or tag of
            lm-eval.

    Raises:
        TaskError: The task does not exist, is malformed, or its documents cannot be loaded.
    """
    path = bundled().get(name, Path(name))
    if "/" in name and path.is_dir():
        return _of_folder(path)
    if path.suffix in (".yaml", ".yml"):
        return _of_yaml(path)
    if "/" in name:
        raise TaskError(f"task {name!r}: there is no such folder; give one, a YAML, or the plain name of a task")
    return _of_lm_eval(name)


# -------------------------------------------------------------------------------------------------- lm-eval's own tasks


def _of_lm_eval(name: str) -> dict[str, Any]:
    """Return lm-eval's task `name`, or the tasks of its group or tag, with their own documents."""
    path = task_index.yaml_of(name)
    if path is not None:
        return _loaded(name, str(path), _own_manager())
    if not task_index.is_group(name):
        raise unknown_task(name, _known(name))
    return _loaded(name, name, task_index.index())


def _known(name: str) -> list[str]:
    """Return the names that tasks have here, among which a user may have meant `name`."""
    return [*bundled(), *task_index.mentions(name)[1]]


def _loaded(name: str, spec: Any, manager: Any) -> dict[str, Any]:
    """Return the tasks that lm-eval's manager makes of `spec`."""
    with _documents_of_hub(f"task {name!r} is in lm-eval, and its documents cannot be loaded"):
        loaded: dict[str, Any] = patiently(lambda: manager.load([spec])["tasks"])
    return loaded


def _own_manager() -> Any:
    """Return a manager of lm-eval's that knows no task: it loads single files in no time."""
    return lm_eval.tasks.TaskManager(include_defaults=False)


@contextmanager
def _documents_of_hub(what: str) -> Iterator[None]:
    """Raise TaskUnavailableError, which begins with `what`, for whatever is raised while documents are loaded."""
    try:
        yield
    except TaskError:
        raise
    except Exception as error:  # datasets, the hub and the task's own code each raise what they like
        raise TaskUnavailableError(
            f"{what}: {class_and_first_line(error)}. They come from the hub: be online the first time (without "
            f"HF_DATASETS_OFFLINE and HF_HUB_OFFLINE), afterwards the cache serves them. "
            f"Bundled tasks need no network: {', '.join(bundled())}"
        ) from error


# -------------------------------------------------------------------------------------------------------- YAML of users


def _of_yaml(path: Path) -> dict[str, Any]:
    """Return the task or the group of tasks in a YAML, with documents beside it."""
    if path.resolve().is_relative_to(task_index.ROOT.resolve()):
        name = str(_compat.lm_eval_config(path, resolve=False).get("task"))
        return _loaded(name, str(path), task_index.index())
    defined = read(path)
    if "group" not in defined:
        return _built(_checked(with_documents(defined, path.parent)))
    return _UserGroup(defined, Definitions.of(path.parent)).load()


@dataclass(frozen=True, slots=True)
class _UserGroup:
    """A group in a user's YAML, with the tasks that its folder defines."""

    fields: Mapping[str, Any]
    defined: Definitions

    def load(self) -> dict[str, Any]:
        """Return its tasks by their names."""
        found = members(self.fields, self.defined.group_or_tag)
        return {name: task for member in found for name, task in self._task(member).items()}

    def _task(self, member: Member) -> dict[str, Any]:
        """Return a task of the group: of its folder, bundled, of lm-eval, or stated in the group alone."""
        changes, name = dict(member.changes), member.name
        own, ours = self.defined.task(name), bundled().get(name)
        if own is not None:
            return _built(_checked(with_documents({**read(own, self.defined.folder), **changes}, own.parent)))
        if ours is not None:
            return _built(_checked(with_documents({**read(ours), **changes}, ours.parent)))
        is_stated = "dataset_path" in changes
        if task_index.yaml_of(name) is not None or task_index.is_group(name):
            if not changes:
                return _of_lm_eval(name)
            spec = {"group": member.group, "task": [{**changes, "task": name}]}
            return _loaded(name, spec, task_index.index())
        if is_stated:
            stated = {**changes, "task": f"{member.group}::{name}"}  # as lm-eval calls it
            return _built(_checked(with_documents(stated, self.defined.folder)))
        raise TaskError(
            f"group {member.group!r}: its task {name!r} is neither in {self.defined.folder} (it has "
            f"{', '.join(self.defined.names) or 'none'}), nor bundled, nor in lm-eval; {hint(name, _known(name))}"
        )


def _checked(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of a user's task; raise TaskError where lm-eval could not score it without code."""
    name = config["task"]
    if unknown := sorted(set(config) - _FIELDS):
        raise TaskError(f"task {name!r}: lm-eval's tasks have no field {', '.join(unknown)}")
    if not (config.get("test_split") or config.get("validation_split")):
        raise TaskError(f"task {name!r}: it names no documents to score: give test_split: or validation_split:")
    for metric in config.get("metric_list") or ():
        known = isinstance(metric, dict) and metric.get("metric")
        if not (known and known in lm_eval.api.registry.metric_registry) or metric.get("hf_evaluate"):
            raise TaskError(
                f"task {name!r}: the metric {known or metric!r} is none of lm-eval's own. Others are Python that "
                f"`evaluate` downloads and runs, and painters takes task files as data; `painters lm-eval "
                f"--include_path DIR --tasks {name}` runs it"
            )
    return config


def _built(config: dict[str, Any]) -> dict[str, Any]:
    """Return the task that lm-eval makes of a configuration."""
    name = str(config["task"])
    if "custom_dataset" not in config:
        what = f"task {name!r}: its documents cannot be loaded from {config.get('dataset_path')}"
        with _documents_of_hub(what):
            task = patiently(lambda: lm_eval.api.task.ConfigurableTask(config=config))
        return {task.task_name: task}
    try:
        task = lm_eval.api.task.ConfigurableTask(config=config)
    except TaskError:
        raise
    except Exception as error:  # lm-eval asks the first document everything, and templates raise what they like
        raise TaskError(
            f"task {name!r}: lm-eval cannot make its first request: {class_and_first_line(error)}. Check the fields of "
            f"the task against the columns of its documents"
        ) from error
    return {task.task_name: task}


# ------------------------------------------------------------------------------------------------- folders of documents


def _of_folder(folder: Path) -> dict[str, Any]:
    """Return the task that a folder is named after, with the documents in it, a file for each split."""
    name = folder.resolve().name
    own = folder / f"{name}.yaml"
    return _of_yaml(own) if own.is_file() else _with_documents_of(folder, name, {})


def _with_documents_of(folder: Path, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the bundled task, lm-eval's task or the tasks of its group `name`, with documents in `folder`."""
    if name in bundled():
        return _built(_with_files({**read(bundled()[name]), **changes}, folder, name))
    path = task_index.yaml_of(name)
    if path is None and task_index.is_group(name):
        group = task_index.group_fields(name)
        found = members(group, lambda other: task_index.group_fields(other) if task_index.is_group(other) else None)
        return {
            task_name: task
            for member in found
            for task_name, task in _with_documents_of(folder / member.name, member.name, member.changes).items()
        }
    if path is None:
        raise TaskError(
            f"task in {folder}: neither lm-eval nor painters has a task {name!r}, and there is no {name}.yaml in the "
            f"folder: write one, or call the folder as the task whose documents it holds; {hint(name, _known(name))}"
        )
    try:
        config = {**_compat.lm_eval_config(path), **changes}
    except Exception as error:  # the task's own code, such as a library that it needs
        raise TaskUnavailableError(
            f"task in {folder}: lm-eval's code for {name} cannot be loaded: {class_and_first_line(error)}"
        ) from error
    return _of_class(config, folder, name) if "class" in config else _built(_with_files(config, folder, name))


def _with_files(config: Mapping[str, Any], folder: Path, name: str) -> dict[str, Any]:
    """Return the configuration with the folder's documents in place of its own."""
    splits = {field: str(config[field]) for field in SPLITS if config.get(field)}
    files = split_files(folder, list(splits.values()))
    scored = splits.get("test_split") or splits.get("validation_split")
    if scored not in files:
        raise TaskUnavailableError(
            f"task in {folder}: there is no {scored}.jsonl, and {name} is scored on it (other files that are read: "
            f"{', '.join(SUFFIXES[1:])})"
        )
    absent: dict[str, Any] = {field: None for field, split in splits.items() if split not in files}
    fewshot = config.get("fewshot_config")
    if isinstance(fewshot, dict) and fewshot.get("split") not in (None, *files):
        absent["fewshot_config"] = {**fewshot, "split": None}
    ignored = ("tag", "group", "task_list", "dataset_path", "dataset_name", "dataset_kwargs")
    kept = {field: value for field, value in config.items() if field not in ignored}
    return {**kept, **absent, "custom_dataset": reader(files, name)}


def documents_config(place: Path) -> dict[str, Any]:
    """Return the fields of a YAML with which lm-eval's own command line finds a task with documents of one's own.

    Args:
        place: The task's YAML, or the folder of its documents.

    Returns:
        The fields, all plain: what they change, and `include` for the rest. `custom_dataset` is to be added.

    Raises:
        TaskError: The task does not exist, is a group, is made by a class, or has no documents to score.
    """
    if place.is_file():
        config, path = _checked(with_documents(read(place), place.parent)), place
    else:
        name = place.name
        found = bundled().get(name) or task_index.yaml_of(name)
        if found is None:
            raise TaskError(f"task in {place}: {name} is no single task of lm-eval; name its tasks one by one")
        config, path = _with_files(_compat.lm_eval_config(found, resolve=False), place, name), found
        if "class" in config:
            raise TaskError(f"task in {place}: lm-eval makes {name} by a class of its own; `painters run` scores it")
    changed: dict[str, Any] = {field: None for field in SPLITS if field in config and config[field] is None}
    return {"include": str(path.resolve()), "task": config["task"], "dataset_kwargs": {}, **changed}


def documents_of(place: str) -> Callable[..., dict[str, Any]]:
    """Return the function that reads the documents of the task whose YAML or folder of documents is at `place`."""
    path = Path(place)
    if path.is_file():
        config = with_documents(read(path), path.parent)
    else:
        found = bundled().get(path.name) or task_index.yaml_of(path.name)
        config = _with_files(_compat.lm_eval_config(str(found), resolve=False), path, path.name)
    read_documents: Callable[..., dict[str, Any]] = config["custom_dataset"]
    return read_documents


def _of_class(config: Mapping[str, Any], folder: Path, name: str) -> dict[str, Any]:
    """Return lm-eval's task that a class of Python makes, with the folder's documents in place of its own."""
    names = {path.name.partition(".")[0] for path in folder.iterdir() if path.is_file()}
    read_documents = reader(split_files(folder, sorted(names)), name)
    own: type[Any] = config["class"]
    with_documents = type(own.__name__, (own,), {"download": _downloaded(read_documents)})
    try:
        tasks: dict[str, Any] = _own_manager().load([{**config, "class": with_documents}])["tasks"]
    except TaskError:
        raise
    except Exception as error:  # the class's own code
        has = ", ".join(sorted(names)) or "nothing"
        raise TaskUnavailableError(
            f"task in {folder}: lm-eval's class for {name} raised {class_and_first_line(error)}; the folder has {has}"
        ) from error
    return tasks


def _downloaded(read_documents: Callable[..., dict[str, Any]]) -> Callable[..., None]:
    """Return what takes the place of a class's `download`."""

    def download(self: Any, dataset_kwargs: Any = None, **options: Any) -> None:
        self.dataset = read_documents()

    return download
