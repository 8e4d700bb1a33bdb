"""The tasks on which encoders are fine-tuned, and their documents tokenised once for all plans."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor

from painters.documents import DocumentSelection
from painters.errors import first_line
from painters.models.hub import patiently
from painters.tasks import TaskError, TaskUnavailableError

FOLDER: Final = Path(__file__).parents[1] / "nano" / "glue"
HUB: Final = "nyu-mll/glue"
SUFFIXES: Final = (".jsonl", ".csv", ".tsv", ".parquet")
SPLITS: Final = ("train", "validation")


@dataclass(frozen=True, slots=True)
class Task:
    """A task that encoders are fine-tuned for: a row of `TASKS`.

    The first metric is the primary one. For GLUE's own tasks it is GLUE's score, because the paper follows GLUE's
    evaluation protocol: Matthews' correlation for CoLA, accuracy for most, and for the two tasks with two metrics their
    mean ("combined", as in run_glue). All metrics are recorded.

    Attributes:
        fields: The columns that hold the texts: one for single sentences, two for pairs.
        labels: The number of classes; 1 means that a number is predicted.
        metrics: Names of metrics, the primary one first.
        source: A bundled folder of documents, or the name of a configuration of GLUE on the hub.
        version: The version of the documents.

    Examples:
        >>> from painters.glue import TASKS
        >>> TASKS["mrpc"].fields, TASKS["mrpc"].kind, TASKS["mrpc"].primary
        (('sentence1', 'sentence2'), 'classification', 'combined')
    """

    fields: tuple[str, ...]
    labels: int
    metrics: tuple[str, ...]
    source: Path | str
    version: str

    @property
    def kind(self) -> Literal["classification", "regression"]:
        """Regression where a number is predicted, else classification."""
        return "regression" if self.labels == 1 else "classification"

    @property
    def primary(self) -> str:
        """The metric that stands for the task."""
        return self.metrics[0]


ONE, PAIR = ("sentence",), ("sentence1", "sentence2")
CORRELATED = ("pearson", "spearman")


def _glue(name: str, fields: tuple[str, ...], labels: int, *metrics: str) -> Task:
    return Task(fields, labels, metrics, name, "1.0.0")


def _nano(name: str, fields: tuple[str, ...], labels: int, *metrics: str) -> Task:
    return Task(fields, labels, metrics, FOLDER / name, "1.0")


TASKS: Final[Mapping[str, Task]] = MappingProxyType(
    {
        "cola": _glue("cola", ONE, 2, "matthews", "accuracy"),
        "mrpc": _glue("mrpc", PAIR, 2, "combined", "accuracy", "f1"),
        "qnli": _glue("qnli", ("question", "sentence"), 2, "accuracy"),
        "rte": _glue("rte", PAIR, 2, "accuracy"),
        "sst2": _glue("sst2", ONE, 2, "accuracy"),
        "stsb": _glue("stsb", PAIR, 1, "combined", *CORRELATED),
        "wnli": _glue("wnli", PAIR, 2, "accuracy"),
        "nano_cola": _nano("nano_cola", ONE, 2, "accuracy", "matthews"),
        "nano_sst2": _nano("nano_sst2", ONE, 2, "accuracy"),
        "nano_rte": _nano("nano_rte", PAIR, 2, "accuracy"),
        "nano_paraphrase": _nano("nano_paraphrase", PAIR, 2, "accuracy", "f1"),
        "nano_sts": _nano("nano_sts", PAIR, 1, *CORRELATED),
    }
)
"""The tasks by name: seven of GLUE's and the bundled five."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Tokenised documents: `inputs` `[documents, longest]` by name, and `labels` `[documents]`.

    The inputs are padded on the right.
    """

    inputs: Mapping[str, Tensor]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> Tensor:
        """The number of tokens of each document, `[documents]`."""
        return self.inputs["attention_mask"].sum(-1)

    def batch(self, indices: Tensor) -> dict[str, Tensor]:
        """Return the inputs of the documents at `indices`, without columns of padding only."""
        length = int(self.inputs["attention_mask"][indices].sum(-1).max())
        return {name: values[indices, :length] for name, values in self.inputs.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A task whose documents are read and tokenised, ready to fine-tune and score any number of plans.

    `prepare` makes it.

    Attributes:
        name: The task's name.
        version: The version of its documents.
        task: The task's row in `TASKS`.
        train: The documents to fine-tune on.
        validation: The documents to score.
        training_documents: The limit on `train` that was asked for; None is no limit.
        max_length: The limit on tokens per document that was asked for.
        digest: Twelve hexadecimal digits over every text, label and token of both splits.
        sample_seed: The seed by which the documents to score were drawn; None where they are the first ones, or all.
        notes: What a user should know about the documents.

    Examples:
        >>> from painters import glue
        >>> _, tokenizer = glue.load_encoder("nano-bert", device="cpu")
        >>> prepared = glue.prepare("nano_cola", tokenizer, limit=2, documents=8)
        >>> len(prepared.train), prepared.documents, prepared.task.primary
        (8, 2, 'accuracy')
    """

    name: str
    version: str
    task: Task
    train: Encoded
    validation: Encoded
    training_documents: int | None
    max_length: int
    digest: str
    sample_seed: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def documents(self) -> int:
        """The number of documents that are scored."""
        return len(self.validation)


