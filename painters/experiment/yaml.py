"""A reader of experiment files: plain data, with the line of each value.

A file cannot run code, and what is read from it is never larger than the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from painters.errors import PaintersError

MAX_BYTES = 32_768
"""The longest file, in bytes."""
MAX_NESTING = 8
"""The most lists and mappings inside one another."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the first is faster, and needs libyaml
_UNPRINTABLE = yaml.reader.Reader.NON_PRINTABLE


class ExperimentError(PaintersError, ValueError):
    """An experiment that does not exist, is malformed, or does not fit the model."""

    exit_code = 2


def read_text(path: Path, name: str) -> str:
    """Return the text of an experiment file.

    Args:
        path: The file.
        name: What error messages call the experiment.

    Raises:
        ExperimentError: The file cannot be read, is longer than `MAX_BYTES`, or is not UTF-8.
    """
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
    """Return the mapping that a text describes, and the tree of its nodes for `line_of`.

    Args:
        text: The text of the file.
        name: What error messages call the experiment.

    Raises:
        ExperimentError: The text is not YAML, is not a mapping, or holds an alias, a tag, a repeated field, a value
            that Python does not have, or more than `MAX_NESTING` levels.
    """
    if odd := _UNPRINTABLE.search(text):
        line = _line_at(text, odd.start())
        raise ExperimentError(
            f"experiment {name}, line {line}: not YAML: the character U+{ord(odd[0]):04X} is not text. Is this an "
            f"experiment file?"
        )
    try:
        _check_size(text, name)
        loader = _LOADER(text)
        try:
            node = loader.get_single_node()
            if not isinstance(node, yaml.MappingNode):
                raise ExperimentError(
                    f"experiment {name}, line 1: {'empty' if node is None else 'no mapping'}. It must be lines such as "
                    f"`title: ...`, `figure: 4`, `models: [...]`, `tasks: [...]`, `variants: [...]`"
                )
            _check_unique_fields(node, name)
            _check_values(loader, node, name)
            data: dict[str, Any] = loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ExperimentError(_syntax_message(error, text, name)) from error
    return data, node


def line_of(node: yaml.Node, location: Sequence[int | str]) -> int:
    """Return the line, counted from 1, of a value in a file.

    Args:
        node: The root of the file's tree.
        location: The names and numbers that lead from the root to the value. If the file lacks the value, the line is
            that of the nearest one around it.
    """
    line = node.start_mark.line
    for part in location:
        if isinstance(node, yaml.MappingNode):
            entry = next(((key, value) for key, value in node.value if key.value == part), None)
            if entry is None:
                continue  # a name that the file leaves out, such as `params`
            line, node = entry[0].start_mark.line, entry[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
    return int(line) + 1


def _check_size(text: str, name: str) -> None:
    """Raise ExperimentError for aliases, tags and deep nesting.

    Aliases can multiply data, and tags can construct objects.
    """
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


def _check_unique_fields(node: yaml.Node, name: str) -> None:
    """Raise ExperimentError if a mapping has the same key twice: YAML would silently keep the last."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise ExperimentError(f"experiment {name}, line {line}: a name of a field must be a word")
            if key.value in seen:
                raise ExperimentError(f"experiment {name}, line {line}: {key.value!r} is there twice: keep one of them")
            seen.add(key.value)
            _check_unique_fields(value, name)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check_unique_fields(value, name)


def _check_values(loader: Any, node: yaml.Node, name: str) -> None:
    """Raise ExperimentError for a value that Python cannot hold, such as 31 February, or an enormous number."""
    if isinstance(node, yaml.ScalarNode):
        line = node.start_mark.line + 1
        try:
            value = loader.construct_document(node)
        except ValueError as error:
            raise ExperimentError(f"experiment {name}, line {line}: not YAML: {error}. Write another value") from error
        if isinstance(value, int) and value.bit_length() > 64:
            raise ExperimentError(
                f"experiment {name}, line {line}: a number of {value.bit_length()} bits: write a smaller one"
            )
        return
    for child in node.value:
        for part in child if isinstance(child, tuple) else (child,):
            _check_values(loader, part, name)


def _line_at(text: str, position: int) -> int:
    """Return the line, counted from 1, of the character at `position`."""
    return text.count("\n", 0, position) + 1


def _syntax_message(error: yaml.YAMLError, text: str, name: str) -> str:
    """Return the message for a text that is not YAML, with the line of the mistake."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
    line = 0 if mark is None else mark.line
    shown = "".join(text.split("\n")[line : line + 1])
    return (
        f"experiment {name}, line {line + 1}: not YAML: {problem} (found {shown!r:.60}). Check brackets, colons and "
        f"indentation there"
    )
