"""`--data DIR` in every command and call: documents of one's own by the task's name, and what DIR does not have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.nano_samples import llama, tokenizer

import painters
from painters import harness, results, sweep
from painters.harness import task_index
from painters.tasks import FOR_LM_EVAL, TaskError, available, located

ARC = [
    {"question": f"What is {i}?", "choices": {"text": ["one", "two"], "label": ["A", "B"]}, "answerKey": "AB"[i % 2]}
    for i in range(3)
]
SUMS = """task: sums
dataset_path: json
dataset_kwargs: {data_files: {test: test.jsonl}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{text}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with arc_easy, a task of its own, and a folder without documents."""
    folder = tmp_path / "data"
    lines(folder / "arc_easy" / "test.jsonl", ARC)
    lines(folder / "sums" / "test.jsonl", [{"text": "1 + 1 =", "answer": "2"}, {"text": "2 + 2 =", "answer": "4"}])
    (folder / "sums" / "sums.yaml").write_text(SUMS)
    (folder / "empty").mkdir()
    (folder / "README.md").write_text("documents\n")
    monkeypatch.setattr(task_index, "index", None)
    return folder


def test_what_a_folder_has(data: Path) -> None:
    assert available(data) == ["arc_easy", "sums"]
    own = str(data / "sums" / "sums.yaml")
    names = ["arc_easy", "sums", "nano_arc", "nano_rte", "some/where.yaml"]
    assert located(names, data) == [str(data / "arc_easy"), own, "nano_arc", "nano_rte", "some/where.yaml"]
    with pytest.raises(TaskError, match=r"has no piqa, empty: it has arc_easy, sums\. Put the documents into .*piqa"):
        located(["arc_easy", "piqa", "empty"], data)
    with pytest.raises(TaskError, match="there is no such folder"):
        located(["arc_easy"], data / "gone")
    for name in ("..", "."):
        with pytest.raises(TaskError, match="has no"):
            located([name], data)


def test_evaluate_takes_documents(data: Path) -> None:
    table = painters.evaluate(llama(), "0-4", ["arc_easy", "sums"], tokenizer=tokenizer(), data=data)
    assert {(row.task, row.documents) for row in table.itertuples()} == {("arc_easy", 3), ("sums", 2)}
    by_path = painters.evaluate(llama(), "0-4", str(data / "arc_easy"), tokenizer=tokenizer())
    assert by_path["value"].tolist() == table[table["task"] == "arc_easy"]["value"].tolist()


def test_a_missing_task_is_said_before_the_model_is_loaded(data: Path) -> None:
    with pytest.raises(TaskError, match="has no piqa"):
        painters.evaluate("no/such-model", "0-4", ["arc_easy", "piqa"], data=data)


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--model", "no/such-model", "--plan", "0-4", "--tasks", "arc_easy,piqa"),
        ("sweep", "grid.yaml"),
        ("similarity", "--model", "no/such-model", "--inputs", "piqa"),
        ("lm-eval", "--model", "painters", "--model_args", "pretrained=no/such-model", "--tasks", "arc_easy,piqa"),
        ("lm-eval", "--tasks=piqa", "--model", "painters"),
    ],
    ids=["run", "sweep", "similarity", "lm_eval", "lm_eval_equals"],
)
def test_every_command_says_what_is_missing(
    arguments: tuple[str, ...],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    painters: Callable[..., Any],
) -> None:
    monkeypatch.chdir(tmp_path)
    grid = "title: grid\nmodels: no/such-model\ntasks: [arc_easy, piqa]\nvariants: [skip]\n"
    Path("grid.yaml").write_text(grid)
    done = painters(*arguments, "--data", str(data))
    assert (done.code, done.out) == (2, "")
    assert f"--data {data} has no piqa: it has arc_easy, sums." in " ".join(done.err.split())


def test_run_takes_all_tasks_of_the_folder(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, painters: Callable[..., Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    model = llama()
    model.save_pretrained("tiny")
    tokenizer().save_pretrained("tiny")
    done = painters("run", "--model", "./tiny", "--plan", "0-4", "--data", str(data), "--quiet")
    assert done.code == 0, done.err
    records = results.read("runs/records.jsonl")
    assert {record.task for record in records} == {"arc_easy", "sums"}
    assert not any(str(tmp_path) in (record.task + record.requests) for record in records)
    done = painters(
        "similarity", "--model", "./tiny", "--inputs", "arc_easy", "--data", str(data), "--limit", "2", "--json"
    )
    assert done.code == 0, done.err
    assert json.loads(done.out)["inputs"] == "arc_easy"


def test_a_sweep_scores_documents_by_the_name_of_their_task(data: Path, tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path / "tiny")
    tokenizer().save_pretrained(tmp_path / "tiny")
    grid = f"title: grid\nmodels: {tmp_path / 'tiny'}\ntasks: [arc_easy, sums]\nvariants: [{{name: skip, start: 1}}]\n"
    (tmp_path / "grid.yaml").write_text(grid)
    store = results.Store(tmp_path / "out")
    chosen = sweep.load_experiments([str(tmp_path / "grid.yaml")], sweep.Overrides(data=data))
    assert sweep.run(chosen, store).done == 4
    assert sweep.run(chosen, store).found == 4
    assert {record.task for record in store.records()} == {"arc_easy", "sums"}
    lines(data / "arc_easy" / "test.jsonl", ARC[:2])  # other documents: their records do not answer
    assert sweep.run(chosen, store).done == 2


def test_lm_evals_own_command_in_a_fresh_process(data: Path, tmp_path: Path) -> None:
    """It knows the model `painters`, the documents, the user's folder with Python in it, and the bundled tasks."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "utils.py").write_text("def keep(documents):\n    return documents.select(range(1))\n")
    lines(tmp_path / "d.jsonl", [{"text": "1 + 1 =", "answer": "2"}] * 2)
    coded = SUMS.replace("task: sums", "task: coded").replace("test.jsonl", str(tmp_path / "d.jsonl"))
    (mine / "coded.yaml").write_text(coded + "process_docs: !function utils.keep\n")
    (tmp_path / "few.py").write_text(
        "import sys, lm_eval.tasks\n"
        "class Few(lm_eval.tasks.TaskManager):\n"
        "    def __init__(self, verbosity=None, include_path=None, **options):\n"
        "        super().__init__(verbosity, include_path, **{**options, 'include_defaults': False})\n"
        "lm_eval.tasks.TaskManager = Few  # lm-eval's thousands of tasks take half a minute to be listed\n"
        "from painters.harness.lm_eval_cli import lm_eval_command\n"
        "lm_eval_command(sys.argv[1:])\n"
    )
    arguments = ("--model", "painters", "--model_args", "pretrained=nano-llama,plan=0-5 7-11", "--limit", "2")
    done = subprocess.run(
        [
            *(sys.executable, "few.py", *arguments, "--tasks", "arc_easy,sums,coded,nano_arc"),
            *("--include_path", str(mine), "--output_path", "out", "--data", str(data)),
        ],
        cwd=tmp_path,
        env={**os.environ, "HF_DATASETS_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (written,) = (tmp_path / "out").glob("**/results_*.json")
    found = json.loads(written.read_text())
    sizes = {name: count["effective"] for name, count in found["n-samples"].items()}
    assert sizes == {"arc_easy": 2, "sums": 2, "coded": 1, "nano_arc": 2}
    model, words = harness.load_model("nano-llama")
    records = harness.score(model, words, "0-5 7-11", located(["arc_easy", "sums"], data), limit=2, batch_size=1)
    ours = {(record.task, record.metric): record.value for record in records}
    assert ours == {(task, metric): found["results"][task][f"{metric},none"] for task, metric in ours}


def test_bundled_tasks_for_lm_evals_own_command_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that `painters tasks --path` prints are the bundled ones, each with all of its documents."""
    import lm_eval.tasks

    from painters.tasks import bundled

    monkeypatch.chdir(tmp_path)
    manager = lm_eval.tasks.TaskManager(include_defaults=False, include_path=str(FOR_LM_EVAL))
    assert manager.all_subtasks == sorted(bundled()), "add NAME.yaml to painters/nano/tasks/for_lm_eval"
    loaded = manager.load(manager.all_subtasks)["tasks"]
    for name, task in loaded.items():
        (prepared,) = harness.prepare(name)
        assert len(task.eval_docs) == prepared.documents
        assert task.eval_docs[0] == prepared.indexed_documents[0][1]
    assert not list(tmp_path.iterdir())
