"""Damaged files of records: intact records are read, everything else is reported as a fault and never believed."""

from __future__ import annotations

import json
import random
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from support.damage import DAMAGES, intact, leftovers, line
from support.fake_records import record as fake
from support.records import record

from painters import results
from painters.plan import Plan
from painters.results import Record, ResultsError, ResultsWarning, Store
from painters.results.files import read_intact
from painters.results.lines import FORMAT, LONGEST, Fault, FaultKind, TooLongError, seal

RECORDS = [
    record(),
    record(plan="0-2 {3 4}*3 5", value=1 / 3, command='painters sweep "a b" – {"format":2,"x":1,"checksum":"0"}'),
    record(plan="0-4", value=None, stderr=None, outcomes=None, task='nano_"arc"\n\\'),
    record(seed=7, outcomes=tuple(i / 7 for i in range(400)), documents=400, versions={"torch": "2", "checksum": "1"}),
    *(record(seed=seed) for seed in range(4)),
]
LINES = [line(one) for one in RECORDS]


def test_the_line_of_a_record(tmp_path: Path) -> None:
    assert [seal(one.model_dump_json()) for one in RECORDS] == [one + b"\n" for one in LINES]
    results.append(tmp_path / "r.jsonl", RECORDS)
    assert (tmp_path / "r.jsonl").read_bytes() == b"".join(one + b"\n" for one in LINES)
    fields = json.loads(LINES[0])
    assert next(iter(fields)) == "format"
    assert list(fields)[-1] == "checksum"
    assert results.read(tmp_path / "r.jsonl") == RECORDS


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("seed", range(4))
def test_damaged_files(damage: str, seed: int, tmp_path: Path) -> None:
    """`make test-faults` does it ten thousand times."""
    moments, path = random.Random(seed), tmp_path / "r.jsonl"
    for _ in range(15):
        content = DAMAGES[damage](moments.sample(LINES, 6), moments)
        path.write_bytes(content)
        records, faults = read_intact(path, Record)
        assert records == [RECORDS[number] for number in intact(content, LINES)]
        assert [fault.line for fault in faults] == leftovers(content, LINES)
        assert {fault.kind for fault in faults} <= {FaultKind.damaged, FaultKind.unfinished}


@pytest.mark.parametrize("byte", range(0, len(LINES[0]), 7))
def test_no_bit_of_a_record_can_be_another(byte: int, tmp_path: Path) -> None:
    for bit in range(8):
        content = bytearray(LINES[0])
        content[byte] ^= 1 << bit
        (tmp_path / "r.jsonl").write_bytes(bytes(content) + b"\n" + LINES[1] + b"\n")
        records, faults = read_intact(tmp_path / "r.jsonl", Record)
        assert records == [RECORDS[1]]
        assert faults


