"""Records survive interruption, and nothing that changes a number is missing from its key."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.metrics import mean_stderr, perplexity
from pydantic import ValidationError
from support.records import record

from painters import results
from painters.experiment import Chat
from painters.experiment.tuning import Tuning
from painters.results import Record, ResultsError, ResultsWarning, key, scoring
from painters.results.record import NOT_IN_KEY


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deeper" / "records.jsonl"
    first = [
        record(),
        record(plan="0-2 4-5", variant="skip-layer", params={"layer": 3}, value=None, outcomes=None),
    ]
    results.append(path, first)
    results.append(path, [])
    results.append(path, [record(value=1 / 3)])
    assert results.read(path) == [*first, record(value=1 / 3)]
    assert path.read_bytes().count(b"\n") == 3


def test_what_is_on_the_disk_is_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine may fail once `append` has returned: everything was written before it waited for the disk."""
    path, waited = tmp_path / "records.jsonl", []
    monkeypatch.setattr("os.fsync", lambda number: waited.append(path.read_bytes()))
    results.append(path, [record(), record(seed=1)])
    assert waited[0] == path.read_bytes()


@pytest.mark.parametrize("cut", range(1, 40, 6))
def test_a_torn_last_line_is_left_out_and_nothing_else(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    results.append(path, [record(), record(seed=1)])
    path.write_bytes(path.read_bytes()[: -1 - cut])
    torn = path.read_bytes()
    for seeds in ([], [2], [2, 3]):
        results.append(path, [record(seed=seed) for seed in seeds[-1:]])
        with pytest.warns(
            ResultsWarning, match=rf"^records of {path}: 1 line is damaged and left out \(records.jsonl: 2\)"
        ):
            assert results.read(path) == [record(), *(record(seed=seed) for seed in seeds)]
    assert path.read_bytes().startswith(torn), "what is in a file is never changed"
    assert path.read_bytes().count(b"\n") == 4


def test_a_whole_last_line_without_newline_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    results.append(path, [record(), record(seed=1)])
    path.write_bytes(path.read_bytes()[:-1])
    assert results.read(path) == [record(), record(seed=1)]
    results.append(path, [record(seed=2)])
    assert results.read(path) == [record(), record(seed=1), record(seed=2)]


def test_a_killed_writer_leaves_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[2]); from support.records import record\n"
        "from painters.results import append\n"
        "append(sys.argv[1], [record()]); append(sys.argv[1], [record(seed=1)]); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(Path(__file__).parents[1])],
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == -9
    assert results.read(path) == [record(), record(seed=1)]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"no such file. `painters run --out .*records.jsonl` writes one"):
        results.read(tmp_path / "records.jsonl")


@pytest.mark.parametrize("field", ["value", "stderr", "chance", "seconds"])
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_number_that_is_none_is_not_written_as_one(field: str, number: float) -> None:
    with pytest.raises(ValueError, match="finite number"):
        record(**{field: number})


# field -> another value; every field is either here or is what a number is, says or costs
IN_KEY: dict[str, Any] = {
    "plan": "0-4",
    "model": "other",
    "revision": "1",
    "weights": None,
    "dtype": "bfloat16",
    "device": "cuda",
    "attention": "eager",
    "kv": "averaged",
    "task": "nano_gsm8k",
    "task_version": "2.0",
    "documents": 5,
    "requests": "x",
    "shots": 1,
    "seed": 1,
    "batch_size": 9,
    "batching": "shared",
    "sample_seed": 0,
    "chat": Chat(system_instruction="Hello."),
    "tuning": {"protocol": "frozen"},
    "stack": "decoder",
    "metric": "acc_norm",
    "versions": {"torch": "3"},
}


def test_every_field_is_in_the_key_or_said_not_to_be() -> None:
    assert set(Record.model_fields) == set(IN_KEY) | NOT_IN_KEY
    assert not set(IN_KEY) & NOT_IN_KEY


@pytest.mark.parametrize("field", IN_KEY)
def test_the_key_tells_records_apart(field: str) -> None:
    other = record(**{field: IN_KEY[field], "outcomes": None})  # the outcomes are in no key, but have to be as many
    assert results.key(other) != results.key(record())


