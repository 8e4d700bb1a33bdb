"""What figures are drawn from: a decoder's scores, an encoder's for each way of fine-tuning, similarities."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from painters import results
from painters.experiment.tuning import PROTOCOLS
from painters.figures.board import Board, FigureError
from painters.results import Record
from painters.results.files import in_reading_order, read_intact, report_faults
from painters.results.lines import Fault
from painters.results.similarity_record import SimilarityRecord, holds_similarities


@dataclass(frozen=True, eq=False)
class Data:
    """Everything to draw from. Records of an encoder are those that say how it was fine-tuned."""

    decoder: Board | None = None
    encoders: Mapping[str, Board] = field(default_factory=dict)  # protocol -> the encoder's scores
    similarities: tuple[SimilarityRecord, ...] = ()

    @classmethod
    def of(
        cls,
        records: Sequence[Record],
        similarities: Sequence[SimilarityRecord] = (),
        *,
        model: str | None = None,
        encoder: str | None = None,
    ) -> Data:
        """The data of one decoder and one encoder; FigureError where there are several and none is named."""
        scored = [record for record in records if record.primary]
        measured = {record.model for record in similarities}
        decoded = _chosen([record for record in scored if record.tuning is None], model, "model", measured)
        apart: dict[str, list[Record]] = defaultdict(list)
        for record in _chosen([r for r in scored if r.tuning is not None], encoder, "encoder", measured):
            if record.tuning:
                apart[record.tuning.protocol].append(record)
        return cls(
            Board.of(decoded) if _any_value(decoded) else None,
            {protocol: Board.of(apart[protocol]) for protocol in PROTOCOLS if _any_value(apart[protocol])},
            tuple(record for record in similarities if None in (model, encoder) or record.model in (model, encoder)),
        )

    @property
    def boards(self) -> list[Board]:
        """The decoder's board, then the encoder's."""
        return [*([self.decoder] if self.decoder else []), *self.encoders.values()]


def read(paths: Iterable[str | Path]) -> tuple[list[Record], list[SimilarityRecord]]:
    """The intact records and similarities in these files; a folder stands for the .jsonl files in it, at any depth.

    A ResultsWarning names the lines that were left out.
    """
    found: dict[str, Record] = {}
    similarities: dict[str, SimilarityRecord] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise FigureError(f"records of {path}: there is no such file or folder. `painters sweep` writes one")
        files = in_reading_order(one for one in path.rglob("*.jsonl") if one.is_file()) if path.is_dir() else [path]
        if not files:
            raise FigureError(f"records of {path}: the folder holds no .jsonl file. `painters sweep` writes some")
        left_out: list[Fault] = []
        for file in files:
            if holds_similarities(file):
                measured, faults = read_intact(file, SimilarityRecord)
                similarities |= {one.key: one for one in measured}
            else:
                scored, faults = read_intact(file, Record)
                for record in scored:
                    found.setdefault(results.key(record), record)
            left_out += faults
        report_faults(left_out, path)
    return list(found.values()), list(similarities.values())


def _chosen(records: Sequence[Record], name: str | None, option: str, measured: set[str]) -> list[Record]:
    models = sorted({record.model for record in records})
    if name is not None and name not in models and name not in measured:
        raise FigureError(f"no records of the {option} {name!r}: there are some of {', '.join(models) or 'none'}")
    if name is None and len(models) > 1:
        raise FigureError(f"records of {len(models)} models ({', '.join(models)}): choose one with --{option}")
    return [record for record in records if name is None or record.model == name]


def _any_value(records: Iterable[Record]) -> bool:
    return any(record.value is not None and not record.not_finite for record in records)
