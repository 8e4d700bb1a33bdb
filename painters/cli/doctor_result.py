"""What `painters doctor` tells: a table of the files, what is wrong with their lines, and what to do."""

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

SHOWN = 10  # faults of a file
MANY = 20  # files
_COLUMNS = (FaultKind.damaged, FaultKind.unfinished, FaultKind.older, FaultKind.newer)


@dataclass(frozen=True, slots=True)
class Consultation:
    """What was found in a store, and what was mended before."""

    found: Diagnosis
    mended: Sequence[Mended]

    @property
    def is_sound(self) -> bool:
        return self.found.is_sound

    def as_json(self) -> dict[str, Any]:
        found = self.found
        return {
            "results": str(found.folder),
            "sound": found.is_sound,
            "records": found.records,
            "doubles": found.doubles,
            "cells": found.cells,
            "faults": {str(kind): found.count(kind) for kind in _COLUMNS},
            "files": [_file_json(one) for one in found.files],
            "cells_in_part": found.parts,
            "doubles_that_differ": found.differing,
            "contested": found.contested,
            "strange": found.strange,
            "other_files": [str(path) for path in found.others],
            "drafts": [str(path) for path in found.drafts],
            "mended": [_mended_json(one) for one in self.mended],
            "advice": list(_advice(found)),
        }

    def text(self) -> RenderableType:
        """A table of the files, what is wrong with their lines, what else there is to know, and what to do."""
        found = self.found
        parts: list[RenderableType] = [
            *(Text(_mended(one)) for one in self.mended),
            *([Text("")] if self.mended else []),
        ]
        parts += [_table(found), Text("")]
        parts += [Text(line) for line in _lines(found)]
        parts += [Text(line) for line in _notes(found)]
        doubles = f", {found.doubles:,} more than once" if found.doubles else ""
        verdict = "sound: every line is an intact record" if found.is_sound else "not sound"
        parts.append(Text(f"{found.folder}: {found.records:,} records{doubles}, {found.cells:,} cells; {verdict}"))
        parts += [Text(f"To do: {line}") for line in _advice(found)]
        return Group(*parts)


def consult(results: Path, *, mending: bool) -> Consultation:
    """The diagnosis of `results`; with `mending`, of what they are after every file with faults was mended."""
    found = examine(results)
    if not mending or found.is_sound:
        return Consultation(found, ())
    mended = [mend(one.path) for one in found.files if one.faults and not one.unreadable]
    return Consultation(examine(results), mended)


def _table(found: Diagnosis) -> Table:
    """One row per file, of many files only those with faults; kinds of faults that do not occur have no column."""
    kinds = [kind for kind in _COLUMNS if found.count(kind)]
    table = Table(box=None, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    for name in ("intact", *kinds):
        table.add_column(str(name), justify="right", no_wrap=True)
    table.add_column("of", no_wrap=True)
    table.add_column("file", overflow="fold")
    shown = [one for one in found.files if len(found.files) <= MANY or one.faults or one.unreadable]
    for one in shown:
        holds = f"unreadable: {one.unreadable}" if one.unreadable else one.kind
        table.add_row(*_counts([one], kinds), Text(holds), Text(_short(one.path, found)))
    if sound := [one for one in found.files if one not in shown]:
        table.add_row(*_counts(sound, kinds), Text(f"{len(sound):,} sound files"))
    return table


def _counts(files: Sequence[Examined], kinds: Sequence[FaultKind]) -> list[str]:
    return [f"{sum(one.records for one in files):,}", *(f"{sum(one.count(kind) for one in files):,}" for kind in kinds)]


def _lines(found: Diagnosis) -> Iterator[str]:
    """The lines that are not intact records, and why, the first few of each file."""
    for one in found.files:
        told = [fault for fault in one.faults if fault.kind != FaultKind.older]
        for fault in told[:SHOWN]:
            yield f"{_short(one.path, found)}, line {fault.line}: {fault.kind}: {fault.reason}"
        if len(told) > SHOWN:
            yield f"{_short(one.path, found)}: {len(told) - SHOWN:,} more lines; --json has them all"
        if told:
            yield ""


def _notes(found: Diagnosis) -> Iterator[str]:
    """What is no fault of a line."""
    lists = (
        (found.parts, "cells without all their metrics, which a sweep scores again"),
        (found.contested, "cells scored with several weights or requests, of which the last scoring counts"),
        (found.differing, "records that are there twice with other outcomes, of which the first counts"),
        (found.strange, "records whose numbers do not follow from one another"),
        (found.drafts, "drafts of writers that were interrupted, to be deleted when no sweep runs"),
        (found.others, "other files"),
    )
    for names, what in lists:
        if names:
            some = "; ".join(_short(one, found) if isinstance(one, Path) else one for one in names[:3])
            yield f"Noted: {len(names):,} {what}: {some}{'; …' if len(names) > 3 else ''}"


def _advice(found: Diagnosis) -> Iterator[str]:
    """What to do about it."""
    where = found.folder
    if found.count(FaultKind.newer):
        yield "update painters: some records are of a newer version, and none of this store is read until then"
    if found.count(FaultKind.older):
        yield (
            f"`painters doctor {where} --mend`: records of an older version, which had no checksums, are not read "
            f"until then. It checks what can be checked of them, and keeps the old files as .bak"
        )
    if found.count(FaultKind.damaged, FaultKind.unfinished):
        yield (
            f"run the sweep again: what the damaged and unfinished lines held is missing, and is scored again. "
            f"`painters doctor {where} --mend` takes the lines out, and keeps the old files as .bak"
        )
    if any(one.unreadable for one in found.files):
        yield "make the unreadable files readable: nothing of this store is read until then"


def _mended(one: Mended) -> str:
    if one.old is None:
        return f"{one.path}: left alone: {one.refused}"
    done = (
        (one.kept, "records kept"),
        (one.renewed, "written in today's format"),
        (len(one.dropped), "lines left out"),
    )
    told = ", ".join(f"{number:,} {what}" for number, what in done if number)
    return f"{one.path}: {told or 'nothing left'}; as it was: {one.old.name}"


def _file_json(one: Examined) -> dict[str, Any]:
    faults = [_fault_json(fault) for fault in one.faults]
    about = {"path": str(one.path), "holds": one.kind, "records": one.records, "faults": faults}
    return about | {"unreadable": one.unreadable}


def _mended_json(one: Mended) -> dict[str, Any]:
    about = {"path": str(one.path), "kept": one.kept, "renewed": one.renewed}
    dropped = [_fault_json(fault) for fault in one.dropped]
    return about | {"left_out": dropped, "old": str(one.old) if one.old else None, "refused": one.refused}


def _fault_json(fault: Fault) -> dict[str, Any]:
    return {"line": fault.line, "kind": str(fault.kind), "reason": fault.reason}


def _short(path: Path, found: Diagnosis) -> str:
    """The path within the store."""
    return str(path.relative_to(found.folder)) if found.folder.is_dir() else str(path)