def test_the_key_ignores_results() -> None:
    other = record(value=0.5, stderr=None, outcomes=None, seconds=9.0, date="later", command="painters run")
    assert results.key(other) == results.key(record())


def test_frame_compares_within_a_protocol() -> None:
    skip = record(plan="0-2 4-5", value=0.5, outcomes=(0.0, 1.0, 1.0, 0.0), kv="averaged")
    table = results.frame([record(), skip, record(plan="0-2 4-5", batch_size=2)])
    assert table["intact"].isna().tolist() == [False, False, True]
    whole, row = table.iloc[0], table.iloc[1]
    assert (whole["difference"], whole["difference_stderr"], whole["normalised"]) == (0, 0, 1)
    assert (row["difference"], row["normalised"]) == (-0.25, 0.5)
    assert row["difference_stderr"] == pytest.approx(0.25)  # differences 1 0 0 0: sd 0.5 over the root of 4


def test_the_order_of_versions_is_no_protocol() -> None:
    one, other = {"torch": "2", "transformers": "5"}, {"transformers": "5", "torch": "2"}
    table = results.frame([record(versions=one), record(plan="0-4", versions=other)])
    assert table["intact"].tolist() == [0.75, 0.75]


def test_frame_of_nothing_has_its_columns() -> None:
    table = results.frame([])
    assert len(table) == 0
    assert {"plan", "task", "metric", "value", "difference_stderr"} <= set(table.columns)


def test_stderr_is_lm_evals_for_means() -> None:
    outcomes = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0]
    assert scoring.stderr("mean", outcomes, 4 / 7) == mean_stderr(outcomes)
    assert scoring.stderr("mean", [1.0], 1.0) is None
    assert scoring.stderr("matthews_corrcoef", outcomes, 0.1) is None


def test_stderr_of_perplexity_is_its_slope_times_that_of_the_mean() -> None:
    lls = [-1.0, -2.5, -0.3, -4.0, -2.2]
    value, n = perplexity(lls), len(lls)
    # the derivative of exp(-mean) by moving each log-likelihood a little, as the jackknife would
    step = 1e-6
    slopes = [(perplexity([*lls[:i], lls[i] + step, *lls[i + 1 :]]) - value) / step * n for i in range(n)]
    center = sum(lls) / n
    spread = math.sqrt(sum((slope * (ll - center)) ** 2 for slope, ll in zip(slopes, lls, strict=True)) / (n - 1) / n)
    assert scoring.stderr("perplexity", lls, value) == pytest.approx(spread, rel=1e-5)


def test_paired_perplexities_of_equal_models_do_not_differ() -> None:
    lls = [-1.0, -2.5, -0.3]
    assert scoring.difference_stderr("perplexity", lls, perplexity(lls), lls, perplexity(lls)) == 0
    other = [ll - 1 for ll in lls]
    # exp(1) times as perplexed on every document: the difference is as uncertain as e - 1 times the first
    one, two = perplexity(lls), perplexity(other)
    shares = [-two * b + one * a for a, b in zip(lls, other, strict=True)]
    assert scoring.difference_stderr("perplexity", other, two, lls, one) == pytest.approx(mean_stderr(shares))


def test_normalised_is_absent_where_the_intact_model_only_guesses() -> None:
    assert scoring.normalised(0.5, 0.75, 0.25) == 0.5
    assert scoring.normalised(0.1, 0.75, 0.25) == pytest.approx(-0.3)
    assert scoring.normalised(0.5, 0.25, 0.25) is None
    assert scoring.normalised(0.5, 0.75, None) is None


def test_primary() -> None:
    assert scoring.primary(["acc_norm", "acc"]) == "acc"
    assert scoring.primary(["perplexity", "acc"]) == "acc"
    assert scoring.primary(["exact_match,strict-match", "exact_match,flexible-extract"]) == "exact_match,strict-match"
    assert scoring.primary(["f1"]) == "f1"
    with pytest.raises(ValueError, match="without metrics"):
        scoring.primary([])


