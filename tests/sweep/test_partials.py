"""A scoring that is stopped at any answer goes on from what is kept, to the records of one that nothing stopped."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from support.nano_samples import write_grid
from support.sweeps import content

from painters import sweep
from painters.experiment import Experiment, load
from painters.results import Store, partial
from painters.results.partial import Kept, PartialFiles

GRID = """\
title: a grid
models: [{model}]
tasks: [tasks/nano_arc/nano_arc.yaml, tasks/nano_gsm8k/nano_gsm8k.yaml, tasks/nano_lambada/nano_lambada.yaml]
variants: [{{name: skip, start: [1, 2]}}]
protocol: {{batch_size: 2}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("partials")
    write_grid(folder, GRID)
    return folder


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are written after every batch, however quick."""
    monkeypatch.setattr(partial, "SHARE", 0.0)
    monkeypatch.setattr(partial, "WORTH", 0.0)


class Stopping:
    """Ends a sweep after so many batches, of which the last one is not written yet."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left, self.asked = 10**9, 0  # batches; answers
        step = Kept.step

        def counted(kept: Kept, requests: int) -> None:
            self.left -= 1
            self.asked += requests
            if self.left == 0:
                raise KeyboardInterrupt
            step(kept, requests)

        monkeypatch.setattr(Kept, "step", counted)


def swept_in_pieces(grid: Experiment, store: Path, stopping: Stopping, seed: int = 0) -> int:
    """Sweep, stopped again and again, and return how often."""
    moments, stopped = random.Random(seed), 0
    while True:
        stopping.left = moments.randint(1, 9)
        try:
            sweep.run(grid, Store(store))
        except KeyboardInterrupt:
            stopped += 1
        else:
            return stopped


VARIATIONS: dict[str, Callable[[Experiment], Experiment]] = {
    "shared": lambda grid: grid,
    "lm-eval's batches": lambda grid: grid.with_exact_batching(),
    "half precision": lambda grid: grid.with_dtype("bfloat16"),
    "half precision, lm-eval's batches": lambda grid: grid.with_dtype("bfloat16").with_exact_batching(),
}


@pytest.mark.parametrize("kind", VARIATIONS)
def test_stopped_again_and_again(folder: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("painters.harness.generation.GROUP", 1)
    grid = VARIATIONS[kind](load(folder / "grid.yaml"))
    stopping = Stopping(monkeypatch)
    sweep.run(grid, Store(tmp_path / "whole"))
    asked, stopping.asked = stopping.asked, 0
    stopped = swept_in_pieces(grid, tmp_path / "pieces", stopping)
    assert stopped >= 3
    assert stopping.asked == asked, "nothing is asked twice"
    assert content(tmp_path / "pieces") == content(tmp_path / "whole")
    assert not PartialFiles(tmp_path / "pieces").paths(), "what has its records is not kept twice"
    assert not PartialFiles(tmp_path / "whole").paths()
