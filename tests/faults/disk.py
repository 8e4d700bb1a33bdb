"""A disk that is full and a folder that can only be read: small file systems in memory, which only we see.

Run under `unshare --map-root-user --mount`, so that they end with the process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from support.fake_records import records

from faults import GRID
from faults.kills import content
from painters.cli._errors import format_error as message
from painters.results import ResultsWarning, Store, key
from painters.results.doctor import examine
from painters.results.lines import FaultKind

SOME = 60  # records that are appended
ALONE = ("unshare", "--map-root-user", "--mount")


def can_mount() -> bool:
    """Whether this machine lets us mount file systems that nobody else sees."""
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        return False
    tried = (*ALONE, "mount", "-t", "tmpfs", "-o", "size=64k", "none", "/mnt")
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


def alone(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What this Python did with `arguments` where it may mount."""
    return subprocess.run([*ALONE, sys.executable, *arguments], capture_output=True, text=True, check=False)


def mount(folder: Path, options: str) -> None:
    """Mount a file system in memory at `folder` with these options; what one holds already stays."""
    again = "remount," if os.path.ismount(folder) else ""
    subprocess.run(["mount", "-t", "tmpfs", "-o", again + options, "none", str(folder)], check=True)


@dataclass(slots=True)
class Step:
    """One call of the command that writes, and what was in the store afterwards."""

    name: str
    code: int
    said: str
    records: int
    left_out: int  # lines

    def __str__(self) -> str:
        return f"{self.name}: exit code {self.code}, {self.records} records, {self.left_out} torn lines\n  {self.said}"


def under_fire(folder: Path, write: Callable[[Path], tuple[int, str]], size: str) -> tuple[list[Step], Path]:
    """What `write`, a command with an exit code and its last line, makes of a disk of this size, of one that can only
    be read, and of one with room again; and the store.
    """
    store = folder / "disk" / "store"
    store.parent.mkdir()
    steps = []
    for name, options in (
        ("a full disk", f"size={size}"),
        ("a full disk again", f"size={size}"),
        ("a folder to read only", "ro,size=64m"),
        ("room again", "rw,size=64m"),
    ):
        mount(store.parent, options)
        code, said = write(store)
        found = examine(store)
        steps.append(Step(name, code, said, found.records, found.count(FaultKind.damaged, FaultKind.unfinished)))
    return steps, store


def judged(steps: Sequence[Step], wanted: int) -> list[str]:
    """What is wrong with the steps, of which the last has to have so many records."""
    full, again, closed, end = steps
    wrong = [f"{step.name}: no failure" for step in (full, again, closed) if step.code != 1]
    room, other = "make room and run the same command again", "name a place that you may write to"
    for step, *told in ((full, "No space", room), (again, "No space", room), (closed, "Read-only", other)):
        if any(text not in step.said for text in (*told, "Nothing that was recorded before is lost")):
            wrong.append(f"{step.name}: another message")
    if not 0 < full.records <= again.records == closed.records < wanted:
        wrong.append("records were lost, or none were written before the disk was full")
    if (end.code, end.records) != (0, wanted):
        wrong.append("the sweep did not end with all records")
    return wrong


def _sweep(grid: Path) -> Callable[[Path], tuple[int, str]]:
    """`painters sweep` as it is started."""

    def write(store: Path) -> tuple[int, str]:
        command = [sys.executable, "-m", "painters", "sweep", str(grid), "--out", str(store), "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = done.stderr.strip().splitlines()
        return done.returncode, "Traceback" if "Traceback" in done.stderr else said[-1] if said else ""

    return write


def _append(store: Path) -> tuple[int, str]:
    """The same records appended one by one, as a sweep appends them, those that are missing."""
    try:
        writer = Store(store)
        writer.check_writable()
        found = {key(record) for record in writer.records()}
        for record in records(documents=60)[:SOME]:
            if key(record) not in found:
                writer.append([record])
    except OSError as error:
        return 1, message(error)
    return 0, ""


def main(folder: Path, *, with_sweeps: bool) -> int:
    """0 where everything held, for real sweeps or for appending alone."""
    write, size = (_sweep(folder / "grid.yaml"), "64k") if with_sweeps else (_append, "32k")
    (folder / "grid.yaml").write_text(GRID)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResultsWarning)
        write(folder / "whole")
        whole = content(Store(folder / "whole").records())
        steps, store = under_fire(folder, write, size)
        wrong = judged(steps, whole.total())
        if content(Store(store).records()) != whole:
            wrong.append("the records are not those of an undisturbed run")
    print(*steps, sep="\n")
    print("wrong: " + "; ".join(wrong) if wrong else f"{whole.total()} records, those of an undisturbed run")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), with_sweeps="--append" not in sys.argv))
