"""A store under fire for seconds; `make test-faults` takes its time over the same."""

from __future__ import annotations

import datetime
import errno
import os
import signal
import socket
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from faults import disk, files, interrupts, kills
from support.fake_records import records
from support.nano_samples import write_grid
from support.records import cell, record, scored
from support.sweeps import GRID, needs_fork

from painters import results, sweep
from painters.experiment import load
from painters.harness.kept import KeptLikelihoods
from painters.results import ResultsWarning, Store
from painters.results.files import replace_file
from painters.results.writers import host_name


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Twelve cells of a tiny model, kept by twos."""
    write_grid(tmp_path, GRID)
    monkeypatch.setattr("painters.sweep.chunks.FIRST", 2)
    monkeypatch.setattr("painters.sweep.chunks.SECONDS", 0.0)
    return load(tmp_path / "grid.yaml")


@needs_fork
def test_four_writers_that_are_killed_at_random_moments(grid: Any, tmp_path: Path) -> None:
    def work(store: Path) -> None:
        sweep.run(grid, Store(store))

    work(tmp_path / "whole")
    whole = Store(tmp_path / "whole").records()
    (tmp_path / "stores").mkdir()
    found = kills.storm(work, tmp_path / "stores", whole, kills=8, writers=4, seed=3, longest=0.3)
    assert found.is_clean, found.text()
    assert found.kills == 8
    assert found.moments["after records"] > 0, "killed too early each time to show anything"
    assert found.records == len(whole) * found.rounds


@needs_fork
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_sweep_that_is_stopped_loses_a_chunk_of_documents_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    write_grid(tmp_path, GRID)
    monkeypatch.setattr("painters.results.partial.SHARE", 0.0)  # a chunk is a batch
    monkeypatch.setattr("painters.results.partial.WORTH", 0.0)
    run, slow = load(tmp_path / "grid.yaml").with_limit(9), KeptLikelihoods.add

    def slowly(kept: KeptLikelihoods, *batch: Any) -> None:
        time.sleep(0.05)
        slow(kept, *batch)

    monkeypatch.setattr(KeptLikelihoods, "add", slowly)
    (tmp_path / "stores").mkdir()
    found = interrupts.storm(
        lambda store: sweep.run(run, Store(store)),
        tmp_path / "stores",
        stops=4,
        signals=[number],
        seed=2,
        between=(0.2, 0.6),
        chunk=lambda batches: 2 * max(batches),
    )
    assert found.is_clean, found.text()
    assert found.stops.total() == 4
    assert found.whole > 0


def test_damaged_files(tmp_path: Path) -> None:
    found = files.damaged(tmp_path, records(documents=10)[:30], files=200, seed=5)
    assert found.is_clean, found.text()
    assert found.damaged > 200
    assert found.mended > 10


needs_mount = pytest.mark.skipif(not disk.can_mount(), reason="this machine lets us mount nothing")


@needs_mount
def test_a_full_disk_and_a_folder_to_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (Path(__file__).parents[2], Path(__file__).parents[1]))))
    done = disk.alone("-m", "faults.disk", str(tmp_path), "--append")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("60 records, those of an undisturbed run\n")


@contextmanager
def small_files() -> Iterator[None]:
    """No file can have more than 4000 bytes: writing stops in the middle of a line, as on a full disk.

    That holds for what pytest itself writes to, too.
    """
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_writing_that_stops_within_a_line(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(OSError, match=r"too large: '.*store.*\.jsonl'") as refused, small_files():
        store.append(record(seed=seed) for seed in range(20))
    assert refused.value.errno == errno.EFBIG
    [path] = store.folder.iterdir()
    assert path.stat().st_size == 4000
    with pytest.warns(ResultsWarning, match=r"1 line is damaged"):
        kept = store.records()
    assert kept == [record(seed=seed) for seed in range(len(kept))]
    again = Store(store.folder)
    again.append([record(seed=len(kept))])
    with pytest.warns(ResultsWarning, match=r"1 line is damaged"):
        assert len(again.records()) == len(kept) + 1


def test_a_clock_that_goes_backwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written later counts as later: by what its writer found there, not by its clock."""
    tomorrow = tmp_path / "20991231T235959-999999Z-elsewhere-1.jsonl"
    results.append(tomorrow, scored(value=0.5, date="2099-12-31T00:00:00+00:00"))
    results.append(tmp_path / "by hand.jsonl", scored(value=0.25, weights="old", date="2100-01-01T00:00:00+00:00"))
    for value, device in ((0.6, "one"), (0.7, "two")):
        Store(tmp_path).append(scored(value=value, device=device, date="2026-01-01T00:00:00+00:00"))
        assert Store(tmp_path).answers([cell()]).of(cell())[0].value == value
    names = sorted(path.name[:22] for path in tmp_path.iterdir())
    assert names[0] == "20991231T235959-999999"
    assert names[1].startswith("21000101T000000-000000")
    assert names[2].startswith("21000101T000000-000001")
    (tmp_path / "99991231T235959-999999Z-the-end-of-time-1.jsonl").touch()
    Store(tmp_path).append(scored(device="three"))  # nothing comes after it; the store is written all the same
    (tmp_path / "99999999T999999-999999Z-no-time-1.jsonl").touch()
    Store(tmp_path).append(scored(device="four"))
    assert len(list(tmp_path.iterdir())) == 8


