"""Plans scored by lm-eval: its tasks, its prompts and its metrics, on the model under a plan.

Requests are built once and answered by every plan. They are batched task by task, so a number depends neither on the
other tasks nor on the other plans of a call. lm-eval's cache of answers is never used, because its keys do not know
plans.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from painters import results
from painters.experiment import ScoringProtocol
from painters.harness.progress import ProgressCounter
from painters.harness.protocol import SEED, scoring_protocol
from painters.harness.scorer import Progress, Scorer
from painters.harness.tasks import Prepared, prepare_with
from painters.models import by_name_or_loaded, load_model
from painters.plan import Plan, PlanLike, PlansLike, distinct
from painters.progress import OnProgress, progress_callback
from painters.ranks import ranks
from painters.results import Record
from painters.results.partial import PartialFiles, Partials
from painters.tasks import ScoringError, located

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["evaluate", "score", "score_all", "score_beside_intact", "score_together"]


def evaluate(  # noqa: PLR0913 - the options of a scoring by their names
    model: Any,
    plans: PlansLike,
    tasks: str | Prepared | Sequence[str | Prepared],
    *,
    tokenizer: Any = None,
    data: str | Path | None = None,
    intact: bool = True,
    kv: str = "exact",
    limit: int | float | None = None,
    shots: int | None = None,
    batch_size: int = 8,
    seed: int = SEED,
    exact_batching: bool = False,
    sample: int | None = None,
    sample_seed: int | None = None,
    apply_chat_template: bool | str = False,
    system_instruction: str | None = None,
    fewshot_as_multiturn: bool | None = None,
    stack: str | None = None,
    progress: Progress | bool | None = None,
) -> pd.DataFrame:
    """Score `plans` on `tasks` and return a table with one row for each plan, task and metric.

    What plans have in common runs once, which changes no bit. So does what requests have in common, which moves
    log-likelihoods by float rounding
    only. With `exact_batching` they are lm-eval's to the last digit, and take longer (`Scorer.score`).

    Args:
        model: The name of a model for `load_model`, or a loaded model.
        plans: A plan or several, as values or texts.
        tasks: Names of tasks, or tasks from `prepare`.
        tokenizer: The tokenizer of a loaded model.
        data: A folder of your own documents: NAME/ holds those of the task NAME, a .jsonl for each split. Bundled tasks
            that it does not have keep theirs.
        intact: Whether to score the intact model too. It fills the columns `intact`, `difference`,
            `difference_stderr` (paired) and `normalised`, and has rows of its own only if it is among `plans`.
        kv: How parallel groups fill the cache: "exact", or "averaged" as in the paper's released code.
        limit: The number of documents of each task, from the first on, or a share of them, such as 0.1. None: all.
        shots: The number of examples in the prompt. None: the task's own number.
        batch_size: Rows in a batch.
        seed: The seed of the few-shot prompts.
        exact_batching: Whether to form lm-eval's own batches.
        sample: The number of documents of each task to draw at random, in place of `limit`: the same for every plan. A
            larger sample holds the documents of a smaller one with the same seed.
        sample_seed: The seed of the draw. None: 0.
        apply_chat_template: Whether to put prompts into the tokenizer's chat template; or the name of one of several.
        system_instruction: A text that prompts begin with, as the system's turn where a template is applied.
        fewshot_as_multiturn: Whether examples are turns of their own in the chat template. None: they are.
        stack: The stack of layers that plans run, where there are several: "encoder" or "decoder", or a path.
        progress: A callback, True for a progress bar, False for none. None: a bar in notebooks only.

    Returns:
        The table; `painters.results.frame` lists its columns.

    Raises:
        MemoryExhausted: One row does not fit into memory; or, with `exact_batching`, a batch does not.
        ModelError: The model cannot be loaded, is an encoder, or comes without its tokenizer.
        PlanError: There is no plan, or one does not fit the model.
        ScoringError: lm-eval, transformers or a task's own code raised an error. The other tasks were scored all the
            same: the error has their `records`.
        SurgeryError: The model or its cache cannot follow a plan.
        TaskError: A task does not exist, cannot be loaded, or cannot be asked with these options.
        ValueError: An option has a value that no scoring can have.

    Examples:
        >>> from painters import evaluate
        >>> table = evaluate("nano-llama", "0-3 {4-8} 9-11", "nano_winogrande", limit=2)
        >>> table[["plan", "task", "metric", "documents"]].values.tolist()
        [['0-3 {4-8} 9-11', 'nano_winogrande', 'acc', 2]]
    """
    chat = {
        "apply_chat_template": apply_chat_template,
        "system_instruction": system_instruction,
        "fewshot_as_multiturn": fewshot_as_multiturn,
    }
    documents: dict[str, Any] = {"limit": limit, "sample": sample, "sample_seed": sample_seed, "shots": shots}
    batching: dict[str, Any] = {"batch_size": batch_size, "exact_batching": exact_batching}
    protocol = scoring_protocol(kv=kv, seed=seed, chat=chat, **documents, **batching)
    requested = distinct(plans)
    if data is not None:
        tasks = _located(tasks, data)
    scorer = Scorer(*by_name_or_loaded(model, tokenizer, load_model), stack)
    identity = Plan.identity(scorer.num_layers)
    scored = requested if identity in requested or not intact else (identity, *requested)
    with progress_callback(progress) as on_progress:
        records = list(_score_together(scorer, scored, tasks, protocol, on_progress))
    _warn_of(scorer.notes)
    order = {str(plan): position for position, plan in enumerate(scored)}
    table = results.frame(sorted(records, key=lambda record: order[record.plan]))
    return table[table["plan"].isin([str(plan) for plan in requested])].reset_index(drop=True)


def score(  # noqa: PLR0913 - the options of a scoring by their names
    model: Any,
    tokenizer: Any,
    plan: PlanLike,
    tasks: str | Prepared | Sequence[str | Prepared],
    *,
    kv: str = "exact",
    limit: int | float | None = None,
    shots: int | None = None,
    batch_size: int = 8,
    seed: int = SEED,
    progress: Progress | bool | None = None,
) -> list[Record]:
    """Score one plan through lm-eval's own loop and return a record for every metric of every task.

    Args:
        model: A loaded causal language model.
        tokenizer: Its tokenizer.
        plan: The plan, its text, or its layers in order.
        tasks: Names of tasks, or tasks from `prepare`.
        kv: How parallel groups fill the cache: "exact", or "averaged" as in the paper's released code.
        limit: The number of documents of each task, from the first on, or a share of them, such as 0.1. None: all.
        shots: The number of examples in the prompt. None: the task's own number.
        batch_size: Rows in a batch. It is part of a number's protocol, see `score_all`.
        seed: The seed of the few-shot prompts.
        progress: A callback, True for a progress bar, False for none. None: a bar in notebooks only.

    Returns:
        The records, task by task.

    Raises:
        ModelError: The model is an encoder.
        PlanError: The plan does not fit the model.
        SurgeryError: The model or its cache cannot follow the plan.
        TaskError: A task does not exist, cannot be loaded, or cannot be asked with these options.
        ValueError: An option has a value that no scoring can have.

    Examples:
        >>> from painters.harness import load_model, score
        >>> model, tokenizer = load_model("nano-llama", device="cpu")
        >>> (record,) = score(model, tokenizer, "0-10", "nano_winogrande", limit=2)
        >>> record.metric, record.documents, record.layer_runs
        ('acc', 2, 11)
    """
    protocol = scoring_protocol(kv=kv, limit=limit, shots=shots, batch_size=batch_size, seed=seed)
    with progress_callback(progress) as on_progress:
        return list(_score_alone(Scorer(model, tokenizer), [plan], tasks, protocol, on_progress))


def score_all(  # noqa: PLR0913 - the options of a scoring by their names
    model: Any,
    tokenizer: Any,
    plans: PlansLike,
    tasks: str | Prepared | Sequence[str | Prepared],
    *,
    kv: str = "exact",
    limit: int | float | None = None,
    shots: int | None = None,
    batch_size: int = 8,
    seed: int = SEED,
    progress: Progress | None = None,
) -> Iterator[Record]:
    """Score each plan by itself through lm-eval's own loop.

    Everything is checked before the first request runs, and each record comes as soon as its task is scored.
    `batch_size` is part of a number's protocol: sums over other batches differ in the last digits, and in bfloat16 in
    the first.

    Args:
        model: A loaded causal language model.
        tokenizer: Its tokenizer.
        plans: A plan or several, as values or texts.
        tasks: Names of tasks, or tasks from `prepare`.
        kv: How parallel groups fill the cache: "exact", or "averaged" as in the paper's released code.
        limit: The number of documents of each task, from the first on, or a share of them, such as 0.1. None: all.
        shots: The number of examples in the prompt. None: the task's own number.
        batch_size: Rows in a batch.
        seed: The seed of the few-shot prompts.
        progress: Called after every answer.

    Yields:
        One record for every metric, plan by plan and task by task.

    Raises:
        ModelError: The model is an encoder.
        PlanError: There is no plan, or one does not fit the model.
        SurgeryError: The model or its cache cannot follow a plan.
        TaskError: A task does not exist, cannot be loaded, or cannot be asked with these options.
        ValueError: An option has a value that no scoring can have.

    Examples:
        >>> from painters.harness import load_model, score_all
        >>> model, tokenizer = load_model("nano-llama", device="cpu")
        >>> records = score_all(model, tokenizer, ["0-11", "0-10"], "nano_winogrande", limit=2)
        >>> [(record.plan, record.layer_runs) for record in records]
        [('0-11', 12), ('0-10', 11)]
    """
    protocol = scoring_protocol(kv=kv, limit=limit, shots=shots, batch_size=batch_size, seed=seed)
    yield from _score_alone(Scorer(model, tokenizer), plans, tasks, protocol, progress)


def score_together(  # noqa: PLR0913 - the options of a scoring by their names
    model: Any,
    tokenizer: Any,
    plans: PlansLike,
    tasks: str | Prepared | Sequence[str | Prepared],
    *,
    kv: str = "exact",
    limit: int | float | None = None,
    shots: int | None = None,
    batch_size: int = 8,
    seed: int = SEED,
    exact_batching: bool = False,
    notes: Counter[str] | None = None,
    progress: Progress | None = None,
) -> Iterator[Record]:
    """Score plans task by task, and run only once what plans or requests have in common.

    `Scorer.score` says how. With `exact_batching` the records are those of `score_all`, number for number; without it,
    up to rounding.

    Args:
        model: A loaded causal language model.
        tokenizer: Its tokenizer.
        plans: A plan or several, as values or texts.
        tasks: Names of tasks, or tasks from `prepare`.
        kv: How parallel groups fill the cache: "exact", or "averaged" as in the paper's released code.
        limit: The number of documents of each task, from the first on, or a share of them, such as 0.1. None: all.
        shots: The number of examples in the prompt. None: the task's own number.
        batch_size: Rows in a batch.
        seed: The seed of the few-shot prompts.
        exact_batching: Whether to form lm-eval's own batches.
        notes: Counts what a user should know about the scoring. None: each note is a warning instead.
        progress: Called after every answer.

    Yields:
        One record for every metric, task by task and plan by plan.

    Raises:
        MemoryExhausted: One row is too large for the memory; or, with `exact_batching`, a batch is.
        ModelError: The model is an encoder.
        PlanError: There is no plan, or one does not fit the model.
        SurgeryError: The model or its cache cannot follow a plan.
        TaskError: A task does not exist, cannot be loaded, or cannot be asked with these options.
        ValueError: An option has a value that no scoring can have.

    Examples:
        >>> from painters.harness import load_model, score_together
        >>> model, tokenizer = load_model("nano-llama", device="cpu")
        >>> records = score_together(model, tokenizer, ["0-11", "0-10"], "nano_winogrande", limit=2)
        >>> [(record.plan, record.batching) for record in records]
        [('0-11', 'shared'), ('0-10', 'shared')]
    """
    protocol = scoring_protocol(
        kv=kv, limit=limit, shots=shots, batch_size=batch_size, seed=seed, exact_batching=exact_batching
    )
    scorer = Scorer(model, tokenizer)
    yield from _score_together(scorer, plans, tasks, protocol, progress)
    if notes is not None:
        notes.update(scorer.notes)
    else:
        _warn_of(scorer.notes)


def score_beside_intact(  # noqa: PLR0913 - what a record says about its origin
    scorer: Scorer,
    plan: PlanLike,
    tasks: str | Prepared | Sequence[str | Prepared],
    protocol: ScoringProtocol,
    *,
    variant: str | None = None,
    params: Mapping[str, int | str] | None = None,
    name: str | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Iterator[Record]:
    """Score the intact model and one plan side by side, and keep the records.

    This is `painters run`. What a user should know about the scoring is counted in `scorer.notes`.

    Args:
        scorer: The model.
        plan: The plan, its text, or its layers in order.
        tasks: Names of tasks, or tasks from `prepare`.
        protocol: How both are scored.
        variant: The name of the variant that built the plan, for its records.
        params: The parameters that it was built with, for its records.
        name: What figures and reports call the model; None for a name made from its path.
        out: A file of records, to which each record is appended before it is yielded. In a run of several processes
            the main one writes. Beside it, the answers of a run that is interrupted are kept
            (`painters.results.partial`): the same call goes on from them, to the same records.
        progress: Called after every answer.

    Yields:
        One record for every metric, task by task, the intact model first. Each holds the command that was run.

    Raises:
        MemoryExhausted: One row is too large for the memory; or, with `exact_batching`, a batch is.
        OSError: The records cannot be written.
        PlanError: The plan does not fit the model.
        SurgeryError: The model or its cache cannot follow the plan.
        TaskError: A task does not exist, cannot be loaded, or cannot be asked with this protocol.

    Examples:
        >>> from painters.experiment import ScoringProtocol
        >>> from painters.harness import Scorer, load_model, score_beside_intact
        >>> scorer = Scorer(*load_model("nano-llama", device="cpu"))
        >>> protocol = ScoringProtocol(limit=2)
        >>> records = score_beside_intact(scorer, "0-10", "nano_winogrande", protocol, out="records.jsonl")
        >>> [(record.plan, record.documents) for record in records]
        [('0-11', 2), ('0-10', 2)]
        >>> from painters import results
        >>> len(results.read("records.jsonl"))
        2
    """
    (plan,) = distinct(plan)
    identity = Plan.identity(scorer.num_layers)
    partials, written = _left_beside(out)
    for record in _score_together(scorer, [identity, plan], tasks, protocol, progress, partials):
        origin = {"variant": variant, "params": params} if record.plan == str(plan) else {}
        record = record.model_copy(update={"command": results.command(), "name": name, **origin})
        if out is not None and ranks().is_main and (results.key(record), record.outcomes) not in written:
            results.append(out, [record])
        yield record
    ranks().same(None)  # the others wait until the records are on the disk
    partials.drop([str(identity), str(plan)], others=ranks().is_main)


def _left_beside(out: str | Path | None) -> tuple[Partials, set[Any]]:
    """Return what an interrupted run left beside its file of records, and the records that it had written by then."""
    if out is None:
        return Partials(None), set()
    files = PartialFiles.beside(out)
    left = ranks().same(files.read())
    has_records = left and ranks().is_main and Path(out).is_file()
    records = results.read(out) if has_records else []
    return Partials(files, left), {(results.key(record), record.outcomes) for record in records}


def _score_alone(
    scorer: Scorer,
    plans: PlansLike,
    tasks: str | Prepared | Sequence[str | Prepared],
    protocol: ScoringProtocol,
    progress: OnProgress | None,
) -> Iterator[Record]:
    """Check everything, then score plan by plan through lm-eval's own loop."""
    checked, prepared, counter = _prepared(scorer, plans, tasks, protocol, progress)
    for plan in checked:
        for task in prepared:
            yield from scorer.score_alone(plan, task, protocol, progress=counter.next_part())


