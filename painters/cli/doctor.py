"""`painters doctor`: a store verified, and mended."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from painters.cli._console import print_result
from painters.cli._errors import FAILURE
from painters.cli._options import DEFAULT_OUT, OUTPUT, JsonOption, QuietOption


def doctor(
    results: Annotated[
        Path, typer.Argument(metavar="RESULTS", help="Folder or file of records. Default: runs.")
    ] = DEFAULT_OUT.parent,
    mending: Annotated[
        bool,
        typer.Option(
            "--mend",
            help="Take damaged lines out, and write those of an older version anew. Old files stay as .bak.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Verify the records of a store, line by line, and say what to do. Exit code 1 where it is not sound. No torch.

    painters doctor results
    """
    from painters.cli.doctor_result import consult

    found = consult(results, mending=mending)
    print_result(found.as_json() if as_json else found.text())
    if not found.is_sound:
        raise typer.Exit(FAILURE)
