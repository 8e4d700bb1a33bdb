"""How the files of a store are put right."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from painters.results.doctor.sums import objection
from painters.results.files import STAMP, replace_file, write_lines
from painters.results.lines import Fault, Kind, Line, examined, parsed, sealed
from painters.results.record import Record
from painters.results.similarity_record import SimilarityRecord, holds_similarities
from painters.results.store import host_name


@dataclass(frozen=True, slots=True)
class Mended:
    """What became of a file."""

    path: Path
    kept: int = 0  # records as they were
    renewed: int = 0  # records of an older version, in today's format
    dropped: tuple[Fault, ...] = ()  # lines that are in the old file alone
    old: Path | None = None  # where it is now
    refused: str | None = None  # why nothing was done


def mend(path: str | Path) -> Mended:
    """What was done to the file of records `path`: a new one holds its intact records, each as it was, and those of an
    older version in today's format as far as their numbers follow from one another. The old file is kept beside it.

    A file whose writer runs on this machine, and one that a newer painters wrote, are left alone.
    """
    path = Path(path)
    if (writer := _writer(path)) is not None:
        return Mended(path, refused=f"process {writer} of this machine is writing it: mend it when that has ended")
    size = path.stat().st_size
    is_similarity = holds_similarities(path)
    kept = renewed = 0
    dropped: list[Fault] = []
    lines: list[bytes] = []
    for one in examined(path, SimilarityRecord if is_similarity else Record):
        if isinstance(one, Line):
            kept += 1
            lines.append(one.content + b"\n")
        elif one.kind == Kind.newer:
            return Mended(path, refused=f"line {one.line} is of a newer painters: update painters to examine it")
        elif one.kind != Kind.older:
            dropped.append(one)
        elif not is_similarity and (reason := objection(parsed(one.content, Record))):
            dropped.append(Fault(path, one.line, Kind.damaged, reason))
        else:
            renewed += 1
            lines.append(sealed(one.content))
    old = _beside(path)
    replace_file(path, b"".join(lines))
    write_lines(path, _grown(old, size))
    return Mended(path, kept, renewed, tuple(dropped), old)


def _writer(path: Path) -> int | None:
    """The process of this machine that writes `path`, by its name; None where none is known to."""
    found = re.fullmatch(rf"{STAMP.pattern}-{re.escape(host_name())}-(\d+)\.jsonl", path.name)
    if found is None or int(found[1]) == os.getpid():
        return None
    try:
        os.kill(int(found[1]), 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:  # somebody else's
        pass
    return int(found[1])


def _beside(path: Path) -> Path:
    """Another name for the file, which it keeps when `path` is replaced."""
    for number in count(1):
        old = path.with_name(f"{path.name}.bak{number if number > 1 else ''}")
        if not old.exists():
            break
    try:
        old.hardlink_to(path)
    except OSError:  # a file system without links
        shutil.copy2(path, old)
    return old


def _grown(old: Path, size: int) -> list[bytes]:
    """What a writer has appended since `old` had so many bytes, with the whole of the line in which it began."""
    if old.stat().st_size == size:
        return []
    content = old.read_bytes()
    return [content[content.rfind(b"\n", 0, size) + 1 :]]
