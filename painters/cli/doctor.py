"""`painters doctor`: verify and mend a store of records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from painters.cli._console import print_result
from painters.cli._errors import FAILURE
from painters.cli._options import DEFAULT_OUT, OUTPUT, JsonOption, QuietOption


def doctor(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Folder or file of records.")] = DEFAULT_OUT.parent,
    mending: Annotated[
        bool,
        typer.Option(
            "--mend",
            help="Remove damaged lines, and convert records of an older version. Old files stay as .bak.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Verify records, line by line, and say what to do about faults. Exits with 1 if there are any.

    painters doctor results
    """
    from painters.cli.doctor_result import consult

    consultation = consult(results, mending=mending)
    print_result(consultation.as_json() if as_json else consultation.text())
    if not consultation.is_sound:
        raise typer.Exit(FAILURE)
