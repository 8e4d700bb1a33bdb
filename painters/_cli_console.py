"""Where the command line prints: tables and JSON to stdout, progress to stderr."""

from __future__ import annotations

import json
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def tell(what: Any) -> None:
    """Nothing; dictionaries and lists are printed as JSON, anything else as rich prints it."""
    if isinstance(what, dict | list):
        typer.echo(json.dumps(what, indent=2))
    else:
        out.print(what)


def two_columns(rows: dict[str, str]) -> Table:
    """Names and what they are, a line each."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, value in rows.items():
        table.add_row(Text(name, style="bold"), Text(value, overflow="fold"))
    return table
