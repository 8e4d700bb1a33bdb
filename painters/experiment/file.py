"""Loading experiment files: the user's own, and those that come with painters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from painters.experiment.fields import Model
from painters.experiment.schema import Experiment, Grid
from painters.experiment.yaml import ExperimentError, line_of, parse, read_text

# An installed package holds the files. In a checkout, also one installed with -e, they are beside the package.
_FOLDERS = (Path(__file__).parents[1] / "experiments", Path(__file__).parents[2] / "experiments")
_FIGURE = re.compile(r"(?P<folder>paper/)?(?:fig(?:ure)?\.?[ _-]*)?(?P<number>[0-9]{1,4})", re.IGNORECASE)


def load(source: str | Path) -> Experiment:
    """Return the experiment in a file.

    Args:
        source: The path of a YAML file, or the name of an experiment that comes with painters; see `shipped`.

    Returns:
        The experiment, with the files that it includes. Paths in it are absolute.

    Raises:
        ExperimentError: There is no such file, or it is not a valid experiment; the message names line and field.

    Examples:
        >>> from painters.experiment import load
        >>> experiment = load("fig8")
        >>> experiment.figure, experiment.title
        (8, 'The window in parallel')
    """
    path = find(source)
    name = _name_of(path)
    experiment, node = _read(path, name)
    included = []
    for number, other in enumerate(experiment.include):
        where = f"experiment {name}, line {line_of(node, ['include', number])}: include"
        other_path = path.parent / f"{other}.yaml"
        if not other_path.is_file():
            raise ExperimentError(
                f"{where}: there is no {other_path.name} beside {path.name}. Included files lie in its folder and are "
                f"named without .yaml"
            )
        other_experiment, _ = _read(other_path, _name_of(other_path))
        if other_experiment.include:
            raise ExperimentError(f"{where}: {other} includes other files itself: name those here instead")
        included.append(other_experiment)
    return experiment.model_copy(update={"included": tuple(included)})


def shipped() -> dict[str, Path]:
    """Return the files of the experiments that come with painters.

    Returns:
        The path of each file by the experiment's name, in the order of the figures. `fig4` is for the bundled models;
        `paper/fig4` has the paper's models and tasks.

    Examples:
        >>> from painters.experiment import shipped
        >>> list(shipped())[:3]
        ['fig2', 'fig3', 'fig4']
    """
    folder = next((folder for folder in _FOLDERS if (folder / "fig4.yaml").is_file()), None)
    if folder is None:
        return {}
    files = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.yaml")}
    return dict(sorted(files.items(), key=lambda item: (item[0].count("/"), *_natural_order(item[0]))))


def figure_names(words: Iterable[str]) -> list[str]:
    """Return names of experiments with figures spelt in one way: `fig4` for 4, fig04 and "figure 4".

    Args:
        words: The words of a command line, or names.

    Returns:
        The names. A word such as "figure" by itself belongs to the number after it. Other words stay as they are.

    Examples:
        >>> from painters.experiment import figure_names
        >>> figure_names(["4", "fig05", "figure 6", "figure", "7", "paper/fig08", "mine.yaml", "all"])
        ['fig4', 'fig5', 'fig6', 'fig7', 'paper/fig8', 'mine.yaml', 'all']
    """
    words = list(words)
    followed = zip_longest(words, words[1:], fillvalue="")
    return [_figure_name(word) for word, after in followed if not _is_figure_word(word, after)]


def _is_figure_word(word: str, after: str) -> bool:
    """Return whether `word` only says that `after` is the number of a figure."""
    return word.rstrip(".").lower() in ("fig", "figure", "figures") and after.isdecimal()


def _figure_name(word: str) -> str:
    """Return the one spelling of a figure's name, and any other word as it is."""
    match = _FIGURE.fullmatch(word)
    return word if match is None else f"{match['folder'] or ''}fig{match['number'].lstrip('0') or '0'}"


def find(source: str | Path) -> Path:
    """Return the file of an experiment.

    Args:
        source: The path of a YAML file, or the name of an experiment that comes with painters; see `shipped`.

    Returns:
        The path. A path that is given comes back as it is, whether the file exists or not.

    Raises:
        ExperimentError: `source` is neither.

    Examples:
        >>> from painters.experiment import find
        >>> find("paper/fig8").name
        'fig8.yaml'
    """
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        return path
    files = shipped()
    if (name := _figure_name(str(source))) in files:
        return files[name]
    names = ", ".join(files) or "none in this installation"
    raise ExperimentError(
        f"experiment {str(source)!r}: neither a .yaml file nor one that comes with painters ({names})"
    )


