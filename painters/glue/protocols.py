"""Copies of an encoder, fine-tuned by one of the protocols, and their logits under plans."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from painters import _compat
from painters.engine import surgery
from painters.experiment.tuning import STATES_BYTES, Tuning
from painters.glue.checkpoint import Checkpoint
from painters.glue.loading import pretrained_weights, refuse_random_encoder, require_classifier
from painters.glue.tasks import Prepared, Task
from painters.glue.training import (
    OnBatch,
    classified,
    fine_tune,
    fine_tune_classifier,
    keyed_logits,
    keyed_states,
    logits_of,
    seeded,
    states_of,
)
from painters.plan import Plan
from painters.results.partial import Partials
from painters.sharing import Sharing
from painters.sharing.trie import groups


@dataclass(frozen=True)
class ScoringJob:
    """What plans are scored on: a task, how to fine-tune for it, and the settings of the scoring.

    `seed` determines fresh weights, the order of documents and dropout; `batch_size` is that of scoring. What is
    done is kept in `partials`, if any, under the name of everything that `determines` it. Raise ValueError for a batch
    size below 1, and for a task that was prepared for another tuning.
    """

    prepared: Prepared
    tuning: Tuning
    seed: int
    batch_size: int
    partials: Partials | None = None
    determines: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = self.batch_size
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"batch_size {size!r}: give a number of documents, 1 or more")
        prepared_with = {"documents": self.prepared.training_documents, "max_length": self.prepared.max_length}
        for name, value in prepared_with.items():
            if value != getattr(self.tuning, name):
                raise ValueError(
                    f"task {self.prepared.name!r} was prepared with {name}={value}, and the tuning says "
                    f"{name}={getattr(self.tuning, name)}: prepare it with that, or use Scorer.prepare"
                )

    def checkpoint(self, stage: str, plans: Sequence[Plan], documents: int, *, shared: bool = False) -> Checkpoint:
        """Return where the state of a stage of the job is kept, which sees so many documents.

        `shared` says whether further plans need it too.
        """
        if self.partials is None:
            return Checkpoint(None, documents)
        fields = {"stage": stage, "plans": list(map(str, plans)), "requests": self.prepared.digest, **self.determines}
        if stage != "training":
            fields["batch_size"] = self.batch_size
        model = str(self.determines["model"])
        return Checkpoint(self.partials.checkpoint(model, self.prepared.name, fields, shared=shared), documents)

    @property
    def fine_tuning(self) -> tuple[str, Tuning, int]:
        """What determines the fine-tuned baseline of `operated`."""
        return f"{self.prepared.name} {self.prepared.digest}", self.tuning, self.seed


class PlanLogits(NamedTuple):
    """A plan's logits `[documents, labels]` for the validation documents, and the seconds they took."""

    plan: Plan
    logits: Tensor
    seconds: float


