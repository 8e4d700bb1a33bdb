"""An experiment file as plain data with the line of each value. Nothing in a file can make it grow or run code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from painters.errors import PaintersError

MAX_BYTES = 32_768
MAX_NESTING = 8
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # many times as fast, where libyaml is
_UNPRINTABLE = yaml.reader.Reader.NON_PRINTABLE


class ExperimentError(PaintersError, ValueError):
    """An experiment that does not exist, is malformed, or does not fit the model."""

    exit_code = 2


def read_text(path: Path, name: str) -> str:
    """The text of the file `path`; ExperimentError where it is none or too long."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ExperimentError(
            f"experiment {name}: {path} cannot be read ({error.strerror}). Give the path of a YAML file, or the name "
            f"of an experiment that comes with painters"
        ) from error
    if len(data) > MAX_BYTES:
        raise ExperimentError(
            f"experiment {name}: longer than {MAX_BYTES} bytes, which no grid needs. Is this an experiment file?"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ExperimentError(f"experiment {name}, line {line}: not UTF-8. Save the file as UTF-8 text") from error


def parse(text: str, name: str) -> tuple[dict[str, Any], yaml.Node]:
    """The mapping that `text` describes, and the tree of its nodes for `line_of`."""
    if odd := _UNPRINTABLE.search(text):
        line = _lines_before(text, odd.start())
        raise ExperimentError(
            f"experiment {name}, line {line}: not YAML: the character U+{ord(odd[0]):04X} is no text. Is this an "
            f"experiment file?"
        )
    try:
        _refuse_growth(text, name)
        loader = _LOADER(text)
        try:
            node = loader.get_single_node()
            if not isinstance(node, yaml.MappingNode):
                raise ExperimentError(
                    f"experiment {name}, line 1: {'empty' if node is None else 'no mapping'}. It must be lines such as "
                    f"`title: ...`, `figure: 4`, `models: [...]`, `tasks: [...]`, `variants: [...]`"
                )
            _refuse_doubles(node, name)
            _refuse_odd_values(loader, node, name)
            data: dict[str, Any] = loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ExperimentError(_not_yaml(error, text, name)) from error
    return data, node


def line_of(node: yaml.Node, place: Sequence[int | str]) -> int:
    """The line, from 1, of the value at `place`, or of the nearest thing around it that the file has."""
    line = node.start_mark.line
    for part in place:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == part), None)
            if found is None:
                continue  # a name that the file leaves out, such as `params`
            line, node = found[0].start_mark.line, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
    return int(line) + 1


def _refuse_growth(text: str, name: str) -> None:
    """Nothing; ExperimentError for aliases, which multiply, for tags, which construct, and for deep nesting."""
    depth = 0
    for event in yaml.parse(text, _LOADER):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ExperimentError(
                f"experiment {name}, line {line}: anchors and aliases (& *) are not read: write it out"
            )
        if getattr(event, "tag", None):
            raise ExperimentError(f"experiment {name}, line {line}: tags (!) are not read: write plain values")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_NESTING:
            raise ExperimentError(
                f"experiment {name}, line {line}: nested more than {MAX_NESTING} deep; no field needs more than 4"
            )


def _refuse_doubles(node: yaml.Node, name: str) -> None:
    """Nothing; ExperimentError where a mapping has a key twice, of which YAML would keep the last."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise ExperimentError(f"experiment {name}, line {line}: a name of a field must be a word")
            if key.value in seen:
                raise ExperimentError(f"experiment {name}, line {line}: {key.value!r} is there twice: keep one of them")
            seen.add(key.value)
            _refuse_doubles(value, name)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_doubles(value, name)


def _refuse_odd_values(loader: Any, node: yaml.Node, name: str) -> None:
    """Nothing; ExperimentError for a date or number that YAML knows and Python does not, and for enormous numbers."""
    if isinstance(node, yaml.ScalarNode):
        line = node.start_mark.line + 1
        try:
            value = loader.construct_document(node)
        except ValueError as error:
            raise ExperimentError(f"experiment {name}, line {line}: not YAML: {error}. Write another value") from error
        if isinstance(value, int) and value.bit_length() > 64:
            raise ExperimentError(
                f"experiment {name}, line {line}: a number of {value.bit_length()} bits: write a smaller"
            )
        return
    for child in node.value:
        for part in child if isinstance(child, tuple) else (child,):
            _refuse_odd_values(loader, part, name)


def _lines_before(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1


def _not_yaml(error: yaml.YAMLError, text: str, name: str) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
    line = 0 if mark is None else mark.line
    found = "".join(text.split("\n")[line : line + 1])
    return (
        f"experiment {name}, line {line + 1}: not YAML: {problem} (found {found!r:.60}). Check brackets, colons and "
        f"indentation there"
    )
