"""`painters sweep --engine ray` as a user starts it, with actors and signals for real."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.sweeps import content

from painters.results import Store

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="needs pip install -e '.[ray]': make test-ray"),
]

LOST = "A worker was lost and replaced"
REAL = """\
title: forty cells and eight
models: [nano-llama]
tasks: [nano_arc, nano_lambada, nano_gsm8k, nano_winogrande]
variants:
  - {name: skip, start: all}
  - {name: reverse, start: all}
protocol: {limit: 12}
"""
COUNT = 48


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an experiment, and the records of a local run of it."""
    folder = tmp_path_factory.mktemp("real")
    (folder / "real.yaml").write_text(REAL)
    process = command(folder, "local")
    process.communicate()
    assert process.returncode == 0
    assert len(content(folder / "local")) >= COUNT
    return folder


def command(folder: Path, out: str, *options: str) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-m", "painters", "sweep", "real.yaml", "--out", out, *options]
    # Each actor has one thread: with more, sums are rounded otherwise.
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.Popen(
        arguments, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def below(process: int) -> dict[int, str]:
    """The processes that `process` has started, and those that they have: id -> command."""
    done = subprocess.run(["ps", "-wweo", "pid=,ppid=,args="], capture_output=True, text=True, check=True)
    rows = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    parents = {int(pid): int(parent) for pid, parent, *_ in rows}

    def is_below(pid: int) -> bool:
        while pid in parents and pid != process:
            pid = parents[pid]
        return pid == process

    return {int(pid): " ".join(command) for pid, _, *command in rows if int(pid) != process and is_below(int(pid))}


def test_the_command_with_two_actors(real: Path) -> None:
    process = command(real, "two", "--engine", "ray", "--workers", "2", "--json")
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert err == ""
    result = json.loads(out)
    assert (result["cells"], result["done"], result["failures"], result["notes"]) == (COUNT, COUNT, [], {})
    assert content(real / "two") == content(real / "local")


def test_an_actor_killed_half_way_changes_nothing_but_the_time(real: Path) -> None:
    process = command(real, "killed", "--engine", "ray", "--workers", "2", "--json")
    while process.poll() is None and len(Store(real / "killed").records()) < COUNT // 2:
        time.sleep(0.1)
    scoring: list[int] = []
    while process.poll() is None and not scoring:
        scoring = [pid for pid, name in below(process.pid).items() if name.startswith("ray::Actor.score")]
    os.kill(scoring[0], signal.SIGKILL)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert err == ""
    result = json.loads(out)
    assert (result["done"], result["failures"], result["notes"]) == (COUNT, [], {LOST: 1})
    assert content(real / "killed") == content(real / "local")


def alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_cleanly_and_leaves_no_process(real: Path, number: int, code: int) -> None:
    out = f"stopped-{code}"
    process = command(real, out, "--engine", "ray", "--workers", "2")
    while process.poll() is None and not Store(real / out).records():
        time.sleep(0.1)
    started = below(process.pid)
    assert any("raylet" in name for name in started.values())
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == code, err
    assert f"kept in {out}; to go on:" in err
    assert "Traceback" not in err
    left, deadline = started, time.monotonic() + 20
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = {pid: name for pid, name in started.items() if alive(pid)}
    assert left == {}
    again = command(real, out)
    again.communicate()
    assert content(real / out) == content(real / "local")