def test_a_new_file_is_in_its_folder_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, fsync = [], os.fsync

    def note(number: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(number).st_mode))
        fsync(number)

    monkeypatch.setattr(os, "fsync", note)
    store = Store(tmp_path / "store")
    store.append([record()])
    assert synced == [True, False]
    store.append([record(seed=1)])
    assert synced == [True, False, False]
    results.append(tmp_path / "other" / "r.jsonl", [record()])
    assert synced[3:] == [False, True]


def test_folders_that_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, opened = os.fsync, os.open

    def no_folders(number: int) -> None:
        if stat.S_ISDIR(os.fstat(number).st_mode):
            raise OSError(22, "Invalid argument")
        fsync(number)

    def none(path: Any, *rest: Any) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "fsync", no_folders)
    Store(tmp_path / "one").append([record()])
    monkeypatch.setattr("painters.results.lines.os.open", none)
    Store(tmp_path / "two").append([record()])
    monkeypatch.setattr(os, "open", opened)
    assert Store(tmp_path / "one").records() == Store(tmp_path / "two").records() == [record()]


def test_no_place_is_left_for_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep knows it before it loads anything."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", "a probe")

    monkeypatch.setattr("painters.results.store.write_lines", full)
    for _ in range(2):
        with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path / 'a' / 'store'}'") as refused:
            Store(tmp_path / "a" / "store").check_writable()
        assert refused.value.errno == errno.ENOSPC
        assert list((tmp_path / "a" / "store").iterdir()) == []


def test_what_a_store_tries_out_is_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, bytes]] = []

    def noted(path: Path, lines: Sequence[bytes]) -> None:
        seen.append((path.suffix, b"".join(lines)))

    monkeypatch.setattr("painters.results.store.write_lines", noted)
    Store(tmp_path).check_writable()
    assert seen == [(".tmp", b" " * 4096)]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"before")
    replace_file(path, b"after")
    assert path.read_bytes() == b"after"

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as filled:
        filled.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=rf"^\[Errno 28\] No space left on device: '{path}'$") as refused:
            replace_file(path, b"more")
    assert refused.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"after"
    assert list(tmp_path.iterdir()) == [path]
    gone = tmp_path / "gone" / "records.jsonl"
    with pytest.raises(FileNotFoundError, match=rf"^\[Errno 2\] No such file or directory: '{gone}'$"):
        replace_file(gone, b"more")


def test_two_files_of_one_moment_have_two_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(datetime.datetime):
        @classmethod
        def now(cls, zone: datetime.tzinfo | None = None) -> Stopped:
            assert zone is datetime.UTC
            return cls(2026, 1, 2, 3, 4, 5, 6, zone)

    monkeypatch.setattr(datetime, "datetime", Stopped)
    monkeypatch.setattr(socket, "gethostname", lambda: "node_1.cluster")
    end = f"-node-1-cluster-{os.getpid()}"
    for name in ("20260102T030405-000006Z", "20260102T030405-000007Z"):
        assert Store(tmp_path)._new_file(".tmp").name == f"{name}{end}.tmp"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Node-7.cluster.example", "Node-7-cluster-example"),
        ("__node__", "node"),
        ("XX", "XX"),
        ("n" * 39 + ".cluster", "n" * 39),
        ("n" * 50, "n" * 40),
        ("_", "host"),
    ],
)
def test_names_of_machines_are_names_of_files(name: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    assert host_name() == told
