"""A line of a file of records: one JSON object with its format number first and a checksum last.

    {"format":2, ..., "checksum":"0123456789abcdef"}

The checksum is blake2b with a digest of 8 bytes, over all bytes of the line before its hexadecimal digits. It detects
damage, not forgery. Its position and what it covers stay the same in future formats, so that an older painters
recognises a newer line and does not take it for a damaged one. Format 1 was the object alone, without a checksum.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from pydantic import BaseModel, ValidationError

__all__ = [
    "FORMAT",
    "LONGEST",
    "Fault",
    "FaultKind",
    "Line",
    "TooLongError",
    "parse",
    "read_lines",
    "reason_of",
    "seal",
    "sync_folder",
]

FORMAT = 2
"""The format that is written. Raise it whenever a record gets another field, or a field another meaning."""
LONGEST = 16 * 2**20
"""The longest line that is read, in bytes: about 800,000 outcomes. It keeps a hostile file from filling the memory."""

M = TypeVar("M", bound=BaseModel)

_HEAD = b'{"format":'
_START = re.compile(rb'\{"format":(\d{1,9}),')
_END = re.compile(rb',"checksum":"([0-9a-f]{16})"\}')
_WRONG_CHECKSUM = "its checksum is not that of its content"


class TooLongError(ValueError):
    """A record whose line would be longer than any reader accepts."""


class FaultKind(StrEnum):
    """What is wrong with a line."""

    damaged = "damaged"
    unfinished = "unfinished"  # the last line of a file: its writer was interrupted, or is writing right now
    older = "older"  # written by a painters that wrote no checksums
    newer = "newer"  # in a format that this painters does not know


@dataclass(frozen=True, slots=True)
class Fault:
    """A line that is not an intact record of this version."""

    path: Path
    line: int  # from 1
    kind: FaultKind
    reason: str
    content: bytes = field(default=b"", repr=False, compare=False)  # the whole line, of the kind `older` only


@dataclass(frozen=True, slots=True)
class Line(Generic[M]):
    """A record, and its bytes in the file without the newline."""

    record: M
    content: bytes


def seal(body: str | bytes) -> bytes:
    """Return the line, with its newline, of a JSON object that has at least one field.

    Raise TooLongError where it would be longer than `LONGEST`.
    """
    text = body.encode() if isinstance(body, str) else body
    text = b'%s%d,%s,"checksum":"' % (_HEAD, FORMAT, text[1:-1])
    if len(text) + 18 > LONGEST:
        raise TooLongError(f"a record of {len(text):,} bytes: a line has {LONGEST:,} at most, so score fewer documents")
    return b'%s%s"}\n' % (text, _checksum(text).encode())


def read_lines(path: Path, model: type[M]) -> Iterator[Line[M] | Fault]:
    """Yield every intact record of class `model` in `path`, and every fault, in the order of the lines.

    An intact record is found also where it shares a line with damaged bytes; that line yields a fault too. Blank lines
    are skipped.
    """
    with path.open("rb") as file:
        for number, line, is_last in _numbered(file):
            if line is None:
                yield Fault(path, number, FaultKind.damaged, f"longer than {LONGEST:,} bytes")
                continue
            content = line.strip()
            if not content:
                continue
            records, fault = _records_in(content, model)
            yield from records
            if fault is not None:
                kind, reason = fault
                if kind == FaultKind.damaged and is_last:
                    kind, reason = FaultKind.unfinished, "ends within a record"
                yield Fault(path, number, kind, reason, content if kind == FaultKind.older else b"")


def _numbered(file: BinaryIO) -> Iterator[tuple[int, bytes | None, bool]]:
    """Yield number (from 1) and content of each line, and whether it lacks its newline.

    The content of a line longer than `LONGEST` is None: it is skipped without being held in memory.
    """
    number = 0
    while line := file.readline(LONGEST + 1):
        number += 1
        if len(line) <= LONGEST or line.endswith(b"\n"):
            yield number, line, not line.endswith(b"\n")
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(1 << 16)
        yield number, None, False


def _records_in(content: bytes, model: type[M]) -> tuple[list[Line[M]], tuple[FaultKind, str] | None]:
    """Return the intact records in a line, and the kind and reason of its fault, or None."""
    spans = list(_sealed_spans(content))
    records: list[Line[M]] = []
    reason = None
    for start, end, version in spans:
        part = content[start:end]
        if version > FORMAT:
            return [], (FaultKind.newer, f"format {version}; this version reads up to {FORMAT}")
        if version < 2:
            reason = f"format {version}, which never had a checksum"
            continue
        try:
            records.append(Line(parse(_without_seal(part), model), part))
        except ValueError as error:
            reason = reason_of(error)
    if spans and sum(end - start for start, end, _ in spans) == len(content):
        return records, None if reason is None else (FaultKind.damaged, reason)
    if not spans and _HEAD not in content and b'"checksum"' not in content:
        return [], _fault_without_seal(content, model)
    return records, (FaultKind.damaged, _visible_damage(content) or reason or _WRONG_CHECKSUM)


def _fault_without_seal(content: bytes, model: type[M]) -> tuple[FaultKind, str]:
    """Return the fault of a line that has neither format nor checksum: older if it is a record, else damaged."""
    try:
        parse(content, model)
    except ValueError as error:
        return FaultKind.damaged, _visible_damage(content) or reason_of(error)
    return FaultKind.older, "no checksum"


def _sealed_spans(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield start, end (exclusive) and format of every stretch of bytes whose checksum is right.

    The beginning and the end of a sealed object cannot occur within one, because quotes in its texts are escaped.
    """
    starts = list(_START.finditer(content))
    limits = [*(start.start() for start in starts[1:]), len(content)]
    for start, limit in zip(starts, limits, strict=False):
        end = _END.search(content, start.end(), limit)
        if end and _checksum(content[start.start() : end.start(1)]) == end[1].decode():
            yield start.start(), end.end(), int(start[1])


def _without_seal(part: bytes) -> bytes:
    """Return the JSON object without its format and checksum."""
    return b"{%s}" % part[part.index(b",") + 1 : part.rindex(b',"checksum"')]


def parse(body: bytes, model: type[M]) -> M:
    """Return the record of class `model` in a JSON object.

    Raise ValueError where `body` is no such record, or where an object in it states a name twice.
    """
    record = model.model_validate_json(body)
    # Second, because the json module limits neither depth nor size: pydantic has refused hostile input by now.
    json.loads(body, object_pairs_hook=_refuse_duplicates)
    return record


def _refuse_duplicates(pairs: list[tuple[str, object]]) -> None:
    """Raise ValueError where an object states a name twice."""
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        duplicate = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{duplicate}: stated twice")


def _visible_damage(content: bytes) -> str | None:
    """Return what damage the bytes show without being parsed, or None."""
    if count := content.count(b"\0"):
        return f"{count:,} NUL bytes, as a crash of a machine leaves them"
    try:
        content.decode()
    except UnicodeDecodeError:
        return "not UTF-8"
    return None


def reason_of(error: ValueError) -> str:
    """Return the first thing that is wrong with a record, on one line."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    return f"{path}: {first['msg']}" if path else str(first["msg"])


def _checksum(content: bytes) -> str:
    """Return the 16 hexadecimal digits of the checksum of `content`."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def sync_folder(folder: Path) -> None:
    """Wait until the names of the files in `folder` are on the disk, where the file system supports it."""
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(number)
    except OSError:
        pass
    finally:
        os.close(number)
