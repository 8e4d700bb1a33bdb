"""Print results to stdout, as tables or as JSON, and progress to stderr."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from painters.cli._terminal import Terminal


def plain() -> bool:
    """Return whether terminals get plain text: NO_COLOR is set (no-color.org), or TERM is a dumb one."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") in ("dumb", "unknown")


def _console(stderr: bool) -> Terminal:
    """Return a console that writes to stderr, or to stdout."""
    return Terminal(stderr=stderr, force_terminal=False if plain() else None)


out = _console(stderr=False)
err = _console(stderr=True)


def progress(quiet: bool, as_json: bool) -> Console | None:
    """Return the console for progress; None for no progress, with the bars of libraries off too."""
    if not quiet and not as_json:
        return err
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # transformers obeys it too; both read it when imported
    return None


def print_result(result: Any) -> None:
    """Print dictionaries and lists as JSON, and anything else as rich renders it."""
    if isinstance(result, dict | list):
        typer.echo(json.dumps(_finite(result), indent=2, allow_nan=False))
    else:
        out.print(result)


def _finite(value: Any) -> Any:
    """Return `value` with None in place of NaN and infinities, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def unbroken(text: str, style: str = "") -> Text:
    """Return a line with a path in it, which is printed as one line however long: a broken path cannot be copied."""
    return Text(text, style=style, no_wrap=True, overflow="ignore")


def two_columns(rows: dict[str, str]) -> Table:
    """Return a table of names and their values, one per line."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, value in rows.items():
        table.add_row(Text(name, style="bold"), Text(value, overflow="fold"))
    return table
