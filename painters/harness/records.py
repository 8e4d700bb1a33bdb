"""What lm-eval makes of answers: outcomes of documents, metrics, records."""

from __future__ import annotations

import datetime
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from painters.harness.tasks import Prepared, errors_of, quiet
from painters.results import Record, scoring

_ACCURACIES = ("acc", "acc_norm", "acc_bytes")


def give(prepared: Prepared, asked: Sequence[Any], answers: Sequence[Any]) -> None:
    """Nothing; every request holds its answers, and nothing of another plan's."""
    for request in prepared.requests:
        request.resps, request.filtered_resps = [], {}
    for request, answer in zip(asked, answers, strict=True):
        request.resps.append(answer)


def records_of(prepared: Prepared, fields: dict[str, Any], not_finite: int = 0) -> Iterator[Record]:
    """One record for each metric and filter of an answered task; lm-eval turns answers into outcomes and
    values. `not_finite` texts were generated from logits without a finite number.

    Where an answer is not finite there are no values: what lm-eval makes of NaN is the first choice, and looks like a
    score. Raises TaskError where the task's own code raises.
    """
    task = prepared.task
    not_finite += sum(not math.isfinite(answer) for answer in _log_likelihoods(prepared))
    with quiet(), errors_of(prepared.name, "its answers were turned into metrics"):
        task.apply_filters()
        outcomes = outcomes_of(prepared)
    filters = {name for _, name in outcomes}
    labels = {pair: pair[0] if len(filters) == 1 else ",".join(pair) for pair in outcomes}
    first = scoring.primary(list(labels.values()))
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    for pair, label in labels.items():
        by_document = outcomes[pair]
        aggregate = task.aggregation()[pair[0]]
        aggregation = str(getattr(aggregate, "__name__", aggregate))
        value = None if not_finite else _value(aggregate, by_document)
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


def outcomes_of(prepared: Prepared) -> dict[tuple[str, str], list[Any]]:
    """(metric, filter) -> what lm-eval makes of each document, in order."""
    by_document = defaultdict(list)
    for request in prepared.requests:
        by_document[request.doc_id].append(request)
    outcomes: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for name in prepared.requests[0].filtered_resps:
        for doc_id, document in prepared.asked_documents:
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