def _score_together(
    scorer: Scorer,
    plans: PlansLike,
    tasks: str | Prepared | Sequence[str | Prepared],
    protocol: ScoringProtocol,
    progress: OnProgress | None,
    partials: Partials | None = None,
) -> Iterator[Record]:
    """Check everything, then score task by task, all plans together.

    A task that cannot be scored keeps no other from being scored; it raises at the end.
    """
    checked, prepared, counter = _prepared(scorer, plans, tasks, protocol, progress)
    failures: list[ScoringError] = []
    scored: list[Record] = []
    for task in prepared:
        records = scorer.score(checked, task, protocol, progress=counter.next_part(), partials=partials)
        while True:
            try:
                record = next(records)
            except StopIteration:
                break
            except ScoringError as error:
                failures.append(error)
                break
            scored.append(record)
            yield record
    if failures:
        failures[0].records = scored
        raise failures[0] if len(failures) == 1 else _joined(failures)


def _joined(failures: Sequence[ScoringError]) -> ScoringError:
    """Return one error for those of several tasks."""
    joined = ScoringError("; ".join(map(str, failures)))
    joined.records = failures[0].records
    joined.__cause__ = failures[0]
    return joined


def _prepared(
    scorer: Scorer,
    plans: PlansLike,
    tasks: str | Prepared | Sequence[str | Prepared],
    protocol: ScoringProtocol,
    progress: OnProgress | None,
) -> tuple[tuple[Plan, ...], tuple[Prepared, ...], ProgressCounter]:
    """Return the distinct plans, checked, the tasks with their requests, and the counter of all answers."""
    checked = scorer.check(plans, protocol)
    prepared = prepare_with(tasks, protocol, scorer.tokenizer)
    scorer.notes.update(note for task in prepared for note in task.notes)
    total = len(checked) * sum(len(task.requests) for task in prepared)
    return checked, prepared, ProgressCounter(progress, total=total)


def _located(tasks: str | Prepared | Sequence[str | Prepared], data: str | Path) -> Sequence[str | Prepared]:
    """Return the tasks by their places in a folder of documents; those that are prepared stay."""
    items = [tasks] if isinstance(tasks, str | Prepared) else list(tasks)
    places = iter(located([item for item in items if isinstance(item, str)], data))
    return [next(places) if isinstance(item, str) else item for item in items]


def _warn_of(notes: Counter[str]) -> None:
    """Warn of each note, as if the caller's caller did."""
    for note in notes:
        warnings.warn(note, stacklevel=3)
