"""Tasks as lm-eval's objects, with their requests built once for all plans."""

from __future__ import annotations

import contextlib
import difflib
import functools
import hashlib
import logging
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import lm_eval.api.task
import lm_eval.tasks
import lm_eval.utils
import numpy as np
import torch
from lm_eval.tasks._yaml_loader import load_yaml

from painters import tasks as bundled_tasks
from painters.errors import first_line
from painters.models.hub import patiently
from painters.tasks import TaskError, TaskUnavailableError

SEED = 1234  # lm-eval's own, so that few-shot prompts are the ones of its command line


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A task whose documents are read and whose requests are built; any number of plans can answer them."""

    name: str
    version: str | None
    shots: int
    seed: int
    documents: int
    chance: float  # what guessing scores: the mean of 1 / choices, 0 where there is nothing to choose from
    digest: str  # twelve hexadecimal digits over every request and its answer
    task: Any
    limit: int | None
    asked_documents: tuple[tuple[int, Any], ...]  # (id, document): lm-eval would read them anew for every plan

    @property
    def is_scored_by_likelihood(self) -> bool:
        """Whether all requests ask for the log-likelihood of an answer; others generate."""
        return {request.request_type for request in self.requests} == {"loglikelihood"}

    @property
    def requests(self) -> list[Any]:
        """lm-eval's instances, documents in order."""
        instances: list[Any] = self.task.instances
        return instances


def prepare(
    tasks: str | Prepared | Sequence[str | Prepared],
    *,
    limit: int | None = None,
    num_fewshot: int | None = None,
    seed: int = SEED,
) -> tuple[Prepared, ...]:
    """The tasks with their requests built; a name that stands for a group of lm-eval's becomes the tasks in
    it.

    `limit` keeps the first documents of each, `num_fewshot` None keeps each task's own number of shots. What
    is prepared already stays as it is.
    """
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise TaskError(f"limit {limit!r}: give a number of documents, 1 or more, or leave it out for all of them")
    if num_fewshot is not None and num_fewshot < 0:
        raise TaskError(f"num_fewshot {num_fewshot}: a prompt has 0 shots or more")
    wanted = [tasks] if isinstance(tasks, str | Prepared) else list(tasks)
    if not wanted:
        raise TaskError(f"no task given: name one or more, such as {', '.join(bundled_tasks.bundled())}")
    prepared: dict[str, Prepared] = {}
    for item in wanted:
        if isinstance(item, Prepared):
            prepared.setdefault(item.name, item)
        else:
            with quiet(), seeded(seed):
                for name, task in _load(item).items():
                    prepared.setdefault(name, _build(name, task, limit, num_fewshot, seed))
    return tuple(prepared.values())


