"""Repair the files of a store. Nothing is lost: a file is replaced as a whole, and the old one stays beside it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from painters.results.doctor.consistency import inconsistency
from painters.results.files import replace_file, write_lines
from painters.results.lines import Fault, FaultKind, Line, parse, read_lines, seal
from painters.results.record import Record
from painters.results.similarity_record import SimilarityRecord, holds_similarities
from painters.results.writers import writer_of

__all__ = ["Mended", "mend"]


@dataclass(frozen=True, slots=True)
class Mended:
    r"""What `mend` did to a file.

    Attributes:
        path: The file.
        kept: How many records were kept as they were.
        renewed: How many records of an older version were written in today's format.
        dropped: The lines that only the old file holds.
        old: Where the old file is now; None where nothing was done.
        refused: Why nothing was done; None where the file was repaired.

    Examples:
        >>> from pathlib import Path
        >>> _ = Path("records.jsonl").write_text("nonsense\n")
        >>> mended = mend("records.jsonl")
        >>> mended.kept, len(mended.dropped), str(mended.old)
        (0, 1, 'records.jsonl.bak')
    """

    path: Path
    kept: int = 0
    renewed: int = 0
    dropped: tuple[Fault, ...] = ()
    old: Path | None = None
    refused: str | None = None


def mend(path: str | Path) -> Mended:
    r"""Replace a file of records by one with its intact records only, and keep the old file beside it.

    Intact records stay byte for byte as they were. Records of an older version are written in today's format, unless
    their numbers contradict each other. The old file is kept with the suffix .bak, .bak2 and so on.

    A file that a process of this machine is writing, and one that a newer painters wrote, are left as they are.

    Args:
        path: A file of scores or similarities.

    Returns:
        What was kept, renewed and dropped, or why nothing was done.

    Raises:
        OSError: The file cannot be read, or not replaced.

    Examples:
        >>> from pathlib import Path
        >>> from painters.harness import score
        >>> from painters.models import load_model
        >>> from painters.results import append, read
        >>> append("records.jsonl", score(*load_model("nano-llama"), "0-10", "nano_arc", limit=2))
        >>> with Path("records.jsonl").open("a") as file:
        ...     _ = file.write("nonsense\n")
        >>> mended = mend("records.jsonl")
        >>> mended.kept, len(mended.dropped), str(mended.old), len(read("records.jsonl"))
        (2, 1, 'records.jsonl.bak', 2)
    """
    path = Path(path)
    if (writer := writer_of(path)) is not None:
        return Mended(path, refused=f"process {writer} of this machine is writing it: mend it when that has ended")
    size = path.stat().st_size
    is_similarity = holds_similarities(path)
    kept = renewed = 0
    dropped: list[Fault] = []
    lines: list[bytes] = []
    for line in read_lines(path, SimilarityRecord if is_similarity else Record):
        if isinstance(line, Line):
            kept += 1
            lines.append(line.content + b"\n")
        elif line.kind == FaultKind.newer:
            return Mended(path, refused=f"line {line.line} is of a newer painters: update painters to examine it")
        elif line.kind != FaultKind.older:
            dropped.append(line)
        elif not is_similarity and (reason := inconsistency(parse(line.content, Record))):
            dropped.append(Fault(path, line.line, FaultKind.damaged, reason))
        else:
            renewed += 1
            lines.append(seal(line.content))
    old = _keep_old(path)
    replace_file(path, b"".join(lines))
    write_lines(path, _appended_since(old, size))
    return Mended(path, kept, renewed, tuple(dropped), old)


def _keep_old(path: Path) -> Path:
    """Give the file a second name, which it keeps when `path` is replaced, and return that."""
    for number in count(1):
        old = path.with_name(f"{path.name}.bak{number if number > 1 else ''}")
        if not old.exists():
            break
    try:
        old.hardlink_to(path)
    except OSError:  # a file system without links
        shutil.copy2(path, old)
    return old


def _appended_since(old: Path, size: int) -> list[bytes]:
    """Return what a writer has appended to `old` since it had `size` bytes, from the start of the line it was in."""
    if old.stat().st_size == size:
        return []
    content = old.read_bytes()
    return [content[content.rfind(b"\n", 0, size) + 1 :]]
