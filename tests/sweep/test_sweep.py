"""A sweep that ends at any moment goes on to the records of one that never did."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.damage import line
from support.nano_samples import llama, tokenizer, write_grid, write_tasks
from support.sweeps import CELLS, GRID, content, counts, needs_fork

from painters import sweep
from painters.experiment import Experiment, load
from painters.results import Record, ResultsError, ResultsWarning, Store
from painters.sweep import Progress


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, two tasks and an experiment."""
    folder = tmp_path_factory.mktemp("sweep")
    write_grid(folder, GRID)
    return folder


@pytest.fixture(scope="module")
def grid(folder: Path) -> Experiment:
    return load(folder / "grid.yaml")


@pytest.fixture(scope="module")
def whole(grid: Experiment, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The records of an uninterrupted sweep."""
    store = Store(tmp_path_factory.mktemp("whole"))
    found = sweep.run(grid, store)
    assert (found.cells, found.found, found.done, found.failures) == (CELLS, 0, CELLS, [])
    return content(store)


def files(folder: Path) -> bytes:
    """All that is written so far; what is torn included."""
    found = b""
    for path in sorted(folder.glob("*.jsonl")):
        with contextlib.suppress(FileNotFoundError):  # a writer tries whether it can write
            found += path.read_bytes()
    return found


def after(cells: int, then: Callable[[], object]) -> Callable[[Progress], None]:
    """A progress function that calls `then` once so many cells are done and the next one runs."""

    def on_progress(now: Progress) -> None:
        if now.done == cells and now.share > 0:
            then()

    return on_progress


@pytest.fixture(autouse=True)
def reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report progress after every answer, not a few times a second."""
    monkeypatch.setattr("painters.sweep.eta.EVERY", -1.0)


@pytest.fixture(autouse=True)
def two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Score cells together by twos, however fast they are."""
    monkeypatch.setattr("painters.sweep.chunks.FIRST", 2)
    monkeypatch.setattr("painters.sweep.chunks.Chunks.record_seconds", lambda *_: None)


def stop() -> None:
    raise KeyboardInterrupt


# ------------------------------------------------------------------------------------------------------------- resuming


def test_a_sweep_scores_every_cell_once(grid: Experiment, whole: set[str], tmp_path: Path) -> None:
    store = Store(tmp_path / "new")
    assert counts(sweep.run(grid, store)) == (CELLS, 0, CELLS, 0)
    assert content(store) == whole
    files = {path: path.read_bytes() for path in store.folder.iterdir()}
    assert counts(sweep.run(grid, Store(store.folder))) == (CELLS, CELLS, 0, 0)
    assert {path: path.read_bytes() for path in store.folder.iterdir()} == files


def test_records_say_what_was_asked(grid: Experiment, whole: set[str]) -> None:
    records = [json.loads(one) for one in whole]
    assert {(r["variant"], json.dumps(r["params"])) for r in records} == {
        ("identity", "{}"), *(("skip", f'{{"start": {n}}}') for n in range(3)),
        *(("reverse", f'{{"start": {n}}}') for n in range(2)),
    }  # fmt: skip
    assert {tuple(r["asked"]["metrics"]) for r in records} == {("acc", "acc_norm"), ("perplexity", "acc")}
    assert {(r["asked"]["limit"], r["asked"]["shots"], r["documents"], r["shots"]) for r in records} == {
        (3, None, 3, 0)
    }


def test_records_say_which_command_wrote_them(
    grid: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["painters", "sweep", "grid.yaml"])
    sweep.run(grid.with_limit(1), Store(tmp_path))
    assert {record.command for record in Store(tmp_path).records()} == {"painters sweep grid.yaml"}


@pytest.mark.parametrize("cells", [0, 2, 8, CELLS - 2])
def test_stopped_within_a_chunk(grid: Experiment, whole: set[str], tmp_path: Path, cells: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        sweep.run(grid, Store(tmp_path), progress=after(cells, stop))
    assert counts(sweep.run(grid, Store(tmp_path))) == (CELLS, cells, CELLS - cells, 0)
    assert content(tmp_path) == whole


def test_a_full_disk(grid: Experiment, whole: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append, calls = Store.append, 0

    def fails(self: Store, records: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise OSError(28, "No space left on device")
        append(self, records)

    monkeypatch.setattr(Store, "append", fails)
    with pytest.raises(OSError, match="No space left"):
        sweep.run(grid, Store(tmp_path))
    assert counts(sweep.run(grid, Store(tmp_path))) == (CELLS, 8, CELLS - 8, 0)
    assert content(tmp_path) == whole


@contextlib.contextmanager
def child(work: Callable[[], object]) -> Iterator[int]:
    """The id of a process that does `work` on what is loaded here already; it is gone afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn where a library has started threads
        process = os.fork()
    if process == 0:
        code = 1
        with contextlib.suppress(BaseException):
            work()
            code = 0
        os._exit(code)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


def ended(process: int) -> int | None:
    """The exit code of a child, None while it runs."""
    found, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


@needs_fork
def test_killed_at_random_moments(grid: Experiment, whole: set[str], tmp_path: Path) -> None:
    moments, kills, store = random.Random(3), 0, tmp_path / "store"
    while kills < 6:
        wanted = len(files(store)) + moments.choice((0, 1, 1))  # bytes more than before; 0: within the start
        with child(lambda: sweep.run(grid, Store(store))) as process:
            while (code := ended(process)) is None and len(files(store)) < wanted:
                time.sleep(0.001)
            if code is None:
                time.sleep(moments.uniform(0.0, 0.01))
        if code is not None:
            break
        kills += 1
    assert kills
    assert len(content(store)) > 0, "killed too early each time to show anything"
    sweep.run(grid, Store(store))
    assert content(store) == whole


@needs_fork
def test_two_sweeps_of_one_store_at_once(grid: Experiment, whole: set[str], tmp_path: Path) -> None:
    with child(lambda: sweep.run(grid, Store(tmp_path))) as process:
        assert not sweep.run(grid, Store(tmp_path)).failures
        while (code := ended(process)) is None:
            time.sleep(0.01)
        assert code == 0
    assert content(tmp_path) == whole
    assert len(Store(tmp_path).records()) == len(whole)


# ----------------------------------------------------------------------------------------------------------- objections


def test_other_weights_are_scored_anew(grid: Experiment, folder: Path, whole: set[str], tmp_path: Path) -> None:
    model = tmp_path / "model"
    tokenizer().save_pretrained(model)
    llama(seed=1).save_pretrained(model)
    small = grid.with_model(str(model)).with_limit(2)
    store = Store(tmp_path / "store")
    assert counts(sweep.run(small, store)) == (CELLS, 0, CELLS, 0)
    llama(seed=2).save_pretrained(model)
    found = sweep.run(small, store)
    assert counts(found) == (CELLS, 0, CELLS, 0)
    ((reason, count),) = found.refused.items()
    assert count == CELLS
    assert "scored with other weights" in reason
    again = sweep.run(small, store)
    assert counts(again) == (CELLS, CELLS, 0, 0)
    assert len({record.weights for record in store.records()}) == 2


def test_other_requests_are_scored_anew(folder: Path, tmp_path: Path) -> None:
    write_tasks(tmp_path / "tasks")
    (tmp_path / "grid.yaml").write_text(GRID.format(model=folder / "model"))
    changed, store = load(tmp_path / "grid.yaml").with_limit(2), Store(tmp_path / "store")
    sweep.run(changed, store)
    documents = tmp_path / "tasks" / "nano_arc" / "test.jsonl"
    documents.write_text(documents.read_text().replace("What", "How", 1))
    found = sweep.run(changed, store)
    assert counts(found) == (CELLS, CELLS // 2, CELLS // 2, 0)
    ((reason, count),) = found.refused.items()
    assert (count, "nano_arc: scored on other requests" in reason) == (CELLS // 2, True)


def test_records_count_unchecked_where_the_model_is_gone(grid: Experiment, folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    tokenizer().save_pretrained(model)
    llama().save_pretrained(model)
    asked, store = grid.with_model(str(model)).with_limit(1), Store(tmp_path / "store")
    sweep.run(asked, store)
    (model / "model.safetensors").unlink()
    found = sweep.run(asked, store)
    assert counts(found) == (CELLS, CELLS, 0, 0)
    assert list(found.unchecked) == [str(model)]
    found = sweep.run(asked.with_limit(1).with_dtype("bfloat16"), store)
    assert counts(found) == (CELLS, 0, 0, CELLS)
    assert "cannot be read" in found.failures[0].reason


# ------------------------------------------------------------------------------------------------------------- failures


def test_a_cell_that_fails_does_not_sink_the_others(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {
        "title": "a", "models": str(folder / "model"), "kv": ["exact", "averaged"], "protocol": {"limit": 1},
        "variants": [{"plan": "0-1 {2 (3 4)} 5"}, {"name": "skip", "start": [0, 1]}],
        "tasks": [str(folder / "tasks" / "nano_arc" / "nano_arc.yaml"), "missing.yaml"],
    }  # fmt: skip
    found = sweep.run(Experiment.model_validate(fields), Store(tmp_path))
    # the intact model, two skips and the branches; the averaged cache is refused, and all cells of one task fail
    assert counts(found) == (10, 0, 4, 6)
    assert len(Store(tmp_path).records()) == 8
    reasons = {failure.reason for failure in found.failures}
    assert len(reasons) == 2
    assert any("averaged" in reason for reason in reasons)
    assert any("missing.yaml" in reason for reason in reasons)
    assert counts(sweep.run(Experiment.model_validate(fields), Store(tmp_path))) == (10, 4, 0, 6)


def test_a_fault_in_a_cell_is_reported_with_its_kind(
    grid: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from painters import harness

    whole = harness.Scorer.score

    def faulty(self: Any, plans: Any, *rest: Any, **options: Any) -> Iterator[Record]:
        if any(len(plan.layers) < 6 for plan in plans):
            raise ZeroDivisionError("a metric of somebody's task")
        return whole(self, plans, *rest, **options)

    monkeypatch.setattr(harness.Scorer, "score", faulty)
    found = sweep.run(grid, Store(tmp_path))
    assert counts(found) == (CELLS, 0, 6, 6)
    assert {failure.reason for failure in found.failures} == {"ZeroDivisionError: a metric of somebody's task"}


def test_a_record_that_answers_another_cell_is_refused(folder: Path, tmp_path: Path) -> None:
    paths = write_tasks(tmp_path / "tasks")
    path = Path(paths["nano_arc"])
    path.write_text(path.read_text().replace("task: nano_arc", "task: mine"))
    fields = {"title": "a", "models": str(folder / "model"), "variants": "identity", "tasks": str(path)}
    found = sweep.run(Experiment.model_validate(fields).with_limit(1), Store(tmp_path / "store"))
    assert "must be named as its task" in found.failures[0].reason
    assert Store(tmp_path / "store").records() == []


def test_what_is_no_store(grid: Experiment, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"exists|directory"):
        sweep.run(grid, Store(tmp_path / "file"))
    (tmp_path / "newer.jsonl").write_bytes(line('{"a":"record"}', version=3))
    with pytest.raises(ResultsError, match=r"newer painters .*newer\.jsonl, line 1"):
        sweep.run(grid, Store(tmp_path))
    assert len(list(tmp_path.glob("*.jsonl"))) == 1, "nothing was written"


def test_what_was_damaged_is_scored_again(grid: Experiment, whole: set[str], tmp_path: Path) -> None:
    sweep.run(grid, Store(tmp_path))
    [path] = tmp_path.glob("*.jsonl")
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 16
    path.write_bytes(damaged)
    with pytest.warns(ResultsWarning, match=rf"1 line is damaged and left out \({path.name}: "):
        assert counts(sweep.run(grid, Store(tmp_path))) == (CELLS, CELLS - 1, 1, 0)
    with pytest.warns(ResultsWarning):
        assert content(tmp_path) == whole


# ------------------------------------------------------------------------------------------------------------- progress


def test_progress_counts_cells_and_the_time_that_is_left(grid: Experiment, tmp_path: Path) -> None:
    reports: list[Progress] = []
    sweep.run(grid.with_limit(1), Store(tmp_path), progress=reports.append)
    assert [now.done for now in reports] == sorted(now.done for now in reports)
    assert {now.total for now in reports} == {CELLS}
    assert reports[0].left is None
    assert reports[-1].left == pytest.approx(0, abs=1e-6)
    assert all(now.left is not None for now in reports if now.done)
    assert reports[0].what == "2 plans on nano_arc"
    again: list[Progress] = []
    sweep.run(grid, Store(tmp_path), progress=again.append)  # other cells of the same kind: their pace is known
    assert again[0].left is not None
    assert again[0].left > 0
