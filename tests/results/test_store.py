"""A folder of records is one store: files merge, damage and duplicates do not count, cells find their records."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest
from support.records import cell, record, scored

from painters import results
from painters.experiment import Cell
from painters.experiment.tuning import Tuning
from painters.results import ResultsError, ResultsWarning, Store


def test_a_record_answers_the_cell_that_was_asked(tmp_path: Path) -> None:
    assert {one.cell_key for one in scored()} == {cell().key}
    assert record().cell_key is None
    store = Store(tmp_path / "new" / "store")
    assert store.records() == []
    assert store.missing([cell()]) == [cell()]
    store.append(scored())
    answers = Store(store.folder).answers([cell(), cell(seed=1)])
    assert answers.of(cell()) == tuple(scored())
    assert answers.missing == [cell(seed=1)]
    assert answers.of(cell(seed=1)) == ()


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        ({}, {"model": "n"}), ({}, {"plan": "0-4"}), ({}, {"kv": "averaged"}), ({}, {"task": "t"}), ({}, {"seed": 1}),
        ({}, {"batch_size": 9}), ({}, {"batching": "shared"}), ({"revision": "main"}, {}), ({"dtype": "float32"}, {}),
        ({"shots": 0}, {}), ({"limit": None}, {}),
    ],
)  # fmt: skip
def test_a_record_of_another_cell_answers_nothing(
    asked: dict[str, Any], fields: dict[str, Any], tmp_path: Path
) -> None:
    store = Store(tmp_path)
    store.append(scored(asked=asked, **fields))
    assert store.missing([cell()]) == [cell()]


def test_a_scoring_in_lm_evals_batches_answers_for_shared_ones(tmp_path: Path) -> None:
    store, shared = Store(tmp_path), cell(batching="shared")
    store.append(scored())
    assert store.answers([shared]).of(shared) == tuple(scored())
    store.append(scored(batching="shared"))
    assert {one.batching for one in store.answers([shared]).of(shared)} == {"shared"}  # the latest
    assert {one.batching for one in store.answers([cell()]).of(cell())} == {"lm-eval"}


def test_a_cell_without_all_its_metrics_is_missing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append(scored()[:1])
    assert store.missing([cell()]) == [cell()]
    again = Store(tmp_path)
    again.append([one.model_copy(update={"seconds": 9.0}) for one in scored()])
    assert again.missing([cell()]) == []
    assert [one.seconds for one in again.answers([cell()]).of(cell())] == [0.5, 9.0]  # doubles: the first is kept


def test_each_writer_has_its_file_and_readers_all(tmp_path: Path) -> None:
    stores = [Store(tmp_path) for _ in range(5)]
    for seed, store in itertools.product(range(3), stores):
        store.append(scored(seed=seed, batch_size=1 + stores.index(store)))
    files = sorted(tmp_path.iterdir())
    assert len(files) == 5
    assert all(f"-{os.getpid()}" in path.name for path in files)
    assert all(path.read_bytes().count(b"\n") == 6 for path in files)
    assert len(Store(tmp_path).records()) == 30
    for path in files:
        path.write_bytes(path.read_bytes()[:-20])
    (tmp_path / "notes.txt").write_text("not records")
    with pytest.warns(ResultsWarning, match=r"5 lines are damaged and left out \(.*jsonl: 6; .*`painters doctor"):
        assert len(Store(tmp_path).records()) == 25
    (tmp_path / "doubles.jsonl").write_bytes(files[0].read_bytes())
    with pytest.warns(ResultsWarning, match=r"6 lines are .*; …\)"):
        assert len(Store(tmp_path).records()) == 25


@pytest.mark.filterwarnings("ignore::painters.results.ResultsWarning")
@pytest.mark.parametrize("cut", range(0, 3200, 97))
def test_a_file_cut_anywhere_holds_a_cell_whole_or_not_at_all(cut: int, tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append(scored())
    store.append(scored(seed=1))
    (path,) = tmp_path.iterdir()
    data = path.read_bytes()
    path.write_bytes(data[:cut])
    lines = data[:cut].count(b"\n") + (cut < len(data) and data[cut : cut + 1] == b"\n")
    again = Store(tmp_path)
    assert len(again.missing([cell(), cell(seed=1)])) == 2 - min(lines, 4) // 2
    again.append(scored())
    again.append(scored(seed=1))
    assert again.missing([cell(), cell(seed=1)]) == []
    assert {results.key(one) for one in again.records()} == {results.key(one) for one in scored() + scored(seed=1)}


def test_scorings_that_do_not_count(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append(scored())
    calls: list[tuple[Cell, str]] = []
    store.answers([cell()], lambda one, record: calls.append((one, record.metric)))  # type: ignore[func-returns-value]
    assert calls == [(cell(), "acc")]
    answers = store.answers([cell()], lambda _, one: "other weights" if one.weights == "abc" else None)
    assert answers.missing == [cell()]
    assert answers.refused == [(cell(), "other weights")]
    store.append(scored(weights="xyz", value=0.5, date="2025-01-01"))  # by a clock that went backwards
    answers = store.answers([cell()], lambda _, one: "other weights" if one.weights == "abc" else None)
    assert (answers.missing, answers.contested) == ([], [])
    assert [one.value for one in answers.of(cell())] == [0.5, 0.5]
    light = store.answers([cell()])
    assert light.contested == [cell()]
    assert [one.value for one in light.of(cell())] == [0.5, 0.5]  # the latest


def test_metrics_of_different_scorings_are_not_mixed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append([scored()[0], scored(weights="xyz")[1]])
    assert store.missing([cell()]) == [cell()]


def test_what_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match=r"a file is there\. A store is a folder"):
        Store(tmp_path / "file").records()
    with pytest.raises(OSError, match=r"File exists|Not a directory"):
        Store(tmp_path / "file").check_writable()
    Store(tmp_path / "new").check_writable()
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "new" / "folder.jsonl").mkdir()
    (tmp_path / "new" / "bad.jsonl").write_text("nonsense\n{}\n")
    with pytest.warns(
        ResultsWarning, match=rf"^records of {tmp_path / 'new'}: 2 lines are damaged and left out \(bad.jsonl: 1, 2\)"
    ):
        assert Store(tmp_path / "new").records() == []


def test_an_encoders_record_answers_the_cell_of_its_own_tuning(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append(scored(tuning=Tuning(protocol="frozen")))
    same, other, none = cell(tuning=Tuning(protocol="frozen")), cell(tuning=Tuning(protocol="retuned")), cell()
    assert store.missing([same, other, none]) == [other, none]
