"""Every task that lm-eval finds by name is found in a folder of documents: by file, by index, by group, by class."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lm_eval.tasks
import pytest

from painters import harness
from painters.harness import task_index
from painters.harness.task_loading import load
from painters.tasks import TaskError

SOME = ("aradice/boolq", "arc", "fda", "scrolls", "super_glue", "truthfulqa")
"""Folders of lm-eval with tasks of every kind, whose index takes no seconds."""


@pytest.fixture
def small_index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An index of some tasks: that of all takes many seconds."""
    paths = [task_index.ROOT / folder for folder in SOME]
    manager = lm_eval.tasks.TaskManager(include_defaults=False, include_path=paths)
    monkeypatch.setattr(task_index, "index", lambda: manager)
    return manager


def no_index() -> Any:
    raise AssertionError("the index of all tasks was made")


def assert_found(manager: Any, names: list[str]) -> None:
    wrong = [name for name in names if task_index.yaml_of(name) != manager.task_index[name].yaml_path]
    assert wrong == []


def test_tasks_of_every_kind_are_found(small_index: Any) -> None:
    """By the name of their file or folder; quoted, unlike their file's, made by a class, in a group."""
    assert_found(small_index, small_index.all_subtasks)
    names = set(small_index.all_subtasks)
    assert {"arc_easy", "wic", "AraDiCE_boolq_egy", "fda", "scrolls_qasper", "truthfulqa_mc2"} <= names
    for name in (*small_index.all_groups, *small_index.all_tags):
        assert task_index.yaml_of(name) is None
        assert task_index.is_group(name)


@pytest.mark.slow
def test_every_task_of_lm_eval_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = task_index.index()
    monkeypatch.setattr(task_index, "mentions", lambda name: (True, []))  # checked below, for all names at once
    assert len(manager.all_subtasks) > 13_000
    assert_found(manager, manager.all_subtasks)
    groups = [*manager.all_groups, *manager.all_tags]
    assert [name for name in groups if task_index.yaml_of(name) is not None or not task_index.is_group(name)] == []
    files = (path for path in task_index.ROOT.rglob("*") if path.is_file() and not path.name.endswith(".pyc"))
    texts = b"\n".join(path.read_bytes() for path in files if path.suffix not in (".py", ".md", ".json", ".txt"))
    assert [name for name in manager.all_tasks if name.encode() not in texts] == []


def test_usual_and_mistyped_names_need_no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_index, "index", no_index)
    for name in (
        "arc_challenge",
        "hellaswag",
        "gsm8k",
        "winogrande",
        "lambada_openai",
        "truthfulqa_mc2",
        "mmlu_anatomy",
    ):
        path = task_index.yaml_of(name)
        assert path is not None
        assert path.is_relative_to(task_index.ROOT)
    with pytest.raises(TaskError, match=r"task 'hellaswagg': neither bundled .*; did you mean .*hellaswag"):
        harness.prepare("hellaswagg")


ARC = [
    {"question": f"What is {i}?", "choices": {"text": ["one", "two"], "label": ["A", "B"]}, "answerKey": "AB"[i % 2]}
    for i in range(3)
]


def write(folder: Path, rows: list[dict[str, Any]], split: str = "test") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_documents_for_a_task_unlike_its_file(small_index: Any, tmp_path: Path) -> None:
    rows = [{"question": "Is it?", "passage": "It is.", "answer": True, "target": 1, "choices": ["no", "yes"]}]
    write(tmp_path / "AraDiCE_boolq_eng", rows, "test")
    write(tmp_path / "AraDiCE_boolq_eng", rows, "validation")
    (task,) = harness.prepare(str(tmp_path / "AraDiCE_boolq_eng"))
    assert (task.name, task.documents) == ("AraDiCE_boolq_eng", 1)


def test_documents_for_a_group_and_a_tag(small_index: Any, tmp_path: Path) -> None:
    """Those of its tasks lie in folders of their names."""
    for name in ("arc_easy", "arc_challenge"):
        write(tmp_path / "ai2_arc" / name, ARC)
    tasks = harness.prepare(str(tmp_path / "ai2_arc"))
    assert {task.name: task.documents for task in tasks} == {"arc_challenge": 3, "arc_easy": 3}
    assert tasks[0].digest == harness.prepare(str(tmp_path / "ai2_arc" / "arc_challenge"))[0].digest


def test_documents_for_a_task_made_by_a_class(small_index: Any, tmp_path: Path) -> None:
    write(tmp_path / "fda", [{"text": "Name: Ben", "value": "Ben", "key": "Name"}], "validation")
    (task,) = harness.prepare(str(tmp_path / "fda"))
    assert task.name == "fda"
    assert [request.args[0] for request in task.requests] == ["Name: Ben"]
    assert task.chance is None
    write(tmp_path / "elsewhere" / "fda", [{"text": "Name: Ben", "value": "Ben"}], "test")
    with pytest.raises(TaskError, match=r"lm-eval's class for fda raised KeyError 'validation'.*has test"):
        harness.prepare(str(tmp_path / "elsewhere" / "fda"))


def test_the_key_of_a_record_holds_documents_not_places(tmp_path: Path) -> None:
    write(tmp_path / "a" / "arc_easy", ARC)
    write(tmp_path / "b" / "arc_easy", ARC)
    write(tmp_path / "c" / "arc_easy", ARC[:2])
    first, second, third = (harness.prepare(str(tmp_path / name / "arc_easy"))[0] for name in "abc")
    assert (first.name, first.digest) == (second.name, second.digest) == ("arc_easy", first.digest)
    assert third.digest != first.digest


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("arc_esy", r"neither lm-eval nor painters has a task 'arc_esy', and there is no arc_esy\.yaml.*mean arc_easy"),
        ("arc_easy", r"there is no test\.jsonl, and arc_easy is scored on it"),
    ],
)
def test_folders_that_hold_no_task(name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_index, "index", no_index)
    write(tmp_path / name, ARC, "train")
    with pytest.raises(TaskError, match=message):
        load(str(tmp_path / name))


def test_a_bundled_task_with_documents_of_ones_own(tmp_path: Path) -> None:
    write(tmp_path / "nano_arc", [{"question": "What?", "choices": ["a", "b"], "answer": 1}])
    (task,) = harness.prepare(str(tmp_path / "nano_arc"))
    assert (task.name, task.documents, task.chance) == ("nano_arc", 1, 0.5)
