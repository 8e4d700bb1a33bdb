"""GLUE's metrics are scikit-learn's and scipy's; documents of its shape are read from any kind of file."""

from __future__ import annotations

import dataclasses
import json
import math
import warnings
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from support.glue_samples import documents, tokenizer, write, write_task

from painters.glue import TASKS, metrics, prepare
from painters.tasks import TaskError, TaskUnavailableError

ORACLES = {
    "accuracy": lambda found, labels: sklearn.metrics.accuracy_score(labels, found),
    "f1": lambda found, labels: sklearn.metrics.f1_score(labels, found),
    "matthews": lambda found, labels: sklearn.metrics.matthews_corrcoef(labels, found),
    "pearson": lambda found, labels: scipy.stats.pearsonr(found, labels)[0],
    "spearman": lambda found, labels: scipy.stats.spearmanr(found, labels)[0],
}


@pytest.mark.parametrize("name", metrics.METRICS)
def test_metrics_are_those_of_evaluate(name: str) -> None:
    draw = np.random.default_rng(0)
    for count in (2, 7, 50):
        for share in (0.1, 0.5, 0.9):
            found, labels = (draw.random((2, count)) < share).astype(int)
            if name in ("pearson", "spearman"):  # with ties
                found, labels = draw.integers(0, 4, count) / 3 + np.arange(count) % 2, draw.random(count).round(1)
            with warnings.catch_warnings():  # scikit-learn warns where a metric is 0 by convention
                warnings.simplefilter("ignore")
                expected = ORACLES[name](found, labels)
            assert metrics.METRICS[name](found, labels) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", metrics.METRICS)
def test_metrics_score_many_resamples_at_once(name: str) -> None:
    found, labels = np.random.default_rng(1).integers(0, 2, (2, 5, 30)).astype(float)
    together = metrics.METRICS[name](found, labels)
    assert together.tolist() == [metrics.METRICS[name](*pair) for pair in zip(found, labels, strict=True)]


def test_metrics_of_constant_answers() -> None:
    labels = np.array([0, 1, 1, 0])
    assert metrics.matthews(np.ones(4), labels) == metrics.matthews(labels, np.zeros(4)) == 0
    assert metrics.f1(np.zeros(4), np.zeros(4)) == metrics.f1(np.zeros(4), labels) == 0
    assert np.isnan(metrics.pearson(np.ones(4), labels))


def test_combined_is_the_mean_of_the_others() -> None:
    found, labels = np.random.default_rng(2).integers(0, 2, (2, 40))
    combined = metrics.metric("combined", TASKS["mrpc"].metrics)
    expected = (ORACLES["accuracy"](found, labels) + ORACLES["f1"](found, labels)) / 2
    assert combined(found, labels) == pytest.approx(expected, abs=1e-12)


def test_chance_is_the_most_frequent_class() -> None:
    labels = np.array([1, 1, 1, 0])
    f1 = 2 * 3 / (2 * 3 + 1)
    chances = {name: metrics.chance(name, TASKS["mrpc"].metrics, labels) for name in TASKS["mrpc"].metrics}
    assert chances == pytest.approx({"accuracy": 0.75, "f1": f1, "combined": (0.75 + f1) / 2})
    assert [metrics.chance(name, TASKS["stsb"].metrics, labels) for name in TASKS["stsb"].metrics] == [0, 0, 0]
    assert metrics.chance("matthews", TASKS["cola"].metrics, labels) == 0


def test_bootstrap_agrees_with_the_closed_form() -> None:
    draw = np.random.default_rng(3)
    labels = draw.integers(0, 2, 400)
    found = np.where(draw.random(400) < 0.8, labels, 1 - labels)
    share = float((found == labels).mean())
    stderr = metrics.bootstrap_stderr(metrics.accuracy, found, labels)
    assert stderr == pytest.approx(math.sqrt(share * (1 - share) / 400), rel=0.08)
    assert stderr == metrics.bootstrap_stderr(metrics.accuracy, found, labels)
    assert metrics.bootstrap_stderr(metrics.accuracy, found[:1], labels[:1]) is None


@pytest.mark.parametrize("name", [name for name, row in TASKS.items() if isinstance(row.source, Path)])
def test_bundled_tasks_are_read_whole(name: str) -> None:
    prepared = prepare(name, tokenizer())
    assert (len(prepared.train), prepared.documents) == (2000, 500)
    assert prepared.train.labels.unique().numel() == 2 or prepared.task.labels == 1


@pytest.mark.parametrize("name", TASKS)
def test_rows_are_sound(name: str) -> None:
    row = TASKS[name]
    assert set(row.metrics) <= {*metrics.METRICS, "combined"}
    assert row.primary == row.metrics[0]
    assert ("pearson" in row.metrics) == (row.kind == "regression")


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".parquet"])
def test_every_kind_of_file_reads_alike(tmp_path: Path, kind: str) -> None:
    for name in ("cola", "qnli", "stsb"):
        usual, other = (prepare(write_task(tmp_path / k, name, kind=k), tokenizer()) for k in (".jsonl", kind))
        assert (usual.name, usual.digest) == (name, other.digest)


