"""`painters report`: write everything that records say as one page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from painters.cli._console import print_result, progress, unbroken
from painters.cli._options import DEFAULT_OUT, OUTPUT, JsonOption, NamesOption, QuietOption
from painters.cli._progress import status

if TYPE_CHECKING:
    from painters.report import Report


def report(
    sources: Annotated[
        list[Path] | None, typer.Argument(metavar="RESULTS", help="Folders or files of records. Default: runs.")
    ] = None,
    to: Annotated[Path, typer.Option("--out", help="The HTML file to write.", rich_help_panel=OUTPUT)] = Path(
        "report.html"
    ),
    title: Annotated[str | None, typer.Option(help="Heading of the page.", rich_help_panel=OUTPUT)] = None,
    no_figures: Annotated[
        bool, typer.Option("--no-figures", help="Leave out the figures.", rich_help_panel=OUTPUT)
    ] = False,
    name: NamesOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a self-contained HTML page with figures, records, plans and paired comparisons.

    painters report results --out report.html
    """
    from painters.report import report as write_report

    options = {} if title is None else {"title": title}
    with status("Drawing the figures and writing the page", progress(quiet, as_json)):
        written = WrittenReport(
            write_report(sources or [DEFAULT_OUT.parent], to, with_figures=not no_figures, names=name or (), **options)
        )
    print_result(written.as_json() if as_json else written.text())


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """A report that was written, as JSON and as text."""

    report: Report

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        report = self.report
        return {
            "report": str(report.path),
            "bytes": report.bytes,
            "records": report.records,
            "plans": report.plans,
            "figures": list(report.figures),
            "warnings": list(report.warnings),
        }

    def text(self) -> RenderableType:
        """Return what the page holds, its warnings, and where it is."""
        report = self.report
        figures = f"{len(report.figures)} figures, " if report.figures else ""
        content = f"{figures}{report.records:,} records of {report.plans:,} plans, {report.bytes / 1e6:.1f} MB"
        lines = [Text(content), *(Text(f"Warning: {warning}", style="yellow") for warning in report.warnings)]
        return Group(*lines, unbroken(f"The report is {report.path}: open it in a browser"))
