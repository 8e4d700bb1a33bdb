"""A finished drawing, and the four files it becomes: picture (SVG, PNG), numbers (CSV), caption (Markdown)."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from painters.figures.bands import DRAWS, SEED, Estimate
from painters.figures.score_table import ScoreTable
from painters.figures.style import styled
from painters.results import Record, digest
from painters.results.similarity_record import SimilarityRecord

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """A figure before it is written: the picture, the numbers in it, and its caption.

    Attributes:
        figure: The matplotlib figure.
        rows: The numbers drawn, one mapping for each row of the table. A value that is not known is absent.
        columns: Names of the table's columns, in order.
        about: Paragraphs of the caption.
        missing: Descriptions of what belongs in the figure but has no record.

    Examples:
        >>> from painters import figures
        >>> drawing = figures.drawing(1, figures.Data())
        >>> print(drawing.table.head(3).to_string(index=False))
              variant       plan  layer_runs  depth
               intact       0-11          12     12
                 skip   0-3 9-11           7      7
        middle repeat 0-3 6*5...          12     12
        >>> drawing.missing
        ()
    """

    figure: Figure
    rows: Sequence[Mapping[str, Any]]
    columns: Sequence[str]
    about: Sequence[str]
    missing: Sequence[str] = field(default=())

    @property
    def table(self) -> pd.DataFrame:
        """The numbers drawn, as a table.

        Columns of whole numbers stay so where some are absent. Text is escaped so that no spreadsheet runs it as a
        formula.
        """
        import pandas as pd

        whole = [name for name in self.columns if all(type(row.get(name, 0)) is int for row in self.rows)]
        rows = [{name: _escaped(value) for name, value in row.items()} for row in self.rows]
        return pd.DataFrame(rows, columns=list(self.columns)).astype(dict.fromkeys(whole, "Int64"))


def _escaped(value: Any) -> Any:
    """Return `value`, with an apostrophe before text that a spreadsheet would run as a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else value


def band_of(estimate: Estimate | None) -> dict[str, str]:
    """Return the column that says what the band is of; nothing where there is none."""
    if estimate is None or estimate.band is None:
        return {}
    return {"band": "documents and orders" if estimate.is_over_orders else "documents"}


def estimate_columns(estimate: Estimate | None, value: str, low: str, high: str) -> dict[str, float]:
    """Return the estimate and the edges of its band under these column names; unknown numbers are absent."""
    if estimate is None:
        return {}
    band = estimate.band
    return {value: estimate.value} | ({} if band is None else {low: band[0], high: band[1]})


def write(drawing: Drawing, number: int, title: str, folder: Path) -> list[Path]:
    """Write the four files to `folder` and return their paths; the same drawing writes the same bytes."""
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
    """Return the picture as SVG; the caption's paragraphs are its description.

    The same drawing gives the same bytes. The layout of the figure is fixed with the first picture.

    Args:
        drawing: What `drawing` returned.

    Returns:
        The text of the SVG file.

    Examples:
        >>> from painters import figures
        >>> content = figures.svg(figures.drawing(1, figures.Data()))
        >>> content[:5]
        b'<?xml'
    """
    file = io.BytesIO()
    with styled():
        # Find the layout once, not again for each picture.
        drawing.figure.draw_without_rendering()
        drawing.figure.set_layout_engine("none")
        metadata = {"Date": None, "Creator": None, "Description": "\n".join(drawing.about)}
        drawing.figure.savefig(file, format="svg", metadata=metadata)
    return file.getvalue()


def caption(drawing: Drawing, number: int, title: str) -> str:
    """Return the caption: what is shown, how it was measured, and what is missing."""
    parts = [f"**Figure {number}. {title}.**", *drawing.about]
    if drawing.missing:
        parts.append(f"Missing, and left out of the picture: {'; '.join(drawing.missing)}.")
    else:
        parts.append("Nothing is missing.")
    return "\n\n".join(parts) + "\n"


def records_note(scores: ScoreTable, tasks: Iterable[str]) -> str:
    """Return the caption's paragraph on the model, the tasks with documents and shots, and the protocol."""
    shown = set(tasks)
    records = [record for record in scores.records if record.task in shown]
    revisions = sorted({record.revision or f"weights {record.weights}" for record in records})
    text = (
        f"Model: {scores.name} ({', '.join(revisions)}), {scores.num_layers} layers, "
        f"{_listed(record.dtype for record in records)} on {_listed(record.device for record in records)}. "
        f"Tasks: {', '.join(_task(record) for record in _first_of_each_task(records))}. "
        f"{_protocol(records)} Drawn from {len(records)} records of these tasks (digest {digest(records)})."
    )
    if scores.left_out:
        text += f" Not drawn, because other records of the task have more documents: {'; '.join(scores.left_out)}."
    if without := sorted({f"{record.plan} on {record.task}" for record in scores.not_finite if record.task in shown}):
        text += f" Without a value, because answers were not finite (NaN or infinite): {short(without)}."
    return text


