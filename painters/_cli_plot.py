"""What `painters plot` does between its arguments and its table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from painters import figures


@dataclass(frozen=True, slots=True)
class Plotted:
    """What became of the figures, and whether each was asked for by its number."""

    drawn: Sequence[figures.Drawn]
    by_number: bool

    @property
    def failed(self) -> bool:
        """Whether a figure that was asked for by its number was not drawn, or none at all."""
        done = [bool(figure.files) for figure in self.drawn]
        return not (all(done) if self.by_number else any(done))

    def as_json(self) -> list[dict[str, Any]]:
        return [
            {"figure": figure.number, "title": figure.title, "drawn": bool(figure.files)}
            | {"files": [str(path) for path in figure.files], "missing": list(figure.missing)}
            for figure in self.drawn
        ]

    def table(self) -> Table:
        """One row per figure."""
        table = Table(box=None, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
        table.add_column("figure", justify="right")
        table.add_column("files", no_wrap=True)
        table.add_column("missing")
        for figure in self.drawn:
            table.add_row(str(figure.number), Text(_files(figure.files)), Text("; ".join(figure.missing) or "nothing"))
        return table


def plot(
    names: Iterable[str], sources: Iterable[Path], folder: Path, *, model: str | None, encoder: str | None
) -> Plotted:
    """The figures drawn into `folder` from the records in `sources`."""
    names = list(names)
    numbers = figures.numbers(names)
    data = figures.Data.of(*figures.read(sources), model=model, encoder=encoder)
    return Plotted(figures.draw_all(data, folder, numbers), by_number=bool(names) and "all" not in names)


def _files(files: Sequence[Path]) -> str:
    """`fig04.{svg,png,csv,md}` for files that only differ in their suffixes."""
    if not files:
        return "none"
    return f"{files[0].stem}.{{{','.join(path.suffix[1:] for path in files)}}}"
