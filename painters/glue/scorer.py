"""Encoders under a plan, fine-tuned and scored on GLUE's tasks and on the bundled ones.

The model that is given is never changed: every fine-tuning starts from a copy of its weights. On the CPU the same
request gives the same numbers bit by bit.
"""

from __future__ import annotations

import copy
import datetime
import importlib.metadata
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from painters import __version__, results
from painters.engine import surgery
from painters.experiment.tuning import PROTOCOLS, STATES_BYTES, Tuning
from painters.glue.loading import load_encoder, pretrained, refuse_strangers, require_classifier
from painters.glue.records import records
from painters.glue.tasks import TASKS, Prepared, Task, prepare
from painters.glue.training import (
    Tell,
    classified,
    fine_tune,
    fine_tune_classifier,
    logits_of,
    logits_under,
    seeded,
    states_of,
    states_under,
    with_room,
)
from painters.models import ModelError, by_name_or_loaded, describe, weights_digest
from painters.plan import Plan, distinct
from painters.progress import progress_callback
from painters.results import Record
from painters.sharing import Sharing
from painters.sharing.trie import groups
from painters.stack import LayerStack

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
    progress: Progress | bool | None = None,
) -> pd.DataFrame:
    """One row per plan, task and metric, as `painters.evaluate` gives them for decoders.

    `model` is a name for `load_encoder`, or a loaded model with its `tokenizer`; `tuning` says how it is fine-tuned, or
    names a protocol with the paper's settings. With `intact` the model as it is gets fine-tuned and scored too.
    `progress` is that of `painters.evaluate`.
    """
    model, tokenizer = by_name_or_loaded(model, tokenizer, load_encoder)
    if isinstance(tuning, str):
        if tuning not in PROTOCOLS:
            raise ValueError(f"tuning {tuning!r}: give a Tuning, or one of {', '.join(PROTOCOLS)}")
        tuning = Tuning.model_validate({"protocol": tuning})
    scorer = Scorer(model, tokenizer)
    wanted = distinct(plans)
    for plan in wanted:
        plan.check(scorer.num_layers, scorer.name)
    asked = [tasks] if isinstance(tasks, str | Path | Prepared) else list(tasks)
    prepared = [task if isinstance(task, Prepared) else scorer.prepare(task, tuning, limit=limit) for task in asked]
    identity = Plan.identity(scorer.num_layers)
    scored = wanted if identity in wanted or not intact else (identity, *wanted)
    with progress_callback(progress) as on_progress:
        options: dict[str, Any] = {"seed": seed, "batch_size": batch_size, "progress": on_progress}
        found = [record for task in prepared for record in scorer.score_together(scored, task, tuning, **options)]
    order = [str(plan) for plan in wanted]
    table = results.frame(found)
    table = table[table["plan"].isin(order)]
    return table.sort_values("plan", key=lambda texts: texts.map(order.index), kind="stable", ignore_index=True)


class _Asked(NamedTuple):
    """What the plans are asked, in batches of `rows`, and whom to tell."""

    prepared: Prepared
    tuning: Tuning
    seed: int
    rows: int
    tell: Tell


class _Answer(NamedTuple):
    """The logits [documents, labels] of a plan, and the seconds that they took."""

    plan: Plan
    logits: Tensor
    seconds: float