def bands_note(tables: Sequence[ScoreTable], *, are_computed: bool = True, has_orders: bool = False) -> str:
    """Return the caption's paragraph on the bands.

    Args:
        tables: The scores.
        are_computed: Whether some bands are of normalised scores or of aggregates over tasks.
        has_orders: Whether some bands are of orders of shuffle, too.
    """
    notes = ["Bands: 95 % intervals over documents, within the range of the metric; for one accuracy Wilson's."]
    if are_computed:
        notes.append(
            f"Normalised scores and means over tasks: what 95 % of {DRAWS} draws of such scores lie between (seed "
            f"{SEED}); every plan and the intact model share the draws of documents. Those of a median over tasks are "
            f"wider where several tasks are the best, or the worst, about equally."
        )
    if has_orders:
        notes.append(
            "Bands of several orders of shuffle are of documents and of orders, whose variance is estimated from these "
            "few (t distribution)."
        )
    if unpaired := {record.metric for scores in tables for record in scores.records if record.outcomes is None}:
        metrics = ", ".join(sorted(unpaired))
        notes.append(f"Metrics that are not means over documents vary by their standard error, unpaired: {metrics}.")
    return " ".join(notes)


def short(items: Sequence[object], most: int = 8) -> str:
    """Return up to `most` items separated by commas, and the number of those left out."""
    texts = [str(item) for item in items]
    return ", ".join(texts) if len(texts) <= most else f"{', '.join(texts[:most])} and {len(texts) - most} more"


def _first_of_each_task(records: Iterable[Record]) -> list[Record]:
    """Return one record of each task, sorted by the task's name."""
    return [record for _, record in sorted({record.task: record for record in records}.items())]


def _task(record: Record) -> str:
    """Describe the record's task: metric, documents and (of a decoder) shots."""
    shots = "" if record.tuning else f", {_count(record.shots, 'shot')}"
    return f"{record.task} ({record.metric}, {documents_of(record)}{shots})"


def documents_of(record: Record | SimilarityRecord) -> str:
    """Return how many documents a record is of, and the seed where they were drawn at random."""
    if record.sample_seed is None:
        return f"{record.documents} documents"
    return f"{record.documents} drawn documents, seed {record.sample_seed}"


def _protocol(records: Sequence[Record]) -> str:
    """Return a sentence on how the records were scored."""
    seeds = _listed(record.seed for record in records)
    batches = _listed(record.batch_size for record in records)
    if records and records[0].tuning is None:
        versions = _listed(f"lm-eval {record.versions.get('lm_eval', 'unknown')}" for record in records)
        chats = _listed(_chat(record) for record in records)
        return f"Protocol: {versions}, {chats}few-shot seed {seeds}, batches of {batches}."
    by_text: dict[str, list[str]] = {}
    for record in _first_of_each_task(records):
        by_text.setdefault(_fine_tuning(record), []).append(record.task)
    texts = [text if len(by_text) == 1 else f"{text} ({', '.join(tasks)})" for text, tasks in by_text.items()]
    return f"Protocol: {'; '.join(texts)}; seed {seeds}, scored in batches of {batches}."


def _chat(record: Record) -> str:
    """Describe how prompts were made into conversations, with a comma behind it; empty for plain prompts."""
    if record.chat is None:
        return ""
    template = record.chat.apply_chat_template
    named = f" {template!r}" if isinstance(template, str) else ""
    parts = [f"the chat template{named}"] if template else []
    parts += ["examples as turns"] if template and record.shots and record.chat.fewshot_as_multiturn else []
    parts += (
        [f"the system instruction {record.chat.system_instruction!r:.80}"] if record.chat.system_instruction else []
    )
    return f"prompts with {', '.join(parts)}, "


def _fine_tuning(record: Record) -> str:
    """Describe how an encoder was fine-tuned."""
    tuning = record.tuning
    assert tuning is not None
    protocol = {
        "retuned": "retuned (the plan installed, then all weights fine-tuned)",
        "frozen": "frozen (the plan installed, then only the classifier trained)",
        "operated": "operated (fine-tuned intact, then scored under the plan)",
    }[tuning.protocol]
    documents = "all" if tuning.documents is None else str(tuning.documents)
    return (
        f"{protocol}, {_count(tuning.epochs, 'epoch')} over {documents} training documents, AdamW, "
        f"rate {tuning.rate:g}, "
        f"warm-up {tuning.warmup:g}, weight decay {tuning.weight_decay:g}, batches of {tuning.batch_size}, "
        f"at most {tuning.max_length} tokens"
        + ("" if tuning.precision == "float32" else f", products of the training in {tuning.precision}")
    )


def _listed(values: Iterable[object]) -> str:
    """Return the distinct values, sorted and joined by "and"."""
    return " and ".join(sorted({str(value) for value in values}))


def _count(number: int, noun: str) -> str:
    """Return the number with its noun, such as "1 shot" or "5 shots"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
