"""Tasks as lm-eval's objects, with their requests built once for all plans."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import datasets
import lm_eval.api.task
import lm_eval.utils
import numpy as np
import torch

from painters import tasks as bundled_tasks
from painters.documents import DocumentSelection
from painters.errors import PaintersError, first_line
from painters.experiment import Chat, ScoringProtocol
from painters.harness.chat import chat_template
from painters.harness.protocol import SEED, scoring_protocol
from painters.harness.task_loading import load
from painters.memory import is_exhausted
from painters.tasks import ScoringError, TaskError
from painters.threads import TURNS

__all__ = ["Prepared", "errors_of_task", "prepare", "prepare_with", "quiet", "seeded"]


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A task with its documents and requests, which any number of plans can answer.

    Attributes:
        name: The task's name.
        version: Its version in lm-eval, or None.
        shots: The number of examples in each prompt.
        seed: The seed that chose the examples.
        documents: The number of documents.
        chance: The accuracy of guessing: the mean over documents of right choices / choices, 0 where there is nothing
            to choose from. None where the task turns answers into scores by a function of its own.
        digest: Twelve hexadecimal digits over every request and its right answer.
        task: lm-eval's task.
        selection: The documents that were asked for.
        sample_seed: The seed by which the documents were drawn; None where they are the first ones, or all.
        chat: How the prompts were made into conversations; None for plain prompts.
        notes: What a user should know about the documents and prompts.
        indexed_documents: Each document as (id, document). lm-eval would read them anew for every plan.

    Examples:
        >>> from painters.harness import prepare
        >>> (task,) = prepare("nano_arc", limit=2)
        >>> task.name, task.documents, len(task.requests), task.chance
        ('nano_arc', 2, 8, 0.25)
    """

    name: str
    version: str | None
    shots: int
    seed: int
    documents: int
    chance: float | None
    digest: str
    task: Any
    selection: DocumentSelection
    sample_seed: int | None
    chat: Chat | None
    notes: tuple[str, ...]
    indexed_documents: tuple[tuple[int, Any], ...]

    @property
    def is_scored_by_likelihood(self) -> bool:
        """Whether all requests ask for the log-likelihood of an answer, or all for that of a whole text.

        Other tasks generate.
        """
        kinds = {request.request_type for request in self.requests}
        return len(kinds) == 1 and kinds < {"loglikelihood", "loglikelihood_rolling"}

    @property
    def requests(self) -> list[Any]:
        """lm-eval's requests, document by document."""
        instances: list[Any] = self.task.instances
        return instances


def prepare(  # noqa: PLR0913 - the options of documents and prompts by their names
    tasks: str | Prepared | Sequence[str | Prepared],
    *,
    limit: int | float | None = None,
    shots: int | None = None,
    seed: int = SEED,
    sample: int | None = None,
    sample_seed: int | None = None,
    apply_chat_template: bool | str = False,
    system_instruction: str | None = None,
    fewshot_as_multiturn: bool | None = None,
    tokenizer: Any = None,
) -> tuple[Prepared, ...]:
    """Load tasks and build their requests, once for all plans.

    Args:
        tasks: Names of tasks: a bundled one, one of lm-eval's, the path of a YAML, or a folder with the documents of
            one of lm-eval's. A name that stands for a group in lm-eval becomes the tasks in it. A task that is
            prepared already stays as it is.
        limit: The number of documents of each task, from the first on, or a share of them, such as 0.1. None: all.
        shots: The number of examples in the prompt. None: each task's own number.
        seed: The seed of the few-shot prompts.
        sample: The number of documents of each task to draw at random, in place of `limit`.
        sample_seed: The seed of the draw. None: 0.
        apply_chat_template: Whether prompts are put into the tokenizer's chat template; or the name of one of several.
        system_instruction: A text that prompts begin with, as the system's turn where a template is applied.
        fewshot_as_multiturn: Whether examples are turns of their own in the chat template. None: they are.
        tokenizer: The model's tokenizer, which `apply_chat_template` needs.

    Returns:
        The tasks in their order, each once.

    Raises:
        TaskError: A task does not exist, cannot be loaded, or cannot be asked with these options.
        ValueError: `seed` is not a seed.

    Examples:
        >>> from painters.harness import prepare
        >>> [(task.name, task.shots, task.documents) for task in prepare(["nano_arc", "nano_gsm8k"], limit=3)]
        [('nano_arc', 0, 3), ('nano_gsm8k', 0, 3)]
    """
    chat = {
        "apply_chat_template": apply_chat_template,
        "system_instruction": system_instruction,
        "fewshot_as_multiturn": fewshot_as_multiturn,
    }
    documents: dict[str, Any] = {"limit": limit, "sample": sample, "sample_seed": sample_seed}
    return prepare_with(tasks, scoring_protocol(**documents, shots=shots, seed=seed, chat=chat), tokenizer)