@pytest.mark.parametrize(
    "wrong", [{"num_layers": 10**9}, {"num_layers": 0}, {"documents": 10**12}, {"documents": 3}], ids=str
)
def test_sizes_that_nobody_could_hold_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        record(**wrong)


def test_a_digest_is_of_what_records_say_of_which_cells() -> None:
    some = [record(), record(seed=1, value=0.5)]
    digest = results.digest(some)
    assert len(digest) == 12
    assert int(digest, 16) >= 0
    assert (
        digest == results.digest(some[::-1]) == results.digest([one.model_copy(update={"seconds": 9}) for one in some])
    )
    for other in (some[:1], [*some, record(seed=2)], [some[0], record(seed=1, value=0.25)], [some[0], record(seed=3)]):
        assert results.digest(other) != digest
    assert results.digest([record(stderr=0.5)]) != results.digest([record()])
    assert results.digest([record(outcomes=None)]) != results.digest([record()])


def test_keys_and_digests_stay_what_they_are() -> None:
    """Figures state digests, and stores find cells by keys: with other texts, old records would no longer be found."""
    fields = json.loads(key(record()))
    assert list(fields) == sorted(fields)
    assert fields["versions"] == {"torch": "2"}
    assert results.digest([record(tuning=Tuning(protocol="retuned"))]) == "accf18559c00"
    assert results.digest([record(), record(seed=1)]) == "dfa6cc96ccbf"


def test_a_frame_of_records_without_outcomes_has_no_paired_errors() -> None:
    for missing in ("0-5", "0-4"):
        pair = [record(plan=plan, **({"outcomes": None} if plan == missing else {})) for plan in ("0-5", "0-4")]
        table = results.frame(pair)
        assert table["difference"].tolist() == [0, 0]
        assert math.isnan(table["difference_stderr"][1])


def test_a_frame_pairs_perplexities_by_their_values() -> None:
    shared = {"aggregation": "perplexity", "metric": "perplexity", "higher_is_better": False, "chance": None}
    one = record(plan="0-4", value=math.exp(0.75), outcomes=(-1.0, -1.0, -1.0, 0.0), **shared)
    other = record(value=math.exp(0.5), outcomes=(-1.0, -1.0, 0.0, 0.0), **shared)
    error = results.frame([one, other])["difference_stderr"][0]
    assert error == scoring.difference_stderr("perplexity", one.outcomes, one.value, other.outcomes, other.value)
    assert error != scoring.difference_stderr("perplexity", one.outcomes, other.value, other.outcomes, one.value)


def test_a_frame_has_numbers_where_there_are_none() -> None:
    table = results.frame([record(value=None, stderr=None, outcomes=None, chance=None)])
    for name in ("value", "stderr", "intact", "difference", "difference_stderr", "normalised", "chance", "seconds"):
        assert table[name].dtype == "float64", name
    assert math.isnan(table["value"][0])


@pytest.mark.parametrize(("count", "numbers"), [(5, "1, 2, 3, 4, 5"), (6, "1, 2, 3, 4, 5; …")])
def test_the_first_five_damaged_lines_are_named(count: int, numbers: str, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text("nonsense\n" * count)
    with pytest.warns(ResultsWarning, match=rf"{count} lines are damaged and left out \(records.jsonl: {numbers}\)"):
        assert results.read(path) == []


def test_a_line_may_be_as_long_as_readers_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "records.jsonl"
    results.append(path, [record()])
    length = path.stat().st_size - 1  # without the newline
    monkeypatch.setattr("painters.results.lines.LONGEST", length)
    results.append(path, [record(seed=4321)])
    assert results.read(path) == [record(), record(seed=4321)]
    path.write_bytes(path.read_bytes()[:-1])
    assert len(results.read(path)) == 2, "the last line needs no end"
    monkeypatch.setattr("painters.results.lines.LONGEST", length - 1)
    with pytest.raises(ResultsError, match=r"^record of 0-5 on nano_arc: a record of [0-9,]+ bytes: a line has"):
        results.append(path, [record()])
    with pytest.warns(ResultsWarning, match=r"2 lines are damaged and left out \(records.jsonl: 1, 2\)"):
        assert results.read(path) == []
