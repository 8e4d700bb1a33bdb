"""Plans scored by lm-eval: its tasks, its prompts and its metrics, and the model under a plan.

Requests are built once and answered by every plan, batched task by task, so that a number depends neither on
the other tasks nor on the other plans of a call. lm-eval's cache of answers is never used: it knows nothing
of plans.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from painters import __version__, results, scoring
from painters._harness_lm import Counter, PaintersLM, language_model
from painters._harness_shared import SharingLM
from painters._harness_tasks import SEED, Prepared, prepare, quiet, seeded
from painters._harness_texts import texts
from painters.engine import KV, surgery
from painters.models import ModelError, by_name_or_loaded, describe, load_model, refuse_encoder, weights_digest
from painters.plan import Plan
from painters.results import Record
from painters.stack import LayerStack
from painters.tasks import TaskError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ModelError",
    "PaintersLM",
    "Prepared",
    "TaskError",
    "evaluate",
    "load_model",
    "prepare",
    "score",
    "score_all",
    "score_together",
    "texts",
]

_LIBRARIES = ("torch", "transformers", "tokenizers", "lm_eval")
_ACCURACIES = ("acc", "acc_norm", "acc_bytes")


class Progress(Protocol):
    """Called after every answer: how many are done, how many there will be, and what is being scored."""

    def __call__(self, done: int, total: int, what: str) -> None: ...


def evaluate(
    model: Any,
    plans: str | Plan | Sequence[str | Plan],
    tasks: str | Prepared | Sequence[str | Prepared],
    *,
    tokenizer: Any = None,
    intact: bool = True,
    kv: str = "exact",
    limit: int | None = None,
    num_fewshot: int | None = None,
    batch_size: int = 8,
    seed: int = SEED,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """One row per plan, task and metric: the value, its standard error, and how it compares with the intact
    model.

    `model` is a name for `load_model`, or a loaded model with its `tokenizer`. With `intact` the model as it
    is gets scored too, and fills the columns intact, difference, difference_stderr (paired) and normalised;
    it has rows of its own only where it is among `plans`. `painters.results.frame` lists the columns.
    """
    model, tokenizer = by_name_or_loaded(model, tokenizer, load_model)
    wanted = _plans(plans)
    identity = Plan.identity(LayerStack.find(model).num_layers)
    scored = wanted if identity in wanted or not intact else (identity, *wanted)
    records = list(
        score_all(
            model,
            tokenizer,
            scored,
            tasks,
            kv=kv,
            limit=limit,
            num_fewshot=num_fewshot,
            batch_size=batch_size,
            seed=seed,
            progress=progress,
        )
    )
    table = results.frame(records)
    return table[table["plan"].isin([str(plan) for plan in wanted])].reset_index(drop=True)


def score(
    model: Any,
    tokenizer: Any,
    plan: str | Plan,
    tasks: str | Prepared | Sequence[str | Prepared],
    *,
    kv: str = "exact",
    limit: int | None = None,
    num_fewshot: int | None = None,
    batch_size: int = 8,
    seed: int = SEED,
    progress: Progress | None = None,
) -> list[Record]:
    """The records of one plan: one for every metric of every task."""
    return list(
        score_all(
            model,
            tokenizer,
            [plan],
            tasks,
            kv=kv,
            limit=limit,
            num_fewshot=num_fewshot,
            batch_size=batch_size,
            seed=seed,
            progress=progress,
        )
    )


def score_all(
    model: Any,
    tokenizer: Any,
    plans: str | Plan | Sequence[str | Plan],
    tasks: str | Prepared | Sequence[str | Prepared],
    *,
    kv: str = "exact",
    limit: int | None = None,
    num_fewshot: int | None = None,
    batch_size: int = 8,
    seed: int = SEED,
    progress: Progress | None = None,
) -> Iterator[Record]:
    """The records of all plans, plan by plan and task by task, each as soon as its task is scored.

    Everything is checked before the first request runs. `batch_size` is part of a number's protocol: sums
    over other batches differ in the last digits, and in bfloat16 in the first.
    """
    wanted, about = _ready(model, plans, kv, batch_size)
    prepared = prepare(tasks, limit=limit, num_fewshot=num_fewshot, seed=seed)
    tell = _Teller(progress, total=len(wanted) * sum(len(task.requests) for task in prepared))
    with language_model(PaintersLM, model, tokenizer, batch_size) as lm:
        lm.set_cache_hook(Counter(tell.one))
        for plan in wanted:
            for task in prepared:
                tell.what = f"{plan} on {task.name}"
                yield from _score_alone(lm, plan, task, kv, about)


def score_together(
    model: Any,
    tokenizer: Any,
    plans: str | Plan | Sequence[str | Plan],
    tasks: str | Prepared | Sequence[str | Prepared],
    *,
    kv: str = "exact",
    limit: int | None = None,
    num_fewshot: int | None = None,
    batch_size: int = 8,
    seed: int = SEED,
    progress: Progress | None = None,
) -> Iterator[Record]:
    """The records of `score_all`, number for number, at the price of what the plans do not have in common.

    They come task by task and plan by plan. On tasks of log-likelihoods all plans are scored together, requests
    tokenised once (`painters.sharing`); on others, which generate, one after the other. The seconds of a record are
    the plan's part, by its layer runs, of those that all plans took together.
    """
    wanted, about = _ready(model, plans, kv, batch_size)
    prepared = prepare(tasks, limit=limit, num_fewshot=num_fewshot, seed=seed)
    tell = _Teller(progress, total=len(wanted) * sum(len(task.requests) for task in prepared))
    runs = sum(plan.layer_runs for plan in wanted)
    with language_model(SharingLM, model, tokenizer, batch_size) as lm:
        lm.set_cache_hook(Counter(tell.one))
        for task in prepared:
            if {request.request_type for request in task.requests} != {"loglikelihood"}:
                for plan in wanted:
                    tell.what = f"{plan} on {task.name}"
                    yield from _score_alone(lm, plan, task, kv, about)
                continue
            tell.what = f"{len(wanted)} plans on {task.name}"
            asked = [request for request in task.requests for _ in range(request.repeats)]
            with quiet(), seeded(task.seed):
                began = time.perf_counter()
                answers = lm.log_likelihoods(wanted, asked)
                seconds = time.perf_counter() - began
            for plan in wanted:
                _give(task, asked, answers[plan])
                yield from _records(task, about | _cost(plan, kv, seconds * plan.layer_runs / runs))


def _ready(
    model: Any, plans: str | Plan | Sequence[str | Plan], kv: str, batch_size: int
) -> tuple[tuple[Plan, ...], dict[str, Any]]:
    """The distinct plans, all of which the model can follow, and the fields of a record that hold for all of them."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(
            f"batch_size {batch_size!r}: give a number of rows, 1 or more. lm-eval's 'auto' depends on the "
            f"free memory, and scores depend on the batches"
        )
    name, revision = describe(model)
    refuse_encoder(model.config, name)
    wanted = _plans(plans)
    num_layers = LayerStack.find(model).num_layers
    for plan in wanted:
        plan.check(num_layers, name)
        with surgery(model, plan, kv=cast(KV, kv)):  # refuses what this model or cache cannot do
            pass
    return wanted, _about(model, name, revision, num_layers) | {"batch_size": batch_size}


