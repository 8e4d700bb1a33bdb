"""A line of a record file: one JSON object that states its format first and a checksum of the line last.

    {"format":2, ..., "checksum":"0123456789abcdef"}

The checksum is blake2b's, 8 bytes, of every byte before it. It tells what was damaged, not what was forged. Where it
stands and what it covers stay the same in formats to come, so that a newer line is known as one and not taken for a
damaged one. Format 1 was the object alone.
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

FORMAT = 2
"""Raised whenever a record gets another field or a field another meaning; lines from format 2 on are read."""
LONGEST = 16 * 2**20
"""Bytes of a line, so that no file of others fills the memory: about 800,000 outcomes."""

M = TypeVar("M", bound=BaseModel)

_HEAD = b'{"format":'
_START = re.compile(rb'\{"format":(\d{1,9}),')
_END = re.compile(rb',"checksum":"([0-9a-f]{16})"\}')


class TooLongError(ValueError):
    """A record that would make a line that no reader takes."""


class Kind(StrEnum):
    """What is wrong with a line."""

    damaged = "damaged"
    unfinished = "unfinished"  # the last of a file, as an interrupted writer leaves it, or one that writes just now
    older = "older"  # of a painters that wrote no checksums
    newer = "newer"


@dataclass(frozen=True, slots=True)
class Fault:
    """A line that is not what it should be."""

    path: Path
    line: int  # from 1
    kind: Kind
    reason: str
    content: bytes = field(default=b"", repr=False, compare=False)  # of an older line, whole


@dataclass(frozen=True, slots=True)
class Line(Generic[M]):
    """A record and its bytes as a sound file has them, without the newline."""

    record: M
    content: bytes


def sealed(body: str | bytes) -> bytes:
    """The line of a JSON object that is not empty, with its newline; TooLongError where nobody would read it."""
    text = body.encode() if isinstance(body, str) else body
    text = b'%s%d,%s,"checksum":"' % (_HEAD, FORMAT, text[1:-1])
    if len(text) + 18 > LONGEST:
        raise TooLongError(f"a record of {len(text):,} bytes: a line has {LONGEST:,} at most, so score fewer documents")
    return b'%s%s"}\n' % (text, _checksum(text).encode())


def examined(path: Path, model: type[M]) -> Iterator[Line[M] | Fault]:
    """What the lines of `path` hold, in order: every intact record, also where it shares a line with something
    damaged, and whatever else there is as a fault. Blank lines are nothing.
    """
    with path.open("rb") as file:
        for number, line, is_last in _cut(file):
            if line is None:
                yield Fault(path, number, Kind.damaged, f"longer than {LONGEST:,} bytes")
                continue
            content = line.strip()
            if not content:
                continue
            found, fault = _opened(content, model)
            yield from found
            if fault is not None:
                kind, reason = fault
                if kind == Kind.damaged and is_last:
                    kind, reason = Kind.unfinished, "ends within a record"
                yield Fault(path, number, kind, reason, content if kind == Kind.older else b"")


def _cut(file: BinaryIO) -> Iterator[tuple[int, bytes | None, bool]]:
    """Number, content and whether no newline follows, for each line; None in the place of one that is too long."""
    number = 0
    while line := file.readline(LONGEST + 1):
        number += 1
        if len(line) <= LONGEST or line.endswith(b"\n"):
            yield number, line, not line.endswith(b"\n")
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(1 << 16)
        yield number, None, False


def _opened(content: bytes, model: type[M]) -> tuple[list[Line[M]], tuple[Kind, str] | None]:
    """The intact records in a line, and what else is wrong with it."""
    spans = list(_intact(content))
    found: list[Line[M]] = []
    reason = None
    for start, end, version in spans:
        part = content[start:end]
        if version > FORMAT:
            return [], (Kind.newer, f"format {version}; this version reads up to {FORMAT}")
        if version < 2:
            reason = f"format {version}, which never had a checksum"
            continue
        try:
            found.append(Line(parsed(_body(part), model), part))
        except ValueError as error:
            reason = reason_of(error)
    if spans and sum(end - start for start, end, _ in spans) == len(content):
        return found, None if reason is None else (Kind.damaged, reason)
    if not spans and _HEAD not in content and b'"checksum"' not in content:
        try:
            parsed(content, model)
        except ValueError as error:
            return [], (Kind.damaged, _told(content) or reason_of(error))
        return [], (Kind.older, "no checksum")
    return found, (Kind.damaged, _told(content) or reason or "its checksum is not that of its content")


def _intact(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Start, end and format of every stretch whose checksum is right.

    Neither the beginning nor the end of a line can occur within one, for quotes in texts are escaped.
    """
    starts = list(_START.finditer(content))
    limits = [*(start.start() for start in starts[1:]), len(content)]
    for this, limit in zip(starts, limits, strict=False):
        end = _END.search(content, this.end(), limit)
        if end and _checksum(content[this.start() : end.start(1)]) == end[1].decode():
            yield this.start(), end.end(), int(this[1])


def _body(part: bytes) -> bytes:
    """The object without format and checksum."""
    return b"{%s}" % part[part.index(b",") + 1 : part.rindex(b',"checksum"')]


def parsed(body: bytes, model: type[M]) -> M:
    """The record; ValueError where `body` is none, or an object in it has two values of one name."""
    record = model.model_validate_json(body)
    # After it, because this one minds neither depth nor size.
    json.loads(body, object_pairs_hook=_no_doubles)
    return record


def _no_doubles(pairs: list[tuple[str, object]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice}: stated twice")


def _told(content: bytes) -> str | None:
    """What can be seen of damage without reading the record."""
    if count := content.count(b"\0"):
        return f"{count:,} NUL bytes, as a crash of a machine leaves them"
    try:
        content.decode()
    except UnicodeDecodeError:
        return "not UTF-8"
    return None


def reason_of(error: ValueError) -> str:
    """The first thing that is wrong with a record, on one line."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else str(first["msg"])


def _checksum(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def sync_folder(folder: Path) -> None:
    """Nothing; the names in `folder` are on the disk, where the file system takes such a request."""
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
