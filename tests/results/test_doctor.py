"""The doctor reports every fault of a store, says what to do, and mends without losing a record or the old file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.damage import line
from support.fake_records import record as fake
from support.fake_records import similarity
from support.outcome import Outcome
from support.records import cell, record, scored

from painters import results
from painters.cli._warnings import short_warnings
from painters.plan import Plan
from painters.results import ResultsWarning, Store
from painters.results.doctor import DoctorError, Mended, examine, mend
from painters.results.lines import FaultKind
from painters.results.similarity_record import keep, read
from painters.results.writers import host_name

Call = Callable[..., Outcome]
GOOD = fake(Plan.parse("0-11"), "fake_arc", 0.9)
OTHER = fake(Plan.parse("0-3 {4-8}*3 9-11"), "fake_arc", 0.4)


def older(one: Any) -> bytes:
    """The line of an older version, with its newline."""
    return one.model_dump_json(exclude={"command"}).encode() + b"\n"


def test_a_sound_store(painters: Call, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.append(scored())
    Store(tmp_path / "store").append(scored())
    keep(tmp_path / "store", [similarity("fake-llama", "token")])
    diagnosis = examine(store.folder)
    assert diagnosis.is_sound
    assert (diagnosis.records, diagnosis.doubles, diagnosis.cells, diagnosis.parts) == (2, 2, 1, [])
    assert sorted((one.kind, one.records) for one in diagnosis.files) == [
        ("scores", 2),
        ("scores", 2),
        ("similarities", 1),
    ]
    outcome = painters("doctor", "store")
    assert outcome.code == 0
    verdict = "store: 2 records, 2 more than once, 1 cells; sound: every line is an intact record"
    assert verdict in " ".join(outcome.out.split())
    assert "To do" not in outcome.out
    before = {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()}
    assert painters("doctor", "store", "--mend").code == 0
    assert {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()} == before


def test_the_committed_records_are_sound() -> None:
    diagnosis = examine(Path(__file__).parents[2] / "results")
    assert diagnosis.is_sound
    assert diagnosis.records > 1000
    assert (diagnosis.parts, diagnosis.strange, diagnosis.differing, diagnosis.contested, diagnosis.drafts) == (
        [],
        [],
        [],
        [],
        [],
    )


def test_every_fault_is_told_and_mended(painters: Call, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    good, other = line(GOOD), line(OTHER)
    (folder / "a.jsonl").write_bytes(good + b"\nnonsense\n" + b"\0" * 9 + other + b"\n" + good[:99])
    (folder / "b.jsonl").write_bytes(good + b"\n")
    [kept] = keep(folder, [similarity("fake-llama", "token")])
    kept.write_bytes(kept.read_bytes() + b"torn")
    (folder / "README.md").write_text("about it")
    (folder / "draft.tmp").write_text("")
    outcome = painters("doctor", "store")
    assert outcome.code == 1
    for text in (
        "a.jsonl, line 2: damaged: Invalid JSON",
        "a.jsonl, line 3: damaged: 9 NUL bytes",
        "a.jsonl, line 4: unfinished: ends within a record",
        "1 other files: README.md",
        "1 drafts of writers that were interrupted, to be deleted when no sweep runs: draft.tmp",
        "store: 2 records, 1 more than once, 0 cells; not sound",
        "To do: run the sweep again: what the damaged and unfinished lines held is missing",
        "`painters doctor store --mend` takes the lines out",
    ):
        assert text in " ".join(outcome.out.split()), text
    as_json = json.loads(painters("doctor", "store", "--json").out)
    assert (as_json["sound"], as_json["faults"]) == (False, {"damaged": 2, "unfinished": 2, "older": 0, "newer": 0})
    assert [fault["line"] for one in as_json["files"] for fault in one["faults"]] == [2, 3, 4, 2]

    untouched = (folder / "b.jsonl").stat()
    before = (folder / "a.jsonl").read_bytes()
    mended = painters("doctor", "store", "--mend")
    assert mended.code == 0
    assert "2 records kept, 3 lines left out; as it was: a.jsonl.bak" in " ".join(mended.out.split())
    assert (folder / "a.jsonl").read_bytes() == good + b"\n" + other + b"\n"
    assert (folder / "a.jsonl.bak").read_bytes() == before
    assert (folder / "b.jsonl").stat() == untouched
    assert read(kept) == [similarity("fake-llama", "token")]
    assert Store(folder).records() == [GOOD, OTHER]
    assert examine(folder).is_sound


def test_a_store_of_an_older_version_is_migrated(painters: Call, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    (folder / "similarity").mkdir(parents=True)
    wrong = json.loads(older(OTHER)) | {"value": 0.999}
    content = older(GOOD) + json.dumps(wrong).encode() + b"\n" + older(OTHER)
    (folder / "a.jsonl").write_bytes(content)
    (folder / "similarity" / "b.jsonl").write_bytes(older(similarity("fake-llama", "token")))
    outcome = painters("plot", "4", "--from", "store")
    assert outcome.code == 1
    assert outcome.err.startswith(
        "painters: records of store: 4 lines are of an older painters, which wrote no checksums"
    )
    outcome = painters("doctor", "store")
    assert outcome.code == 1
    assert "To do: `painters doctor store --mend`: records of an older version" in " ".join(outcome.out.split())
    outcome = painters("doctor", "store", "--mend", "--json")
    assert outcome.code == 0
    first = json.loads(outcome.out)["mended"][0]
    assert (first["kept"], first["renewed"], first["old"]) == (0, 2, "store/a.jsonl.bak")
    assert [one["line"] for one in first["left_out"]] == [2]
    assert "its value is 0.999" in first["left_out"][0]["reason"]
    assert results.read(folder / "a.jsonl") == [GOOD, OTHER]
    assert (folder / "a.jsonl.bak").read_bytes() == content
    assert read(folder / "similarity" / "b.jsonl") == [similarity("fake-llama", "token")]


def test_what_is_left_alone(tmp_path: Path, painters: Call) -> None:
    newer = tmp_path / "store" / "a.jsonl"
    newer.parent.mkdir()
    newer.write_bytes(line(GOOD, version=3) + b"\nnonsense\n")
    outcome = painters("doctor", "store", "--mend")
    assert outcome.code == 1
    assert "a.jsonl: left alone: line 1 is of a newer painters: update painters" in " ".join(outcome.out.split())
    assert "To do: update painters: some records are of a newer version" in " ".join(outcome.out.split())
    assert newer.read_bytes() == line(GOOD, version=3) + b"\nnonsense\n"
    assert list(newer.parent.iterdir()) == [newer]


def test_a_file_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    def named(process: int) -> Path:
        path = tmp_path / f"20260101T000000-000000Z-{host_name()}-{process}.jsonl"
        path.write_bytes(line(GOOD) + b"\ntorn")
        return path

    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as writer:
        path = named(writer.pid)
        assert mend(path) == Mended(
            path, refused=f"process {writer.pid} of this machine is writing it: mend it when that has ended"
        )
        assert path.read_bytes().endswith(b"torn")
    assert mend(path).kept == 1  # it has ended
    assert mend(named(os.getpid())).kept == 1
    assert mend(named(2**40)).kept == 1


def test_what_is_written_while_it_is_mended_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from painters.results.doctor import mending

    path, replaced = tmp_path / "a.jsonl", mending.replace_file
    path.write_bytes(line(GOOD) + b"\nnonsense\n" + line(OTHER)[:-40])

    def replace(path: Path, content: bytes) -> None:
        with path.open("ab") as file:  # a writer that had opened it before
            file.write(line(OTHER)[-40:] + b"\n" + line(record()) + b"\n")
        replaced(path, content)

    monkeypatch.setattr(mending, "replace_file", replace)
    assert mend(path).kept == 1
    assert results.read(path) == [GOOD, OTHER, record()]


def test_old_files_are_never_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(self: Path, target: Path) -> None:
        raise OSError(95, "Operation not supported")

    path = tmp_path / "a.jsonl"
    for number in range(3):
        path.write_bytes(b"nonsense %d\n" % number)
        mend(path)
        if number == 0:
            monkeypatch.setattr(Path, "hardlink_to", no_links)  # as file systems without links have it
    assert path.read_bytes() == b""
    assert [(tmp_path / f"a.jsonl.{bak}").read_bytes()[9:10] for bak in ("bak", "bak2", "bak3")] == [b"0", b"1", b"2"]


def test_what_records_say_of_one_another(painters: Call, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.append([*scored(), *scored(weights="xyz"), scored(seed=1)[0]])
    store.append([GOOD, GOOD.model_copy(update={"value": 0.2}), OTHER.model_copy(update={"depth": 3})])
    diagnosis = examine(store.folder)
    assert diagnosis.is_sound
    assert (diagnosis.cells, len(diagnosis.parts), len(diagnosis.contested), len(diagnosis.differing)) == (1, 1, 1, 1)
    assert diagnosis.contested[0].startswith("tiny under 0-5 on nano_arc")
    assert [one.split(": ")[1] for one in diagnosis.strange] == [
        "its outcomes come to 0.866667, its value is 0.2",
        "its plan has 22 layer runs and depth 10, the record 22 and 3",
    ]
    assert store.missing([cell(seed=1)]) == [cell(seed=1)]
    output = " ".join(painters("doctor", "store").out.split())
    for text in ("1 cells without all their metrics", "1 cells scored with several", "1 records that are there twice"):
        assert text in output


STRANGE: dict[str, tuple[dict[str, Any], str]] = {
    "plan": ({"plan": "0-"}, "its plan is not valid"),
    "a layer too many": ({"plan": "0-12"}, "its plan is not valid"),
    "layer runs": ({"layer_runs": 1}, "its plan has 12 layer runs and depth 12, the record 1 and 12"),
    "value": ({"value": 0.1}, "its outcomes come to 0.866667, its value is 0.1"),
    "stderr": ({"stderr": 0.5}, "its outcomes have the standard error 0.0442557, the record 0.5"),
    "an outcome": ({"outcomes": (5.0, *(GOOD.outcomes or ())[1:])}, "its outcomes come to "),
}


@pytest.mark.parametrize("strange", STRANGE)
def test_numbers_that_do_not_follow_from_one_another(strange: str, tmp_path: Path) -> None:
    fields, expected = STRANGE[strange]
    results.append(tmp_path / "a.jsonl", [GOOD, GOOD.model_copy(update=fields), OTHER])
    [problem] = examine(tmp_path).strange
    assert expected in problem
    assert problem.startswith("fake-llama under ")


def test_other_numbers_of_documents_than_of_outcomes(tmp_path: Path) -> None:
    results.append(tmp_path / "a.jsonl", [GOOD, GOOD.model_copy(update={"documents": 3})])
    [one] = examine(tmp_path).files
    assert (one.records, [fault.kind for fault in one.faults]) == (1, [FaultKind.damaged])
    assert "outcomes of 60 documents, where documents is 3" in one.faults[0].reason


def test_numbers_that_nothing_follows_for(tmp_path: Path) -> None:
    unknown = {"aggregation": "f1", "value": 0.3}
    absent: dict[str, Any] = {"value": None, "outcomes": None, "stderr": None}
    infinite = {"aggregation": "perplexity", "outcomes": (-1e9,) * GOOD.documents, "value": 5.0}
    made = [GOOD.model_copy(update=fields) for fields in (unknown, absent, infinite)]
    results.append(tmp_path / "a.jsonl", made)
    assert examine(tmp_path / "a.jsonl").strange == []


def test_messages(painters: Call, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        (("nowhere",), "doctor of nowhere: there is no such file or folder. `painters sweep` writes one"),
        (("empty",), "doctor of empty: the folder holds no .jsonl file"),
        ((), "doctor of runs: there is no such file or folder"),
    ):
        outcome = painters("doctor", *arguments)
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err.startswith(f"painters: {message}")
    with pytest.raises(DoctorError):
        examine(tmp_path / "nowhere")


def test_a_file_that_cannot_be_read(painters: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results.append(tmp_path / "store" / "a.jsonl", [GOOD])
    whole = Path.open

    def fails(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.name == "a.jsonl":
            raise PermissionError(13, "Permission denied", str(self))
        return whole(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", fails)
    for options in ((), ("--mend",)):
        outcome = painters("doctor", "store", *options)
        assert outcome.code == 1
        assert "unreadable: Permission denied" in outcome.out
        assert "To do: make the unreadable files readable" in outcome.out


def test_of_many_files_only_those_with_faults_are_listed(painters: Call, tmp_path: Path) -> None:
    for number in range(30):
        results.append(tmp_path / "store" / f"{number}.jsonl", [GOOD])
    with (tmp_path / "store" / "7.jsonl").open("ab") as file:
        file.write(b"nonsense\n" * 25)
    output = " ".join(painters("doctor", "store").out.split())
    assert "1 25 scores 7.jsonl 29 0 29 sound files" in output
    assert "7.jsonl, line 11: damaged" in output
    assert "7.jsonl, line 12: damaged" not in output
    assert "7.jsonl: 15 more lines; --json has them all" in output


def test_a_warning_of_records_is_one_line(painters: Call, tmp_path: Path) -> None:
    results.append(tmp_path / "store" / "a.jsonl", [GOOD, OTHER])
    with (tmp_path / "store" / "a.jsonl").open("ab") as file:
        file.write(b"nonsense\n")
    outcome = painters("report", "store", "--out", "r.html", "--no-figures", "--quiet")
    assert outcome.code == 0
    assert outcome.err == (
        "painters: records of store: 1 line is damaged and left out (a.jsonl: 3). A sweep scores their cells again; "
        "`painters doctor store` says more\n"
    )


def test_other_warnings_are_told_as_ever_and_each_of_ours_once(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with short_warnings():
            for category in (ResultsWarning, ResultsWarning, UserWarning):
                warnings.warn("of something", category, stacklevel=1)
    assert capsys.readouterr().err == "painters: of something\n"
    assert [one.category for one in seen] == [UserWarning]


def test_of_several_processes_the_main_one_warns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    with short_warnings():
        warnings.warn("of painters", ResultsWarning, stacklevel=1)
    assert capsys.readouterr().err == ""
