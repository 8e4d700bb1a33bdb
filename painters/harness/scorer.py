"""One loaded model that scores plans: alone through lm-eval's own loop, or together at the price of their trie."""

from __future__ import annotations

import contextlib
import importlib.metadata
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, cast

from painters import __version__
from painters.engine import KV, surgery
from painters.errors import first_line
from painters.harness.batches import Batches
from painters.harness.generation import Answered
from painters.harness.lm import PaintersLM, Telling, language_model
from painters.harness.records import give, records_of
from painters.harness.shared_lm import SharingLM
from painters.harness.tasks import Prepared, quiet, seeded
from painters.memory import MemoryExhausted, is_exhausted
from painters.models import describe, refuse_encoder, weights_digest
from painters.plan import Plan, distinct
from painters.results import Record
from painters.stack import LayerStack

_LIBRARIES = ("torch", "transformers", "tokenizers", "lm_eval")


class Progress(Protocol):
    """Called after every answer: how many are done, how many there will be, and what is being scored."""

    def __call__(self, done: int, total: int, what: str) -> None: ...


class Scorer:
    """Scores plans of one loaded model; whatever does not depend on the plan is done once.

    Raises ModelError for an encoder.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.name, self.revision = describe(model)
        refuse_encoder(model.config, self.name)
        self.num_layers = LayerStack.find(model).num_layers
        self._about = _about(model, self.name, self.revision, self.num_layers)
        self._answered: Answered = {}
        self._batches: dict[tuple[str, str, int, bool], Batches] = {}
        self._rows: dict[tuple[str, str, int], int] = {}  # of batches that had room in memory, fewer than asked for
        self.notes: Counter[str] = Counter()
        """What a user should know of how it went, and how often."""

    @property
    def weights(self) -> str:
        """The digest of the model's weights."""
        return str(self._about["weights"])

    def check(self, plans: str | Plan | Sequence[str | Plan], kv: str, batch_size: int) -> tuple[Plan, ...]:
        """The distinct plans; PlanError, SurgeryError or ValueError for what the model cannot follow or be asked."""
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(
                f"batch_size {batch_size!r}: give a number of rows, 1 or more. lm-eval's 'auto' depends on the "
                f"free memory, and scores depend on the batches"
            )
        wanted = distinct(plans)
        for plan in wanted:
            plan.check(self.num_layers, self.name)
            with surgery(self.model, plan, kv=cast(KV, kv)):  # refuses what this model or cache cannot do
                pass
        return wanted

    def score(
        self,
        plans: Sequence[Plan],
        task: Prepared,
        *,
        kv: str = "exact",
        batch_size: int = 8,
        exact_batching: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[Record]:
        """The records of distinct plans on one task, plan by plan.

        Plans share their runs on tasks of log-likelihoods (`painters.sharing`), and requests what they have in common
        at their beginning: the answers to a question follow one context (`painters.sharing.token_trees`). Where a task
        generates, plans run in turn, the intact model first, and finished rows leave the batch (`painters.generation`);
        in single precision its answers are drafts of the others', while in half precision, where the two likeliest
        tokens often lie within rounding, an answer must not depend on what was answered before. With `exact_batching`
        the batches are lm-eval's own, and so are the numbers, to the last digit; otherwise they differ by rounding. A
        model that takes no trees of tokens, or decodes in a way of its own, is scored in lm-eval's batches, and its
        records say so. The seconds of a record are the plan's part, by its layer runs, of those that all plans took
        together.
        """
        with language_model(SharingLM, self.model, self.tokenizer, batch_size) as lm:
            tell = Teller(progress, total=len(plans) * len(task.requests), step=lm.ranks.size)
            lm.set_cache_hook(Telling(tell.one))
            lm.exact_batching = exact_batching
            lm.rows_left = self._rows.get((task.name, task.digest, batch_size))
            if not task.is_scored_by_likelihood:
                lm.answered = self._answered if self.model.dtype.itemsize >= 4 else None
                identity = Plan.identity(self.num_layers)
                for plan in sorted(plans, key=lambda plan: plan != identity):
                    tell.what = f"{plan} on {task.name}"
                    yield from self._alone(lm, plan, task, kv, exact_batching)
                    self._remember(lm, task)
                return
            tell.what = f"{len(plans)} plans on {task.name}" if len(plans) > 1 else f"{plans[0]} on {task.name}"
            asked = [request for request in task.requests for _ in range(request.repeats)]
            with quiet(), seeded(task.seed), _naming(task, batch_size):
                began = time.perf_counter()
                batches = self._batched(lm, task, asked, exact_batching)
                answers = lm.log_likelihoods(plans, asked, batches)
                seconds = time.perf_counter() - began
            self._remember(lm, task)
            is_exact = batches.exact and lm.rows_left is None
        about = {"batch_size": batch_size, "batching": "lm-eval" if is_exact else "shared"}
        runs = sum(plan.layer_runs for plan in plans)
        for plan in plans:
            give(task, asked, answers[plan])
            part = plan.layer_runs / runs if runs else 1 / len(plans)
            yield from records_of(task, self._about | about | _cost(plan, kv, seconds * part))

    def _remember(self, lm: SharingLM, task: Prepared) -> None:
        """Nothing; other plans begin with the rows that had room, and a note says so once."""
        key = task.name, task.digest, int(lm.batch_size)
        if lm.rows_left is not None and lm.rows_left != self._rows.get(key):
            self._rows[key] = lm.rows_left
            self.notes[
                f"{task.name}: batches of {lm.batch_size} rows had no room in memory, so they were made smaller, of "
                f"{lm.rows_left} in the end; the numbers are the same up to rounding"
            ] += 1

    def _batched(self, lm: SharingLM, task: Prepared, asked: Sequence[Any], exact: bool) -> Batches:
        key = task.name, task.digest, int(lm.batch_size), exact
        if key not in self._batches:
            self._batches[key] = lm.batches(asked, exact=exact)
        return self._batches[key]

    def score_alone(
        self, plan: Plan, task: Prepared, *, kv: str = "exact", batch_size: int = 8, progress: Progress | None = None
    ) -> Iterator[Record]:
        """The records of one plan on one task through lm-eval's own loop, nothing shared: what `score` is held to."""
        tell = Teller(progress, total=len(task.requests))
        tell.what = f"{plan} on {task.name}"
        with language_model(SharingLM, self.model, self.tokenizer, batch_size) as lm:
            lm.set_cache_hook(Telling(tell.one))
            yield from self._alone(lm, plan, task, kv, exact_batching=True)

    def _alone(self, lm: SharingLM, plan: Plan, task: Prepared, kv: str, exact_batching: bool) -> Iterator[Record]:
        lm.kv, lm.exact_batching, lm.not_finite = kv, exact_batching, 0
        own = not task.is_scored_by_likelihood and lm.generates_by_itself(task.requests)
        with quiet(), seeded(task.seed), surgery(lm.model, plan, kv=cast(KV, kv)), _naming(task, int(lm.batch_size)):
            began = time.perf_counter()
            _answer(lm, task)
            seconds = time.perf_counter() - began
        about = {"batch_size": int(lm.batch_size), "batching": "shared" if own else "lm-eval"}
        yield from records_of(task, self._about | about | _cost(plan, kv, seconds), lm.not_finite)


@contextlib.contextmanager
def _naming(task: Prepared, rows: int) -> Iterator[None]:
    """Nothing; memory that does not suffice meanwhile is told with the task, and in lm-eval's own loop with advice."""
    try:
        yield
    except MemoryExhausted as error:
        raise MemoryExhausted(f"{task.name}: {error}") from error
    except Exception as error:
        if not is_exhausted(error):
            raise
        raise MemoryExhausted(
            f"{task.name}: batches of {rows} rows, which are lm-eval's own, have no room in memory: take fewer, such "
            f"as {max(1, rows // 2)} (--batch-size, or batch_size in the protocol): {first_line(error)}"
        ) from error


def _cost(plan: Plan, kv: str, seconds: float) -> dict[str, Any]:
    """The fields of a record that the plan sets."""
    return {
        "plan": str(plan),
        "kv": kv,
        "layer_runs": plan.layer_runs,
        "depth": plan.depth,
        "seconds": seconds,
    }


class Teller:
    """Counts answers and reports them. With `step` processes at work an answer here stands for one in each."""

    def __init__(self, progress: Progress | None, total: int, step: int = 1) -> None:
        self.done, self.total, self.what, self._progress = 0, total, "", progress
        self._step = step

    def one(self) -> None:
        self.done = min(self.done + self._step, max(self.total, self.done + 1))
        if self._progress is not None:
            self._progress(self.done, self.total, self.what)

    def onwards(self) -> Progress:
        """What counts a part of the whole, which begins now."""
        before = self.done

        def tell(done: int, total: int, what: str) -> None:
            self.done, self.what = before + done - 1, what
            self.one()

        return tell


def _about(model: Any, name: str, revision: str | None, num_layers: int) -> dict[str, Any]:
    """The fields of a record that the model sets."""
    versions = {library: importlib.metadata.version(library) for library in _LIBRARIES}
    return {
        "model": name,
        "revision": revision,
        "weights": weights_digest(model),
        "num_layers": num_layers,
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": model.device.type,
        "attention": getattr(model.config, "_attn_implementation", None),
        "versions": {"painters": __version__, **versions},
    }


def _answer(lm: PaintersLM, prepared: Prepared) -> None:
    """Nothing; every request holds this model's answer, as after lm-eval's own loop."""
    by_type: dict[str, list[Any]] = defaultdict(list)
    for request in prepared.requests:
        by_type[request.request_type] += [request] * request.repeats
    asked, answers = [], []
    for kind, requests in by_type.items():
        asked += requests
        answers += getattr(lm, kind)(requests, disable_tqdm=True)
    give(prepared, asked, answers)
