"""`painters similarity` as a user meets it: table, JSON, records, and one clear message for every mistake."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.outcome import Outcome

from painters import similarity as public
from painters.cli.similarity import SimilarityResult
from painters.results.similarity_record import SimilarityRecord, read
from painters.similarity import MODES, angular_distance, block_influence
from painters.similarity.ranking import least_influential, least_turned

QUICK = ("similarity", "--inputs", "nano_cola", "--limit", "6", "--batch-size", "3")
SAME = {"model": "nano-llama", "inputs": "nano_cola", "limit": 6, "batch_size": 3}


def test_the_table_and_the_records(painters: Callable[..., Outcome]) -> None:
    found = painters(*QUICK, "--mode", "all")
    assert found.code == 0, found.err
    records = {record.mode: record for file in Path("runs").rglob("*.jsonl") for record in read(file)}
    assert set(records) == set(MODES)
    assert {record.command for record in records.values()} == {f"painters {shlex.join((*QUICK, '--mode', 'all'))}"}
    for words in ("nano-llama, intact: 6 documents of nano_cola", "Least influential first: ", "runs/similarity"):
        assert words in found.out
    assert max(map(len, found.out.splitlines())) <= 80
    row = next(line.split() for line in found.out.splitlines() if line.startswith("4 "))
    state = records["token"].table().loc["4"]
    angle = angular_distance(**SAME)["4"]
    cosines = [record.frame().loc["3", "4"] for record in (records[mode] for mode in MODES)]
    assert row[1:4] == [
        f"{state[name]:.{1 if state[name] < 100 else 0}f}" for name in ("norm", "first_token", "largest")
    ]
    assert row[4:] == [f"{value:.3f}" for value in (state["influence"], angle, *cosines)]


def test_the_json_holds_whole_matrices(painters: Callable[..., Outcome]) -> None:
    found = painters(*QUICK, "--variant", "parallel", "--json", "--block", "2")
    assert found.code == 0, found.err
    assert found.err == ""
    told = json.loads(found.out)
    plan = "0-3 {4-8} 9-11"
    assert (told["plan"], told["documents"]) == (plan, 6)
    np.testing.assert_array_equal(told["cosines"]["token"], public(**SAME, plan=plan))
    influence = block_influence(**SAME, plan=plan)
    assert told["profile"]["influence"] == [None, *influence]
    assert told["least_influential_first"] == list(influence.sort_values().index)
    angles = angular_distance(**SAME, plan=plan, n=2)
    assert told["angle"] == angles.to_dict()
    first = list(angles.index).index(angles.idxmin())
    block = [*"0123", "{4-8}", "9", "10", "11"][first : first + 2]
    assert told["least_turned"] == {"steps": _joined(block), "angle": angles.min()}
    (file,) = told["records"]
    assert read(file)[0].plan == plan


def _joined(steps: list[str]) -> str:
    from painters import Plan

    return str(Plan.parse(" ".join(steps)))


def test_the_same_measurement_is_kept_once(painters: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "some.txt").write_text("the cat sat\na dog\n")
    for _ in range(2):
        assert painters("similarity", "--inputs", "{tmp}/some.txt", "--out", "kept", "--quiet").code == 0
    (file,) = Path("kept/similarity").iterdir()
    assert [record.inputs for record in read(file)] == ["some.txt"], "and no folder of this machine"


MISTAKES: dict[str, tuple[tuple[str, ...], int, tuple[str, ...]]] = {
    "a mode that is none": (("--mode", "cos"), 2, ("'cos'", "first-excluded", "all")),
    "a file that is not there": (("--inputs", "no.txt"), 2, ("no.txt", "no such file")),
    "records into a file": (("--out", "{tmp}/x"), 2, ("a file is there", "folder")),
    "records under a file": (("--out", "{tmp}/x/y"), 1, ("x",)),
    "a layer that is not there": (("--plan", "0-12"), 2, ("layer 12", "12 layers (0 to 11)")),
    "a malformed plan": (("--plan", "0-3 {4"), 2, ("^",)),
    "a plan and a variant": (("--plan", "0-3", "--variant", "skip"), 2, ("--plan or --variant",)),
    "a variant's option alone": (("--loops", "3"), 2, ("--loops belongs to a --variant",)),
    "an unknown variant": (("--variant", "paralel"), 2, ("'parallel'",)),
    "a block longer than the plan": (("--plan", "0-3", "--block", "5"), 2, ("--block 5", "0-3 has 4 steps")),
    "no documents": (("--limit", "0"), 2, ("--limit",)),
    "a missing model": (("--model", "nobody/nothing"), 1, ("nobody/nothing", "nano-llama")),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_message_and_its_exit_code(
    painters: Callable[..., Outcome], tmp_path: Path, mistake: str
) -> None:
    arguments, code, says = MISTAKES[mistake]
    (tmp_path / "x").write_text("in the way")
    found = painters("similarity", *arguments, "--quiet")
    told = " ".join(found.err.replace("│", " ").split())
    assert found.code == code, found.err
    assert all(words in told for words in says), found.err
    assert "Traceback" not in found.err
    assert found.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["x"], "a mistake leaves no file behind"


def test_ctrl_c_keeps_nothing_and_says_so(painters: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    from painters.similarity.states import States

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(States, "_run", interrupted)
    found = painters(*QUICK)
    assert found.code == 130
    assert "nothing was written" in found.err
    assert "Traceback" not in found.err
    assert not list(Path().rglob("*.jsonl"))


def test_states_that_are_not_finite_are_dashes() -> None:
    """As when a plan drives half precision over its range."""
    nothing = (None,) * 3
    record = SimilarityRecord(
        mode="token", plan="0-1", model="m", revision=None, weights=None, num_layers=2, dtype="float16", device="cpu",
        attention=None, inputs="texts", texts="", documents=1, tokens=1, batch_size=1, labels=("embeddings", "0", "1"),
        cosines=(nothing,) * 3, angles=(nothing,) * 3, versions={}, date="",
        profile=dict.fromkeys(("norm", "first_token", "change", "largest", "influence"), nothing),
    )  # fmt: skip
    result = SimilarityResult([record], [Path("x")], 1)
    assert least_influential(record) == []
    assert least_turned(record) is None
    assert result.as_json()["angle"] == {"0": None, "1": None}
    assert [result.header(), result.table(), result.footer()]