def test_words_that_look_like_nothing_are_words(tmp_path: Path) -> None:
    for kind in (".jsonl", ".csv"):
        for split in ("train", "validation"):
            write(tmp_path / f"{split}{kind}", [{"sentence": "NA", "label": 0}, {"sentence": "None", "label": 1}])
    (folder := tmp_path / "a" / "cola").mkdir(parents=True)
    for path in tmp_path.glob("*.csv"):
        path.rename(folder / path.name)
    (other := tmp_path / "b" / "cola").mkdir(parents=True)
    for path in tmp_path.glob("*.jsonl"):
        path.rename(other / path.name)
    assert prepare(folder, tokenizer()).digest == prepare(other, tokenizer()).digest


def test_the_digest_covers_what_is_learned_and_scored(tmp_path: Path) -> None:
    folder, words = write_task(tmp_path), tokenizer()
    digests = [prepare(folder, words).digest, prepare(str(folder), words).digest]
    assert len(set(digests)) == 1
    digests += [
        prepare(folder, words, **option).digest for option in ({"limit": 5}, {"documents": 5}, {"max_length": 5})
    ]
    for change in ({"label": 7}, {"sentence": "word1"}):
        rows = documents("cola", 40, 2)
        rows[3] |= {"label": 1 - rows[3]["label"]} if "label" in change else change
        write(folder / "validation.jsonl", rows)
        digests.append(prepare(folder, words).digest)
    assert len(set(digests)) == 6


def test_limits_keep_the_first_documents(tmp_path: Path) -> None:
    folder = write_task(tmp_path, "rte")
    prepared = prepare(folder, tokenizer(), limit=3, documents=5, max_length=6)
    assert (len(prepared.train), prepared.documents) == (5, 3)
    assert prepared.validation.labels.tolist() == [row["label"] for row in documents("rte", 3, 2)]
    assert prepared.train.inputs["input_ids"].shape[1] == 6


def test_the_model_s_length_goes_before_ours(tmp_path: Path) -> None:
    words = tokenizer()
    words.model_max_length = 7
    assert prepare(write_task(tmp_path), words).train.inputs["input_ids"].shape[1] == 7


def test_the_hub_is_asked_for_glue(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(path: str, name: str, split: str) -> Any:
        asked.append((path, name, split))
        return datasets.Dataset.from_list(documents("mrpc", 6))

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert prepare("mrpc", tokenizer()).documents == 6
    assert asked == [("nyu-mll/glue", "mrpc", "train"), ("nyu-mll/glue", "mrpc", "validation")]


def test_without_the_hub_the_message_says_what_to_do() -> None:
    before = datasets.are_progress_bars_disabled()
    with pytest.raises(
        TaskUnavailableError, match=r"cannot be loaded from nyu-mll/glue: .*Be online.*a folder DIR/wnli.*nano_cola"
    ):
        prepare("wnli", tokenizer())
    assert datasets.are_progress_bars_disabled() == before


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("nano_colla", r"encoders are scored on cola, .*did you mean nano_cola"),
        ("zzz", r"choose one of them\. A folder"),
        ("somewhere/colas", r"named after the task"),
        ("nowhere/cola", r"there is no such folder; give one with train and validation as \.jsonl"),
    ],
)
def test_names_that_are_no_task(task: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        prepare(task, tokenizer())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "a", "label": 0}], r"has the columns text, label, and not sentence: it must have sentence, label"),
        ([{"sentence": "a", "label": -1}], r"validation split has the label -1, and labels are classes from 0 to 1"),
        ([{"sentence": "a", "label": "acceptable"}], r"has the label 'acceptable'"),
        ([], r"holds no documents"),
    ],
)
def test_documents_that_do_not_fit(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    folder = write_task(tmp_path)
    write(folder / "validation.jsonl", rows)
    with pytest.raises(TaskError, match=message):
        prepare(folder, tokenizer())


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    folder = write_task(tmp_path)
    (folder / "validation.jsonl").write_text(json.dumps({"sentence": "a"})[:-2])
    with pytest.raises(TaskError, match=r"validation\.jsonl cannot be read"):
        prepare(folder, tokenizer())
    (folder / "validation.jsonl").unlink()
    with pytest.raises(TaskUnavailableError, match=r"there is no validation\.jsonl or validation\.csv"):
        prepare(folder, tokenizer())


@pytest.mark.parametrize("option", ["limit", "documents", "max_length"])
def test_counts_are_counts(option: str) -> None:
    with pytest.raises(TaskError, match=f"{option} 0: give a whole number"):
        prepare("nano_cola", tokenizer(), **{option: 0})


def test_prepared_tasks_are_frozen(tmp_path: Path) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        prepare(write_task(tmp_path), tokenizer()).name = "rte"  # type: ignore[misc]