class FineTuner:
    """Fine-tunes copies of one encoder and computes their logits under plans.

    The encoder itself never changes. The fine-tuned baseline of `operated` is kept until another task, tuning or seed
    is asked for.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.model, self.name = model, name
        self.pretrained = pretrained_weights(model)
        self._baselines: dict[tuple[str, Tuning, int], Any] = {}  # one at most

    def one_by_one(self, plans: Sequence[Plan], job: ScoringJob, on_batch: OnBatch) -> Iterator[PlanLogits]:
        """Yield the logits of each plan in order; only the baseline of `operated` is shared."""
        for plan in plans:
            start = time.perf_counter()
            logits = self.logits(plan, job, on_batch)
            yield PlanLogits(plan, logits, time.perf_counter() - start)

    def together(self, plans: Sequence[Plan], job: ScoringJob, on_batch: OnBatch) -> Iterator[PlanLogits]:
        """Yield the logits of `one_by_one`, bitwise, but run once what the plans have in common."""
        protocols = {
            "retuned": self.one_by_one,  # every plan trains all weights: nothing is in common
            "frozen": self._frozen_together,
            "operated": self._operated_together,
        }
        return protocols[job.tuning.protocol](plans, job, on_batch)

    def logits(self, plan: Plan, job: ScoringJob, on_batch: OnBatch) -> Tensor:
        """Return the logits `[documents, labels]` of one plan for the validation documents."""
        train, validation, size = job.prepared.train, job.prepared.validation, job.batch_size
        with seeded(job.seed, self.model.device):
            if job.tuning.protocol == "operated":
                model = self._baseline(job, on_batch)
                with surgery(model, plan, threads="own"):
                    return logits_of(model, validation, size, on_batch)
            model = self.classifier(job.prepared.task, job.seed)
            with surgery(model, plan, threads="own"):
                if job.tuning.protocol == "retuned":
                    checkpoint = job.checkpoint("training", [plan], job.tuning.epochs * len(train))
                    fine_tune(model, train, job.tuning, job.seed, on_batch, checkpoint)
                    return logits_of(model, validation, size, on_batch)
                train_states = states_of(model, train, size, on_batch)
                validation_states = states_of(model, validation, size, on_batch)
            fine_tune_classifier(model, train_states, train.labels, job.tuning, job.seed, on_batch)
            return classified(model, validation_states)

    def _frozen_together(self, plans: Sequence[Plan], job: ScoringJob, on_batch: OnBatch) -> Iterator[PlanLogits]:
        """Encode the documents under as many plans as `STATES_BYTES` hold; train a classifier for each."""
        start = time.perf_counter()
        model = self.classifier(job.prepared.task, job.seed)
        fresh = copy.deepcopy(model.classifier)
        train, validation = job.prepared.train, job.prepared.validation
        bytes_per_plan = (len(train) + len(validation)) * model.config.hidden_size * model.dtype.itemsize
        for group in groups(plans, max(1, STATES_BYTES // bytes_per_plan)):
            run = Sharing(model, group).run
            checkpoint = job.checkpoint("states", group, len(train))
            train_states = keyed_states(run, model, train, job.batch_size, on_batch, checkpoint)
            checkpoint = job.checkpoint("validation", group, len(validation))
            validation_states = keyed_states(run, model, validation, job.batch_size, on_batch, checkpoint)
            shared = time.perf_counter() - start
            for plan in group:
                start = time.perf_counter()
                model.classifier = copy.deepcopy(fresh)
                with seeded(job.seed, self.model.device):
                    states = train_states.pop(plan)
                    checkpoint = job.checkpoint("training", [plan], job.tuning.epochs * len(train))
                    fine_tune_classifier(model, states, train.labels, job.tuning, job.seed, on_batch, checkpoint)
                logits = classified(model, validation_states.pop(plan))
                own = time.perf_counter() - start
                yield PlanLogits(plan, logits, own + _share(shared, plan, group))
            start = time.perf_counter()

    def _operated_together(self, plans: Sequence[Plan], job: ScoringJob, on_batch: OnBatch) -> Iterator[PlanLogits]:
        """Score the fine-tuned baseline under all plans together; the first one pays for the fine-tuning."""
        start = time.perf_counter()
        with seeded(job.seed, self.model.device):
            model = self._baseline(job, on_batch)
        own, start = time.perf_counter() - start, time.perf_counter()
        run, validation = Sharing(model, plans).run, job.prepared.validation
        checkpoint = job.checkpoint("validation", plans, len(validation))
        logits = keyed_logits(run, model, validation, job.batch_size, on_batch, checkpoint)
        shared = time.perf_counter() - start
        for plan in plans:
            yield PlanLogits(plan, logits[plan], own + _share(shared, plan, plans))
            own = 0.0

    def _baseline(self, job: ScoringJob, on_batch: OnBatch) -> Any:
        """Return the intact model, fine-tuned on the job's task once."""
        if job.fine_tuning not in self._baselines:
            self._baselines.clear()  # one for every task would fill the memory
            model = self.classifier(job.prepared.task, job.seed)
            train = job.prepared.train
            checkpoint = job.checkpoint("training", (), job.tuning.epochs * len(train), shared=True)
            fine_tune(model, train, job.tuning, job.seed, on_batch, checkpoint)
            self._baselines[job.fine_tuning] = model
        return self._baselines[job.fine_tuning]

    def classifier(self, task: Task, seed: int) -> Any:
        """Return a sequence classifier for the task with the pretrained weights; `seed` determines all others."""
        config = copy.deepcopy(self.model.config)
        config.num_labels = task.labels
        config.problem_type = "regression" if task.kind == "regression" else "single_label_classification"
        with seeded(seed, torch.device("cpu")):
            model: Any = AutoModelForSequenceClassification.from_config(  # type: ignore[no-untyped-call]
                config,
                dtype=self.model.dtype,
                attn_implementation=_compat.attention_implementation(self.model.config),
                trust_remote_code=hasattr(config, "auto_map"),  # it is the code of a model that runs already
            )
        require_classifier(model, self.name)
        refuse_random_encoder(self.name, model, model.load_state_dict(self.pretrained, strict=False).missing_keys)
        return model.to(self.model.device)

    def documents_to_run(self, num_plans: int, job: ScoringJob) -> int:
        """Return how many documents training and scoring will run in all: each one once per epoch and plan."""
        training = job.tuning.epochs * len(job.prepared.train)
        scoring = num_plans * job.prepared.documents
        match job.tuning.protocol:
            case "operated":
                return scoring + (0 if job.fine_tuning in self._baselines else training)
            case "frozen":  # the encoder runs the training documents before the head is trained on its states
                return scoring + num_plans * (len(job.prepared.train) + training)
            case "retuned":
                return scoring + num_plans * training


def _share(seconds: float, plan: Plan, plans: Sequence[Plan]) -> float:
    """Return the part of `plan`, by its layer runs, in the seconds that `plans` took together."""
    return seconds * plan.layer_runs / sum(other.layer_runs for other in plans)
