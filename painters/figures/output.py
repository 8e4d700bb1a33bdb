"""A finished drawing, and the four files it becomes: picture (SVG, PNG), numbers (CSV), caption (Markdown)."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from painters.figures.bands import DRAWS, SEED, Estimate
from painters.figures.board import Board
from painters.figures.style import styled
from painters.results import Record, digest

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """A figure, the very numbers that it shows, what they are, and what would belong there and has no record."""

    figure: Figure
    rows: Sequence[Mapping[str, Any]]
    columns: Sequence[str]
    about: Sequence[str]
    missing: Sequence[str] = field(default=())

    @property
    def table(self) -> pd.DataFrame:
        """The numbers drawn; whole numbers stay whole where some are absent, and no text is a spreadsheet's formula."""
        import pandas as pd

        whole = [name for name in self.columns if all(type(row.get(name, 0)) is int for row in self.rows)]
        rows = [{name: _harmless(value) for name, value in row.items()} for row in self.rows]
        return pd.DataFrame(rows, columns=list(self.columns)).astype(dict.fromkeys(whole, "Int64"))


def _harmless(value: Any) -> Any:
    """`value`; a text that a spreadsheet would take for a formula begins with an apostrophe, and is a text there."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else value


def numbers(estimate: Estimate | None, value: str, low: str, high: str) -> dict[str, float]:
    """The columns of an estimate; what is not known is absent."""
    if estimate is None:
        return {}
    band = estimate.band
    return {value: estimate.value} | ({} if band is None else {low: band[0], high: band[1]})


def write(drawing: Drawing, number: int, title: str, folder: Path) -> list[Path]:
    """The paths of the files, written to `folder`: the same drawing writes the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"fig{number:02d}"
    paths = [stem.with_suffix(suffix) for suffix in (".svg", ".png", ".csv", ".md")]
    paths[0].write_bytes(svg(drawing))
    with styled():
        drawing.figure.savefig(paths[1], dpi=160, metadata={"Software": None})
    drawing.table.to_csv(paths[2], index=False, float_format="%.6g", lineterminator="\n")
    paths[3].write_text(caption(drawing, number, title), encoding="utf-8")
    return paths


def svg(drawing: Drawing) -> bytes:
    """The picture as SVG; the figure keeps its layout for further pictures."""
    file = io.BytesIO()
    with styled():
        # The layout is found once, not again for each picture.
        drawing.figure.draw_without_rendering()
        drawing.figure.set_layout_engine("none")
        about = {"Date": None, "Creator": None, "Description": "\n".join(drawing.about)}
        drawing.figure.savefig(file, format="svg", metadata=about)
    return file.getvalue()


def caption(drawing: Drawing, number: int, title: str) -> str:
    """The caption: what is shown, how it was measured, and what is missing."""
    parts = [f"**Figure {number}. {title}.**", *drawing.about]
    if drawing.missing:
        parts.append(f"Missing, and left out of the picture: {'; '.join(drawing.missing)}.")
    else:
        parts.append("Nothing is missing.")
    return "\n\n".join(parts) + "\n"


def provenance(board: Board, tasks: Iterable[str]) -> str:
    """A paragraph on the model, the tasks with documents and shots, and the protocol."""
    wanted = set(tasks)
    records = [record for record in board.records if record.task in wanted]
    revisions = sorted({record.revision or f"weights {record.weights}" for record in records})
    text = (
        f"Model: {board.model} ({', '.join(revisions)}), {board.num_layers} layers, "
        f"{_listed(record.dtype for record in records)} on {_listed(record.device for record in records)}. "
        f"Tasks: {', '.join(_task(record) for record in _firsts(records))}. "
        f"{_protocol(records)} Drawn from {len(records)} records of these tasks (digest {digest(records)})."
    )
    if board.left_out:
        text += f" Fewer documents than others of their task have, so not drawn: {'; '.join(board.left_out)}."
    if odd := sorted({f"{record.plan} on {record.task}" for record in board.not_finite if record.task in wanted}):
        text += f" Without a value, because answers were not finite (NaN or infinite): {short(odd)}."
    return text


def bands_note(boards: Sequence[Board], what: str = "documents") -> str:
    """A paragraph on the bands: drawn are `what`."""
    unpaired = {record.metric for board in boards for record in board.records if record.outcomes is None}
    note = (
        f"Bands: 95 %, percentiles of {DRAWS} bootstrap draws of {what} (seed {SEED}), the same documents for every "
        f"plan and for the intact model."
    )
    if unpaired:
        note += f" No mean over documents, so varied by its standard error instead: {', '.join(sorted(unpaired))}."
    return note


def short(items: Sequence[object], most: int = 8) -> str:
    """The items with commas, and instead of the last of many a count."""
    texts = [str(item) for item in items]
    return ", ".join(texts) if len(texts) <= most else f"{', '.join(texts[:most])} and {len(texts) - most} more"


def _firsts(records: Iterable[Record]) -> list[Record]:
    """A record of each task, in the order of their names."""
    return [record for _, record in sorted({record.task: record for record in records}.items())]


def _task(record: Record) -> str:
    shots = "" if record.tuning else f", {_count(record.shots, 'shot')}"
    return f"{record.task} ({record.metric}, {record.documents} documents{shots})"


def _protocol(records: Sequence[Record]) -> str:
    """A sentence on how the records were scored."""
    seeds = _listed(record.seed for record in records)
    batches = _listed(record.batch_size for record in records)
    if records and records[0].tuning is None:
        versions = _listed(f"lm-eval {record.versions.get('lm_eval', 'unknown')}" for record in records)
        return f"Protocol: {versions}, few-shot seed {seeds}, batches of {batches}."
    by_text: dict[str, list[str]] = {}
    for record in _firsts(records):
        by_text.setdefault(_tuned(record), []).append(record.task)
    texts = [text if len(by_text) == 1 else f"{text} ({', '.join(tasks)})" for text, tasks in by_text.items()]
    return f"Protocol: {'; '.join(texts)}; seed {seeds}, scored in batches of {batches}."


def _tuned(record: Record) -> str:
    """How an encoder was fine-tuned."""
    tuning = record.tuning
    assert tuning is not None
    how = {
        "retuned": "retuned (the plan installed, then all weights fine-tuned)",
        "frozen": "frozen (the plan installed, then only the classifier trained)",
        "operated": "operated (fine-tuned intact, then scored under the plan)",
    }[tuning.protocol]
    documents = "all" if tuning.documents is None else str(tuning.documents)
    return (
        f"{how}, {_count(tuning.epochs, 'epoch')} over {documents} training documents, AdamW, rate {tuning.rate:g}, "
        f"warm-up {tuning.warmup:g}, weight decay {tuning.weight_decay:g}, batches of {tuning.batch_size}, "
        f"at most {tuning.max_length} tokens"
        + ("" if tuning.precision == "float32" else f", products of the training in {tuning.precision}")
    )


def _listed(values: Iterable[object]) -> str:
    return " and ".join(sorted({str(value) for value in values}))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