# what a line holds -> what is said of it
WRONG: dict[str, tuple[bytes, str]] = {
    "nonsense": (b"nonsense", "Invalid JSON"),
    "NUL bytes": (b"\0" * 512, "512 NUL bytes"),
    "not UTF-8": (LINES[0].replace(b"tiny", b"t\xffny"), "not UTF-8"),
    "another value": (LINES[0].replace(b"0.75", b"0.95"), "its checksum is not that of its content"),
    "another format": (LINES[0].replace(b'"format":2', b'"format":3'), "its checksum is not that of its content"),
    "no checksum": (LINES[0][: LINES[0].rindex(b",")] + b"}", "its checksum is not that of its content"),
    "no format": (b"{" + LINES[0].split(b",", 1)[1], "its checksum is not that of its content"),
    "a value twice": (line(RECORDS[0].model_dump_json()[:-1] + ',"value":1.0}'), "value: stated twice"),
    "a value twice within": (
        line(RECORDS[0].model_dump_json().replace('{"torch":"2"}', '{"torch":"2","torch":"3"}')),
        "torch: stated twice",
    ),
    "NaN": (line(RECORDS[0].model_dump_json().replace("0.75", "NaN")), "value: Input should be a finite number"),
    "Infinity": (line(RECORDS[0].model_dump_json().replace("[1.0", "[Infinity")), "outcomes.0: Input should be a fin"),
    "beyond numbers": (line(RECORDS[0].model_dump_json().replace("0.75", "1e999")), "value: Input should be a finite"),
    "another field": (line('{"other":1,' + RECORDS[0].model_dump_json()[1:]), "other: Extra inputs are not permitted"),
    "nested deeply": (b'{"plan":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "recursion limit exceeded"),
    "nested deeply, sealed": (line('{"plan":' + "[" * 200_000 + "]" * 200_000 + "}"), "recursion limit exceeded"),
    "long digits": (line(RECORDS[0].model_dump_json().replace("1234", "9" * 9000)), "number out of range"),
    "format 1, sealed": (line(RECORDS[0], version=1), "format 1, which never had a checksum"),
    "an array": (b"[1, 2]", "Input should be an object"),
    "an empty object": (b"{}", "plan: Field required"),
    "a beginning again and again": (b'{"format":2,' * 100_000, "its checksum is not that of its content"),
    "an end again and again": (b'{"format":2' + b',"checksum":"0123456789abcdef"}' * 50_000, "its checksum is not"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_line_is_left_out_and_told(wrong: str, tmp_path: Path) -> None:
    content, expected = WRONG[wrong]
    path = tmp_path / "r.jsonl"
    path.write_bytes(LINES[0] + b"\n\n" + content + b"\r\n" + LINES[1] + b"\n")
    began = time.process_time()
    records, faults = read_intact(path, Record)
    assert time.process_time() - began < 1
    assert records == RECORDS[:2]
    ((number, kind, reason),) = [(fault.line, fault.kind, fault.reason) for fault in faults]
    assert (number, kind) == (3, FaultKind.damaged)
    assert expected in reason
    assert "\n" not in reason
    with pytest.warns(ResultsWarning, match=r"records of .*: 1 line is damaged and left out \(r.jsonl: 3\)"):
        assert results.read(path) == RECORDS[:2]


def test_records_that_share_a_line_are_all_read(tmp_path: Path) -> None:
    shared = b"\0\0" + LINES[0] + LINES[1] + LINES[2][:-4] + LINES[3]
    (tmp_path / "r.jsonl").write_bytes(shared + b"\n" + LINES[4] + LINES[5])
    records, faults = read_intact(tmp_path / "r.jsonl", Record)
    assert records == [RECORDS[number] for number in (0, 1, 3, 4, 5)]
    assert [(fault.line, fault.kind) for fault in faults] == [(1, FaultKind.damaged)]
    (tmp_path / "r.jsonl").write_bytes(line(RECORDS[0], version=1) + LINES[1] + b"\n")
    assert read_intact(tmp_path / "r.jsonl", Record)[0] == RECORDS[1:2]


def test_a_line_without_end_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with path.open("wb") as file:
        file.write(LINES[0] + b"\n")
        for _ in range(12):
            file.write(b" " * (LONGEST // 4))
        file.write(b"\n" + LINES[1] + b"\n")
    tracemalloc.start()
    records, faults = read_intact(path, Record)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert records == RECORDS[:2]
    assert faults == [Fault(path, 2, FaultKind.damaged, "longer than 16,777,216 bytes")]
    assert most < 2.5 * LONGEST


def test_a_record_that_no_reader_would_take_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("painters.results.lines.LONGEST", len(LINES[0]))
    results.append(tmp_path / "r.jsonl", [RECORDS[0]])
    assert results.read(tmp_path / "r.jsonl") == RECORDS[:1]
    with pytest.raises(ResultsError, match=r"record of 0-4 on .*: a record of \d+ bytes: .*score fewer documents"):
        results.append(tmp_path / "r.jsonl", [record(plan="0-4", command="x" * 100)])
    with pytest.raises(TooLongError):
        seal("{" + " " * 1000 + "}")
    assert results.read(tmp_path / "r.jsonl") == RECORDS[:1]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (RECORDS[1].model_dump_json().encode(), r"1 line is of an older painters.*no checksums \(r.jsonl, line 2\).*"
         r"`painters doctor RESULTS\S* --mend`.* format 2"),
        (line(RECORDS[1], version=3), r"1 line is of a newer painters \(format 3; .*up to 2; r.jsonl, line 2"),
        (line('{"unheard":"of"}', version=FORMAT + 7), "newer painters.*Update painters"),
    ],
)  # fmt: skip
def test_records_of_another_version_are_refused(other: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_bytes(LINES[0] + b"\n" + other + b"\n" + b"nonsense\n")
    for read in (results.read, lambda path: Store(path.parent).records(), lambda path: figures_of(path.parent)):
        with pytest.raises(ResultsError, match=message.replace("RESULTS", str(tmp_path))):
            read(tmp_path / "r.jsonl")


def figures_of(folder: Path) -> Any:
    from painters import figures

    return figures.read([folder])


def test_figures_say_what_was_left_out(tmp_path: Path) -> None:
    made = [fake(Plan.parse(plan), "fake_arc", 0.9) for plan in ("0-11", "0-4 6-11")]
    results.append(tmp_path / "r.jsonl", made)
    results.append(tmp_path / "deeper" / "r.jsonl", [fake(Plan.parse("0-10"), "fake_arc", 0.4)])
    with (tmp_path / "deeper" / "r.jsonl").open("a") as file:
        file.write("torn")
    with pytest.warns(ResultsWarning, match=r"1 line is damaged and left out \(r.jsonl: 2\)"):
        records, _ = figures_of(tmp_path)
    assert len(records) == 3


FIELDS = (
    "plan variant params asked model revision weights num_layers stack dtype device attention kv task task_version "
    "documents requests shots seed batch_size batching tuning sample_seed chat metric aggregation higher_is_better "
    "primary value stderr outcomes chance not_finite layer_runs depth seconds versions date command name"
)


def test_the_fields_of_this_format() -> None:
    """Versions before refuse a line of a newer format, and take one with a field that they do not know for damaged."""
    advice = "a record has other fields: raise FORMAT if a version with the old ones was released, and change FIELDS"
    assert (FORMAT, " ".join(Record.model_fields)) == (2, FIELDS), advice