def _score_alone(lm: PaintersLM, plan: Plan, task: Prepared, kv: str, about: dict[str, Any]) -> Iterator[Record]:
    """The records of one plan on one task."""
    lm.kv = kv
    with quiet(), seeded(task.seed), surgery(lm.model, plan, kv=cast(KV, kv)):
        began = time.perf_counter()
        _answer(lm, task)
        seconds = time.perf_counter() - began
    yield from _records(task, about | _cost(plan, kv, seconds))


def _cost(plan: Plan, kv: str, seconds: float) -> dict[str, Any]:
    """The fields of a record that the plan sets."""
    return {
        "plan": str(plan),
        "kv": kv,
        "layer_runs": plan.layer_runs,
        "depth": plan.depth,
        "seconds": seconds,
    }


class _Teller:
    """Counts answers and reports them."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.done, self.total, self.what, self._progress = 0, total, "", progress

    def one(self) -> None:
        self.done += 1
        if self._progress is not None:
            self._progress(self.done, self.total, self.what)


def _plans(plans: str | Plan | Sequence[str | Plan]) -> tuple[Plan, ...]:
    """The distinct plans in order."""
    given = [plans] if isinstance(plans, str | Plan) else list(plans)
    if not given:
        raise ValueError("no plan given: name one or more, such as '0-14 {15-17}*3 18-31'")
    return tuple(dict.fromkeys(Plan.parse(plan) if isinstance(plan, str) else plan for plan in given))


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
    _give(prepared, asked, answers)


def _give(prepared: Prepared, asked: Sequence[Any], answers: Sequence[Any]) -> None:
    """Nothing; every request holds its answers, and nothing of another plan's."""
    for request in prepared.requests:
        request.resps, request.filtered_resps = [], {}
    for request, answer in zip(asked, answers, strict=True):
        request.resps.append(answer)


