"""What goes wrong on the way: signals, networks, tasks and models that fail. The rest goes on, and the end says why."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faults import kills
from support.nano_samples import write_grid
from support.outcome import Outcome
from support.sweeps import CELLS, GRID, content, counts

from painters import harness, sweep
from painters.cli import _progress, _stop
from painters.experiment import Experiment, load
from painters.harness import tasks
from painters.models import hub
from painters.ranks import LostProcessError, Ranks
from painters.results import Store

Call = Callable[..., Outcome]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    write_grid(folder, GRID)
    return folder


@pytest.fixture(scope="module")
def grid(folder: Path) -> Experiment:
    return load(folder / "grid.yaml").with_limit(1)


# -------------------------------------------------------------------------------------------------------------- signals

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.fixture
def hearing() -> Iterator[None]:
    """A hang-up is heard, also where these tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hearing")
@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_ends_a_run_and_says_what_is_kept(
    painters: Call, folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    report = _progress.TaskProgress.__call__

    def send(self: Any, done: int, total: int, what: str) -> None:
        report(self, done, total, what)
        if "lambada" in what:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(_progress.TaskProgress, "__call__", send)
    before = {number: signal.getsignal(number) for number, _ in SIGNALS}
    tasks = [f"{folder}/tasks/{name}/{name}.yaml" for name in ("nano_arc", "nano_lambada")]
    asked = ("run", "--model", f"{folder}/model", "--plan", "0-2 4-5", "--tasks", ",".join(tasks), "--limit", "2")
    found = painters(*asked, "--out", "a file.jsonl")
    assert found.code == code
    assert found.err.count("stopped. What is scored so far is kept beside a file.jsonl; to go on:") == 1
    assert "\n  painters run --model" in found.err
    assert "Traceback" not in found.err
    assert {number: signal.getsignal(number) for number, _ in SIGNALS} == before
    from painters import results

    assert {record.task for record in results.read("a file.jsonl")} == {"nano_arc"}
    monkeypatch.setattr(_progress.TaskProgress, "__call__", report)
    assert painters(*asked, "--out", "a file.jsonl").code == 0
    assert painters(*asked, "--out", "whole.jsonl").code == 0
    assert kills.content(results.read("a file.jsonl")) == kills.content(results.read("whole.jsonl"))
    assert sorted(path.name for path in Path().iterdir()) == ["a file.jsonl", "whole.jsonl"]


def test_a_run_that_kept_nothing_does_not_say_it_did(
    painters: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before the first batch: there is no file, and no promise of one."""

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("painters.harness.shared_lm.SharingLM.batches", stop)
    task = f"{folder}/tasks/nano_arc/nano_arc.yaml"
    found = painters("run", "--model", f"{folder}/model", "--plan", "0-2 4-5", "--tasks", task, "--out", "new/r.jsonl")
    assert found.code == 130
    assert "painters: stopped. To run it again:\n  painters run" in found.err
    assert not list(Path("new").iterdir())


@pytest.mark.usefixtures("hearing")
@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_before_anything_is_scored(
    painters: Call, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    monkeypatch.setattr("painters.variants.windows", lambda layers: os.kill(os.getpid(), number))
    found = painters("variants", "--layers", "12")
    assert (found.code, found.err) == (code, "painters: stopped. To run it again:\n  painters variants --layers 12\n")


def test_a_signal_that_python_drops_is_heard_at_the_next_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a handler raises while an object is tidied up is printed and gone."""
    done: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: done.append(type(what.exc_value).__name__))

    class Tidied:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    def work() -> None:
        with _stop.stoppable("All is kept") as stops:
            one = Tidied()
            del one
            done.append("went on")
            stops.watching(None)()
            done.append("never")

    with pytest.raises(_stop.Terminated):
        work()
    assert done == ["KeyboardInterrupt", "went on"]


def test_an_ignored_signal_stays_ignored() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with _stop.stoppable():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_of_several_processes_the_main_one_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["painters", "sweep", "fig4"])
    monkeypatch.setenv("WORLD_SIZE", "2")

    def work() -> None:
        with _stop.stoppable("All is kept"):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(_stop.Terminated, match="accelerate launch --num_processes 2 -m painters sweep fig4"):
        work()
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as silent:
        work()
    assert silent.value.code == 143


