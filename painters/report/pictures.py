"""The figures of a report, for each model in the records, with captions that tell all settings."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from painters import figures
from painters.figures import Data, Drawing, FigureError, NothingToDraw
from painters.report import settings as _report_settings
from painters.results import Record
from painters.results.similarity_record import SimilarityRecord


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure as the page holds it."""

    number: int
    title: str
    models: str
    source: str  # a data: address
    paragraphs: Sequence[str]
    settings: str
    missing: Sequence[str]
    is_map: bool  # its colours are a scale from dark to light, which a dark page must not turn over


@dataclass(frozen=True, slots=True)
class NotDrawn:
    """A figure that the page lacks, and why."""

    title: str
    reason: str


def pictures(
    records: Sequence[Record], similarities: Sequence[SimilarityRecord]
) -> tuple[list[Picture], list[NotDrawn]]:
    """What could be drawn, the first decoder beside the first encoder and so on, and what could not."""
    decoders = sorted({record.model for record in records if record.tuning is None})
    encoders = sorted({record.model for record in records if record.tuning is not None})
    drawn: list[Picture] = []
    missing: list[NotDrawn] = []
    for decoder, encoder in zip_longest(decoders, encoders):
        wanted = [name for name in (decoder, encoder) if name is not None]
        models = " and ".join(wanted)
        about = [record for record in records if record.model in wanted]
        measured = [similarity for similarity in similarities if similarity.model in wanted]
        try:
            data = Data.of(
                [record for record in about if record.primary],
                measured,
            )
        except FigureError as error:
            missing.append(NotDrawn(f"All figures of {models}", str(error)))
            continue
        for number, figure in figures.FIGURES.items():
            if number == 1 and drawn:
                continue  # shows no records
            try:
                made = figures.drawing(number, data)
            except NothingToDraw as error:
                missing.append(NotDrawn(f"Figure {number}. {figure.title}, of {models}", str(error)))
                continue
            svg = re.sub(rb"\n\s+", b"\n", figures.svg(made))
            drawn.append(
                Picture(
                    number,
                    figure.title,
                    models,
                    f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}",
                    made.about,
                    _settings(number, made, about, measured),
                    made.missing,
                    "task" not in made.columns,
                )
            )
    return drawn, missing


def _settings(
    number: int, drawing: Drawing, records: Sequence[Record], similarities: Sequence[SimilarityRecord]
) -> str:
    """The line of settings of what the figure shows; empty for the first, which shows no records."""
    if number == 1:
        return ""
    if "task" not in drawing.columns:
        modes = {row.get("mode") for row in drawing.rows}
        return _report_settings.similarity_line([one for one in similarities if one.mode in modes] or similarities)
    tasks = {row["task"] for row in drawing.rows}
    shown = [record for record in records if record.primary]
    return _report_settings.line([record for record in shown if record.task in tasks] or shown)