class Scorer:
    """Fine-tunes and scores copies of one encoder.

    `model` is what `load_encoder` gives, or any encoder in memory; its classifier does not count, because every
    fine-tuning starts with a fresh one that `seed` determines. What the protocol `operated` has fine-tuned is kept
    until it fine-tunes for another task, tuning or seed: score the plans of one after another.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.name, self.revision = describe(model)
        self.num_layers = LayerStack.find(model).num_layers
        self._weights = pretrained(model)
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
        """One record for each metric of the task; `painters.experiment.tuning` says what the protocols mean.

        `batch_size` is that of scoring, `seed` determines the fresh weights, the order of the documents and dropout.
        Accuracies have an outcome for each document; the standard errors of the other metrics are bootstrapped over
        documents with a fixed seed. `seconds` counts fine-tuning and scoring; what `operated` fine-tunes once for all
        plans counts for the first of them alone. Where an answer is not finite, as after a training that diverged,
        values are None.

        Raises PlanError and SurgeryError as `surgery` does, and ValueError for a task prepared for another tuning.
        """
        return list(self._score(self._alone, plan, prepared, tuning, seed, batch_size, progress))

    def score_together(
        self,
        plans: str | Plan | Sequence[str | Plan],
        prepared: Prepared,
        tuning: Tuning,
        *,
        seed: int = SEED,
        batch_size: int = 32,
        progress: Progress | None = None,
    ) -> Iterator[Record]:
        """The records of `score` for each distinct plan, number for number; what plans have in common is run once.

        `frozen` computes the states of all plans together (`painters.sharing`), then trains a classifier for each,
        `operated` scores all plans together, and under `retuned` there is nothing to share. The seconds of a record are
        the plan's part, by its layer runs, of those that plans took together, and those that it took for itself.

        The records come plan by plan, in the order of `plans` unless their states take more than `STATES_BYTES`.
        """
        how = {"retuned": self._alone, "frozen": self._frozen_together, "operated": self._operated_together}
        yield from self._score(how[tuning.protocol], plans, prepared, tuning, seed, batch_size, progress)

    def _score(
        self,
        answers: Callable[[tuple[Plan, ...], _Asked], Iterator[_Answer]],
        plans: str | Plan | Sequence[str | Plan],
        prepared: Prepared,
        tuning: Tuning,
        seed: int,
        rows: int,
        progress: Progress | None,
    ) -> Iterator[Record]:
        wanted = distinct(plans)
        for plan in wanted:
            plan.check(self.num_layers, self.name)
        if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
            raise ValueError(f"batch_size {rows!r}: give a number of documents, 1 or more")
        _check_same(prepared, tuning)
        tell = self._teller(progress, wanted, prepared, tuning, seed)
        about = self._about() | {"tuning": tuning, "seed": seed, "batch_size": rows}
        found = answers(wanted, _Asked(prepared, tuning, seed, rows, tell))
        for plan, logits, seconds in with_room(found, tuning, rows):
            cost = {"plan": str(plan), "layer_runs": plan.layer_runs, "depth": plan.depth, "seconds": seconds}
            date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            yield from records(prepared, logits, about | cost | {"date": date})

    def _alone(self, plans: tuple[Plan, ...], asked: _Asked) -> Iterator[_Answer]:
        """The answers of one plan after the other."""
        for plan in plans:
            began = time.perf_counter()
            logits = self._logits(plan, asked)
            yield _Answer(plan, logits, time.perf_counter() - began)

    def _logits(self, plan: Plan, asked: _Asked) -> Tensor:
        """The answers [documents, labels] to the validation documents."""
        prepared, tuning, seed, rows, tell = asked
        with seeded(seed, self.model.device):
            if tuning.protocol == "operated":
                model = self._operated(asked)
                with surgery(model, plan):
                    return logits_of(model, prepared.validation, rows, tell)
            model = self._classifier(prepared.task, seed)
            with surgery(model, plan):
                if tuning.protocol == "retuned":
                    fine_tune(model, prepared.train, tuning, seed, tell)
                    return logits_of(model, prepared.validation, rows, tell)
                states, known = (states_of(model, split, rows, tell) for split in (prepared.train, prepared.validation))
            fine_tune_classifier(model, states, prepared.train.labels, tuning, seed, tell)
            return classified(model, known)

    def _frozen_together(self, plans: tuple[Plan, ...], asked: _Asked) -> Iterator[_Answer]:
        """The answers of all plans, as many at a time as have room for their states."""
        prepared, tuning, seed, rows, tell = asked
        began = time.perf_counter()
        model = self._classifier(prepared.task, seed)
        fresh = copy.deepcopy(model.classifier)
        splits = (prepared.train, prepared.validation)
        size = sum(map(len, splits)) * model.config.hidden_size * model.dtype.itemsize
        for group in groups(plans, max(1, STATES_BYTES // size)):
            run = Sharing(model, group).run
            states, known = (states_under(run, model, split, rows, tell) for split in splits)
            seconds = time.perf_counter() - began
            for plan in group:
                began = time.perf_counter()
                model.classifier = copy.deepcopy(fresh)
                with seeded(seed, self.model.device):
                    fine_tune_classifier(model, states.pop(plan), prepared.train.labels, tuning, seed, tell)
                logits = classified(model, known.pop(plan))
                own = time.perf_counter() - began
                yield _Answer(plan, logits, own + _share(seconds, plan, group))
            began = time.perf_counter()

    def _operated_together(self, plans: tuple[Plan, ...], asked: _Asked) -> Iterator[_Answer]:
        """The answers of all plans; the fine-tuning counts for the first."""
        began = time.perf_counter()
        with seeded(asked.seed, self.model.device):
            model = self._operated(asked)
        own, began = time.perf_counter() - began, time.perf_counter()
        logits = logits_under(Sharing(model, plans).run, model, asked.prepared.validation, asked.rows, asked.tell)
        seconds = time.perf_counter() - began
        for plan in plans:
            yield _Answer(plan, logits[plan], own + _share(seconds, plan, plans))
            own = 0.0

    def _operated(self, asked: _Asked) -> Any:
        """The intact model, fine-tuned on the task once."""
        prepared, tuning, seed, _, tell = asked
        key = _key(prepared, tuning, seed)
        if key not in self._tuned:
            self._tuned.clear()  # one for every task would fill the memory
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
        refuse_strangers(self.name, model, model.load_state_dict(self._weights, strict=False).missing_keys)
        return model.to(self.model.device)

    def _teller(
        self, progress: Progress | None, plans: tuple[Plan, ...], prepared: Prepared, tuning: Tuning, seed: int
    ) -> Tell:
        """What counts the documents of batches and reports them."""
        epochs = tuning.epochs * len(prepared.train)
        if tuning.protocol == "operated":
            once, each = 0 if _key(prepared, tuning, seed) in self._tuned else epochs, 0
        else:
            once, each = 0, epochs + (tuning.protocol == "frozen") * len(prepared.train)  # states come first
        done, total = 0, once + len(plans) * (each + prepared.documents)
        what = f"{plans[0] if len(plans) == 1 else f'{len(plans)} plans'} on {prepared.name}"

        def tell(documents: int) -> None:
            nonlocal done
            done += documents
            if progress is not None:
                progress(done, total, what)

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


def _share(seconds: float, plan: Plan, plans: Sequence[Plan]) -> float:
    """The part of `plan`, by its layer runs, of the seconds that `plans` took together."""
    return seconds * plan.layer_runs / sum(one.layer_runs for one in plans)


def _check_same(prepared: Prepared, tuning: Tuning) -> None:
    found = {"documents": prepared.training_documents, "max_length": prepared.max_length}
    for name, value in found.items():
        if value != getattr(tuning, name):
            raise ValueError(
                f"task {prepared.name!r} was prepared with {name}={value}, and the tuning says "
                f"{name}={getattr(tuning, name)}: prepare it with that, or use Scorer.prepare"
            )
