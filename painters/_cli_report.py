"""What `painters report` does between its arguments and its table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from painters._cli_run import status
from painters.report import Report, report


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


def write(
    sources: Sequence[Path], out: Path, *, with_figures: bool, title: str | None, console: Console | None
) -> Written:
    """The report of the records in `sources`, written to `out`."""
    with status("Drawing the figures and writing the page", console, console is not None):
        options = {} if title is None else {"title": title}
        return Written(report(sources, out, with_figures=with_figures, **options))
