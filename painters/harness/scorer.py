"""One loaded model that scores plans, alone through lm-eval's own loop or together through their trie."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from painters.engine import Program, operate
from painters.errors import first_line
from painters.experiment import ScoringProtocol
from painters.harness import generation
from painters.harness.batches import LikelihoodBatches
from painters.harness.generation import KnownAnswers
from painters.harness.kept import PlanAnswers, flushing, scoring_fields
from painters.harness.lm import PaintersLM, language_model
from painters.harness.progress import CountingCacheHook, ProgressCounter
from painters.harness.records import records_of, set_answers
from painters.harness.shared_lm import SharingLM
from painters.harness.tasks import Prepared, errors_of_task, quiet, seeded
from painters.memory import MemoryExhausted, is_exhausted
from painters.models import describe, refuse_encoder
from painters.plan import Plan, PlansLike, distinct
from painters.progress import OnProgress
from painters.results import Record
from painters.results.partial import Kept, Partials
from painters.results.provenance import LIBRARIES, model_fields
from painters.stack import LayerStack
from painters.tasks import ScoringError

__all__ = ["Progress", "Scorer"]

Progress: TypeAlias = OnProgress
"""The type of a progress callback, by the name that this package exports."""

_DEFAULT_PROTOCOL = ScoringProtocol()


class Scorer:
    """Scores plans of one loaded model, and does once whatever does not depend on the plan.

    `evaluate`, `score`, `score_all` and `score_together` make one for each call. Keep one yourself to score more
    plans or tasks later without finding the layers, reading the weights and checking the model again. The list of
    layers must stay the one that the model had at first.

    Args:
        model: A causal language model of transformers, already loaded.
        tokenizer: Its tokenizer, which stays untouched.
        stack: The stack of layers that plans run, where there are several: "encoder" or "decoder" of an
            encoder-decoder, or a path. lm-eval gives the context to the encoder, and scores the decoder's answer.

    Attributes:
        model: The model.
        tokenizer: Its tokenizer.
        name: The name of the model in records.
        revision: Its commit on the hub, or None.
        stack: The name of its stack, as it was given, or None.
        num_layers: The number of layers in its stack.
        notes: What a user should know about the scoring so far, and how often it happened.

    Raises:
        ModelError: The model is an encoder.
        SurgeryError: No list of layers is found that plans can operate on.

    Examples:
        >>> from painters import Plan
        >>> from painters.experiment import ScoringProtocol
        >>> from painters.harness import Scorer, load_model, prepare
        >>> scorer = Scorer(*load_model("nano-llama", device="cpu"))
        >>> (task,) = prepare("nano_winogrande", limit=2)
        >>> protocol = ScoringProtocol(batch_size=2)
        >>> plans = scorer.check(["0-11", "0-3 {4-8} 9-11"], protocol)
        >>> [(record.plan, record.metric) for record in scorer.score(plans, task, protocol)]
        [('0-11', 'acc'), ('0-3 {4-8} 9-11', 'acc')]
    """

    def __init__(self, model: Any, tokenizer: Any, stack: str | None = None) -> None:
        self.model, self.tokenizer, self.stack = model, tokenizer, stack
        self.name, self.revision = describe(model)
        refuse_encoder(model.config, self.name)
        self._stack = dataclasses.replace(LayerStack.find(model, stack), name=self.name)
        self.num_layers = self._stack.num_layers
        self._model_fields = model_fields(model, self.num_layers, libraries=(*LIBRARIES, "lm_eval")) | {"stack": stack}
        self._programs: dict[tuple[Plan, str], Program] = {}
        self._known_answers: KnownAnswers = {}
        self._batches: dict[tuple[str, str, int, bool], LikelihoodBatches] = {}
        self._rows_left: dict[tuple[str, str, int], int] = {}  # rows that fitted into memory, fewer than asked for
        self.notes: Counter[str] = Counter()

    @property
    def weights(self) -> str:
        """The digest of the model's weights."""
        return str(self._model_fields["weights"])

    def check(
        self,
        plans: PlansLike,
        protocol: ScoringProtocol = _DEFAULT_PROTOCOL,
        *,
        known_num_layers: int | None = None,
    ) -> tuple[Plan, ...]:
        """Return the distinct plans, each checked against the model and the cache of `protocol`.

        Args:
            plans: A plan or several, as values or texts.
            protocol: How they are to be scored.
            known_num_layers: The number of layers that the plans were checked for before the model was loaded, if they
                were. Where the model has as many, that is not done again.

        Returns:
            The plans in their order, each once.

        Raises:
            PlanError: There is no plan, a text is not a plan, or a plan does not fit the model.
            SurgeryError: The model or its cache cannot follow a plan.
        """
        distinct_plans = distinct(plans)
        for plan in distinct_plans:
            program = self._program(plan, protocol, fits=known_num_layers == self.num_layers)
            with self._operated(program):  # also checks the model, once
                pass
        return distinct_plans

    def score(
        self,
        plans: Sequence[Plan],
        task: Prepared,
        protocol: ScoringProtocol = _DEFAULT_PROTOCOL,
        *,
        progress: OnProgress | None = None,
        partials: Partials | None = None,
    ) -> Iterator[Record]:
        """Score distinct plans on one task together, plan by plan.

        On tasks of log-likelihoods plans share their runs (`painters.sharing`), and requests share their common
        beginnings: the answers to a question follow one context (`painters.sharing.token_trees`).

        Where a task generates, plans run in turn, the intact model first, and finished rows leave the batch
        (continuous batching). In single precision, answers of earlier plans are drafts for later ones (speculative
        decoding). In half precision they are not: the two likeliest tokens are often equal up to rounding there, and
        an answer must not depend on what was answered before.

        With `exact_batching` the batches are lm-eval's own, and so are the numbers, to the last digit. Otherwise they
        differ by rounding. A model that cannot process trees of tokens, or decodes in a way of its own, and an
        encoder-decoder are scored in lm-eval's batches, and their records say so. The seconds of a record are the
        plan's share, by its layer runs, of the time that all plans took together.

        Args:
            plans: Distinct plans, as from `check`.
            task: The task with its requests, which settles documents, shots and seed.
            protocol: The batch size, the kind of batches and the cache.
            progress: Called after every answer.
            partials: The answers of an interrupted scoring, with which this one goes on, and where its own answers are
                kept meanwhile. None: all requests are answered, and nothing is kept.

        Yields:
            One record for each plan and metric.

        Raises:
            MemoryExhausted: One row is too large for the memory; or, with `exact_batching`, a batch is.
            ScoringError: lm-eval, transformers or the task's own code raised an error.
        """
        is_shared = task.is_scored_by_likelihood and not self._is_encoder_decoder
        score = self._score_shared if is_shared else self._score_in_turn
        yield from score(plans, task, protocol, progress, Partials(None) if partials is None else partials)

    def score_alone(
        self,
        plan: Plan,
        task: Prepared,
        protocol: ScoringProtocol = _DEFAULT_PROTOCOL,
        *,
        progress: OnProgress | None = None,
    ) -> Iterator[Record]:
        """Score one plan on one task through lm-eval's own loop, sharing nothing: the reference for `score`.

        Args:
            plan: The plan.
            task: The task with its requests, which settles documents, shots and seed.
            protocol: The batch size and the cache; the batches are lm-eval's own in any case.
            progress: Called after every answer.

        Yields:
            One record for each metric.

        Raises:
            MemoryExhausted: A batch is too large for the memory.
            ScoringError: lm-eval, transformers or the task's own code raised an error.
        """
        counter = ProgressCounter(progress, total=len(task.requests))
        counter.what = f"{plan} on {task.name}"
        with self._lm(task, protocol.batch_size) as lm:
            lm.set_cache_hook(CountingCacheHook(counter.count))
            lm.exact_batching = True
            yield from self._score_by_loop(lm, plan, task, protocol, counter)

    def _score_shared(
        self,
        plans: Sequence[Plan],
        task: Prepared,
        protocol: ScoringProtocol,
        progress: OnProgress | None,
        partials: Partials,
    ) -> Iterator[Record]:
        """Score plans on a task of log-likelihoods, with what they share run once."""
        requests = [request for request in task.requests for _ in range(request.repeats)]
        with self._language_model(task, protocol, len(plans) * len(task.requests), progress) as (lm, counter):
            counter.what = f"{len(plans)} plans on {task.name}" if len(plans) > 1 else f"{plans[0]} on {task.name}"
            for plan in plans:
                self._program(plan, protocol)  # raises where the plan does not fit
            with _scoring(task, protocol.batch_size, counter):
                began = time.perf_counter()
                batches = self._batches_of(lm, task, requests, protocol)
                kept = self._kept(partials, lm, task, protocol, batches)
                sequences = len(batches.owners or requests)  # a text has several windows
                kept.expect(len(batches.of(lm.ranks)) and sequences // lm.ranks.size)
                known = sum(len(kept.answers(str(plan))) for plan in plans)
                counter.skip(known * len(requests) // max(1, sequences))
                with flushing(kept):
                    answers = lm.log_likelihoods(plans, requests, batches, kept)
                seconds = time.perf_counter() - began
            self._remember_rows_left(lm, task)
            is_exact = batches.exact and lm.rows_left is None
        batching = {"batch_size": protocol.batch_size, "batching": "lm-eval" if is_exact else "shared"}
        layer_runs = sum(plan.layer_runs for plan in plans)
        for plan in plans:
            set_answers(task, requests, answers[plan])
            share = plan.layer_runs / layer_runs if layer_runs else 1 / len(plans)
            taken = seconds * share + kept.seconds(str(plan))
            yield from records_of(task, self._model_fields | batching | _plan_fields(plan, protocol, taken))

    def _score_in_turn(
        self,
        plans: Sequence[Plan],
        task: Prepared,
        protocol: ScoringProtocol,
        progress: OnProgress | None,
        partials: Partials,
    ) -> Iterator[Record]:
        """Score plans on a task that generates, one after the other, the intact model first."""
        identity = Plan.identity(self.num_layers)
        with self._language_model(task, protocol, len(plans) * len(task.requests), progress) as (lm, counter):
            lm.known_answers = self._known_answers if self.model.dtype.itemsize >= 4 else None
            kept = self._kept(partials, lm, task, protocol, None)
            for plan in sorted(plans, key=lambda plan: plan != identity):
                counter.what = f"{plan} on {task.name}"
                kept.expect(len(task.requests) // lm.ranks.size)
                counter.skip(len(kept.answers(str(plan))))
                lm.kept = PlanAnswers(kept, str(plan))
                with flushing(kept):
                    records = list(self._score_by_loop(lm, plan, task, protocol, counter))
                yield from records
                self._remember_rows_left(lm, task)

    def _score_by_loop(
        self, lm: SharingLM, plan: Plan, task: Prepared, protocol: ScoringProtocol, counter: ProgressCounter
    ) -> Iterator[Record]:
        """Score one plan on one task, request type by request type, as lm-eval's own loop does."""
        lm.kv, lm.not_finite = protocol.kv, 0
        program = self._program(plan, protocol)
        with _scoring(task, protocol.batch_size, counter), self._operated(program):
            texts = [request for request in task.requests if request.request_type == "generate_until"]
            if texts:
                generation.refuse_lengths(lm, task.name, texts)
            is_ours = bool(texts) and lm.generates_by_itself(texts)
            began = time.perf_counter()
            _answer(lm, task)
            seconds = time.perf_counter() - began
        if lm.kept is not None:
            lm.not_finite += lm.kept.kept.not_finite(str(plan))
            seconds += lm.kept.kept.seconds(str(plan))
        batching = {"batch_size": protocol.batch_size, "batching": "shared" if is_ours else "lm-eval"}
        fields = self._model_fields | batching | _plan_fields(plan, protocol, seconds)
        yield from records_of(task, fields, lm.not_finite)

    @contextlib.contextmanager
    def _language_model(
        self, task: Prepared, protocol: ScoringProtocol, total: int, progress: OnProgress | None
    ) -> Iterator[tuple[SharingLM, ProgressCounter]]:
        """Yield the model for lm-eval, set up for `task`, and what counts its answers, `total` of them."""
        with self._lm(task, protocol.batch_size) as lm:
            counter = ProgressCounter(progress, total=total, step=lm.ranks.size)
            lm.set_cache_hook(CountingCacheHook(counter.count))
            lm.exact_batching = protocol.exact_batching or self._is_encoder_decoder
            lm.rows_left = self._rows_left.get((task.name, task.digest, protocol.batch_size))
            lm.checked_stack = self._stack
            yield lm, counter

    @contextlib.contextmanager
    def _lm(self, task: Prepared, batch_size: int) -> Iterator[SharingLM]:
        """Yield the model for lm-eval; ScoringError where lm-eval cannot take it."""
        with contextlib.ExitStack() as stack:
            with errors_of_task(task.name, "lm-eval was given the model and its tokenizer"):
                lm = stack.enter_context(language_model(SharingLM, self.model, self.tokenizer, batch_size))
            yield lm

    @property
    def _is_encoder_decoder(self) -> bool:
        """Whether the context goes to an encoder, so that lm-eval's own loop has to ask the model."""
        return bool(getattr(self.model.config, "is_encoder_decoder", False))

    def _operated(self, program: Program) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which the model runs `program`. Decoding runs an encoder once, not in every forward."""
        return operate(self.model, self._stack, program, always=not self._is_encoder_decoder, threads="own")

    def _program(self, plan: Plan, protocol: ScoringProtocol, *, fits: bool = False) -> Program:
        """Return the program of a plan, which is made, and thereby checked unless it `fits`, at its first use."""
        key = plan, protocol.kv
        if key not in self._programs:
            self._programs[key] = Program(plan, self._stack, protocol.kv, fits=fits)
        return self._programs[key]

    def _batches_of(
        self, lm: SharingLM, task: Prepared, requests: Sequence[Any], protocol: ScoringProtocol
    ) -> LikelihoodBatches:
        """Return the batches of the task's requests, which all plans are asked in."""
        key = task.name, task.digest, protocol.batch_size, protocol.exact_batching
        if key not in self._batches:
            self._batches[key] = lm.batches(requests, exact=protocol.exact_batching)
        return self._batches[key]

    def _kept(
        self,
        partials: Partials,
        lm: SharingLM,
        task: Prepared,
        protocol: ScoringProtocol,
        batches: LikelihoodBatches | None,
    ) -> Kept:
        """Return the answers that an interrupted scoring of the very same kind left, and where others are kept."""
        own = scoring_fields(self.model, task, protocol, batches, lm.ranks.size)
        kept = partials.scoring(self.name, task.name, self._model_fields | own)
        lm.rows_left = min((rows for rows in (lm.rows_left, kept.rows_left) if rows is not None), default=None)
        return kept

    def _remember_rows_left(self, lm: SharingLM, task: Prepared) -> None:
        """Keep the number of rows that fitted into memory for the next plans, and note once that it fell."""
        key = task.name, task.digest, int(lm.batch_size)
        if lm.rows_left is not None and lm.rows_left != self._rows_left.get(key):
            self._rows_left[key] = lm.rows_left
            self.notes[
                f"{task.name}: batches of {lm.batch_size} rows did not fit into memory, so they were halved, to "
                f"{lm.rows_left} rows in the end; the numbers are the same up to rounding"
            ] += 1


@contextlib.contextmanager
def _scoring(task: Prepared, rows: int, counter: ProgressCounter) -> Iterator[None]:
    """Score a task within the context: with its seed, without lm-eval's messages, and with painters' errors alone.

    What the caller's own progress callback raises passes as it is.
    """
    with quiet(), seeded(task.seed), _explained_exhaustion(task, rows):
        try:
            with errors_of_task(task.name, "its requests were answered"):
                yield
        except ScoringError as error:
            if counter.error is not None and error.__cause__ is counter.error:
                raise counter.error from None
            raise


@contextlib.contextmanager
def _explained_exhaustion(task: Prepared, rows: int) -> Iterator[None]:
    """Name the task in errors of memory that does not suffice, and say what to do about them."""
    try:
        yield
    except MemoryExhausted as error:
        raise MemoryExhausted(f"{task.name}: {error}") from error
    except Exception as error:
        if not is_exhausted(error):
            raise
        raise MemoryExhausted(
            f"{task.name}: batches of {rows} rows do not fit into memory, and lm-eval's own batches are not halved: "
            f"take fewer, such as {max(1, rows // 2)} (--batch-size, or batch_size in the protocol): "
            f"{first_line(error)}"
        ) from error


def _plan_fields(plan: Plan, protocol: ScoringProtocol, seconds: float) -> dict[str, Any]:
    """Return the fields of a record that the plan determines."""
    return {
        "plan": str(plan),
        "kv": protocol.kv,
        "layer_runs": plan.layer_runs,
        "depth": plan.depth,
        "seconds": seconds,
    }


def _answer(lm: PaintersLM, task: Prepared) -> None:
    """Answer every request of the task with `lm`, as lm-eval's own loop does."""
    by_type: dict[str, list[Any]] = defaultdict(list)
    for request in task.requests:
        by_type[request.request_type] += [request] * request.repeats
    answered, answers = [], []
    for kind, requests in by_type.items():
        answered += requests
        answers += getattr(lm, kind)(requests, disable_tqdm=True)
    set_answers(task, answered, answers)
