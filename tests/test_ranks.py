"""Processes share out batches, come to the records of one process, and fail together."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.nano_samples import llama, tokenizer, write_tasks
from typer.testing import CliRunner

from painters import Plan, harness, results
from painters.cli import app
from painters.harness.generation import batches
from painters.harness.lm import language_model
from painters.harness.progress import ProgressCounter
from painters.harness.shared_lm import SharingLM
from painters.ranks import OtherProcessError, Ranks, ranks

PASSING = {"seconds", "date", "command"}


def launch(arguments: list[str], processes: int = 2, **environment: str) -> list[subprocess.CompletedProcess[str]]:
    """Each of the processes of `python ...`, with the environment that a launcher gives them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {**os.environ, "WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    shared |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", **environment}
    started = [
        subprocess.Popen(
            [sys.executable, *arguments],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    found = []
    for process in started:
        out, err = process.communicate(timeout=300)
        found.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
    return found


def lasting(folder: Path) -> list[dict[str, Any]]:
    """All records in files of `folder`, without what differs from run to run."""
    read = [record for path in sorted(folder.glob("*.jsonl")) for record in results.read(path)]
    kept = [{name: value for name, value in record.model_dump().items() if name not in PASSING} for record in read]
    return sorted(kept, key=lambda record: (record["task"], record["plan"], record["metric"]))


def test_one_process_is_all_there_is() -> None:
    alone = ranks()
    assert (alone.rank, alone.size, alone.is_main) == (0, 1, True)
    assert alone.mine([1, 2, 3]) == [1, 2, 3]
    assert alone.same(5) == 5
    assert alone.gathered(lambda: "own") == ["own"]


def test_what_several_processes_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process is played here; `test_two_processes_write_the_records_of_one` has a real one."""
    others: list[Any] = []

    def gather(found: list[Any], own: Any) -> None:
        found[:] = [own, *others]

    def broadcast(sent: list[Any], src: int) -> None:
        sent[src] = "the main one's"

    monkeypatch.setattr("torch.distributed.all_gather_object", gather)
    monkeypatch.setattr("torch.distributed.broadcast_object_list", broadcast)
    assert Ranks(1, 2).same("own") == "the main one's"
    others[:] = [("theirs", None)]
    assert Ranks(0, 2).gathered(lambda: "own") == ["own", "theirs"]
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        Ranks(0, 2).gathered(lambda: 1 / 0)
    others[:] = [(None, "ZeroDivisionError: in one")]
    with pytest.raises(OtherProcessError, match=r"^process 1 of 2 failed \(ZeroDivisionError: in one\)$"):
        Ranks(0, 2).gathered(lambda: "own")


def test_shares_cover_everything_once(tmp_path: Path) -> None:
    """The batches of lm-eval and of trees, by two and by three."""
    model = llama()
    tasks = write_tasks(tmp_path)
    (arc,), (gsm8k,) = harness.prepare(tasks["nano_arc"]), harness.prepare(tasks["nano_gsm8k"])
    with language_model(SharingLM, model, tokenizer(), 3) as lm:
        for exact in (True, False):
            made = lm.batches(arc.requests, exact=exact)
            whole = [batch.spans for batch in made]
            for size in (2, 3):
                shares = [[part.make().spans for part in made.of(Ranks(rank, size))] for rank in range(size)]
                assert [shares[i % size][i // size] for i in range(len(whole))] == whole
        places = [place for batch in batches(lm, gsm8k.requests) for place in batch]
        assert sorted(places) == list(range(len(gsm8k.requests)))


def test_answers_of_shares_are_those_of_the_whole(tmp_path: Path) -> None:
    """What two processes find, put together, is what one finds, to the last digit."""
    model = llama()
    tasks = write_tasks(tmp_path)
    plans = [Plan.parse("0-5"), Plan.parse("0-1 {2-4}*2 5")]
    (arc,), (gsm8k,) = harness.prepare(tasks["nano_arc"]), harness.prepare(tasks["nano_gsm8k"])
    with language_model(SharingLM, model, tokenizer(), 3) as lm:
        trees = lm.batches(arc.requests, exact=False)
        whole = lm.log_likelihoods(plans, arc.requests, trees)
        texts = lm.generate_until(gsm8k.requests, disable_tqdm=True)
        parts: list[Any] = []

        def found_by(rank: int) -> Ranks:
            class Two(Ranks):
                def gathered(self, work: Any) -> list[Any]:
                    parts.append(work())
                    return parts

            return Two(rank, 2)

        lm.ranks = found_by(0)
        lm.log_likelihoods(plans, arc.requests, trees)
        lm.ranks = found_by(1)
        assert lm.log_likelihoods(plans, arc.requests, trees) == whole
        parts.clear()
        lm.ranks = found_by(0)
        with pytest.raises(KeyError):  # the other's share is missing
            lm.generate_until(gsm8k.requests, disable_tqdm=True)
        lm.ranks = found_by(1)
        assert lm.generate_until(gsm8k.requests, disable_tqdm=True) == texts


def test_progress_counts_for_all_processes() -> None:
    calls: list[tuple[int, int]] = []
    counter = ProgressCounter(lambda done, total, what: calls.append((done, total)), total=5, step=2)
    for _ in range(3):
        counter.count()
    assert calls == [(2, 5), (4, 5), (5, 5)]


def test_other_commands_are_the_main_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for rank, says in (("1", False), ("0", True)):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", rank)
        result = CliRunner().invoke(app, ["variants"])
        assert result.exit_code == 0
        assert bool(result.output) == says
        assert "WORLD_SIZE" not in os.environ


@pytest.mark.slow
def test_two_processes_write_the_records_of_one(tmp_path: Path) -> None:
    """`painters run`, and a sweep of forty cells and more."""
    asked = ["-m", "painters", "run", "--plan", "0-3 {4-7}*3 8-11", "--limit", "24", "--batch-size", "5", "--json"]
    single, double = tmp_path / "one", tmp_path / "two"
    one = launch([*asked, "--out", str(single / "records.jsonl")], 1)[0]
    two = launch([*asked, "--out", str(double / "records.jsonl")])
    assert (one.returncode, two[0].returncode, two[1].returncode) == (0, 0, 0), two[1].stderr
    assert two[0].stdout.startswith("{")
    assert two[1].stdout == ""
    assert lasting(single) == lasting(double)
    assert len(lasting(single)) == 16

    swept = ["-m", "painters", "sweep", "fig4", "fig5", "fig8", "--quick", "--no-encoder", "--limit", "12", "--quiet"]
    assert launch([*swept, "--out", str(single / "sweep")], 1)[0].returncode == 0
    assert [done.returncode for done in launch([*swept, "--out", str(double / "sweep")])] == [0, 0]
    assert lasting(single / "sweep") == lasting(double / "sweep")
    assert len({(r["plan"], r["task"]) for r in lasting(single / "sweep")}) >= 40
    assert len(list((double / "sweep").glob("*.jsonl"))) == 1


@pytest.mark.slow
def test_two_processes_reproduce_what_one_does(tmp_path: Path) -> None:
    """Records, similarities and figures; the second time nothing is missing, and the main process draws."""
    asked = ["-m", "painters", "reproduce", "2", "3", "--quick", "--limit", "6", "--json"]
    single, double = tmp_path / "one", tmp_path / "two"
    assert launch([*asked, "--out", str(single)], 1)[0].returncode == 0
    for scored in (24, None):
        main, other = launch([*asked, "--out", str(double)])
        assert (main.returncode, other.returncode) == (0, 0), main.stderr + other.stderr
        assert other.stdout == ""
        told = json.loads(main.stdout)
        assert (told["sweep"] or {}).get("done") == scored
        assert all(figure["drawn"] for figure in told["figures"])
    assert lasting(single) == lasting(double)
    assert len(lasting(single)) >= 24
    similarities, drawn = (
        [{path.name: path.read_bytes() for path in (folder / name).iterdir()} for folder in (single, double)]
        for name in ("similarity", "figures")
    )
    assert similarities[0].keys() == similarities[1].keys()
    assert drawn[0].keys() == drawn[1].keys()
    assert all(drawn[0][name] == drawn[1][name] for name in drawn[0] if name.endswith(".csv"))


def test_mistakes_are_told_once() -> None:
    main, other = launch(["-m", "painters", "reproduce", "15"])
    assert (main.returncode, other.returncode) == (2, 2)
    assert main.stderr.startswith("painters: there is no figure '15'")
    assert other.stderr == ""


def test_a_model_is_not_spread_by_each_of_several_processes() -> None:
    main, other = launch(["-m", "painters", "run", "--plan", "0-11", "--device-map", "auto"])
    assert (main.returncode, other.returncode) == (2, 2)
    assert "--device-map auto in 2 processes" in main.stderr


@pytest.mark.slow
def test_processes_fail_together() -> None:
    """Where one fails the other says so, and does not wait for ever."""
    script = (
        "from painters.ranks import ranks\n"
        "def work():\n"
        "    if ranks().rank == 1: raise ZeroDivisionError('in one')\n"
        "    return 1\n"
        "assert ranks().same(ranks().rank) == 0\n"
        "assert ranks().gathered(lambda: ranks().rank) == [0, 1]\n"
        "try: ranks().gathered(work)\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    first, second = launch(["-c", script])
    assert first.stdout.strip() == "OtherProcessError process 1 of 2 failed (ZeroDivisionError: in one)"
    assert second.stdout.strip() == "ZeroDivisionError in one"


def test_a_single_process_needs_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    ranks.cache_clear()
    assert ranks() == Ranks()