def test_a_process_that_is_gone_ends_the_others(
    grid: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no failure of a cell: nothing could be scored together any more."""

    def gone(self: Any, *_: Any, **__: Any) -> Any:
        Ranks(0, 2)._exchange(lambda: (_ for _ in ()).throw(RuntimeError("Connection closed by peer [127.0.0.1]")))

    monkeypatch.setattr(harness.Scorer, "score", gone)
    with pytest.raises(LostProcessError, match=r"process 0 of 2: another .* gone \(Connection closed by peer"):
        sweep.run(grid, Store(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("everyone", [True, False])
def test_processes_that_are_terminated_end_together(folder: Path, tmp_path: Path, everyone: bool) -> None:
    """Whether all of them or only the second gets the signal, none hangs, and a second launch goes on."""
    command = [sys.executable, "-m", "painters", "sweep", f"{folder}/grid.yaml", "--out", str(tmp_path / "store")]

    def launch() -> list[subprocess.Popen[str]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        return [
            subprocess.Popen(
                command,
                env={**shared, "ACCELERATE_USE_CPU": "true", "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]

    both = launch()
    assert both[0].stderr is not None
    while (line := both[0].stderr.readline()) and not line.startswith("["):
        pass
    assert line, "ended before it scored anything"
    for process in both if everyone else both[1:]:
        process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    (_, first), (_, second) = (process.communicate(timeout=60) for process in both)
    assert time.monotonic() - began < 30
    assert [process.returncode for process in both] == ([143, 143] if everyone else [1, 143]), first + second
    assert (
        ("stopped. To run it again:\n  accelerate launch" in first)
        if everyone
        else ("another process of the run is gone" in first)
    )
    assert "Traceback" not in first + second
    again = [(process.communicate(timeout=300), process.returncode) for process in launch()]
    assert [code for _, code in again] == [0, 0], again
    assert sweep.run(load(folder / "grid.yaml"), Store(tmp_path / "store")).found == CELLS
    sweep.run(load(folder / "grid.yaml"), Store(tmp_path / "alone"))
    assert content(tmp_path / "store") == content(tmp_path / "alone")
    assert not list((tmp_path / "store").glob("*.partial"))


# ---------------------------------------------------------------------------------------------------------- the network


class HTTPStatusError(Exception):
    """As httpx has it."""

    def __init__(self, status_code: int) -> None:
        super().__init__(f"Server error '{status_code}' for url\nmore")
        self.response = type("Response", (), {"status_code": status_code})()


class OfflineModeIsEnabled(ConnectionError):
    """As huggingface_hub has it."""


def of_library(library: str, name: str) -> Exception:
    """An exception of a class of this name, two classes below one that is known."""
    known = type(name, (Exception,), {"__module__": f"{library}._exceptions"})
    return type("Special", (type("Middle", (known,), {}),), {})("it took too long")


def after_(cause: Exception) -> Exception:
    """What transformers makes of it."""
    error = OSError("We couldn't connect to the hub")
    error.__cause__ = cause
    return error


PASSING = [
    TimeoutError("slow"), ConnectionResetError("gone"), HTTPStatusError(503), HTTPStatusError(429),
    of_library("httpx", "TimeoutException"), of_library("httpx2", "NetworkError"), of_library("requests", "Timeout"),
    of_library("aiohttp", "ClientConnectionError"), after_(HTTPStatusError(500)), after_(after_(TimeoutError())),
]  # fmt: skip
LASTING = [
    ValueError("no"), HTTPStatusError(404), HTTPStatusError(401), OfflineModeIsEnabled("offline"), MemoryError(),
    after_(OfflineModeIsEnabled("offline")), after_(FileNotFoundError("x")), of_library("mine", "TimeoutException"),
    of_library("httpx", "InvalidURL"), OSError(28, "No space left on device"),
    ConnectionError("Couldn't reach 'glue' on the Hub (OfflineModeIsEnabled)"),
]  # fmt: skip


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited, without waiting."""
    found: list[float] = []
    monkeypatch.setattr("painters.models.hub.time.sleep", found.append)
    return found


def failing(error: Exception, times: int) -> Callable[[], str]:
    left = [error] * times

    def work() -> str:
        if left:
            raise left.pop()
        return "found"

    return work


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_may_pass_is_tried_again(error: Exception, slept: list[float], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "painters"):
        assert hub.patiently(failing(error, 3)) == "found"
    assert slept == [1, 2, 4]
    assert "trying again in 4 s" in caplog.messages[-1]
    with pytest.raises(ConnectionError, match=r"tried 5 times over 15 s: \w+") as ended:
        hub.patiently(failing(error, 5))
    assert ended.value.__cause__ is error
    assert "more" not in str(ended.value)


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_what_is_wrong_is_told_at_once(error: Exception, slept: list[float]) -> None:
    with pytest.raises(type(error)) as ended:
        hub.patiently(failing(error, 1))
    assert ended.value is error
    assert slept == []


def test_what_hides_its_cause_is_not_looked_behind(slept: list[float]) -> None:
    def work() -> None:
        try:
            raise TimeoutError
        except TimeoutError:
            raise KeyError("name") from None

    with pytest.raises(KeyError):
        hub.patiently(work)
    assert slept == []


@pytest.mark.parametrize("what", ["AutoConfig", "AutoTokenizer", "AutoModelForCausalLM"])
def test_a_model_waits_for_the_hub(
    folder: Path, slept: list[float], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    import transformers

    from painters.models import ModelError, load_model

    whole, broken = getattr(transformers, what).from_pretrained, [True, True]

    def sometimes(*args: Any, **options: Any) -> Any:
        if broken:
            broken.pop()
            raise OSError("We couldn't connect") from HTTPStatusError(502)
        return whole(*args, **options)

    monkeypatch.setattr(getattr(transformers, what), "from_pretrained", sometimes)
    model, words = load_model(str(folder / "model"))
    assert (model.config.num_hidden_layers, len(words) > 0, slept) == (6, True, [1, 2])
    broken += [True] * 5
    with pytest.raises(ModelError, match=r"tried 5 times over 15 s: OSError: We couldn't connect"):
        load_model(str(folder / "model"))


def test_documents_wait_for_the_hub(slept: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import lm_eval.tasks

    from painters import glue
    from painters.tasks import TaskUnavailableError

    def down(*_: Any, **__: Any) -> Any:
        raise ConnectionError("the hub is down")

    monkeypatch.setattr(datasets, "load_dataset", down)
    monkeypatch.setattr(lm_eval.tasks.TaskManager, "load", down)
    with pytest.raises(TaskUnavailableError, match="tried 5 times over 15 s: ConnectionError: the hub is down"):
        harness.prepare("arc_challenge")
    with pytest.raises(TaskUnavailableError, match="tried 5 times over 15 s: ConnectionError: the hub is down"):
        glue.prepare("cola", None)
    assert slept == [1, 2, 4, 8] * 2


# ---------------------------------------------------------------------------------------------- cells, tasks and models


def test_a_task_whose_own_code_raises_fails_alone(
    grid: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once while its prompts are built, and once, in the end, for a store that holds it already."""
    whole, tried = tasks.prepare_with, []

    def faulty(task: str, *options: Any) -> Any:
        if "arc" in task:
            tried.append(task)
            raise ZeroDivisionError("in somebody's template")
        return whole(task, *options)

    before = sweep.run(grid, Store(tmp_path / "whole"))
    monkeypatch.setattr(tasks, "prepare_with", faulty)
    found = sweep.run(grid, Store(tmp_path / "store"))
    assert counts(found) == (CELLS, 0, CELLS // 2, CELLS // 2)
    assert list(found.reasons) == ["ZeroDivisionError: in somebody's template"]
    assert len(tried) == 1
    again = sweep.run(grid, Store(tmp_path / "whole"))
    assert (counts(before), counts(again)) == ((CELLS, 0, CELLS, 0), (CELLS, CELLS, 0, 0))
    assert again.unchecked == {"nano_arc": "ZeroDivisionError: in somebody's template"}


def test_a_model_that_fails_half_way(grid: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its other cells, and those that were done before, are kept; once it works they are all."""
    from painters.sharing import Sharing

    whole, ran = Sharing.run, 0

    def breaks(self: Any, *args: Any, **inputs: Any) -> Any:
        nonlocal ran
        for plan, output in whole(self, *args, **inputs):
            ran += 1
            if ran % 7 == 0:
                raise RuntimeError("a kernel that is not there")
            yield plan, output

    monkeypatch.setattr(Sharing, "run", breaks)
    found = sweep.run(grid, Store(tmp_path / "store"))
    assert (found.cells, found.done + len(found.failures)) == (CELLS, CELLS)
    assert 0 < found.done < CELLS
    (reason,) = found.reasons
    assert re.fullmatch(r"task 'nano_\w+' raised RuntimeError while .*: a kernel that is not there", reason)
    monkeypatch.undo()
    sweep.run(grid, Store(tmp_path / "store"))
    sweep.run(grid, Store(tmp_path / "whole"))
    assert content(tmp_path / "store") == content(tmp_path / "whole")


def test_a_failure_keeps_no_memory(grid: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a forward held is free for the next cell, though its failure is kept for the end."""

    class Held:
        pass

    held: list[weakref.ref[Held]] = []

    def faulty(*_: Any, **__: Any) -> Any:
        states = Held()
        held.append(weakref.ref(states))
        raise RuntimeError("too much")

    monkeypatch.setattr(harness.Scorer, "score", faulty)
    found = sweep.run(grid, Store(tmp_path))
    assert len(found.failures) == CELLS
    assert [reference() for reference in held] == [None] * len(held)


def grid_with(folder: Path, name: str, *, models: str = "", tasks: str = "") -> str:
    """The path of the grid with further models and tasks in front."""
    text = (folder / "grid.yaml").read_text()
    text = text.replace("models: [", f"models: [{models}").replace("\ntasks: [", f"\ntasks: [{tasks}")
    (folder / f"{name}.yaml").write_text(text)
    return f"{folder}/{name}.yaml"


def test_a_model_that_is_not_there_is_tried_once_and_the_next_goes_on(
    painters: Call, folder: Path, tmp_path: Path
) -> None:
    """Where its size is stated its cells are counted; where it is not, nobody knows how many there are."""
    stated = grid_with(folder, "stated", models="{name: not/there, num_layers: 6}, ")
    unknown = grid_with(folder, "unknown", models="not/there, ")
    found = painters("sweep", stated, "--limit", "1", "--json", "--quiet")
    result = json.loads(found.out)
    assert (found.code, result["cells"], result["done"], result["failed"]) == (1, 2 * CELLS, CELLS, CELLS)
    ((reason, cells),) = [(group["reason"], group["cells"]) for group in result["missing"]]
    assert (cells, "model 'not/there': it is not bundled" in reason) == (CELLS, True)
    assert result["missing"][0]["such_as"] == "not/there, identity on nano_arc"

    found = painters("sweep", unknown, "--limit", "1", "--json", "--quiet")
    result = json.loads(found.out)
    assert (found.code, result["cells"], result["done"], result["failed"]) == (1, CELLS, CELLS, 0)
    assert "it is not bundled" in result["models_unknown"]["not/there"]
    table = painters("sweep", unknown, "--limit", "1", "--quiet")
    assert table.code == 1
    assert "Failed: every cell of not/there, whose layers are not known: model" in " ".join(table.out.split())


@pytest.mark.parametrize("first", ["task", "model"])
def test_fail_fast_ends_at_the_first_failure(painters: Call, folder: Path, first: str) -> None:
    """A cell's, or a model's, whose cells all fail."""
    more = {"tasks": "missing.yaml, "} if first == "task" else {"models": "{name: not/there, num_layers: 6}, "}
    asked = ("sweep", grid_with(folder, first, **more), "--limit", "1", "--quiet", "--fail-fast")
    found = painters(*asked, "--json")
    result = json.loads(found.out)
    failed, every = (1, CELLS * 3 // 2) if first == "task" else (CELLS, 2 * CELLS)
    assert (found.code, result["failed"], result["done"], result["untried"]) == (1, failed, 0, every - failed)
    assert f"Not tried after the failure: {every - failed} cells" in painters(*asked).out


def test_an_interrupt_without_a_signal_is_ctrl_c() -> None:
    def work() -> None:
        with _stop.stoppable("All is kept"):
            raise KeyboardInterrupt

    with pytest.raises(_stop.Stopped, match="All is kept") as stopped:
        work()
    assert stopped.value.exit_code == 130