def _records(prepared: Prepared, fields: dict[str, Any]) -> Iterator[Record]:
    """One record for each metric and filter of an answered task; lm-eval turns answers into outcomes and
    values.
    """
    task = prepared.task
    with quiet():
        task.apply_filters()
        outcomes = _outcomes(prepared)
    filters = {name for _, name in outcomes}
    labels = {pair: pair[0] if len(filters) == 1 else ",".join(pair) for pair in outcomes}
    first = scoring.primary(list(labels.values()))
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    not_finite = sum(not math.isfinite(answer) for answer in _log_likelihoods(prepared))
    for pair, label in labels.items():
        by_document = outcomes[pair]
        aggregate = task.aggregation()[pair[0]]
        aggregation = str(getattr(aggregate, "__name__", aggregate))
        value = _value(aggregate, by_document)
        known = scoring.is_scored_by_documents(aggregation) and value is not None
        shares = tuple(float(outcome) for outcome in by_document) if known else None
        yield Record(
            **fields,
            task=prepared.name,
            task_version=prepared.version,
            documents=prepared.documents,
            requests=prepared.digest,
            shots=prepared.shots,
            seed=prepared.seed,
            metric=label,
            aggregation=aggregation,
            higher_is_better=bool(task.higher_is_better()[pair[0]]),
            primary=label == first,
            value=value,
            stderr=scoring.stderr(aggregation, shares, value) if shares and value is not None else None,
            outcomes=shares,
            chance=_chance(pair[0], prepared),
            not_finite=not_finite,
            date=date,
        )


def _outcomes(prepared: Prepared) -> dict[tuple[str, str], list[Any]]:
    """(metric, filter) -> what lm-eval makes of each document, in order."""
    by_document = defaultdict(list)
    for request in prepared.requests:
        by_document[request.doc_id].append(request)
    outcomes: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for name in prepared.requests[0].filtered_resps:
        for doc_id, document in prepared.task.doc_iterator(limit=prepared.limit):
            requests = sorted(by_document[doc_id], key=lambda request: request.idx)
            answers = [request.filtered_resps[name] for request in requests]
            for metric, outcome in prepared.task.process_results(document, answers).items():
                outcomes[metric, name].append(outcome)
    return outcomes


def _value(aggregate: Callable[[list[Any]], Any], outcomes: list[Any]) -> float | None:
    """The metric's value; None where it is not a finite number, such as the perplexity of a model taken
    apart.
    """
    try:
        value = float(aggregate(outcomes))
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def _chance(metric: str, prepared: Prepared) -> float | None:
    if metric in _ACCURACIES:
        return prepared.chance
    return 0.0 if metric == "exact_match" else None


def _log_likelihoods(prepared: Prepared) -> Iterator[float]:
    for request in prepared.requests:
        for answer in request.resps:
            if isinstance(answer, tuple):
                yield answer[0]
            elif isinstance(answer, float):
                yield answer
