"""`painters plot`: draw figures from records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from painters.cli._console import out, print_result
from painters.cli._errors import FAILURE
from painters.cli._options import (
    DEFAULT_OUT,
    OUTPUT,
    JsonOption,
    NamesOption,
    NumbersArgument,
    QuietOption,
    named_model,
)

if TYPE_CHECKING:
    from painters.figures import Drawn


def plot(
    numbers: NumbersArgument = None,
    sources: Annotated[
        list[Path] | None,
        typer.Option(
            "--from", help="Folder or file of records; can be repeated. Default: runs.", rich_help_panel=OUTPUT
        ),
    ] = None,
    to: Annotated[Path, typer.Option("--to", help="Folder for the files.", rich_help_panel=OUTPUT)] = Path("figures"),
    model: Annotated[
        str | None, named_model("The decoder to draw, where records are of several.", is_loaded=False)
    ] = None,
    encoder: Annotated[
        str | None, named_model("The encoder to draw, where records are of several.", is_loaded=False)
    ] = None,
    name: NamesOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Draw figures from records, as SVG and PNG, each with its numbers (CSV) and its caption.

    painters plot 4 11 --from runs --to figures
    """
    from painters import figures

    words = numbers or []
    chosen = figures.numbers(words)
    paths = sources or [DEFAULT_OUT.parent]
    records, similarities = figures.read(paths)
    if not records and not similarities:
        listed = ", ".join(map(str, paths))
        raise figures.FigureError(f"records of {listed}: there are none in it. `painters sweep` writes some")
    names = figures.names_given(name or (), records, similarities)
    data = figures.Data.of(records, similarities, model=model, encoder=encoder, names=names)
    result = Plotted(figures.draw_all(data, to, chosen), by_number=bool(words) and "all" not in words)
    if as_json:
        print_result(result.as_json())
    else:
        out.print(result.table())
        if not quiet and any(figure.files for figure in result.drawn):
            out.print(Text(f"\nThe files are in {to}"), soft_wrap=True)
    if result.failed:
        raise typer.Exit(FAILURE)


@dataclass(frozen=True, slots=True)
class Plotted:
    """The figures that were drawn or could not be, and whether each was asked for by its number."""

    drawn: Sequence[Drawn]
    by_number: bool

    @property
    def failed(self) -> bool:
        """Whether a figure that was asked for by its number was not drawn, or none at all."""
        has_files = [bool(figure.files) for figure in self.drawn]
        return not (all(has_files) if self.by_number else any(has_files))

    def as_json(self) -> list[dict[str, Any]]:
        """Return what `--json` prints: an object for each figure."""
        return [
            {"figure": figure.number, "title": figure.title, "drawn": bool(figure.files)}
            | {"files": [str(path) for path in figure.files], "missing": list(figure.missing)}
            for figure in self.drawn
        ]

    def table(self) -> Table:
        """Return a table with a row for each figure."""
        table = Table(box=None, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
        table.add_column("figure", justify="right")
        table.add_column("files", no_wrap=True)
        table.add_column("missing")
        for figure in self.drawn:
            table.add_row(str(figure.number), Text(_files(figure.files)), Text("; ".join(figure.missing) or "nothing"))
        return table


def _files(files: Sequence[Path]) -> str:
    """Return a short name for files that differ in their suffixes alone: `fig04.{svg,png,csv,md}`."""
    if not files:
        return "none"
    return f"{files[0].stem}.{{{','.join(path.suffix[1:] for path in files)}}}"
