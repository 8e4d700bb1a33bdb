"""Two actors end in the records of one process, whatever becomes of an actor."""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.fake_scorer import FakeScorer
from support.sweeps import content

from painters import sweep
from painters.experiment import Experiment
from painters.results import Store
from painters.sweep import Progress, Summary

ray = pytest.importorskip("ray", reason="needs pip install -e '.[ray]': make test-ray")

from painters.sweep import ray as ray_engine  # noqa: E402
from painters.sweep import ray_cluster  # noqa: E402

ROOT = Path(__file__).parents[2]

# Ray leaves its log files and the processes that it has started to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:subprocess [0-9]+ is still running:ResourceWarning"),
]

LOST = "A worker was lost and replaced"
GRID = Experiment.model_validate(
    {
        "title": "a grid", "models": "nano-llama", "tasks": ["fake_arc", "fake_lambada"], "protocol": {"limit": 20},
        "variants": [{"name": "skip", "start": "all"}, {"name": "reverse", "start": "all"}],
    }
)  # fmt: skip
CELLS = 24  # twelve plans, two tasks
PLAN = "0-3 9-11"


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Run Ray with two processors; its workers can import what lies beside this file."""
    with pytest.MonkeyPatch.context() as patch:
        root = str(ROOT)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "tests"), root]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        with ray_cluster._own_signals():
            ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield
        ray.shutdown()
        gc.collect()  # within the reach of the filters above


@pytest.fixture(autouse=True)
def four_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Score cells together by fours, however fast they are."""
    monkeypatch.setattr("painters.sweep.chunks.FIRST", 4)
    monkeypatch.setattr("painters.sweep.chunks.Chunks.record_seconds", lambda *_: None)


def swept(
    store: Path, scorer: FakeScorer, monkeypatch: pytest.MonkeyPatch, workers: int = 2, **options: Any
) -> Summary:
    """Return what a sweep by actors with this scorer did."""
    scorer.folder.mkdir(exist_ok=True)
    monkeypatch.setattr("painters.sweep.runner._engine", lambda *_: ray_engine.Ray(workers, None, scorer))
    return sweep.run(GRID, Store(store), **options)


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The records of a sweep in one process."""
    (tmp_path / "alone").mkdir()
    monkeypatch.setattr("painters.sweep.local.load", FakeScorer(tmp_path / "alone"))
    monkeypatch.setattr("painters.sweep.local.free", lambda: None)
    assert sweep.run(GRID, Store(tmp_path / "whole")).done == CELLS
    return content(tmp_path / "whole")


def chunks(folder: Path) -> list[tuple[str, str, int]]:
    """Process, task and cells of each chunk that was begun."""
    rows = (line.split() for line in (folder / "chunks").read_text().splitlines())
    return [(process, task, int(cells)) for process, task, cells in rows]


def test_two_actors_end_in_the_records_of_one_process(
    whole: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[Progress] = []
    scorer = FakeScorer(tmp_path / "scorer", meet=2)
    found = swept(tmp_path / "store", scorer, monkeypatch, progress=reports.append)
    assert (found.cells, found.found, found.done, found.failures, found.notes) == (CELLS, 0, CELLS, [], Counter())
    assert content(tmp_path / "store") == whole
    done = chunks(scorer.folder)
    assert [size for _, _, size in done] == [4] * 6, "cells that share are scored together"
    assert [task for _, task, _ in sorted(done, key=lambda row: row[1])] == ["fake_arc"] * 3 + ["fake_lambada"] * 3
    assert len({process for process, _, _ in done}) == 2, "both work"
    assert [now.done for now in reports] == sorted(now.done for now in reports)
    assert (reports[-1].done, reports[-1].total, reports[-1].left) == (CELLS, CELLS, pytest.approx(0, abs=1e-6))
    again = swept(tmp_path / "store", FakeScorer(tmp_path / "scorer"), monkeypatch)
    assert (again.found, again.done) == (CELLS, 0)


@pytest.mark.parametrize("when", ["load", "group", PLAN])
def test_a_killed_actor_changes_nothing(
    when: str, whole: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    scorer = FakeScorer(tmp_path / "scorer", dies=when)
    found = swept(tmp_path / "store", scorer, monkeypatch)
    assert (scorer.folder / "died-0").exists()
    assert (found.done, found.failures, found.notes) == (CELLS, [], Counter({LOST: 1}))
    assert content(tmp_path / "store") == whole
    time.sleep(0.5)  # Ray's news of the death come a moment later
    assert capfd.readouterr() == ("", "")


def test_a_cell_that_kills_its_actor_fails_alone(
    whole: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "TRIES", 2)
    found = swept(tmp_path / "store", FakeScorer(tmp_path / "scorer", dies=PLAN, times=99), monkeypatch)
    assert found.done == CELLS - 2
    assert {(str(failure.cell.plan), failure.cell.task) for failure in found.failures} == {
        (PLAN, "fake_arc"),
        (PLAN, "fake_lambada"),
    }
    assert all("was lost, 2 times in a row" in failure.reason for failure in found.failures)
    assert found.notes == {LOST: 2 * 2 * 2}  # with its chunk, then by itself, of two tasks
    assert content(tmp_path / "store") < whole


def test_a_cell_that_fails_fails_alone(whole: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = swept(tmp_path / "store", FakeScorer(tmp_path / "scorer", fails=PLAN), monkeypatch)
    assert found.done == CELLS - 2
    assert {str(failure.cell.plan) for failure in found.failures} == {PLAN}
    assert {failure.reason for failure in found.failures} == {f"Unpicklable: no {PLAN}"}
    assert "fake_scorer.py" in found.failures[0].error.__notes__[0], "the traceback there"
    assert found.notes == {}
    assert content(tmp_path / "store") < whole


def test_what_a_worker_notes_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for each time, such as that memory did not suffice."""
    found = swept(tmp_path / "store", FakeScorer(tmp_path, says="smaller batches"), monkeypatch)
    assert found.notes == Counter({"smaller batches": len(chunks(tmp_path))})


