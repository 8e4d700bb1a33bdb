"""A scorer that computes nothing, and that fails or dies on request: for tests of what surrounds it."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.fake_records import record

from painters.experiment import Cell
from painters.results import Record


class Unpicklable(Exception):
    """An exception that cannot be made from its own arguments, as many cannot."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(one + other)


@dataclass(frozen=True)
class FakeScorer:
    """A scorer, which returns itself when called as a loader; what happened is in the files of `folder`."""

    folder: Path
    dies: str = ""  # load, group, or the plan with which it dies: SIGKILL
    times: int = 1  # so often
    fails: str = ""  # load, or the plan that it raises for
    odd: bool = False  # all but the first process have other weights
    meet: int = 1  # processes that have to be there before one scores
    says: str = ""  # a note on each chunk
    notes: Counter[str] = field(default_factory=Counter)

    def __call__(self, cell: Cell, device: str | None) -> FakeScorer:
        self._do("load")
        return self

    @property
    def weights(self) -> str:
        try:
            (self.folder / "first").open("x").write(str(os.getpid()))
        except FileExistsError:
            if self.odd and (self.folder / "first").read_text() != str(os.getpid()):
                (self.folder / "odd").touch()
                return "0" * 12
        return "f" * 12

    def requests(self, cell: Cell) -> str:
        return f"{cell.task} 20"

    def group(self, cell: Cell) -> str:
        self._do("group")
        return cell.task

    def score(self, cells: Sequence[Cell], on_progress: Any, partials: Any) -> Iterator[list[Record]]:
        if self.says:
            self.notes[self.says] += 1
        with (self.folder / "chunks").open("a") as file:
            file.write(f"{os.getpid()} {cells[0].task} {len(cells)}\n")
        (self.folder / f"here-{os.getpid()}").touch()
        while len(list(self.folder.glob("here-*"))) < self.meet:
            time.sleep(0.01)
        while self.odd and not (self.folder / "odd").exists():
            time.sleep(0.01)
        time.sleep(0.2 if self.odd else 0)  # the others could take a chunk by now
        for i, cell in enumerate(cells):
            self._do(str(cell.plan))
            on_progress(i + 1, len(cells), "")
            fields = {"seed": cell.seed, "batch_size": cell.batch_size, "kv": cell.kv, "batching": cell.batching}
            yield [record(cell.plan, cell.task, 0.5, documents=20, **fields)]

    def _do(self, what: str) -> None:
        if what == self.fails:
            raise Unpicklable("no ", what)
        if what == self.dies:
            for death in range(self.times):
                try:
                    (self.folder / f"died-{death}").touch(exist_ok=False)
                except FileExistsError:
                    continue
                os.kill(os.getpid(), signal.SIGKILL)
