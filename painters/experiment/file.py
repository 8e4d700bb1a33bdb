"""Experiment files: where the shipped ones are, and reading one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from painters.experiment.schema import Experiment, Grid
from painters.experiment.yaml import ExperimentError, line_of, parse, read_text

# In an installed package the files are inside it; in a checkout, and installed from one with -e, beside it.
_PLACES = (Path(__file__).parents[1] / "experiments", Path(__file__).parents[2] / "experiments")


def load(source: str | Path) -> Experiment:
    """The experiment in the YAML file `source`, or the shipped one of this name; errors name line and field."""
    path = find(source)
    name = _name_of(path)
    experiment, node = _read(path, name)
    others = []
    for number, other in enumerate(experiment.include):
        place = f"experiment {name}, line {line_of(node, ['include', number])}: include"
        beside = path.parent / f"{other}.yaml"
        if not beside.is_file():
            raise ExperimentError(
                f"{place}: there is no {beside.name} beside {path.name}. Included files lie in its folder and are "
                f"named without .yaml"
            )
        part, _ = _read(beside, _name_of(beside))
        if part.include:
            raise ExperimentError(f"{place}: {other} includes others itself: name those instead")
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


def _read(path: Path, name: str) -> tuple[Experiment, Any]:
    """The experiment without what it includes, and the tree of its nodes."""
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
    changed: dict[str, Any] = {"name": name, **_placed(experiment, node, (), path, name)}
    if (encoder := experiment.encoder) is not None:
        changed["encoder"] = encoder.model_copy(update=_placed(encoder, node, ("encoder",), path, name))
    if (similarity := experiment.similarity) is not None and similarity.is_path:
        line = line_of(node, ("similarity", "inputs"))
        inputs = _beside(similarity.inputs, path, f"experiment {name}, line {line}: similarity.inputs")
        changed["similarity"] = similarity.model_copy(update={"inputs": inputs})
    return experiment.model_copy(update=changed), node


def _placed(grid: Grid, node: Any, place: tuple[str, ...], path: Path, name: str) -> dict[str, Any]:
    """The tasks of the grid at `place`, paths taken from the experiment's folder, and its variants with their lines."""
    tasks = []
    for number, task in enumerate(grid.tasks):
        line = line_of(node, (*place, "tasks", number))
        where = f"experiment {name}, line {line}: {'.'.join((*place, 'tasks'))}"
        tasks.append(task.model_copy(update={"name": _beside(task.name, path, where)}) if task.is_path else task)
    lines = [line_of(node, (*place, "variants", number)) for number in range(len(grid.variants))]
    variants = [one.model_copy(update={"line": line}) for one, line in zip(grid.variants, lines, strict=True)]
    return {"tasks": tuple(tasks), "variants": tuple(variants)}


def _beside(given: str, path: Path, where: str) -> str:
    """The path `given` taken from the experiment's folder, which it may not leave; errors begin with `where`."""
    folder = path.parent.resolve()
    found = (folder / given).resolve()
    if not found.is_relative_to(folder):
        raise ExperimentError(f"{where}: {given} leaves the experiment's folder: put it there")
    return str(found)


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
