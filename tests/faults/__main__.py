"""`python -m faults [kills|interrupts|files|disk ...]`: a store under fire, at length; `make test-faults` runs all."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from faults import GRID, disk, files, interrupts, kills

KILLS, WRITERS, FILES, SEED = 200, 4, 10_000, 7


def main(names: list[str]) -> int:
    """0 where everything held."""
    chosen: dict[str, Callable[[Path], bool]] = {
        "kills": _kills,
        "interrupts": _interrupts,
        "files": _files,
        "disk": _disk,
    }
    held = True
    for name in names or list(chosen):
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            held &= chosen[name](Path(folder))
        print(f"({name}: {time.monotonic() - began:.0f} s)\n", flush=True)
    print("all held" if held else "SOMETHING DID NOT HOLD")
    return 0 if held else 1


def _kills(folder: Path) -> bool:
    """Writers on what this process has imported, so that kills fall into loading, scoring and writing."""
    from painters.results import Store
    from painters.sweep import chunks

    # Sixty small cells would be done in four chunks; kept by twos they are written in thirty.
    chunks.FIRST, chunks.SECONDS = 2, 0.0
    work = _command(folder)
    print(f"An undisturbed sweep, then {KILLS} kills of {WRITERS} writers at a time (SIGKILL and SIGTERM)", flush=True)
    began = time.monotonic()
    os.waitpid(kills.fork(lambda: work(folder / "whole"), folder / "undisturbed"), 0)
    longest = time.monotonic() - began
    whole = Store(folder / "whole").records()
    print(f"The undisturbed sweep took {longest:.0f} s: {len(whole)} records", flush=True)
    (folder / "stores").mkdir()

    def tell(tally: kills.Tally) -> None:
        if tally.kills % 20 == 0:
            print(f"  {tally.kills} kills, {tally.finished} writers at their end", flush=True)

    tally = kills.storm(
        work, folder / "stores", whole, kills=KILLS, writers=WRITERS, seed=SEED, longest=longest, tell=tell
    )
    print(tally.text())
    return tally.is_clean and bool(whole)


STOPS = 10
LONG = """\
title: half a minute
models: nano-llama
tasks: [nano_arc, nano_hellaswag]
variants: [{name: skip, start: all}]
protocol: {limit: 60}
"""


def _interrupts(folder: Path) -> bool:
    """A sweep of two chunks of cells, which is stopped at random moments of it."""
    (folder / "long.yaml").write_text(LONG)

    def work(store: Path) -> None:
        from painters import cli

        sys.argv = ["painters", "sweep", str(folder / "long.yaml"), "--out", str(store), "--quiet"]
        cli.main()

    held = True
    for numbers in ((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), (signal.SIGKILL,)):
        own = folder / signal.Signals(numbers[0]).name
        own.mkdir()
        print(f"{STOPS} stops of a sweep ({', '.join(signal.Signals(one).name for one in numbers)})", flush=True)
        tally = interrupts.storm(
            work, own, stops=STOPS, signals=numbers, seed=SEED, between=(0.2, 0.6), chunk=interrupts.twentieth
        )
        print(tally.text(), flush=True)
        held &= tally.is_clean
    return held


def _command(folder: Path) -> Callable[[Path], None]:
    """`painters sweep` of the grid into a store, in the process that calls it."""
    from painters import cli

    (folder / "grid.yaml").write_text(GRID)

    def work(store: Path) -> None:
        sys.argv = ["painters", "sweep", str(folder / "grid.yaml"), "--out", str(store), "--quiet"]
        cli.main()

    return work


def _files(folder: Path) -> bool:
    from support.fake_records import records

    made = records()
    tally = files.damaged(folder, made[:: max(1, len(made) // 60)], files=FILES, seed=SEED)
    print(tally.text())
    return tally.is_clean


def _disk(folder: Path) -> bool:
    """In a process of its own, which may mount."""
    if not disk.can_mount():
        print("disk: this machine lets us mount nothing (unshare --map-root-user --mount), so nothing was tried")
        return False
    done = disk.alone("-m", "faults.disk", str(folder))
    print(done.stdout, done.stderr, sep="", end="")
    return done.returncode == 0


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)
    sys.exit(main(sys.argv[1:]))
