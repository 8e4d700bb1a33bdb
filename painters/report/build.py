"""A report: one HTML page that holds the figures, the records and comparisons of plans, and asks the network nothing.

The module is callable as its function `report` is, because `painters.report` is the name of both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from painters import figures
from painters.errors import PaintersError
from painters.report.data import payload
from painters.report.page import page
from painters.report.pictures import pictures
from painters.report.settings import by_model

__all__ = ["Report", "ReportError", "report"]

LARGE = 40_000_000  # bytes that a browser takes long to load, on a phone above all


class ReportError(PaintersError, ValueError):
    """A report that cannot be made."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Report:
    """A page that was written, what it holds, and what to know about it."""

    path: Path
    records: int
    plans: int
    figures: tuple[int, ...]
    bytes: int
    warnings: tuple[str, ...]


def report(
    results: str | PathLike[str] | Iterable[str | PathLike[str]],
    out: str | PathLike[str] = "report.html",
    *,
    with_figures: bool = True,
    title: str = "painters report",
) -> Report:
    """What was written to `out`: a page of the records in these files; a folder stands for its .jsonl files.

    The same records make the same bytes. Figures are drawn for each model in the records; `with_figures=False` leaves
    them out, and needs no matplotlib. Raises ReportError where there are no records, and what reading them raises.
    """
    out = Path(out)
    sources = [results] if isinstance(results, str | PathLike) else list(results)
    records, similarities = figures.read(map(Path, sources))
    if not records:
        found = f"{len(similarities)} similarities" if similarities else "nothing"
        raise ReportError(
            f"report of {', '.join(map(str, sources))}: {found} and no scores are there. "
            f"`painters run` and `painters sweep` write some"
        )
    records.sort(key=lambda record: record.tuning is not None)  # decoders, then encoders
    data = payload(records)
    drawn, missing = pictures(records, similarities) if with_figures else ([], [])
    text = page(title, data.content, by_model(records), drawn, missing, data.left_out)
    content = text.encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(content)
    warnings = [f"left out: {what}" for what in data.left_out]
    if len(content) > LARGE:
        warnings.append(
            f"the page has {len(content) / 1e6:.0f} MB, which browsers load slowly: report fewer records at a time"
        )
    numbers = tuple(dict.fromkeys(picture.number for picture in drawn))
    return Report(out, len(records), len(data.content["plans"]), numbers, len(content), tuple(warnings))
