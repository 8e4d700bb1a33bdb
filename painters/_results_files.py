"""Files of records, one JSON object per line, that only grow."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from painters._results_record import Record, ResultsError


def append(path: str | Path, records: Iterable[Record]) -> None:
    """Nothing; the records are at the end of `path` and on the disk when this returns.

    A last line that an interrupted writer left unfinished is cut off first. A file has one writer at a time.
    """
    path = Path(path)
    data = "".join(record.model_dump_json() + "\n" for record in records).encode()
    if not data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        _mend(file)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read(path: str | Path) -> list[Record]:
    """The records in `path` in order, without an unfinished last line. ResultsError names the lines that are
    wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise ResultsError(f"records of {path}: there is no such file. `painters run --out {path}` writes one")
    records, wrong = [], []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            records.append(Record.model_validate_json(line))
        except ValidationError as error:
            if number < len(lines) or not _is_torn(line):
                wrong.append(f"line {number}: {_reason(error)}")
    if wrong:
        more = f" and {len(wrong) - 5} more lines" if len(wrong) > 5 else ""
        raise ResultsError(
            f"records of {path}: {'; '.join(wrong[:5])}{more}. Only the last line of an interrupted run may "
            f"be broken: restore the file, or delete these lines and run again what they held"
        )
    return records


def _is_torn(line: bytes) -> bool:
    """Whether `line` is the beginning of an object and not the whole of one."""
    try:
        json.loads(line)
    except ValueError:
        return True
    return False


def _mend(file: Any) -> None:
    """Leave `file` ending in a whole line: finish one that only lacks its newline, cut off one that lacks
    more.
    """
    data = last_line(file)
    if not data:
        return
    if _is_torn(data):
        file.truncate(file.seek(0, os.SEEK_END) - len(data))
    else:
        file.write(b"\n")


def last_line(file: Any, block: int = 1 << 20) -> bytes:
    """What follows the last newline of `file`."""
    end = place = file.seek(0, os.SEEK_END)
    tail = b""
    while place and b"\n" not in tail:
        place = max(0, place - block)
        file.seek(place)
        tail = file.read(end - place)
    return tail.rpartition(b"\n")[2]


def _reason(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else str(first["msg"])
