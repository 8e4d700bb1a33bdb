"""What rich prints of a renderable."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def printed(what: Any, width: int = 120) -> str:
    from rich.console import Console

    console = Console(width=width, record=True, file=Path(os.devnull).open("w"))  # noqa: SIM115
    with console.file:
        console.print(what)
    return console.export_text()