def prepare(
    task: str | Path,
    tokenizer: Any,
    *,
    limit: int | float | None = None,
    sample: int | None = None,
    sample_seed: int | None = None,
    documents: int | None = None,
    max_length: int = 128,
) -> Prepared:
    """Read and tokenise the documents of a task.

    Args:
        task: A name in `TASKS`, or a folder named after one of them that holds `train` and `validation` as .jsonl,
            .csv, .tsv or .parquet, with GLUE's columns.
        tokenizer: The tokenizer of the encoder.
        limit: Keep only the first `limit` validation documents, which are the scored ones, or a share of them, such as
            0.1. None keeps all.
        sample: Draw this many of them at random instead.
        sample_seed: The seed of the draw; None for 0.
        documents: Keep only the first `documents` training documents. None keeps all.
        max_length: Truncate texts to this many tokens, or to the tokenizer's `model_max_length` if that is less.

    Returns:
        The task with both splits tokenised.

    Raises:
        TaskError: For an unknown task, documents of another form, or a count below 1.
        TaskUnavailableError: Where the documents cannot be loaded now.

    Examples:
        >>> from painters import glue
        >>> _, tokenizer = glue.load_encoder("nano-bert", device="cpu")
        >>> glue.prepare("nano_rte", tokenizer, limit=3).documents
        3
    """
    try:
        selection = DocumentSelection.checked(limit, sample, sample_seed)
    except ValueError as error:
        raise TaskError(str(error)) from None
    for option, count in (("documents", documents), ("max_length", max_length)):
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
            raise TaskError(f"{option} {count!r}: give a whole number, 1 or more")
    name, row, folder = _find(task)
    splits = _from_hub(name, row) if folder is None else {split: _from_folder(folder, split) for split in SPLITS}
    digest = hashlib.sha256()
    total = len(splits["validation"])
    note = selection.note(total, name)
    kept = (("train", splits["train"][:documents]), ("validation", selection.of(splits["validation"])))
    train, validation = (_encoded(name, split, row, rows, tokenizer, max_length, digest) for split, rows in kept)
    return Prepared(
        name=name,
        version=row.version,
        task=row,
        train=train,
        validation=validation,
        training_documents=documents,
        max_length=max_length,
        digest=digest.hexdigest()[:12],
        sample_seed=selection.drawn_by(total),
        notes=(note,) if note else (),
    )