def prepare_with(
    tasks: str | Prepared | Sequence[str | Prepared], protocol: ScoringProtocol, tokenizer: Any = None
) -> tuple[Prepared, ...]:
    """Load tasks and build their requests with the documents, shots, seed and prompts of `protocol`, as `prepare` does.

    `tokenizer` is the model's, which a chat template is taken from.
    """
    items = [tasks] if isinstance(tasks, str | Prepared) else list(tasks)
    if not items:
        raise TaskError(f"no task given: name one or more, such as {', '.join(bundled_tasks.bundled())}")
    prepared: dict[str, Prepared] = {}
    for item in items:
        if isinstance(item, Prepared):
            prepared.setdefault(item.name, item)
        else:
            with quiet(), seeded(protocol.seed):
                with errors_of_task(item, "it was loaded"):
                    loaded = load(item)
                for name, task in loaded.items():
                    prepared.setdefault(name, _build(name, task, protocol, tokenizer))
    return tuple(prepared.values())


@contextlib.contextmanager
def errors_of_task(name: str, when: str) -> Iterator[None]:
    """Raise ScoringError for whatever the task's own code, lm-eval or transformers raise.

    Painters' own errors pass, and so do those of memory that does not suffice, which others handle.

    Args:
        name: The name of the task.
        when: What was being done.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, PaintersError) or is_exhausted(error):
            raise
        raise ScoringError(f"task {name!r} raised {type(error).__name__} while {when}: {first_line(error)}") from error


def _build(name: str, task: Any, protocol: ScoringProtocol, tokenizer: Any) -> Prepared:
    """Build the requests of lm-eval's task."""
    notes: list[str] = []
    chat, refused = protocol.chat, f"{name}: the chat template takes no system's turn, so it was left out"
    template = chat_template(tokenizer, chat, partial(notes.append, refused))
    with errors_of_task(name, "its prompts were built"):
        shots = _shots(name, task, protocol.shots)
        task.set_config("num_fewshot", shots)
        # The sampler is one random stream over all documents: it starts anew here, and the prompts are built only
        # once.
        task.set_fewshot_seed(protocol.seed)
        chosen, sample_seed, note = _chosen(name, task, protocol.selection)
        if chat is None:
            task.build_all_requests(**chosen)
        else:
            options = chat.model_dump() | {"apply_chat_template": template is not None, "chat_template": template}
            task.build_all_requests(**chosen, **options)
        indexed_documents = tuple(task.doc_iterator(**chosen))
        documents = {request.doc_id: request.doc for request in task.instances}
        chance, digest, version = _chance(task, list(documents.values())), _digest(task), task.VERSION
    return Prepared(
        name=name,
        version=None if version is None else str(version),
        shots=shots,
        seed=protocol.seed,
        documents=len(documents),
        chance=chance,
        digest=digest,
        task=task,
        selection=protocol.selection,
        sample_seed=sample_seed,
        chat=chat,
        notes=tuple(dict.fromkeys([*notes, *([note] if note else [])])),
        indexed_documents=indexed_documents,
    )


