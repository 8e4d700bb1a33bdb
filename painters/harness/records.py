"""Records from answers: lm-eval makes outcomes and metrics of them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from painters.harness.tasks import Prepared, errors_of_task, quiet
from painters.results import Record, scoring
from painters.results.provenance import timestamp

_ACCURACIES = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info")


def set_answers(prepared: Prepared, requests: Sequence[Any], answers: Sequence[Any]) -> None:
    """Give every request its answers in place of those of the plan before.

    `requests` are those of the task, each as often as it was asked, in the order of `answers`.
    """
    for request in prepared.requests:
        request.resps, request.filtered_resps = [], {}
    for request, answer in zip(requests, answers, strict=True):
        request.resps.append(answer)


def records_of(prepared: Prepared, fields: dict[str, Any], not_finite: int = 0) -> list[Record]:
    """Return one record for each metric and filter of an answered task.

    lm-eval turns the answers into outcomes and values. Where an answer is not finite there are no values: lm-eval
    takes the first choice for NaN, which looks like a score.

    Args:
        prepared: The task, whose requests hold their answers.
        fields: The fields of the records that model and plan determine.
        not_finite: How many texts were generated from logits without a finite number.

    Raises:
        ScoringError: The task's own code raised.
    """
    not_finite += sum(not math.isfinite(answer) for answer in _log_likelihoods(prepared))
    with quiet(), errors_of_task(prepared.name, "its answers were turned into metrics"):
        prepared.task.apply_filters()
        return list(_records(prepared, outcomes_of(prepared), fields, not_finite))


def _records(
    prepared: Prepared, outcomes: dict[tuple[str, str], list[Any]], fields: dict[str, Any], not_finite: int
) -> Iterator[Record]:
    """Yield the records of these outcomes, by metric and filter."""
    task = prepared.task
    filters = {name for _, name in outcomes}
    labels = {pair: pair[0] if len(filters) == 1 else ",".join(pair) for pair in outcomes}
    primary = scoring.primary(list(labels.values()))
    date = timestamp()
    for pair, label in labels.items():
        metric = pair[0]
        aggregate = task.aggregation()[metric]
        aggregation = str(getattr(aggregate, "__name__", aggregate))
        value = None if not_finite else _value(aggregate, outcomes[pair])
        has_outcomes = scoring.is_scored_by_documents(aggregation) and value is not None
        by_document = tuple(float(outcome) for outcome in outcomes[pair]) if has_outcomes else None
        yield Record(
            **fields,
            task=prepared.name,
            task_version=prepared.version,
            documents=prepared.documents,
            requests=prepared.digest,
            shots=prepared.shots,
            seed=prepared.seed,
            sample_seed=prepared.sample_seed,
            chat=prepared.chat,
            metric=label,
            aggregation=aggregation,
            higher_is_better=bool(task.higher_is_better()[metric]),
            primary=label == primary,
            value=value,
            stderr=scoring.stderr(aggregation, by_document, value) if by_document and value is not None else None,
            outcomes=by_document,
            chance=_chance(metric, aggregation, prepared),
            not_finite=not_finite,
            date=date,
        )


def outcomes_of(prepared: Prepared) -> dict[tuple[str, str], list[Any]]:
    """Return (metric, filter) -> lm-eval's outcome for each document, in order."""
    by_document = defaultdict(list)
    for request in prepared.requests:
        by_document[request.doc_id].append(request)
    outcomes: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for name in prepared.requests[0].filtered_resps:
        for doc_id, document in prepared.indexed_documents:
            requests = sorted(by_document[doc_id], key=lambda request: request.idx)
            answers = [request.filtered_resps[name] for request in requests]
            for metric, outcome in prepared.task.process_results(document, answers).items():
                outcomes[metric, name].append(outcome)
    return outcomes


def _value(aggregate: Callable[[list[Any]], Any], outcomes: list[Any]) -> float | None:
    """Return the metric's value, or None where it is not finite, such as an infinite perplexity."""
    try:
        value = float(aggregate(outcomes))
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def _chance(metric: str, aggregation: str, prepared: Prepared) -> float | None:
    """Return what guessing scores by this metric, or None where that is unknown."""
    if prepared.chance is None or aggregation != "mean":
        return None
    if metric in _ACCURACIES:
        return prepared.chance
    is_generated = prepared.task.OUTPUT_TYPE == "generate_until"
    return 0.0 if metric == "exact_match" and is_generated else None


def _log_likelihoods(prepared: Prepared) -> Iterator[float]:
    """Yield the log-likelihoods among the answers of the task."""
    for request in prepared.requests:
        for answer in request.resps:
            if isinstance(answer, tuple):
                yield answer[0]
            elif isinstance(answer, float):
                yield answer
