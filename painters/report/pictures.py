"""The figures of a report, for each model in the records, with captions that state all settings."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from painters import figures
from painters.figures import Data, Drawing, FigureError, NothingToDraw
from painters.report.settings import renamed, settings_line, similarity_settings_line
from painters.results import Record
from painters.results.similarity_record import SimilarityRecord

__all__ = ["NotDrawn", "Picture", "pictures"]

_WITHOUT_RECORDS = 1  # the figure that shows no records


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure as the page holds it.

    Attributes:
        number: The figure's number.
        title: Its title.
        models: The names of the models that it shows.
        source: The SVG as a `data:` URL.
        paragraphs: The caption.
        settings: All settings of the records that were drawn, on one line; empty for figure 1.
        missing: What is missing in the picture.
        is_map: Whether its colours are a scale from dark to light, which a dark page must not invert.
    """

    number: int
    title: str
    models: str
    source: str
    paragraphs: Sequence[str]
    settings: str
    missing: Sequence[str]
    is_map: bool


@dataclass(frozen=True, slots=True)
class NotDrawn:
    """A figure that the page lacks, and why."""

    title: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Models:
    """A decoder and an encoder, or one of them, with all that was measured of them."""

    shown: Mapping[str, str]
    """What records call each model -> the name by which it is shown."""
    records: Sequence[Record]
    similarities: Sequence[SimilarityRecord]

    @property
    def title(self) -> str:
        """Their names, as captions have them."""
        return " and ".join(self.shown.values())


def pictures(
    records: Sequence[Record], similarities: Sequence[SimilarityRecord], shown: Mapping[str, str]
) -> tuple[list[Picture], list[NotDrawn]]:
    """Return the figures that could be drawn, and those that could not.

    `shown` holds the name by which each model of the records is shown.

    The first decoder is drawn beside the first encoder, the second beside the second, and so on, by their names.
    """
    drawn: list[Picture] = []
    not_drawn: list[NotDrawn] = []
    for models in _paired_models(records, similarities, shown):
        try:
            data = Data.of(
                [record for record in models.records if record.primary],
                models.similarities,
                names=models.shown,
            )
        except FigureError as error:
            not_drawn.append(NotDrawn(f"All figures of {models.title}", str(error)))
            continue
        for number, figure in figures.FIGURES.items():
            if number == _WITHOUT_RECORDS and drawn:
                continue  # once is enough
            try:
                drawing = figures.drawing(number, data)
            except NothingToDraw as error:
                not_drawn.append(NotDrawn(f"Figure {number}. {figure.title}, of {models.title}", str(error)))
                continue
            drawn.append(_picture(number, figure.title, drawing, models))
    return drawn, not_drawn


def _paired_models(
    records: Sequence[Record], similarities: Sequence[SimilarityRecord], shown: Mapping[str, str]
) -> Iterator[_Models]:
    """Yield the n-th decoder together with the n-th encoder, by their names."""
    decoders = sorted({record.model for record in records if record.tuning is None})
    encoders = sorted({record.model for record in records if record.tuning is not None})
    for pair in zip_longest(decoders, encoders):
        names = [name for name in pair if name is not None]
        yield _Models(
            {name: shown[name] for name in names},
            [record for record in records if record.model in names],
            [similarity for similarity in similarities if similarity.model in names],
        )


def _picture(number: int, title: str, drawing: Drawing, models: _Models) -> Picture:
    """Return a drawing as the page holds it."""
    svg = re.sub(rb"\n\s+", b"\n", figures.svg(drawing))
    return Picture(
        number,
        title,
        models.title,
        f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}",
        drawing.about,
        _settings(number, drawing, models),
        drawing.missing,
        "task" not in drawing.columns,
    )


def _settings(number: int, drawing: Drawing, models: _Models) -> str:
    """Return the line of settings of the records that a figure shows; empty for the one that shows none."""
    if number == _WITHOUT_RECORDS:
        return ""
    if "task" not in drawing.columns:
        modes = {row.get("mode") for row in drawing.rows}
        measured = [similarity for similarity in models.similarities if similarity.mode in modes]
        return similarity_settings_line(renamed(measured or models.similarities, models.shown))
    tasks = {row["task"] for row in drawing.rows}
    primary = [record for record in models.records if record.primary]
    return settings_line(renamed([record for record in primary if record.task in tasks] or primary, models.shown))
