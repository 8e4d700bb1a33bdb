"""Build a report: read the records, draw the figures, write one HTML page that loads nothing from the network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from painters import figures
from painters.errors import PaintersError
from painters.report.data import payload
from painters.report.page import PageParts, render_page
from painters.report.pictures import pictures
from painters.report.settings import by_model, renamed

__all__ = ["Report", "ReportError", "report"]

LARGE = 40_000_000  # bytes that a browser takes long to load, above all on a phone


class ReportError(PaintersError, ValueError):
    """A report that cannot be made."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Report:
    """A page that was written.

    Attributes:
        path: The HTML file.
        records: How many records of scores it shows.
        plans: How many distinct plans they have.
        figures: The numbers of the figures that were drawn.
        bytes: The size of the file.
        warnings: What was left out, and why the page may load slowly.

    Examples:
        >>> from painters.harness import score
        >>> from painters.models import load_model
        >>> from painters.results import append
        >>> append("runs/records.jsonl", score(*load_model("nano-llama"), "0-10", "nano_arc", limit=2))
        >>> page = report("runs", with_figures=False)
        >>> page.records, page.plans, page.figures, page.warnings
        (2, 1, (), ())
    """

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
    names: str | Sequence[str] = (),
) -> Report:
    """Write one HTML page with the figures, the records, and comparisons of any two plans.

    The page is self-contained: it loads nothing from the network. The same records make the same bytes. Figures are
    drawn for each model in the records.

    Args:
        results: A file of records, a folder, which stands for the .jsonl files in it at any depth, or several of these.
        out: The file to write; its folder is created if it does not exist.
        with_figures: Draw the figures. Without them no matplotlib is needed.
        title: The title of the page.
        names: What the page calls the models: `NAME`, for the only decoder, or `MODEL=NAME`, or several of these.

    Returns:
        What was written, and what had to be left out.

    Raises:
        ReportError: There are no records of scores.
        ModelNameError: A name cannot be shown, or it is unclear which model is meant.
        FigureError: One of `results` does not exist, or holds no .jsonl file.
        ResultsError: Some records are of another version of painters.

    Examples:
        >>> import painters
        >>> from painters.harness import score
        >>> from painters.models import load_model
        >>> from painters.results import append
        >>> model, tokenizer = load_model("nano-llama")
        >>> for plan in ("0-11", "0-3 {4-8} 9-11"):
        ...     append("runs/records.jsonl", score(model, tokenizer, plan, "nano_arc", limit=2))
        >>> page = painters.report("runs", "report.html", with_figures=False)
        >>> page.path.name, page.records, page.plans
        ('report.html', 4, 2)
    """
    out = Path(out)
    sources = [results] if isinstance(results, str | PathLike) else list(results)
    records, similarities = figures.read(map(Path, sources))
    if not records:
        found = f"{len(similarities)} records of similarity, but none of scores" if similarities else "no records"
        raise ReportError(
            f"report of {', '.join(map(str, sources))}: there are {found}. "
            f"`painters run` and `painters sweep` write some"
        )
    records.sort(key=lambda record: record.tuning is not None)  # decoders, then encoders
    given = figures.names_given([names] if isinstance(names, str) else names, records, similarities)
    shown = figures.shown_names(records, similarities, given)
    data = payload(renamed(records, shown))
    drawn, not_drawn = pictures(records, similarities, shown) if with_figures else ([], [])
    parts = PageParts(data.content, by_model(renamed(records, shown)), drawn, not_drawn, data.left_out)
    content = render_page(title, parts).encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(content)
    warnings = [f"left out: {omission}" for omission in data.left_out]
    if len(content) > LARGE:
        warnings.append(
            f"the page has {len(content) / 1e6:.0f} MB, which browsers load slowly: report fewer records at a time"
        )
    numbers = tuple(dict.fromkeys(picture.number for picture in drawn))
    return Report(out, len(records), len(data.content["plans"]), numbers, len(content), tuple(warnings))
