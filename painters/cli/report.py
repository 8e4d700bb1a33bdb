"""`painters report`: one page of everything."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from painters.cli._console import print_result, progress
from painters.cli._options import DEFAULT_OUT, OUTPUT, JsonOption, QuietOption
from painters.cli._progress import status

if TYPE_CHECKING:
    from painters.report import Report


def report(
    sources: Annotated[
        list[Path] | None, typer.Argument(metavar="RESULTS", help="Folders or files of records. Default: runs.")
    ] = None,
    to: Annotated[Path, typer.Option("--out", help="The page.", rich_help_panel=OUTPUT)] = Path("report.html"),
    title: Annotated[str | None, typer.Option(help="Its heading.", rich_help_panel=OUTPUT)] = None,
    no_figures: Annotated[
        bool, typer.Option("--no-figures", help="Only tables, plans and comparisons.", rich_help_panel=OUTPUT)
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write one page that holds figures, records, plans and paired comparisons, and loads nothing. No torch.

    painters report results --out report.html
    """
    from painters.report import report as write

    options = {} if title is None else {"title": title}
    with status("Drawing the figures and writing the page", progress(quiet, as_json)):
        written = Written(write(sources or [DEFAULT_OUT.parent], to, with_figures=not no_figures, **options))
    print_result(written.as_json() if as_json else written.text())


@dataclass(frozen=True, slots=True)
class Written:
    """A report, told."""

    report: Report

    def as_json(self) -> dict[str, Any]:
        found = self.report
        return {
            "report": str(found.path),
            "bytes": found.bytes,
            "records": found.records,
            "plans": found.plans,
            "figures": list(found.figures),
            "warnings": list(found.warnings),
        }

    def text(self) -> RenderableType:
        found = self.report
        figures = f"{len(found.figures)} figures, " if found.figures else ""
        told = f"{figures}{found.records:,} records of {found.plans:,} plans, {found.bytes / 1e6:.1f} MB"
        lines = [Text(told), *(Text(f"Warning: {warning}", style="yellow") for warning in found.warnings)]
        return Group(*lines, Text(f"The report is {found.path}: open it in a browser"))
