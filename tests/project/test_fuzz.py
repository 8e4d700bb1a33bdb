"""A sample of what `make fuzz` runs, and that it can fail."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from fuzz import PLACES, part
from fuzz.running import Part, Watch, Wrong, case, run

from painters import Plan
from painters.engine.merges import MERGES as merges

SAMPLES = {"plans": 500, "variants": 500, "experiments": 100, "grids": 20, "arguments": 100, "surgeries": 100}


@pytest.mark.parametrize("name", SAMPLES)
def test_nothing_is_wrong_in_a_sample(name: str) -> None:
    tally = run(part(name), seed=1, cases=SAMPLES[name], quiet=True)
    assert not tally.wrong, tally.wrong[0]
    assert tally.outcomes.total() == SAMPLES[name]
    assert len(tally.outcomes) > 1, "all came out alike: the inputs are all sound, or all broken"


def test_a_wrong_engine_is_seen_and_the_case_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group that adds up what it was to take the mean of."""
    monkeypatch.setitem(merges, "mean", merges["sum"])  # type: ignore[index]
    tally = run(part("surgeries"), seed=1, cases=2, quiet=True)
    assert tally.wrong
    found = re.search(r"plan='(.*?)'", tally.wrong[0])
    assert found is not None
    assert Plan.parse(found[1]).layer_runs == 2, tally.wrong[0]


def test_every_part_has_a_sample() -> None:
    assert set(PLACES) == set(SAMPLES)


def test_a_case_follows_from_its_seed_and_number() -> None:
    for name in PLACES:
        assert case(part(name), 3, 17) == case(part(name), 3, 17)
        assert len({repr(case(part(name), 3, number)) for number in range(20)}) > 10


def busy(given: int, watch: Watch) -> str:
    with watch:
        end = time.process_time() + (0.02 if given == 3 else 0)
        while time.process_time() < end:
            pass
    return "quick"


def large(given: int, watch: Watch) -> str:
    return "small" if len(bytearray(10_000_000 if given == 3 else 1)) == 1 else "large"


def raising(given: int, watch: Watch) -> str:
    if given == 3:
        raise KeyError("an odd one")
    return "fine"


def complaining(given: int, watch: Watch) -> str:
    if given >= 3:
        raise Wrong("is three or more")
    return "fine"


@pytest.mark.parametrize(
    ("check", "says"),
    [(busy, "took 0.02"), (large, "MB of memory"), (raising, "KeyError: 'an odd one'"), (complaining, "three or more")],
)
def test_what_is_wrong_is_told_with_how_to_see_it_again(
    check: object, says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fuzz.running.PAUSES", (0, 0))
    monkeypatch.setattr("fuzz.running.yardstick", lambda: 1e-9)  # always the same, as on an idle core
    numbers = iter(range(5))
    numbered = Part("numbers", "numbers", 5, lambda _: next(numbers), check, seconds=0.015, megabytes=5, traced=1)  # type: ignore[arg-type]
    if check is busy:
        numbered = Part("numbers", "numbers", 5, lambda _: next(numbers), busy, seconds=0.015)
    tally = run(numbered, seed=7, cases=4)
    assert len(tally.wrong) == 1
    told = capsys.readouterr().out
    assert says in told
    assert "python -m fuzz numbers --seed 7 --first 3 --cases 1" in told
    assert "1 wrong" in tally.text()


def test_a_wrong_input_is_made_smaller() -> None:
    def shrink(given: int, fails: object) -> int:
        while fails(given - 1):  # type: ignore[operator]
            given -= 1
        return given

    fifty = Part("numbers", "numbers", 1, lambda random: 50, complaining, shrink=shrink, seconds=None)
    assert "input: 3\n" in run(fifty, seed=0, cases=1, quiet=True).wrong[0]


def test_a_part_stops_when_its_time_is_over() -> None:
    naps = Part("naps", "naps", 10**9, Random.random, lambda given, watch: time.sleep(0.01) or "fine", seconds=None)
    assert 5 < run(naps, seed=0, cases=10**9, time_box=0.2, quiet=True).outcomes.total() < 30


def test_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fuzz", "plans", "--cases", "50", "--seed", "4"]
    paths = os.pathsep.join((str(Path(__file__).parents[1]), str(Path(__file__).parents[2])))
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "plans: 50 cases" in done.stdout
    assert "seed 4" in done.stdout
    assert "0 wrong" in done.stdout
