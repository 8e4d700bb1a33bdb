"""Thousands of record files, damaged: what is read from them, what is told, and what the doctor makes of them."""

from __future__ import annotations

import random
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from support.damage import DAMAGES, intact, leftovers, line

from painters.results import Record, ResultsWarning, Store, key
from painters.results.doctor import examine, mend
from painters.results.lines import Fault, Line, read_lines


@dataclass(slots=True)
class Tally:
    """What was in the files, and what was made of it."""

    files: int = 0
    intact: int = 0  # records that were whole
    kept: int = 0  # of them, read, in their order
    damaged: int = 0  # lines that held anything else
    told: int = 0  # of them, reported by number
    untrue: int = 0  # reports of lines that hold whole records alone
    wrong: int = 0  # records read that nobody wrote
    tracebacks: list[str] = field(default_factory=list)
    mended: int = 0  # files that the doctor mended
    unsound: int = 0  # of them, not sound afterwards or short of a record

    @property
    def is_clean(self) -> bool:
        full = self.kept == self.intact and self.told == self.damaged
        return full and not (self.untrue or self.wrong or self.tracebacks or self.unsound)

    def text(self) -> str:
        return (
            f"{self.files} damaged files with {self.intact} intact records and {self.damaged} damaged lines: "
            f"{self.intact - self.kept} intact records missed, {self.damaged - self.told} damaged lines not reported, "
            f"{self.untrue} reported that are not, {self.wrong} wrong values accepted, "
            f"{len(self.tracebacks)} tracebacks.\n{self.mended} of them mended: {self.unsound} not sound afterwards"
        ) + "".join(f"\n{told}" for told in self.tracebacks[:3])


def damaged(folder: Path, records: Sequence[Record], *, files: int, seed: int, mending: int = 10) -> Tally:
    """What became of so many files in `folder`, one after the other; every `mending`-th is mended too."""
    moments, tally = random.Random(seed), Tally()
    lines = [line(record) for record in records]
    path = folder / "records.jsonl"
    for number in range(files):
        some = moments.sample(range(len(lines)), moments.randint(1, min(9, len(lines))))
        kind = list(DAMAGES)[number % len(DAMAGES)]
        content = DAMAGES[kind]([lines[one] for one in some], moments)
        path.write_bytes(content)
        tally.files += 1
        try:
            _read(path, content, [records[one] for one in some], [lines[one] for one in some], tally)
            if number % mending == 0:
                _mend(path, tally)
        except Exception:
            tally.tracebacks.append(f"{kind}, file {number}\n{traceback.format_exc()}")
    return tally


def _read(path: Path, content: bytes, records: Sequence[Record], lines: Sequence[bytes], tally: Tally) -> None:
    found: list[Record] = []
    told: list[int] = []
    for one in read_lines(path, Record):
        if isinstance(one, Line):
            found.append(one.record)
        else:
            assert isinstance(one, Fault)
            told.append(one.line)
    expected = [records[number] for number in intact(content, lines)]
    wrong = leftovers(content, lines)
    tally.intact += len(expected)
    tally.kept += len(expected) if found == expected else 0
    tally.wrong += sum(record not in records for record in found)
    tally.damaged += len(wrong)
    tally.told += len(set(wrong) & set(told))
    tally.untrue += len(set(told) - set(wrong))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ResultsWarning)
        kept = Store(path.parent).records()
    distinct = list({key(record): record for record in expected}.values())
    assert kept == distinct, "the store has other records than its file"
    assert len(said) == bool(wrong), "a store says once that lines were left out"


def _mend(path: Path, tally: Tally) -> None:
    before = Store(path.parent)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResultsWarning)
        records = before.records()
    if not examine(path).is_sound:
        done = mend(path)
        tally.mended += 1
        assert done.old is not None
        done.old.unlink()
        tally.unsound += not (examine(path).is_sound and before.records() == records)