def _chosen(name: str, task: Any, selection: DocumentSelection) -> tuple[dict[str, Any], int | None, str | None]:
    """Return lm-eval's arguments for the documents that count, the seed that drew them, and a note on their number."""
    if selection.sample is None and (selection.limit is None or selection.limit >= 1):
        return {"limit": selection.limit}, None, None
    total = len(task.eval_docs)
    seed = selection.drawn_by(total)
    if seed is None:
        return {"limit": selection.count(total)}, None, selection.note(total, name)
    return {"samples": frozenset(selection.positions(total))}, seed, None


def _shots(name: str, task: Any, shots: int | None) -> int:
    """Return the number of shots: `shots`, or the task's own where that is None.

    Raises TaskError where lm-eval would silently use another number, or would draw the examples from the very documents
    that are scored.
    """
    own = task.get_config("num_fewshot")
    if shots is None:
        return int(own or 0)
    if shots and own == 0:
        raise TaskError(f"task {name!r} with {shots} shots: it is defined without any; leave shots out")
    elsewhere = task.has_training_docs() or (task.has_validation_docs() and task.has_test_docs())
    if shots and not (elsewhere or task.get_config("fewshot_split") or task.fewshot_cfg.samples):
        raise TaskError(
            f"task {name!r} with {shots} shots: it has no documents but those it is scored on; score it without"
        )
    return shots


def _chance(task: Any, documents: Sequence[Any]) -> float | None:
    """Return the accuracy of guessing: the mean of right choices / choices, 0 where there is nothing to choose from.

    None where the task turns answers into scores by a function of its own: a guess may then score anything.
    """
    configurable = lm_eval.api.task.ConfigurableTask
    if task.config.process_results is not None or type(task).process_results is not configurable.process_results:
        return None
    if task.OUTPUT_TYPE != "multiple_choice":
        return 0.0
    return sum(_right(task, document) / len(task.doc_to_choice(document)) for document in documents) / len(documents)


def _right(task: Any, document: Any) -> int:
    """Return how many choices lm-eval counts as right: none where the document names none of them."""
    choices = list(task.doc_to_choice(document))
    gold = (task.doc_to_text if task.multiple_input else task.doc_to_target)(document)
    if task.multiple_target:
        return len({index for index in gold if index in range(len(choices))})
    return int(gold in choices if isinstance(gold, str) else gold in range(len(choices)))


def _digest(task: Any) -> str:
    """Return twelve hexadecimal digits over the task's requests and their right answers."""
    digest = hashlib.sha256()
    for request in task.instances:
        gold = (task.doc_to_text if task.multiple_input else task.doc_to_target)(request.doc)
        digest.update(repr((request.request_type, request.args, gold)).encode())
    return digest.hexdigest()[:12]


@functools.lru_cache(maxsize=256)
def _compiled(template: str) -> Any:
    """Return the compiled prompt template, compiled once for all documents."""
    return type(lm_eval.utils.env).from_string(lm_eval.utils.env, template)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence lm-eval but for its errors and its progress bars, and compile each prompt template once.

    Other threads wait until it is over: what is changed here and in `seeded` is that of the whole process.
    """
    with TURNS:
        yield from _quiet()


def _quiet() -> Iterator[None]:
    """Silence lm-eval as `quiet` says."""
    logger, templates = logging.getLogger("lm_eval"), lm_eval.utils.env
    level, bar, bars = logger.level, lm_eval.api.task.tqdm, datasets.are_progress_bars_disabled()
    # lm-eval compiles the template of a field anew for every document: most of the time that requests take.
    templates.from_string = _compiled
    logger.setLevel(logging.ERROR)
    lm_eval.api.task.tqdm = lambda iterable, **_: iterable
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        lm_eval.api.task.tqdm = bar
        vars(templates).pop("from_string", None)
        if not bars:
            datasets.enable_progress_bars()


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Set the random state that lm-eval's `simple_evaluate` sets, and restore it afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(0)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
