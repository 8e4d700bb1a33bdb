"""A scoring that is stopped at any answer goes on from what is kept, to the records of one that nothing stopped."""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.nano_samples import write_grid
from support.sweeps import content

from painters import sweep
from painters.experiment import Experiment, load
from painters.plan import Plan
from painters.results import ResultsWarning, Store, partial
from painters.results.doctor import examine
from painters.results.partial import Kept, Partial, PartialFiles, Partials, scoring_digest
from painters.results.writers import host_name

GRID = """\
title: a grid
models: [{model}]
tasks: [tasks/nano_arc/nano_arc.yaml, tasks/nano_gsm8k/nano_gsm8k.yaml, rolling.yaml]
variants: [{{name: skip, start: [1, 2]}}]
protocol: {{batch_size: 2}}
"""


ROLLING = """\
task: rolling
dataset_path: json
dataset_kwargs: {data_files: {test: rolling.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}, {metric: bits_per_byte}]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("partials")
    write_grid(folder, GRID)
    lines = [{"text": "Anna had a cat and the cat had milk. " * count} for count in range(1, 9)]
    (folder / "rolling.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "rolling.yaml").write_text(ROLLING)
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


SLOW = pytest.mark.slow
VARIATIONS: dict[str, Callable[[Experiment], Experiment]] = {
    "shared": lambda grid: grid,
    "half precision": lambda grid: grid.with_dtype("bfloat16"),
    "lm-eval's batches": lambda grid: grid.with_exact_batching(),
    "half precision, lm-eval's batches": lambda grid: grid.with_dtype("bfloat16").with_exact_batching(),
}


@pytest.mark.parametrize("kind", [*VARIATIONS][:2] + [pytest.param(kind, marks=SLOW) for kind in [*VARIATIONS][2:]])
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


def one(plan: str = "0-10", answers: dict[str, Any] | None = None, scoring: str = "0" * 16) -> Partial:
    return Partial(scoring=scoring, model="m", task="t", plan=plan, answers=answers or {"0": [-1.5, True]})


def test_answers_come_back_bit_by_bit(tmp_path: Path) -> None:
    from painters.harness.kept import KeptLikelihoods

    plan, values = Plan.parse("0-10"), [0.1 + 0.2, -1e-320, float("-inf"), float("inf"), -123456.789012345]
    partials = Partials(PartialFiles(tmp_path))
    answers = [(number, (value, number % 2 == 0)) for number, value in enumerate(values)]
    KeptLikelihoods(partials.scoring("m", "t", {}), [plan]).add({plan: answers}, range(len(values)), None)
    again = Partials(PartialFiles(tmp_path), PartialFiles(tmp_path).read())
    known = KeptLikelihoods(again.scoring("m", "t", {}), [plan])
    assert known.known[plan] == dict(answers)
    assert known.lacking(range(len(values))) == ()
    assert known.lacking([len(values)]) == (plan,)
    other = KeptLikelihoods(again.scoring("m", "t", {"seed": 2}), [plan])
    assert not other.known[plan], "another protocol"


def test_not_a_number_comes_back_as_such() -> None:
    from painters.harness.kept import KeptLikelihoods

    written: list[Partial] = []
    plan = Plan.parse("0-10")
    KeptLikelihoods(Kept("", "m", "t", (), written.extend), [plan]).add({plan: [(0, (float("nan"), False))]}, [0], None)
    [(value, greedy)] = KeptLikelihoods(Kept("", "m", "t", written, written.extend), [plan]).known[plan].values()
    assert math.isnan(value)
    assert not greedy


def test_damaged_lines_are_asked_again_without_a_word(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    files = PartialFiles(tmp_path)
    path = files.new()
    files.append(path, [one("0-10"), one("0-9")])
    path.write_bytes(path.read_bytes()[:-20])
    assert files.read() == {path: [one("0-10")]}
    assert Store(tmp_path).records() == []
    assert not recwarn.list
    diagnosis = examine(tmp_path)
    assert diagnosis.is_sound
    assert diagnosis.partials == {path: 1}
    assert diagnosis.others == []


def test_a_file_goes_when_nothing_in_it_is_needed(tmp_path: Path) -> None:
    files = PartialFiles(tmp_path)
    first = Partials(files)
    kept = first.scoring("m", "t", {})
    kept.add("0-10", {"0": [1.0, True]})
    kept.add("0-9", {"0": [1.0, True]})
    kept.flush()
    second = Partials(files, files.read())
    second.scoring("m", "t", {})
    second.drop(["0-10"])
    assert len(files.paths()) == 1, "one of two plans has no records yet"
    second.scoring("m", "t", {})
    second.drop(["0-9"])
    assert files.paths() == []


def test_files_of_other_runs_stay(tmp_path: Path) -> None:
    """Those of a process of this machine that runs, and those beside another file of records."""
    running = tmp_path / f"20260101T000000-000000Z-{host_name()}-{os.getppid()}.partial"
    files = PartialFiles(tmp_path)
    files.append(running, [one()])
    beside = PartialFiles.beside(tmp_path / "r.jsonl")
    beside.append(beside.new(), [one()])
    assert files.paths() == [running]
    assert len(beside.paths()) == 1
    scoring = scoring_digest({"model": "m", "task": "t"})
    files.append(running, [one(scoring=scoring)])
    partials = Partials(files, {running: [one(scoring=scoring)]})
    partials.scoring("m", "t", {})
    partials.drop(["0-10"])
    assert running.exists()


def test_a_full_disk_costs_no_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    partials = Partials(PartialFiles(tmp_path))
    monkeypatch.setattr(partial, "write_lines", full)
    kept = partials.scoring("m", "t", {})
    kept.add("0-10", {"0": [1.0, True]})
    with pytest.warns(ResultsWarning, match="partial results cannot be kept in .*No space left on device"):
        kept.flush()
    kept.add("0-10", {"1": [1.0, True]})
    kept.flush()


def test_how_often_answers_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every minute, or every twentieth of the requests if that is sooner and worth the time that writing takes."""
    monkeypatch.undo()  # of `often`
    now, writes = [0.0], []
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def write(lines: Sequence[Partial]) -> None:
        now[0] += 0.099
        writes.append(sum(len(line.answers) for line in lines))

    def run(requests: int, seconds: float, batches: int) -> list[int]:
        writes.clear()
        kept = Kept("", "m", "t", (), write)
        kept.expect(requests)
        for batch in range(batches):
            now[0] += seconds
            kept.add("0-10", {f"{batch} {number}": 0.0 for number in range(10)})
            kept.step(10)
        kept.flush()
        return list(writes)

    assert run(4000, 20.0, 12) == [30, 30, 30, 30], "a minute"
    assert run(400, 10.0, 10) == [20, 20, 20, 20, 20], "a twentieth"
    assert run(400, 1.0, 40) == [20, *[100] * 3, 80], "writing takes a hundredth of the time at most"
    assert run(400, 70.0, 3) == [10, 10, 10], "a batch at least"
