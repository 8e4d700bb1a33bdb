"""What guessing scores: from the documents where that is defined, absent where it is not, wherever it is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.nano_samples import llama, tokenizer

from painters import harness, results
from painters.harness import task_index

BODY = """dataset_path: json
dataset_kwargs: {data_files: {test: d.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: q
doc_to_choice: choices
doc_to_target: gold
metric_list: [{metric: acc}, {metric: acc_norm}]
"""


def task(folder: Path, rows: list[dict[str, Any]], body: str = BODY) -> str:
    (folder / "mine.yaml").write_text(f"task: mine\n{body}")
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / "mine.yaml")


def row(gold: Any, *choices: str) -> dict[str, Any]:
    return {"q": "What does a cat eat?", "choices": list(choices), "gold": gold}


@pytest.mark.parametrize(
    ("rows", "chance"),
    [
        ([row(0, "a", "b"), row(2, "a", "b", "c", "d")], (1 / 2 + 1 / 4) / 2),
        ([row([0, 2], "a", "b", "c", "d"), row([1], "a", "b", "c")], (2 / 4 + 1 / 3) / 2),
        ([row("b", "a", "b"), row("c", "a", "b")], (1 / 2 + 0) / 2),  # lm-eval scores what is no choice as wrong
        ([row(0, "a", "b"), row(7, "a", "b"), row(-1, "a", "b")], (1 / 2 + 0 + 0) / 3),
        ([row([1, 1, 9], "a", "b")], 1 / 2),
    ],
    ids=["numbers_of_choices", "several_right", "texts", "out_of_range", "twice"],
)
def test_chance_is_right_choices_over_choices(rows: list[dict[str, Any]], chance: float, tmp_path: Path) -> None:
    (prepared,) = harness.prepare(task(tmp_path, rows))
    assert prepared.chance == pytest.approx(chance)
    assert expected_of_guesses(prepared) == pytest.approx(chance)


def expected_of_guesses(prepared: harness.Prepared) -> float:
    """The mean accuracy by lm-eval's own code over every choice of every document."""
    scores = []
    for _, document in prepared.indexed_documents:
        size = len(prepared.task.doc_to_choice(document))
        answers = [[(0.0 if i == guess else -1.0, False) for i in range(size)] for guess in range(size)]
        scores.append(sum(prepared.task.process_results(document, answer)["acc"] for answer in answers) / size)
    return sum(scores) / len(scores)


def test_tasks_of_their_own_function_have_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """truthfulqa_mc2 scores the probability of the true answers; the table, records and figures leave chance out."""
    monkeypatch.setattr(task_index, "index", None)
    folder = tmp_path / "truthfulqa_mc2"
    folder.mkdir()
    targets = {"choices": [" milk", " bones", " bread"], "labels": [1, 1, 0]}
    rows = [{"question": "What does a cat eat?", "mc1_targets": targets, "mc2_targets": targets}] * 2
    (folder / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (prepared,) = harness.prepare(str(folder))
    assert prepared.chance is None
    records = harness.score(llama(), tokenizer(), "0-4", prepared)
    assert [(record.metric, record.chance) for record in records] == [("acc", None)]
    baseline = harness.score(llama(), tokenizer(), "0-5", prepared)
    table = results.frame([*baseline, *records])
    assert table["chance"].isna().all()
    assert table["normalised"].isna().all()


def test_metrics_that_are_no_accuracy_have_none(tmp_path: Path) -> None:
    body = BODY.replace("{metric: acc_norm}", "{metric: brier_score}, {metric: exact_match, aggregation: mean}")
    (prepared,) = harness.prepare(task(tmp_path, [row(0, "milk", "bones")], body))
    records = harness.score(llama(), tokenizer(), "0-5", prepared)
    assert {record.metric: record.chance for record in records} == {
        "acc": 0.5,
        "brier_score": None,
        "exact_match": None,
    }