def _load(name: str) -> dict[str, Any]:
    """Name -> lm-eval's task, for a bundled task, the path of a YAML with its documents, a folder with the documents of
    one of lm-eval's, or a task or group of lm-eval.
    """
    ours = bundled_tasks.bundled()
    path = ours.get(name, Path(name))
    if "/" in name and path.is_dir():
        return _with_documents_of(path)
    if path.suffix in (".yaml", ".yml"):
        task = lm_eval.api.task.ConfigurableTask(config=bundled_tasks.config(path))
        return {task.task_name: task}
    file = _file_of(name)
    manager = _index() if file is None else lm_eval.tasks.TaskManager(include_defaults=False)
    if file is None and name not in manager.all_tasks:
        close = difflib.get_close_matches(name, [*ours, *manager.all_tasks], 3, 0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else "`lm_eval ls tasks` lists lm-eval's"
        raise TaskError(f"task {name!r}: neither bundled ({', '.join(ours)}) nor in lm-eval; {hint}")
    try:
        loaded: dict[str, Any] = patiently(lambda: manager.load([name if file is None else str(file)])["tasks"])
    except Exception as error:  # datasets, the hub and the task's own code each raise what they like
        raise TaskUnavailableError(
            f"task {name!r} is in lm-eval, and its documents cannot be had: {type(error).__name__}: "
            f"{first_line(error)}. They come from the hub: be online the first time (without "
            f"HF_DATASETS_OFFLINE and HF_HUB_OFFLINE), afterwards the cache serves them. "
            f"Bundled tasks need no network: {', '.join(ours)}"
        ) from error
    return loaded


def _with_documents_of(folder: Path) -> dict[str, Any]:
    """lm-eval's own task of the folder's name, with the documents in the folder: a `.jsonl` for each split."""
    file = _file_of(folder.name)
    if file is None:
        raise TaskError(f"task in {folder}: lm-eval has no task {folder.name!r}; call the folder as lm-eval's task")
    config = load_yaml(file, resolve_func=True)
    splits = {field: config[field] for field in _SPLITS if config.get(field)}
    files = {split: path for split in splits.values() if (path := folder / f"{split}.jsonl").is_file()}
    scored = splits.get("test_split") or splits.get("validation_split")
    if scored not in files:
        raise TaskUnavailableError(f"task in {folder}: there is no {scored}.jsonl, and {folder.name} is scored on it")
    absent: dict[str, Any] = {field: None for field, split in splits.items() if split not in files}
    data = {"dataset_path": None, "dataset_name": None, "custom_dataset": bundled_tasks.reader(files, folder.name)}
    task = lm_eval.api.task.ConfigurableTask(config={**config, **absent, **data})
    return {task.task_name: task}


_SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")


def _file_of(name: str) -> Path | None:
    """The YAML in lm-eval that defines the task `name`, where its place is the usual one.

    Reading one file saves the fifteen seconds that the index of all of them takes.
    """
    folder = Path(lm_eval.tasks.__file__).parent
    if not re.fullmatch(r"[\w.-]+", name):
        return None
    defines = re.compile(rf"^task:\s*['\"]?{re.escape(name)}['\"]?\s*$", re.MULTILINE)
    for path in [*folder.glob(f"{name}/*.yaml"), *folder.rglob(f"{name}.yaml")]:
        if defines.search(path.read_text(encoding="utf-8")):
            return path
    return None


@functools.lru_cache(maxsize=1)
def _index() -> Any:
    return lm_eval.tasks.TaskManager()


@contextlib.contextmanager
def errors_of(name: str, when: str) -> Iterator[None]:
    """Nothing; what the task's own code raises meanwhile, which may be anything, is a TaskError."""
    try:
        yield
    except Exception as error:
        raise TaskError(f"task {name!r} raised {type(error).__name__} while {when}: {first_line(error)}") from error


def _build(name: str, task: Any, limit: int | None, num_fewshot: int | None, seed: int) -> Prepared:
    shots = _shots(name, task, num_fewshot)
    task.set_config("num_fewshot", shots)
    # The sampler is one random stream over all documents: it starts anew here, and the prompts are built only
    # once.
    task.set_fewshot_seed(seed)
    with errors_of(name, "its prompts were built"):
        task.build_all_requests(limit=limit)
    documents = {request.doc_id: request.doc for request in task.instances}
    version = task.VERSION
    return Prepared(
        name=name,
        version=None if version is None else str(version),
        shots=shots,
        seed=seed,
        documents=len(documents),
        chance=_chance(task, list(documents.values())),
        digest=_digest(task),
        task=task,
        limit=limit,
        asked_documents=tuple(task.doc_iterator(limit=limit)),
    )


def _shots(name: str, task: Any, num_fewshot: int | None) -> int:
    """The number of shots; TaskError where lm-eval would go on with another one, or with shots that leak
    answers.
    """
    own = task.get_config("num_fewshot")
    if num_fewshot is None:
        return int(own or 0)
    if num_fewshot and own == 0:
        raise TaskError(f"task {name!r} with {num_fewshot} shots: it is defined without any; leave num_fewshot out")
    elsewhere = task.has_training_docs() or (task.has_validation_docs() and task.has_test_docs())
    if num_fewshot and not (elsewhere or task.get_config("fewshot_split") or task.fewshot_cfg.samples):
        raise TaskError(
            f"task {name!r} with {num_fewshot} shots: it has no documents but those it is scored on; score it without"
        )
    return num_fewshot


def _chance(task: Any, documents: Sequence[Any]) -> float:
    if task.OUTPUT_TYPE != "multiple_choice":
        return 0.0
    return sum(1 / len(task.doc_to_choice(document)) for document in documents) / len(documents)


def _digest(task: Any) -> str:
    digest = hashlib.sha256()
    for request in task.instances:
        gold = (task.doc_to_text if task.multiple_input else task.doc_to_target)(request.doc)
        digest.update(repr((request.request_type, request.args, gold)).encode())
    return digest.hexdigest()[:12]


@functools.lru_cache(maxsize=256)
def _compiled(template: str) -> Any:
    return type(lm_eval.utils.env).from_string(lm_eval.utils.env, template)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing from lm-eval but errors, no progress bars but ours, and each prompt template compiled once."""
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
    """The random state that lm-eval's simple_evaluate sets, and afterwards the one from before."""
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
