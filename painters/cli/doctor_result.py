"""The result of `painters doctor`: a table of the files, the faults of their lines, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from painters.results.doctor import Diagnosis, Examined, Mended, examine, mend
from painters.results.lines import Fault, FaultKind

MAX_FAULTS_SHOWN = 10  # of one file
MAX_FILES_SHOWN = 20  # of a store with sound files
_COLUMNS = (FaultKind.damaged, FaultKind.unfinished, FaultKind.older, FaultKind.newer)


@dataclass(frozen=True, slots=True)
class Consultation:
    """The diagnosis of a store, and what was mended before it was made."""

    diagnosis: Diagnosis
    mended: Sequence[Mended]

    @property
    def is_sound(self) -> bool:
        """Whether every line is an intact record."""
        return self.diagnosis.is_sound

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        diagnosis = self.diagnosis
        return {
            "results": str(diagnosis.folder),
            "sound": diagnosis.is_sound,
            "records": diagnosis.records,
            "doubles": diagnosis.doubles,
            "cells": diagnosis.cells,
            "faults": {str(kind): diagnosis.count(kind) for kind in _COLUMNS},
            "files": [_file_json(file) for file in diagnosis.files],
            "cells_in_part": diagnosis.parts,
            "doubles_that_differ": diagnosis.differing,
            "contested": diagnosis.contested,
            "strange": diagnosis.strange,
            "other_files": [str(path) for path in diagnosis.others],
            "drafts": [str(path) for path in diagnosis.drafts],
            "partial": {str(path): answers for path, answers in diagnosis.partials.items()},
            "mended": [_mended_json(mended) for mended in self.mended],
            "advice": list(_advice(diagnosis)),
        }

    def text(self) -> RenderableType:
        """Return what was mended, a table of the files, faulty lines, notes, the verdict, and what to do."""
        diagnosis = self.diagnosis
        parts: list[RenderableType] = [
            *(Text(_mended_line(mended)) for mended in self.mended),
            *([Text("")] if self.mended else []),
        ]
        parts += [_table(diagnosis), Text("")]
        parts += [Text(line) for line in _fault_lines(diagnosis)]
        parts += [Text(line) for line in _notes(diagnosis)]
        parts.append(Text(_verdict(diagnosis)))
        parts += [Text(f"To do: {line}") for line in _advice(diagnosis)]
        return Group(*parts)


def consult(results: Path, *, mending: bool) -> Consultation:
    """Diagnose the store `results`; with `mending`, first mend every readable file that has faults."""
    diagnosis = examine(results)
    if not mending or diagnosis.is_sound:
        return Consultation(diagnosis, ())
    mended = [mend(file.path) for file in diagnosis.files if file.faults and not file.unreadable]
    return Consultation(examine(results), mended)


def _verdict(diagnosis: Diagnosis) -> str:
    """Return the counts of the whole store, and whether it is sound."""
    doubles = f", {diagnosis.doubles:,} more than once" if diagnosis.doubles else ""
    counts = f"{diagnosis.records:,} records{doubles}, {diagnosis.cells:,} cells"
    verdict = "sound: every line is an intact record" if diagnosis.is_sound else "not sound"
    return f"{diagnosis.folder}: {counts}; {verdict}"


def _table(diagnosis: Diagnosis) -> Table:
    """Return a table with a row for each file, and a column for each kind of fault that occurs.

    Of many files, only those with faults have a row of their own.
    """
    kinds = [kind for kind in _COLUMNS if diagnosis.count(kind)]
    table = Table(box=None, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    for name in ("intact", *kinds):
        table.add_column(str(name), justify="right", no_wrap=True)
    table.add_column("of", no_wrap=True)
    table.add_column("file", overflow="fold")
    files = diagnosis.files
    shown = [file for file in files if len(files) <= MAX_FILES_SHOWN or file.faults or file.unreadable]
    for file in shown:
        content = f"unreadable: {file.unreadable}" if file.unreadable else file.kind
        table.add_row(*_counts([file], kinds), Text(content), Text(_path_in_store(file.path, diagnosis)))
    if sound := [file for file in files if file not in shown]:
        table.add_row(*_counts(sound, kinds), Text(f"{len(sound):,} sound files"))
    return table


def _counts(files: Sequence[Examined], kinds: Sequence[FaultKind]) -> list[str]:
    """Return how many intact records `files` have together, then how many faults of each kind."""
    records = sum(file.records for file in files)
    return [f"{records:,}", *(f"{sum(file.count(kind) for file in files):,}" for kind in kinds)]


def _fault_lines(diagnosis: Diagnosis) -> Iterator[str]:
    """Yield a text for each faulty line, with the reason; of each file only the first few."""
    for file in diagnosis.files:
        path = _path_in_store(file.path, diagnosis)
        faults = [fault for fault in file.faults if fault.kind != FaultKind.older]
        for fault in faults[:MAX_FAULTS_SHOWN]:
            yield f"{path}, line {fault.line}: {fault.kind}: {fault.reason}"
        if len(faults) > MAX_FAULTS_SHOWN:
            yield f"{path}: {len(faults) - MAX_FAULTS_SHOWN:,} more lines; --json has them all"
        if faults:
            yield ""


def _notes(diagnosis: Diagnosis) -> Iterator[str]:
    """Yield what else there is to know: nothing of it is a fault of a line."""
    answers = sum(diagnosis.partials.values())
    lists = (
        (diagnosis.parts, "cells without all their metrics, which a sweep scores again"),
        (diagnosis.contested, "cells scored with several weights or requests, of which the last scoring counts"),
        (diagnosis.differing, "records that are there twice with other outcomes, of which the first counts"),
        (diagnosis.strange, "records whose numbers do not follow from one another"),
        (diagnosis.drafts, "drafts of writers that were interrupted, to be deleted when no sweep runs"),
        (list(diagnosis.partials), f"files of scorings that are not whole, with {answers:,} answers to go on from"),
        (diagnosis.others, "other files"),
    )
    for items, description in lists:
        if items:
            names = (_path_in_store(item, diagnosis) if isinstance(item, Path) else item for item in items[:3])
            more = "; …" if len(items) > 3 else ""
            yield f"Noted: {len(items):,} {description}: {'; '.join(names)}{more}"


def _advice(diagnosis: Diagnosis) -> Iterator[str]:
    """Yield what to do about the faults."""
    folder = diagnosis.folder
    if diagnosis.count(FaultKind.newer):
        yield "update painters: some records are of a newer version, and none of this store is read until then"
    if diagnosis.count(FaultKind.older):
        yield (
            f"`painters doctor {folder} --mend`: records of an older version, which had no checksums, are not read "
            f"until then. It checks what can be checked of them, and keeps the old files as .bak"
        )
    if diagnosis.count(FaultKind.damaged, FaultKind.unfinished):
        yield (
            f"run the sweep again: what the damaged and unfinished lines held is missing, and is scored again. "
            f"`painters doctor {folder} --mend` takes the lines out, and keeps the old files as .bak"
        )
    if any(file.unreadable for file in diagnosis.files):
        yield "make the unreadable files readable: nothing of this store is read until then"


def _mended_line(mended: Mended) -> str:
    """Return what mending a file kept, changed and left out, or why it was refused."""
    if mended.old is None:
        return f"{mended.path}: left alone: {mended.refused}"
    counts = (
        (mended.kept, "records kept"),
        (mended.renewed, "written in today's format"),
        (len(mended.dropped), "lines left out"),
    )
    changes = ", ".join(f"{number:,} {description}" for number, description in counts if number)
    return f"{mended.path}: {changes or 'nothing left'}; as it was: {mended.old.name}"


def _file_json(file: Examined) -> dict[str, Any]:
    faults = [_fault_json(fault) for fault in file.faults]
    content = {"path": str(file.path), "holds": file.kind, "records": file.records, "faults": faults}
    return content | {"unreadable": file.unreadable}


def _mended_json(mended: Mended) -> dict[str, Any]:
    counts = {"path": str(mended.path), "kept": mended.kept, "renewed": mended.renewed}
    dropped = [_fault_json(fault) for fault in mended.dropped]
    return counts | {"left_out": dropped, "old": str(mended.old) if mended.old else None, "refused": mended.refused}


def _fault_json(fault: Fault) -> dict[str, Any]:
    return {"line": fault.line, "kind": str(fault.kind), "reason": fault.reason}


def _path_in_store(path: Path, diagnosis: Diagnosis) -> str:
    """Return `path` relative to the store; as it is where the store is a single file."""
    return str(path.relative_to(diagnosis.folder)) if diagnosis.folder.is_dir() else str(path)
