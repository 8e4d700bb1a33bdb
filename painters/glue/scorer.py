"""Score encoders under plans: fine-tune copies of one on a task, and make records of what they answer.

The given model never changes: every fine-tuning starts from a copy of its weights. On the CPU the same request gives
the same numbers bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from painters.experiment.tuning import Tuning
from painters.glue.protocols import FineTuner, PlanLogits, ScoringJob
from painters.glue.records import records
from painters.glue.tasks import Prepared, prepare
from painters.glue.training import OnBatch, with_memory_advice
from painters.models import describe, weights_digest
from painters.plan import Plan, PlanLike, PlansLike, distinct
from painters.progress import OnProgress
from painters.results import Record
from painters.results.partial import Partials
from painters.results.provenance import model_fields, timestamp
from painters.stack import LayerStack

SEED = 42  # run_glue's own, and the paper's


class Scorer:
    """Fine-tunes and scores copies of one encoder.

    The classifier of the given model does not count: every fine-tuning starts with a fresh one that `seed` determines.
    The baseline that the protocol `operated` fine-tunes is kept until another task, tuning or seed is asked for, so
    score all plans of one before the next.

    Args:
        model: What `load_encoder` returns, or any encoder in memory.
        tokenizer: The encoder's tokenizer.

    Raises:
        SurgeryError: For a model whose layers are not found, or are shared.

    Examples:
        >>> from painters import glue
        >>> from painters.experiment.tuning import Tuning
        >>> scorer = glue.Scorer(*glue.load_encoder("nano-bert", device="cpu"))
        >>> tuning = Tuning(protocol="frozen", epochs=1, documents=8)
        >>> task = scorer.prepare("nano_sst2", tuning, limit=4)
        >>> [record] = scorer.score("0-4 6-11", task, tuning)
        >>> record.metric, record.documents, record.layer_runs
        ('accuracy', 4, 11)
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.name, self.revision = describe(model)
        self.num_layers = LayerStack.find(model).num_layers
        self._fine_tuner = FineTuner(model, self.name)
        self.weights = weights_digest(SimpleNamespace(state_dict=lambda: self._fine_tuner.pretrained))

    def prepare(
        self,
        task: str | Path,
        tuning: Tuning,
        *,
        limit: int | float | None = None,
        sample: int | None = None,
        sample_seed: int | None = None,
    ) -> Prepared:
        """Read and tokenise a task with this encoder's tokenizer, as `tuning` wants it.

        Args:
            task: A name in `TASKS`, or a folder, as `painters.glue.prepare` takes it.
            tuning: The fine-tuning: its `documents` and `max_length` count here.
            limit: Score only the first `limit` validation documents, or a share of them, such as 0.1. None scores all.
            sample: Score this many of them, drawn at random, instead.
            sample_seed: The seed of the draw; None for 0.

        Returns:
            The prepared task.

        Raises:
            TaskError: As `painters.glue.prepare` does.
        """
        selected: dict[str, Any] = {"limit": limit, "sample": sample, "sample_seed": sample_seed}
        return prepare(task, self.tokenizer, **selected, documents=tuning.documents, max_length=tuning.max_length)

    def score(
        self,
        plan: PlanLike,
        prepared: Prepared,
        tuning: Tuning,
        *,
        seed: int = SEED,
        batch_size: int = 32,
        progress: OnProgress | None = None,
    ) -> list[Record]:
        """Fine-tune and score a copy of the encoder under one plan.

        Args:
            plan: The plan, or its text.
            prepared: The task, prepared for `tuning`.
            tuning: The fine-tuning; `painters.experiment.tuning` explains the protocols.
            seed: Determines the fresh weights, the order of the documents, and dropout.
            batch_size: The batch size of scoring. That of training is the tuning's.
            progress: Called after every batch with the documents done, their total, and what is scored.

        Returns:
            One record for each metric of the task. Accuracies hold an outcome for each document; standard errors of
            other metrics are bootstrapped over documents with a fixed seed. `seconds` counts fine-tuning and scoring;
            what `operated` fine-tunes once for all plans counts for the first of them alone. Where an answer is not
            finite, as after a training that diverged, values are None.

        Raises:
            PlanError: For a plan that does not fit the encoder.
            SurgeryError: For an encoder that cannot follow the plan.
            ValueError: For a task prepared for another tuning, or a batch size below 1.
        """
        checked = self._checked(plan)
        job = ScoringJob(prepared, tuning, seed, batch_size)
        return list(self._records(self._fine_tuner.one_by_one, checked, job, progress))

    def score_together(
        self,
        plans: PlansLike,
        prepared: Prepared,
        tuning: Tuning,
        *,
        seed: int = SEED,
        batch_size: int = 32,
        progress: OnProgress | None = None,
        partials: Partials | None = None,
    ) -> Iterator[Record]:
        """Score many plans and run once what they have in common; the numbers are those of `score`.

        `frozen` computes the states of all plans together (`painters.sharing`), then trains a classifier for each.
        `operated` scores all plans together. Under `retuned` there is nothing to share.

        Args:
            plans: Plans, or their texts; repeated ones count once.
            prepared: As for `score`.
            tuning: As for `score`.
            seed: As for `score`.
            batch_size: As for `score`.
            progress: As for `score`.
            partials: Where the states of trainings and the answers are kept now and then, so that an interrupted call
                goes on from them, to the same records. None keeps nothing.

        Yields:
            The records of `score`, plan by plan, in the order of `plans` unless their states take more than
            `STATES_BYTES`. `seconds` is what a plan took for itself, and its part, by layer runs, of what plans took
            together.

        Raises:
            PlanError: As `score` does, with the first record; the other errors too.
        """
        checked = self._checked(plans)
        job = ScoringJob(prepared, tuning, seed, batch_size, partials, self._determines(tuning, seed))
        yield from self._records(self._fine_tuner.together, checked, job, progress)

    def _determines(self, tuning: Tuning, seed: int) -> dict[str, Any]:
        """Return what determines the bits of a training, besides its documents and plan."""
        device = self.model.device
        return model_fields(self.model, self.num_layers, weights=self.weights) | {
            "tuning": tuning.model_dump(),
            "seed": seed,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "threads": torch.get_num_threads() if device.type == "cpu" else None,
        }

    def _checked(self, plans: PlansLike) -> tuple[Plan, ...]:
        """Return the distinct plans; PlanError where one does not fit the encoder."""
        checked = distinct(plans)
        for plan in checked:
            plan.check(self.num_layers, self.name)
        return checked

    def _records(
        self,
        compute: Callable[[Sequence[Plan], ScoringJob, OnBatch], Iterator[PlanLogits]],
        plans: Sequence[Plan],
        job: ScoringJob,
        progress: OnProgress | None,
    ) -> Iterator[Record]:
        """Yield the records of the logits that `compute` yields."""
        what = f"{plans[0] if len(plans) == 1 else f'{len(plans)} plans'} on {job.prepared.name}"
        on_batch = _counter(progress, self._fine_tuner.documents_to_run(len(plans), job), what)
        settings = {"kv": "exact", "shots": 0, "tuning": job.tuning, "seed": job.seed, "batch_size": job.batch_size}
        common = model_fields(self.model, self.num_layers, weights=self.weights) | settings
        computed = compute(plans, job, on_batch)
        for plan, logits, seconds in with_memory_advice(computed, job.tuning, job.batch_size):
            cost = {"plan": str(plan), "layer_runs": plan.layer_runs, "depth": plan.depth, "seconds": seconds}
            yield from records(job.prepared, logits, common | cost | {"date": timestamp()})


def _counter(progress: OnProgress | None, total: int, what: str) -> OnBatch:
    """Return a callback that sums up the documents of batches and reports the sum to `progress`."""
    done = 0

    def on_batch(documents: int) -> None:
        nonlocal done
        done += documents
        if progress is not None:
            progress(done, total, what)

    return on_batch