def _read(path: Path, name: str) -> tuple[Experiment, Any]:
    """Return the experiment in a file, without what it includes, and the tree of the file for `line_of`."""
    data, node = parse(read_text(path, name), name)
    if "included" in data:
        line = line_of(node, ["included"])
        raise ExperimentError(f"experiment {name}, line {line}: included: there is no such field")
    data, shown = _without_names(data)
    try:
        experiment = Experiment.model_validate(data)
    except ValidationError as error:
        mistakes = [_mistake(line_of(node, one["loc"]), one) for one in error.errors(include_url=False)[:3]]
        more = f"; and {error.error_count() - 3} more" if error.error_count() > 3 else ""
        raise ExperimentError(f"experiment {name}, {'; '.join(mistakes)}{more}") from error
    changes: dict[str, Any] = {"name": name, **_file_fields(experiment, node, (), path, name)}
    if (encoder := experiment.encoder) is not None:
        changes["encoder"] = encoder.model_copy(update=_file_fields(encoder, node, ("encoder",), path, name))
    if (similarity := experiment.similarity) is not None and similarity.is_path:
        line = line_of(node, ("similarity", "inputs"))
        inputs = _absolute(similarity.inputs, path, f"experiment {name}, line {line}: similarity.inputs")
        changes["similarity"] = similarity.model_copy(update={"inputs": inputs})
    experiment = experiment.model_copy(update=changes)
    for location, text in shown.items():
        line = line_of(node, (*location, "name"))
        where = f"experiment {name}, line {line}: {'.'.join((*location, 'name'))}"
        experiment = experiment.with_names(_named(experiment, text, where, is_encoder=bool(location)))
    return experiment, node


def _without_names(data: dict[str, Any]) -> tuple[dict[str, Any], dict[tuple[str, ...], Any]]:
    """Return the contents of a file without the fields `name`, and those by the section that they stand in."""
    shown: dict[tuple[str, ...], Any] = {}
    if "name" in data:
        data = dict(data)
        shown[()] = data.pop("name")
    encoder = data.get("encoder")
    if isinstance(encoder, Mapping) and "name" in encoder:
        shown["encoder",] = encoder["name"]
        data = {**data, "encoder": {key: value for key, value in encoder.items() if key != "name"}}
    return data, shown


def _named(experiment: Experiment, text: Any, where: str, *, is_encoder: bool) -> dict[str, str]:
    """Return the name that a file gives its only decoder or encoder, by the model's name.

    Raise ExperimentError, with a message that begins with `where`, for another number of models and for no name.
    """
    grid = experiment.encoders if is_encoder else experiment
    models = {model.name for model in grid.models} if grid else set()
    for part in (experiment.similarity,) if experiment.similarity else ():
        models |= {model.name for model in (part.encoders if is_encoder else part.models)}
    if len(models) != 1:
        raise ExperimentError(f"{where}: it names one model, and there are {len(models)}: give each a field `shown`")
    try:
        model = Model(name=models.pop(), shown=text)
    except ValidationError as error:
        raise ExperimentError(
            f"{where}: found {text!r:.70}: give 1 to 60 characters without control characters"
        ) from error
    return {model.name: model.shown or ""}


def _file_fields(grid: Grid, node: Any, location: tuple[str, ...], path: Path, name: str) -> dict[str, Any]:
    """Return the fields of a grid that depend on its file.

    They are the tasks, with absolute paths, and the variants, with their lines. `location` holds the names that lead
    from the root of the file to the grid.
    """
    tasks = []
    for number, task in enumerate(grid.tasks):
        line = line_of(node, (*location, "tasks", number))
        where = f"experiment {name}, line {line}: {'.'.join((*location, 'tasks'))}"
        tasks.append(task.model_copy(update={"name": _absolute(task.name, path, where)}) if task.is_path else task)
    variants = [
        variant.model_copy(update={"line": line_of(node, (*location, "variants", number))})
        for number, variant in enumerate(grid.variants)
    ]
    return {"tasks": tuple(tasks), "variants": tuple(variants)}


def _absolute(relative: str, path: Path, where: str) -> str:
    """Return the absolute path of a file in the folder of the experiment file `path`.

    Raise ExperimentError, with a message that begins with `where`, if it is outside of that folder.
    """
    folder = path.parent.resolve()
    absolute = (folder / relative).resolve()
    if not absolute.is_relative_to(folder):
        raise ExperimentError(f"{where}: {relative} leaves the experiment's folder: put it there")
    return str(absolute)


def _mistake(line: int, error: Mapping[str, Any]) -> str:
    """Return what one of pydantic's errors says, in plain words, with its line and field."""
    field = ".".join(str(part) for part in error["loc"] if part != "params")
    kind, message = error["type"], str(error["msg"]).removeprefix("Value error, ")
    if kind == "extra_forbidden":
        message = "there is no such field"
    elif kind == "missing":
        message = "the field is missing"
    elif kind in ("tuple_type", "model_type", "dict_type"):
        message = f"found {error['input']!r:.60}, where a list or a mapping of fields belongs"
    elif isinstance(error["input"], str | int | float) and repr(error["input"]) not in message:
        message += f" (found {error['input']!r:.60})"
    return f"line {line}: {field}: {message}" if field else f"line {line}: {message}"


def _name_of(path: Path) -> str:
    """Return the name of the shipped experiment in `path`, or the name of the file."""
    names = {file.resolve(): name for name, file in shipped().items()}
    return names.get(path.resolve(), path.name)


def _natural_order(name: str) -> list[tuple[str, int]]:
    """Return a key that sorts `fig4` before `fig10`."""
    return [(word, int(number or 0)) for word, number in re.findall(r"(\D+)(\d*)", name)]
