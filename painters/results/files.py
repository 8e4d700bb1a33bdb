"""Files of records, one JSON object per line, that only grow: nothing that is in one is ever changed or cut off."""

from __future__ import annotations

import os
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from io import RawIOBase
from pathlib import Path

from painters.errors import PaintersWarning
from painters.results.lines import FORMAT, Fault, Kind, Line, M, TooLongError, examined, sealed, sync_folder
from painters.results.record import Record, ResultsError

STAMP = re.compile(r"\d{8}T\d{6}-\d{6}Z(?=-)")
"""How the name of a store's own file begins: with the time (UTC) at which its writer began."""
_NAMED = 5  # places of damage in a message


class ResultsWarning(PaintersWarning):
    """Damaged lines in files of records, which were left out."""


def append(path: str | Path, records: Iterable[Record]) -> None:
    """Nothing; the records are at the end of `path` and on the disk when this returns.

    They begin a line of their own where an interrupted writer left one unfinished. OSError names the file; the next
    call puts right what it left. A file has one writer at a time: there are no locks.
    """
    write_lines(Path(path), [_line(record) for record in records])


def write_lines(path: Path, lines: Sequence[bytes]) -> None:
    """Nothing; the lines are at the end of `path` and on the disk when this returns."""
    if not lines:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    try:
        with path.open("a+b", buffering=0) as file:
            left = memoryview(_lead(file) + b"".join(lines))
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    if is_new:
        sync_folder(path.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Nothing; `path` holds `content`, on the disk, when this returns, and never a part of it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    sync_folder(path.parent)


def read(path: str | Path) -> list[Record]:
    """The intact records in `path`, in order. A ResultsWarning names the lines that were left out.

    ResultsError where there is no file, or one of another version of painters.
    """
    path = Path(path)
    if not path.is_file():
        raise ResultsError(f"records of {path}: there is no such file. `painters run --out {path}` writes one")
    found, faults = intact(path, Record)
    answer_for(faults, path)
    return found


def intact(path: Path, model: type[M]) -> tuple[list[M], list[Fault]]:
    """The intact records in `path`, in order, and everything else that is there."""
    found: list[M] = []
    faults: list[Fault] = []
    for one in examined(path, model):
        if isinstance(one, Line):
            found.append(one.record)
        else:
            faults.append(one)
    return found, faults


def answer_for(faults: Sequence[Fault], where: str | Path) -> None:
    """Nothing; a ResultsWarning says what in `where` is left out, and ResultsError what may not be."""
    for kind in (Kind.newer, Kind.older):
        if some := [fault for fault in faults if fault.kind == kind]:
            raise ResultsError(f"records of {where}: {_counted(some)} {_ANOTHER[kind].format(some[0], where)}")
    if faults:
        warnings.warn(
            f"records of {where}: {_counted(faults)} damaged and left out ({_places(faults)}). A sweep scores again "
            f"what they held; `painters doctor {where}` says more",
            ResultsWarning,
            stacklevel=2,
        )


_ANOTHER = {
    Kind.newer: "of a newer painters ({0.reason}; {0.path.name}, line {0.line}). Update painters to read them",
    Kind.older: (
        "of an older painters, which wrote no checksums ({0.path.name}, line {0.line}). "
        f"`painters doctor {{1}} --mend` checks them, and writes them anew in format {FORMAT}"
    ),
}


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Files of records, each after those that its writer can have read, whatever its clock said: in each folder first
    those that somebody else named, then a store's own by their names.
    """
    return sorted(paths, key=lambda path: (path.parent, bool(STAMP.match(path.name)), path.name))


def _line(record: Record) -> bytes:
    try:
        return sealed(record.model_dump_json())
    except TooLongError as error:
        raise ResultsError(f"record of {record.plan} on {record.task}: {error}") from error


def _lead(file: RawIOBase) -> bytes:
    """The newline that the last line of `file` lacks."""
    end = file.seek(0, os.SEEK_END)
    if not end:
        return b""
    file.seek(end - 1)
    return b"" if file.read(1) == b"\n" else b"\n"


def _counted(faults: Sequence[Fault]) -> str:
    return "1 line is" if len(faults) == 1 else f"{len(faults):,} lines are"


def _places(faults: Sequence[Fault]) -> str:
    """Files and lines, the first few."""
    lines: dict[str, list[str]] = defaultdict(list)
    for fault in faults[:_NAMED]:
        lines[fault.path.name].append(str(fault.line))
    told = "; ".join(f"{name}: {', '.join(numbers)}" for name, numbers in lines.items())
    return told if len(faults) <= _NAMED else f"{told}; …"
