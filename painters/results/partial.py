"""Partial results: the answers of scorings that are not whole yet, kept so that an interrupted run goes on from them.

They lie beside the records, in files with the suffix `.partial` that readers of records do not open: answers to some
requests are no score. Each writer has files of its own, which only grow, with a checksum on each line
(`painters.results.lines`). A scoring's file is removed as soon as its records are on the disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from painters.results.files import STAMP, ResultsWarning, read_intact, write_lines
from painters.results.lines import TooLongError, seal
from painters.results.provenance import timestamp
from painters.results.writers import new_name, writer_of

__all__ = ["CHECKPOINT", "SUFFIX", "Kept", "Partial", "PartialFiles", "Partials", "PartialsInMemory", "scoring_digest"]

SUFFIX = ".partial"
CHECKPOINT = ".checkpoint"
SECONDS = 60.0
"""The most seconds between two writes of answers, where a batch takes no longer: so much is lost at a power cut."""
SHARE = 0.05
"""The largest share of a scoring's requests between two writes, where it takes longer than writing is worth."""
WORTH = 100.0
"""How many times as long as the last write the answers of the next one have to have taken."""


class Partial(BaseModel):
    """The answers of one plan to some requests of a task.

    Examples:
        >>> partial = Partial(scoring="0" * 16, model="nano-llama", task="nano_arc", plan="0-10", answers={"0": 1.5})
        >>> partial.kind, partial.answers
        ('partial', {'0': 1.5})
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["partial"] = "partial"
    scoring: str  # a digest of everything that determines the answers, but for the plan
    model: str
    task: str
    plan: str
    answers: dict[str, JsonValue]  # what was asked -> the answer
    not_finite: int = Field(default=0, ge=0)  # how many of them came from no finite number
    rows_left: int | None = Field(default=None, ge=1)  # rows that fitted into memory, where fewer than asked for did
    seconds: float = Field(default=0.0, ge=0.0)  # that the answers took
    date: str = ""


def scoring_digest(fields: Mapping[str, Any]) -> str:
    """Return a digest of everything that determines the answers of a scoring.

    Args:
        fields: Plain values by their names.

    Returns:
        Sixteen hexadecimal digits.

    Examples:
        >>> scoring_digest({"task": "nano_arc", "seed": 1}) == scoring_digest({"seed": 1, "task": "nano_arc"})
        True
    """
    return hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode()).hexdigest()[:16]


class PartialFiles:
    """The files of partial results in a folder whose names begin alike.

    Args:
        folder: The folder, which need not exist.
        prefix: What the names begin with; empty for those of a store, which begin with a time.

    Examples:
        >>> files = PartialFiles("runs")
        >>> partial = Partial(scoring="0" * 16, model="nano-llama", task="nano_arc", plan="0-10", answers={"0": 1.5})
        >>> path = files.new()
        >>> files.append(path, [partial])
        >>> files.read() == {path: [partial]}
        True
    """

    def __init__(self, folder: str | Path, prefix: str = "") -> None:
        self._folder, self._prefix = Path(folder), f"{prefix}." if prefix else ""

    @classmethod
    def beside(cls, records: str | Path) -> PartialFiles:
        """Return the files that belong to a file of records, and lie beside it.

        Args:
            records: The file of records, which need not exist.
        """
        path = Path(records)
        return cls(path.parent, path.name)

    def paths(self) -> list[Path]:
        """Return the files that are there, by name."""
        return [path for path in sorted(self._folder.glob(f"*{SUFFIX}")) if self._is_ours(path) and path.is_file()]

    def read(self) -> dict[Path, list[Partial]]:
        """Return the intact lines of each file. What is damaged is asked again, so it is worth no warning."""
        found = {}
        for path in self.paths():
            with contextlib.suppress(OSError):
                found[path] = read_intact(path, Partial)[0]
        return found

    def new(self) -> Path:
        """Return the name of a file that is not there, and that no other writer uses; `append` creates it."""
        while (path := self._folder / f"{self._prefix}{new_name()}{SUFFIX}").exists():
            pass
        return path

    def checkpoint(self, name: str) -> Path:
        """Return the file for the state of a computation of this name."""
        return self._folder / f"{self._prefix}{name}{CHECKPOINT}"

    def append(self, path: Path, partials: Iterable[Partial]) -> None:
        """Append lines to a file, and return when they are on the disk.

        Args:
            path: A file of this process.
            partials: The lines.

        Raises:
            OSError: The file cannot be written.
            TooLongError: A line is longer than any reader accepts. Nothing was written.
        """
        write_lines(path, [seal(partial.model_dump_json()) for partial in partials])

    def _is_ours(self, path: Path) -> bool:
        """Return whether the name is the prefix and the time, machine and process of a writer."""
        return path.name.startswith(self._prefix) and STAMP.match(path.name.removeprefix(self._prefix)) is not None


@dataclass(frozen=True, slots=True)
class _Pending:
    """Answers that are not written yet."""

    plan: str
    answers: Mapping[str, JsonValue]
    not_finite: int


class Kept:
    """The answers of one scoring: those that an interrupted run left, and those to be written.

    Args:
        scoring: The digest of what determines the answers.
        model: The name of the model.
        task: The name of the task.
        known: The lines that were found.
        write: Writes lines.
        seconds: The most seconds between two writes.
        share: The largest share of all requests between two writes.

    Attributes:
        rows_left: The rows that fitted into memory, where fewer than asked for did; else None.

    Examples:
        >>> written = []
        >>> kept = Kept("0" * 16, "nano-llama", "nano_arc", [], written.extend)
        >>> kept.expect(2)
        >>> kept.add("0-10", {"0": 1.5})
        >>> kept.flush()
        >>> again = Kept("0" * 16, "nano-llama", "nano_arc", written, written.extend)
        >>> again.answers("0-10")
        {'0': 1.5}
    """

    def __init__(
        self,
        scoring: str,
        model: str,
        task: str,
        known: Iterable[Partial],
        write: Callable[[Sequence[Partial]], None],
        seconds: float = SECONDS,
        share: float = SHARE,
    ) -> None:
        self._scoring, self._model, self._task = scoring, model, task
        self._write, self._most_seconds, self._most_share = write, seconds, share
        self._answers: dict[str, dict[str, JsonValue]] = defaultdict(dict)
        self._not_finite: Counter[str] = Counter()
        self._seconds: dict[str, float] = defaultdict(float)
        self.rows_left: int | None = None
        for partial in known:
            if not partial.answers.keys() <= self._answers[partial.plan].keys():  # else another writer said it before
                self._not_finite[partial.plan] += partial.not_finite
                self._seconds[partial.plan] += partial.seconds
            self._answers[partial.plan].update(partial.answers)
            if partial.rows_left is not None:
                self.rows_left = min(partial.rows_left, self.rows_left or partial.rows_left)
        self._pending: list[_Pending] = []
        self._total = self._steps = self._since = self._largest = 0
        self._longest = self._last_write = 0.0
        self._began = self._step_began = time.monotonic()

    def answers(self, plan: str) -> Mapping[str, JsonValue]:
        """Return the answers of a plan that an interrupted run left, by what was asked."""
        return self._answers.get(plan, {})

    def not_finite(self, plan: str) -> int:
        """Return how many of these answers came from no finite number."""
        return self._not_finite[plan]

    def seconds(self, plan: str) -> float:
        """Return the seconds that these answers took."""
        return self._seconds.get(plan, 0.0)

    def expect(self, requests: int) -> None:
        """Begin: so many requests are to be answered, by one plan after the other or by all at once.

        Args:
            requests: Their number, for one plan.
        """
        self._total, self._since = requests, 0
        self._began = self._step_began = time.monotonic()

    def add(self, plan: str, answers: Mapping[str, JsonValue], not_finite: int = 0) -> None:
        """Note answers of a plan, to be written when it is worth it.

        Args:
            plan: The plan.
            answers: The answers by what was asked.
            not_finite: How many of them came from no finite number.
        """
        self._pending.append(_Pending(plan, answers, not_finite))

    def step(self, requests: int) -> None:
        """Note that so many requests were answered by all plans that run, such as those of a batch; write if it is due.

        Args:
            requests: Their number.

        Raises:
            OSError: The file cannot be written.
        """
        now = time.monotonic()
        self._since += requests
        self._longest, self._step_began = now - self._step_began, now
        taken = now - self._began
        is_long = taken + self._longest > self._most_seconds
        is_many = self._since + requests > self._total * self._most_share
        if is_long or (is_many and taken >= WORTH * self._last_write):
            self.flush()

    def flush(self) -> None:
        """Write the answers that are not written yet, and return when they are on the disk.

        Raises:
            OSError: The file cannot be written.
        """
        began = time.monotonic()
        if self._pending:
            self._write(list(self._lines(began - self._began)))
            self._pending.clear()  # after the writing: twice is no harm
        self._since, self._began = 0, time.monotonic()
        self._step_began, self._last_write = self._began, self._began - began

    def _lines(self, seconds: float) -> Iterator[Partial]:
        """Yield a line for each plan, with its part, by its answers, in the seconds since the last write."""
        answers: dict[str, dict[str, JsonValue]] = defaultdict(dict)
        not_finite: Counter[str] = Counter()
        for pending in self._pending:
            answers[pending.plan].update(pending.answers)
            not_finite[pending.plan] += pending.not_finite
        count = sum(map(len, answers.values()))
        for plan, of_plan in answers.items():
            yield Partial(
                scoring=self._scoring,
                model=self._model,
                task=self._task,
                plan=plan,
                answers=of_plan,
                not_finite=not_finite[plan],
                rows_left=self.rows_left,
                seconds=seconds * len(of_plan) / max(1, count),
                date=timestamp(),
            )


class Partials:
    """The partial results beside the records of a run: those that were found, and the file that this process writes.

    Where the file cannot be written, a warning says so once, and the run goes on without.

    Args:
        files: Where they lie; None keeps nothing.
        known: The lines of each file, as `files.read` returns them.
        seconds: The most seconds between two writes.
        share: The largest share of the requests of a scoring between two writes.

    Examples:
        >>> partials = Partials(PartialFiles("runs"))
        >>> kept = partials.scoring("nano-llama", "nano_arc", {"seed": 1234})
        >>> kept.add("0-10", {"0": 1.5})
        >>> kept.flush()
        >>> len(PartialFiles("runs").paths())
        1
        >>> partials.drop(["0-10"])  # its records are on the disk
        >>> len(PartialFiles("runs").paths())
        0
    """

    def __init__(
        self,
        files: PartialFiles | None,
        known: Mapping[Path, Sequence[Partial]] | None = None,
        *,
        seconds: float | None = None,
        share: float | None = None,
    ) -> None:
        self._files = files
        self._seconds = SECONDS if seconds is None else seconds
        self._share = SHARE if share is None else share
        self._known: dict[str, list[Partial]] = defaultdict(list)  # by scoring
        self._unfinished: dict[Path, set[tuple[str, str]]] = {}  # (scoring, plan) without records, by file
        for path, partials in (known or {}).items():
            self._note(path, partials)
        self._begun: set[str] = set()  # scorings since the last `drop`
        self._checkpoints: dict[Path, bool] = {}  # file -> whether further plans need it
        self._own: Path | None = None  # the file that is written
        self._earlier: set[Path] = set()  # files of this process that are not written any more

    def scoring(self, model: str, task: str, fields: Mapping[str, Any]) -> Kept:
        """Return the answers of a scoring that begins now, or goes on.

        Args:
            model: The name of the model.
            task: The name of the task.
            fields: Everything else that determines the answers of a plan.
        """
        scoring = scoring_digest({"model": model, "task": task, **fields})
        self._begun.add(scoring)
        return Kept(scoring, model, task, self._known.get(scoring, ()), self._write, self._seconds, self._share)

    def lines(self, task: str, plans: Iterable[str]) -> list[Partial]:
        """Return what is known of these plans on a task, whatever determined the answers.

        Args:
            task: The name of the task.
            plans: The plans.
        """
        wanted = set(plans)
        return [one for known in self._known.values() for one in known if one.task == task and one.plan in wanted]

    def take(self, scorings: Iterable[str], partials: Sequence[Partial] = ()) -> None:
        """Note scorings that began in another process, and keep lines of it.

        Args:
            scorings: The digests of what determines their answers.
            partials: The lines.
        """
        self._begun.update(scorings)
        if partials:
            self._write(partials)

    def checkpoint(self, model: str, task: str, fields: Mapping[str, Any], *, shared: bool = False) -> Path | None:
        """Return the file for the state of a computation that has no answers yet, such as a training.

        Args:
            model: The name of the model.
            task: The name of the task.
            fields: Everything else that determines the state.
            shared: Whether further plans need it: it stays until `close`, and not until `drop`.

        Returns:
            The file, which is there if an interrupted run left one; None where nothing is kept.
        """
        if self._files is None:
            return None
        path = self._files.checkpoint(scoring_digest({"model": model, "task": task, **fields}))
        self._checkpoints[path] = shared
        return path

    def close(self) -> None:
        """Remove the states that further plans needed: all is done."""
        for path in self._checkpoints:
            path.unlink(missing_ok=True)
        self._checkpoints.clear()

    @property
    def begun(self) -> tuple[str, ...]:
        """The digests of the scorings that began since the last `drop`."""
        return tuple(self._begun)

    def drop(self, plans: Iterable[str], *, others: bool = True) -> None:
        """Remove what is kept of these plans in the scorings that began since the last call: their records are there.

        A file is removed when nothing else is in it. Other runs of this machine that are still going keep theirs.

        Args:
            plans: The plans.
            others: Whether files that other processes left are removed too.
        """
        named = list(plans)
        done = {(scoring, plan) for scoring in self._begun for plan in named}
        for scoring in self._begun:
            self._known[scoring] = [one for one in self._known[scoring] if (scoring, one.plan) not in done]
        self._begun.clear()
        for path in [path for path, shared in self._checkpoints.items() if not shared]:
            path.unlink(missing_ok=True)
            del self._checkpoints[path]
        if self._own is not None:
            self._earlier.add(self._own)
            self._own = None  # the lines of others in it keep that file
        for path, unfinished in list(self._unfinished.items()):
            unfinished -= done
            may_go = path in self._earlier or (others and writer_of(path) is None)
            if not unfinished and may_go:
                path.unlink(missing_ok=True)
                self._earlier.discard(path)
                del self._unfinished[path]

    def _write(self, partials: Sequence[Partial]) -> None:
        """Append lines to the file of this process, and know them from now on."""
        if self._files is None:
            return
        self._own = self._own or self._files.new()
        self._note(self._own, partials)
        try:
            self._files.append(self._own, partials)
        except (OSError, TooLongError) as error:
            with contextlib.suppress(OSError):
                self._own.unlink(missing_ok=True)
            self._files = None
            reason = f"partial results cannot be kept in {self._own.parent}: {error}. If this run is stopped, the"
            warnings.warn(f"{reason} scoring that it is at begins again", ResultsWarning, stacklevel=2)

    def _note(self, path: Path, partials: Sequence[Partial]) -> None:
        """Know the lines of a file."""
        self._unfinished.setdefault(path, set()).update((one.scoring, one.plan) for one in partials)
        for partial in partials:
            self._known[partial.scoring].append(partial)


class PartialsInMemory(Partials):
    """Partial results of a process that writes no file: another one fetches what is to be written.

    Args:
        known: What an interrupted scoring left.

    Examples:
        >>> partials = PartialsInMemory()
        >>> kept = partials.scoring("nano-llama", "nano_arc", {"seed": 1234})
        >>> kept.add("0-10", {"0": 1.5})
        >>> kept.flush()
        >>> [partial.answers for partial in partials.written()], partials.written()
        ([{'0': 1.5}], [])
    """

    def __init__(self, known: Sequence[Partial] = ()) -> None:
        super().__init__(None, {Path(): known})
        self._written: list[Partial] = []

    def written(self) -> list[Partial]:
        """Return the lines since the last call."""
        written, self._written = self._written, []
        return written

    def _write(self, partials: Sequence[Partial]) -> None:
        self._written = [*self._written, *partials]
