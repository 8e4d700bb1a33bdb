"""Encoders under a plan, fine-tuned and scored on GLUE's tasks and on the bundled ones.

The model that is given is never changed: every fine-tuning starts from a copy of its weights. On the CPU the same
request gives the same numbers bit by bit.
"""

from __future__ import annotations

import copy
import datetime
import importlib.metadata
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from painters import __version__, results, scoring
from painters._glue_loading import load_encoder, require_classifier
from painters._glue_metrics import bootstrap_stderr, chance, metric
from painters._glue_tasks import TASKS, Prepared, Task, prepare
from painters._glue_training import (
    Tell,
    classified,
    fine_tune,
    fine_tune_classifier,
    logits_of,
    seeded,
    states_of,
)
from painters.engine import surgery
from painters.models import ModelError, by_name_or_loaded, describe, weights_digest
from painters.plan import Plan
from painters.results import Record
from painters.stack import LayerStack
from painters.tuning import PROTOCOLS, Tuning

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "TASKS",
    "ModelError",
    "Prepared",
    "Scorer",
    "Task",
    "evaluate",
    "load_encoder",
    "prepare",
]

SEED = 42  # run_glue's own, and the paper's
_LIBRARIES = ("torch", "transformers", "tokenizers")


class Progress(Protocol):
    """Called after every batch: documents that were trained on or answered, how many there will be, and what for."""

    def __call__(self, done: int, total: int, what: str) -> None: ...


