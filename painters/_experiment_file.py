"""Experiment files: where the shipped ones are, and reading one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from painters._experiment_model import Experiment, Task
from painters._experiment_yaml import ExperimentError, line_of, parse, read_text

# In an installed package the files are inside it; in a checkout, and installed from one with -e, beside it.
_PLACES = (Path(__file__).parent / "experiments", Path(__file__).parents[1] / "experiments")


def load(source: str | Path) -> Experiment:
    """The experiment in the YAML file `source`, or the shipped one of this name; errors name line and field."""
    path = find(source)
    name = _name_of(path)
    experiment = _read(path, name)
    others = []
    for other in experiment.include:
        beside = path.parent / f"{other}.yaml"
        if not beside.is_file():
            raise ExperimentError(
                f"experiment {name}: include: there is no {beside.name} beside {path.name}. Included files lie in its "
                f"folder and are named without .yaml"
            )
        part = _read(beside, _name_of(beside))
        if part.include:
            raise ExperimentError(f"experiment {name}: include: {other} includes others itself: name those instead")
        others.append(part)
    return experiment.model_copy(update={"included": tuple(others)})


def shipped() -> dict[str, Path]:
    """Name -> file of the experiments that come with painters, `fig4` or `paper/fig4`, figures in order."""
    folder = next((place for place in _PLACES if (place / "fig4.yaml").is_file()), None)
    if folder is None:
        return {}
    named = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.yaml")}
    return dict(sorted(named.items(), key=lambda item: (item[0].count("/"), *_natural(item[0]))))


def find(source: str | Path) -> Path:
    """The file of an experiment, by its path or by the name of a shipped one."""
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        return path
    known = shipped()
    if str(source) in known:
        return known[str(source)]
    names = ", ".join(known) or "none in this installation"
    raise ExperimentError(
        f"experiment {str(source)!r}: neither a .yaml file nor one that comes with painters ({names})"
    )


def _read(path: Path, name: str) -> Experiment:
    data, node = parse(read_text(path, name), name)
    try:
        for own in ("name", "included"):
            if own in data:
                raise ExperimentError(f"experiment {name}, line {line_of(node, [own])}: {own}: there is no such field")
        experiment = Experiment.model_validate(data)
    except ValidationError as error:
        told = [_told(line_of(node, one["loc"]), one) for one in error.errors(include_url=False)[:3]]
        more = f"; and {error.error_count() - 3} more" if error.error_count() > 3 else ""
        raise ExperimentError(f"experiment {name}, {'; '.join(told)}{more}") from error
    changed: dict[str, Any] = {"name": name, "tasks": tuple(_beside(task, path, name) for task in experiment.tasks)}
    if (encoder := experiment.encoder) is not None:
        tasks = tuple(_beside(task, path, name) for task in encoder.tasks)
        changed["encoder"] = encoder.model_copy(update={"tasks": tasks})
    return experiment.model_copy(update=changed)


def _beside(task: Task, path: Path, name: str) -> Task:
    """The task, its path taken from the experiment's folder, which it may not leave."""
    if not task.is_path:
        return task
    folder = path.parent.resolve()
    yaml = (folder / task.name).resolve()
    if not yaml.is_relative_to(folder):
        raise ExperimentError(
            f"experiment {name}: tasks: {task.name} leaves the experiment's folder: put the task under it"
        )
    return task.model_copy(update={"name": str(yaml)})


def _told(line: int, error: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in error["loc"] if part != "params")
    kind, message = error["type"], str(error["msg"]).removeprefix("Value error, ")
    if kind == "extra_forbidden":
        message = "there is no such field"
    elif kind == "missing":
        message = "the field is missing"
    elif kind in ("tuple_type", "model_type", "dict_type"):
        message = f"found {error['input']!r:.60}, where a list or a mapping of fields belongs"
    elif isinstance(error["input"], str | int | float) and repr(error["input"]) not in message:
        message += f" (found {error['input']!r:.60})"
    return f"line {line}: {place}: {message}" if place else f"line {line}: {message}"


def _name_of(path: Path) -> str:
    known = {found.resolve(): name for name, found in shipped().items()}
    return known.get(path.resolve(), path.name)


def _natural(name: str) -> list[tuple[str, int]]:
    return [(word, int(number or 0)) for word, number in re.findall(r"(\D+)(\d*)", name)]