def _find(task: str | Path) -> tuple[str, Task, Path | None]:
    """Return the task's name, its row, and the folder of its documents; None where they are on the hub."""
    text = str(task)
    name, is_path = Path(text).name, isinstance(task, Path) or any(mark in text for mark in "/\\")
    if name not in TASKS:
        close = difflib.get_close_matches(name, TASKS, 3, 0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else "choose one of them."
        raise TaskError(
            f"task {text!r}: encoders are scored on {', '.join(TASKS)}; {hint} "
            "A folder must be named after the task whose documents it holds"
        )
    row = TASKS[name]
    if is_path:
        if not Path(text).is_dir():
            raise TaskUnavailableError(
                f"task {text!r}: there is no such folder; give one with train and validation as "
                f"{', '.join(SUFFIXES)}, or the name {name!r} alone"
            )
        return name, row, Path(text)
    return name, row, row.source if isinstance(row.source, Path) else None


def _from_hub(name: str, row: Task) -> dict[str, list[dict[str, Any]]]:
    """Return the documents of both splits from GLUE on the hub, or from the cache of datasets."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        return patiently(
            lambda: {split: datasets.load_dataset(HUB, row.source, split=split).to_list() for split in SPLITS}
        )
    except Exception as error:  # datasets and the hub client raise exceptions of many kinds
        bundled = ", ".join(other for other in TASKS if isinstance(TASKS[other].source, Path))
        raise TaskUnavailableError(
            f"task {name!r}: its documents cannot be loaded from {HUB}: {type(error).__name__}: "
            f"{first_line(error)}. Be online the first time (without HF_DATASETS_OFFLINE and HF_HUB_OFFLINE), "
            f"afterwards the cache serves them; or give a folder DIR/{name} with train and validation as "
            f"{', '.join(SUFFIXES)}. Bundled tasks need no network: {bundled}"
        ) from error
    finally:
        if shown:
            datasets.enable_progress_bars()


def _from_folder(folder: Path, split: str) -> list[dict[str, Any]]:
    """Return the documents of a split, from the first file with a known suffix."""
    import pandas as pd

    paths = [folder / f"{split}{suffix}" for suffix in SUFFIXES]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise TaskUnavailableError(f"task in {folder}: there is no {' or '.join(path.name for path in paths)}")
    try:
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        else:  # words such as "None" and "NA" are texts, not missing values
            table = pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", keep_default_na=False)
    except (OSError, ValueError) as error:
        raise TaskError(f"task in {folder}: {path.name} cannot be read: {type(error).__name__}: {error}") from error
    return [dict(zip(table.columns, row, strict=True)) for row in table.to_numpy(object).tolist()]


def _encoded(
    name: str,
    split: str,
    row: Task,
    documents: Sequence[Mapping[str, Any]],
    tokenizer: Any,
    max_length: int,
    digest: Any,
) -> Encoded:
    """Tokenise the documents of a split and update `digest` with their texts, labels and tokens."""
    if not documents:
        raise TaskError(f"task {name!r}: its {split} split holds no documents")
    missing = [field for field in (*row.fields, "label") if any(field not in document for document in documents)]
    if missing:
        raise TaskError(
            f"task {name!r}: its {split} split has the columns {', '.join(map(str, documents[0]))}, and not "
            f"{', '.join(missing)}: it must have {', '.join((*row.fields, 'label'))}"
        )
    texts = [[str(document[field]) for document in documents] for field in row.fields]
    labels = _labels(name, split, row, [document["label"] for document in documents])
    encoded = tokenizer(
        *texts,
        truncation=True,
        max_length=min(max_length, tokenizer.model_max_length),
        padding=True,
        padding_side="right",
        return_attention_mask=True,
        return_tensors="pt",
    )
    digest.update(json.dumps([split, texts, labels.tolist(), encoded["input_ids"].tolist()]).encode())
    return Encoded(dict(encoded), labels)


def _labels(name: str, split: str, row: Task, labels: Sequence[Any]) -> Tensor:
    """Return the labels as a tensor `[documents]`: classes as int64, numbers as float32."""
    invalid = [label for label in labels if not _is_valid(label, row.labels)]
    if invalid:
        valid = "numbers" if row.labels == 1 else f"classes from 0 to {row.labels - 1}"
        raise TaskError(f"task {name!r}: its {split} split has the label {invalid[0]!r}, and labels are {valid}")
    numbers = np.array([float(label) for label in labels])
    return torch.tensor(numbers, dtype=torch.float32 if row.labels == 1 else torch.int64)


def _is_valid(label: Any, num_labels: int) -> bool:
    """Return whether `label` is a class below `num_labels`, or any finite number where that is 1."""
    try:
        number = float(label)
    except (TypeError, ValueError):
        return False
    return bool(np.isfinite(number)) and (num_labels == 1 or number in range(num_labels))