@pytest.mark.parametrize(("trouble", "reason"), [("fails", "Unpicklable: no load"), ("dies", "was lost, 2 times")])
def test_a_model_that_cannot_be_loaded(
    trouble: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "TRIES", 2)
    scorer = FakeScorer(tmp_path / "scorer", **{trouble: "load"}, times=99)  # type: ignore[arg-type]
    found = swept(tmp_path / "store", scorer, monkeypatch)
    assert (found.done, len(found.failures)) == (0, CELLS)
    assert all(reason in failure.reason for failure in found.failures)
    assert any("A worker was given up: " in note and reason in note for note in found.notes)


def test_a_worker_with_other_weights_is_given_up(
    whole: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = swept(tmp_path / "store", FakeScorer(tmp_path / "scorer", odd=True), monkeypatch)
    assert (found.done, found.failures) == (CELLS, [])
    assert len({process for process, _, _ in chunks(tmp_path / "scorer")}) == 1
    assert content(tmp_path / "store") == whole
    ((note, times),) = found.notes.items()
    assert "nano-llama: one worker has other weights (000000000000) than the first (ffffffffffff)" in note
    assert times >= 1


def test_stopped_and_gone_on(whole: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(now: Progress) -> None:
        if now.done == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        swept(tmp_path / "store", FakeScorer(tmp_path / "scorer"), monkeypatch, progress=stop)
    kept = len(content(tmp_path / "store"))
    assert 12 <= kept < CELLS
    found = swept(tmp_path / "store", FakeScorer(tmp_path / "scorer"), monkeypatch)
    assert (found.found, found.done) == (kept, CELLS - kept)
    assert content(tmp_path / "store") == whole


def test_no_more_workers_than_the_cluster_has(tmp_path: Path) -> None:
    with pytest.raises(ray_engine.EngineError, match="3 workers need 3 CPUs, one each, and the cluster has 2"):
        sweep.run(GRID, Store(tmp_path), engine="ray", workers=3)
    with pytest.raises(ray_engine.EngineError, match="'cuda:1' with the engine ray, which gives each worker a GPU"):
        sweep.run(GRID, Store(tmp_path), engine="ray", device="cuda:1")
    assert ray.is_initialized(), "the cluster of others is left alone"
