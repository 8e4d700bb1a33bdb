"""Generate the reference of the command line from the commands themselves."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from painters.cli import app

MARK = "<!-- commands -->"
ARGUMENTS = "Arguments"  # and options that belong to no panel


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page with the reference of all commands in place of the mark."""
    return markdown.replace(MARK, "\n".join(reference()))


def reference() -> Iterator[str]:
    """Yield the lines of the reference: each command under its own heading, in the order of the help."""
    root: Any = get_command(app)
    for name, command in root.commands.items():
        text, example = summary_and_example(command.callback)
        yield from (f"## painters {name}", "", text, "")
        if example:
            yield from ("```sh", example, "```", "")
        context = command.make_context(f"painters {name}", [], resilient_parsing=True)
        usage = command.get_usage(context).replace("Usage: ", "")
        yield from (f"`{re.sub(' +', ' ', usage)}`", "")
        yield from options(command, context)


def summary_and_example(callback: Any) -> tuple[str, str]:
    """Return what a command does, and its example."""
    text, _, example = inspect.getdoc(callback).partition("\n\n")
    return text.replace("\n", " "), example.strip()


def options(command: Any, context: Any) -> Iterator[str]:
    """Yield the lines of a table of the arguments and options, panel by panel."""
    panels: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None:
            panels.setdefault(getattr(parameter, "rich_help_panel", None) or ARGUMENTS, []).append(record)
    if panels:
        yield from ("| option | what it does |", "| --- | --- |")
    for panel, records in panels.items():
        if len(panels) > 1:
            yield f"| **{panel}** | |"
        for names, text in records:
            yield f"| `{names}` | {text} |".replace("\n", " ")
    yield ""
