"""Record files that were damaged in ways that disks, crashes, networks and people damage files; and what must be left.

The checksum is computed here anew, as its documentation says it is.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence

from painters.results import Record


def line(record: Record | str, version: int = 2) -> bytes:
    """The line of `record` in format 2, without its newline; for other versions one that claims to be of theirs."""
    body = record if isinstance(record, str) else record.model_dump_json()
    start = f'{{"format":{version},{body[1:-1]},"checksum":"'.encode()
    return start + hashlib.blake2b(start, digest_size=8).hexdigest().encode() + b'"}'


def truncated(lines: Sequence[bytes], moments: random.Random) -> bytes:
    """The file cut off anywhere."""
    content = b"".join(one + b"\n" for one in lines)
    return content[: moments.randrange(len(content))]


def flipped(lines: Sequence[bytes], moments: random.Random) -> bytes:
    """The file with one to eight bits the other way round, those of newlines too."""
    content = bytearray(b"".join(one + b"\n" for one in lines))
    for _ in range(moments.choice((1, 1, 1, 2, 8))):
        content[moments.randrange(len(content))] ^= 1 << moments.randrange(8)
    return bytes(content)


def interleaved(lines: Sequence[bytes], moments: random.Random) -> bytes:
    """What two writers to one file make of it, who know nothing of each other: pieces of lines in turn."""
    halves = [b"".join(one + b"\n" for one in part) for part in (lines[::2], lines[1::2])]
    content = b""
    while any(halves):
        which = moments.randrange(2) if all(halves) else int(not halves[0])
        size = moments.choice((1, 40, 700, 4096, len(halves[which])))
        content, halves[which] = content + halves[which][:size], halves[which][size:]
    return content


def duplicated(lines: Sequence[bytes], moments: random.Random) -> bytes:
    """Lines, and parts of lines, once more elsewhere."""
    found = list(lines)
    for _ in range(3):
        one = moments.choice(lines)
        found.insert(moments.randrange(len(found)), one[: moments.choice((len(one), moments.randrange(len(one))))])
    return b"".join(one + b"\n" for one in found)


def zeroed(lines: Sequence[bytes], moments: random.Random) -> bytes:
    """A block of the file is NUL bytes, as after a crash of the machine."""
    content = bytearray(b"".join(one + b"\n" for one in lines))
    start, size = moments.randrange(len(content)), moments.choice((1, 512, 4096))
    end = min(len(content), start + size)
    content[start:end] = bytes(end - start)
    return bytes(content)


def garbled(lines: Sequence[bytes], moments: random.Random) -> bytes:
    """Some bytes, newlines perhaps, are others, are missing, or are too many."""
    content = bytearray(b"".join(one + b"\n" for one in lines))
    start = moments.randrange(len(content))
    content[start : start + moments.choice((0, 1, 30))] = moments.randbytes(moments.choice((0, 1, 30)))
    return bytes(content)


DAMAGES: dict[str, Callable[[Sequence[bytes], random.Random], bytes]] = {
    "truncated": truncated,
    "flipped": flipped,
    "interleaved": interleaved,
    "duplicated": duplicated,
    "zeroed": zeroed,
    "garbled": garbled,
}


def intact(content: bytes, lines: Sequence[bytes]) -> list[int]:
    """Which of `lines` are whole within `content`, in their order there: the number of each as often as it is."""
    places: list[tuple[int, int]] = []
    for number, one in enumerate(lines):
        start = content.find(one)
        while start >= 0:
            places.append((start, number))
            start = content.find(one, start + 1)
    return [number for _, number in sorted(places)]


def leftovers(content: bytes, lines: Sequence[bytes]) -> list[int]:
    """The lines of `content`, from 1, that hold anything but whole records."""
    found = []
    for number, one in enumerate(content.split(b"\n"), 1):
        for whole in lines:
            one = one.replace(whole, b"")
        if one.strip():
            found.append(number)
    return found