def evaluate(
    model: Any,
    plans: str | Plan | Sequence[str | Plan],
    tasks: str | Path | Prepared | Sequence[str | Path | Prepared],
    *,
    tuning: Tuning | str = "retuned",
    tokenizer: Any = None,
    intact: bool = True,
    limit: int | None = None,
    seed: int = SEED,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """One row per plan, task and metric, as `painters.evaluate` gives them for decoders.

    `model` is a name for `load_encoder`, or a loaded model with its `tokenizer`; `tuning` says how it is fine-tuned, or
    names a protocol with the paper's settings. With `intact` the model as it is gets fine-tuned and scored too.
    """
    model, tokenizer = by_name_or_loaded(model, tokenizer, load_encoder)
    if isinstance(tuning, str):
        if tuning not in PROTOCOLS:
            raise ValueError(f"tuning {tuning!r}: give a Tuning, or one of {', '.join(PROTOCOLS)}")
        tuning = Tuning.model_validate({"protocol": tuning})
    scorer = Scorer(model, tokenizer)
    wanted = [plans] if isinstance(plans, str | Plan) else list(plans)
    parsed = list(dict.fromkeys(Plan.parse(plan) if isinstance(plan, str) else plan for plan in wanted))
    if not parsed:
        raise ValueError("no plan given: name one or more, such as '0-3 {4-7}*3 8-11'")
    for plan in parsed:
        plan.check(scorer.num_layers, scorer.name)
    asked = [tasks] if isinstance(tasks, str | Path | Prepared) else list(tasks)
    prepared = [task if isinstance(task, Prepared) else scorer.prepare(task, tuning, limit=limit) for task in asked]
    identity = Plan.identity(scorer.num_layers)
    scored = parsed if identity in parsed or not intact else [identity, *parsed]
    records = [
        record
        for plan in scored
        for task in prepared
        for record in scorer.score(plan, task, tuning, seed=seed, batch_size=batch_size, progress=progress)
    ]
    table = results.frame(records)
    return table[table["plan"].isin([str(plan) for plan in parsed])].reset_index(drop=True)


class Scorer:
    """Fine-tunes and scores copies of one encoder.

    `model` is what `load_encoder` gives, or any encoder in memory; its classifier does not count, because every
    fine-tuning starts with a fresh one that `seed` determines. What the protocol `operated` has fine-tuned is kept, one
    model for each task, tuning and seed.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.name, self.revision = describe(model)
        self.num_layers = LayerStack.find(model).num_layers
        self._weights = _pretrained(model)
        self.weights = weights_digest(SimpleNamespace(state_dict=lambda: self._weights))
        self._tuned: dict[tuple[str, Tuning, int], Any] = {}

    def prepare(self, task: str | Path, tuning: Tuning, *, limit: int | None = None) -> Prepared:
        """The task as `tuning` wants it, with this encoder's tokens."""
        return prepare(task, self.tokenizer, limit=limit, documents=tuning.documents, max_length=tuning.max_length)

    def score(
        self,
        plan: Plan | str,
        prepared: Prepared,
        tuning: Tuning,
        *,
        seed: int = SEED,
        batch_size: int = 32,
        progress: Progress | None = None,
    ) -> list[Record]:
        """One record for each metric of the task; `painters.tuning` says what the protocols mean.

        `batch_size` is that of scoring, `seed` determines the fresh weights, the order of the documents and dropout.
        Accuracies have an outcome for each document; the standard errors of the other metrics are bootstrapped over
        documents with a fixed seed. `seconds` counts fine-tuning and scoring; what `operated` fine-tunes once for all
        plans counts for the first of them alone. Where an answer is not finite, as after a training that diverged,
        values are None.

        Raises PlanError and SurgeryError as `surgery` does, and ValueError for a task prepared for another tuning.
        """
        plan = Plan.parse(plan) if isinstance(plan, str) else plan
        plan.check(self.num_layers, self.name)
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size {batch_size!r}: give a number of documents, 1 or more")
        _check_same(prepared, tuning)
        tell = self._teller(progress, plan, prepared, tuning, seed)
        began = time.perf_counter()
        logits = self._logits(plan, prepared, tuning, seed, batch_size, tell)
        fields = {
            "plan": str(plan),
            "tuning": tuning,
            "seed": seed,
            "batch_size": batch_size,
            "layer_runs": plan.layer_runs,
            "depth": plan.depth,
            "seconds": time.perf_counter() - began,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        return list(_records(prepared, logits, self._about() | fields))

    def _logits(self, plan: Plan, prepared: Prepared, tuning: Tuning, seed: int, rows: int, tell: Tell) -> Tensor:
        """The answers [documents, labels] to the validation documents."""
        with seeded(seed, self.model.device):
            if tuning.protocol == "operated":
                model = self._operated(prepared, tuning, seed, tell)
                with surgery(model, plan):
                    return logits_of(model, prepared.validation, rows, tell)
            model = self._classifier(prepared.task, seed)
            with surgery(model, plan):
                if tuning.protocol == "retuned":
                    fine_tune(model, prepared.train, tuning, seed, tell)
                    return logits_of(model, prepared.validation, rows, tell)
                states, asked = (states_of(model, split, rows, tell) for split in (prepared.train, prepared.validation))
            fine_tune_classifier(model, states, prepared.train.labels, tuning, seed, tell)
            return classified(model, asked)

    def _operated(self, prepared: Prepared, tuning: Tuning, seed: int, tell: Tell) -> Any:
        """The intact model, fine-tuned on the task once."""
        key = _key(prepared, tuning, seed)
        if key not in self._tuned:
            model = self._classifier(prepared.task, seed)
            fine_tune(model, prepared.train, tuning, seed, tell)
            self._tuned[key] = model
        return self._tuned[key]

    def _classifier(self, task: Task, seed: int) -> Any:
        """A sequence classifier for the task with the pretrained weights; `seed` determines all others."""
        config = copy.deepcopy(self.model.config)
        config.num_labels = task.labels
        config.problem_type = "regression" if task.kind == "regression" else "single_label_classification"
        with seeded(seed, torch.device("cpu")):
            model: Any = AutoModelForSequenceClassification.from_config(  # type: ignore[no-untyped-call]
                config,
                dtype=self.model.dtype,
                attn_implementation=self.model.config._attn_implementation,
                trust_remote_code=hasattr(config, "auto_map"),  # it is the code of a model that runs already
            )
        require_classifier(model, self.name)
        _refuse_strangers(self.name, model, model.load_state_dict(self._weights, strict=False).missing_keys)
        return model.to(self.model.device)

    def _teller(self, progress: Progress | None, plan: Plan, prepared: Prepared, tuning: Tuning, seed: int) -> Tell:
        """What counts the documents of batches and reports them."""
        passes = 0 if _key(prepared, tuning, seed) in self._tuned else tuning.epochs
        passes += tuning.protocol == "frozen"  # the states are computed first
        done, total = 0, passes * len(prepared.train) + prepared.documents

        def tell(documents: int) -> None:
            nonlocal done
            done += documents
            if progress is not None:
                progress(done, total, f"{plan} on {prepared.name}")

        return tell

    def _about(self) -> dict[str, Any]:
        """The fields of a record that the model sets."""
        versions = {library: importlib.metadata.version(library) for library in _LIBRARIES}
        return {
            "model": self.name,
            "revision": self.revision,
            "weights": self.weights,
            "num_layers": self.num_layers,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": self.model.device.type,
            "attention": getattr(self.model.config, "_attn_implementation", None),
            "kv": "exact",
            "shots": 0,
            "versions": {"painters": __version__, **versions},
        }


def _key(prepared: Prepared, tuning: Tuning, seed: int) -> tuple[str, Tuning, int]:
    """What determines the model that `operated` keeps."""
    return f"{prepared.name} {prepared.digest}", tuning, seed


def _pretrained(model: Any) -> dict[str, Tensor]:
    """The weights that a fine-tuning starts from, under the names of a model with a head.

    `load_encoder` leaves on the meta device what the checkpoint does not hold.
    """
    prefix = "" if model.base_model is not model else f"{model.base_model_prefix}."
    named = {prefix + name: weight.detach() for name, weight in model.state_dict().items()}
    return {name: weight for name, weight in named.items() if not weight.is_meta and not name.startswith("classifier.")}


def _refuse_strangers(name: str, model: Any, fresh: Sequence[str]) -> None:
    """Nothing; ModelError where weights of the encoder itself would be random."""
    base = f"{model.base_model_prefix}."
    random = [key for key in fresh if key.startswith(base) and not key.startswith(f"{base}pooler.")]
    if random:
        raise ModelError(
            f"model {name!r} holds {len(random)} of its encoder's weights under no known name, such as {random[0]}: it "
            f"must be an encoder of the transformers library, bare or with a head"
        )


def _check_same(prepared: Prepared, tuning: Tuning) -> None:
    found = {"documents": prepared.training_documents, "max_length": prepared.max_length}
    for name, value in found.items():
        if value != getattr(tuning, name):
            raise ValueError(
                f"task {prepared.name!r} was prepared with {name}={value}, and the tuning says "
                f"{name}={getattr(tuning, name)}: prepare it with that, or use Scorer.prepare"
            )


def _records(prepared: Prepared, logits: Tensor, fields: dict[str, Any]) -> Iterator[Record]:
    """One record for each metric, from the logits [documents, labels] of the validation documents."""
    task, labels = prepared.task, prepared.validation.labels.numpy()
    not_finite = int((~logits.isfinite().all(-1)).sum())
    answers = (logits[:, 0] if task.kind == "regression" else logits.argmax(-1)).numpy()
    if task.kind == "regression":
        answers, labels = answers.astype(np.float64), labels.astype(np.float64)
    for name in task.metrics:
        score = metric(name, task.metrics)
        value = None if not_finite else float(score(answers, labels))
        known = value is not None and np.isfinite(value)
        outcomes = tuple((answers == labels).astype(float).tolist()) if known and name == "accuracy" else None
        aggregation = "mean" if name == "accuracy" else name
        if outcomes is not None and value is not None:
            stderr = scoring.stderr(aggregation, outcomes, value)
        else:
            stderr = bootstrap_stderr(score, answers, labels) if known else None
        yield Record(
            **fields,
            task=prepared.name,
            task_version=prepared.version,
            documents=prepared.documents,
            requests=prepared.digest,
            metric=name,
            aggregation=aggregation,
            higher_is_better=True,
            primary=name == task.primary,
            value=value if known else None,
            stderr=stderr,
            outcomes=outcomes,
            chance=chance(name, task.metrics, labels),
            not_finite=not_finite,
        )
