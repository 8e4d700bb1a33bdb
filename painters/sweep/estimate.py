"""What a sweep would cost, without weights, documents or network: cells, layer runs and an estimate of hours.

Both are told twice: each plan alone, and with what plans have in common run once, as a sweep runs them.

Where the store holds records of a model and task, their seconds per layer run and document are used. Else they are
those measured of the bundled models, or follow from the facts below. Documents are counts of the published sets; tokens
are rounded means with Llama's or BERT's tokenizer, over all requests of a document and including the shots.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from painters import tasks
from painters.experiment import Cell
from painters.experiment.tuning import STATES_BYTES
from painters.models import bundled
from painters.plan import Plan
from painters.results import Record
from painters.sharing.trie import Trie, groups
from painters.sweep.eta import Rates, key_of, passes
from painters.tasks import TaskError

TFLOPS = 312.0
"""The peak that an estimate assumes: an A100's dense one in half precision."""
UTILISATION = 0.3
"""The share of that peak that is reached, in batches of a few short prompts."""
STEP = 0.7e-3
"""Seconds that one layer takes to decode one token of a batch, whatever its rows."""
FORMULA = (
    "seconds = layer runs x documents x (2 x parameters of a layer x tokens of a document / (TFLOPS x utilisation) "
    "+ generated tokens x seconds of a decoding step / batch size); training counts three forwards a document and epoch"
)
"""How an estimate is made, in words."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is assumed of a task: counts of documents, and tokens per document."""

    documents: int  # that are scored
    tokens: int
    generated: int = 0
    training: int = 0


@dataclass(frozen=True, slots=True)
class Model:
    """What is known of a model: its layers, the parameters of one, and the width of an encoder's states."""

    num_layers: int
    parameters: float
    hidden: int | None = None


TASKS = {
    "arc_challenge": Task(1172, 160),
    "hellaswag": Task(10042, 420),
    "winogrande": Task(1267, 60),
    "gsm8k": Task(1319, 1000, generated=256),  # five shots; a batch decodes until its longest answer, 256 at most
    "lambada_openai": Task(5153, 85),
    "cola": Task(1043, 12, training=8551),
    "mrpc": Task(408, 53, training=3668),
    "qnli": Task(5463, 50, training=104743),
    "rte": Task(277, 70, training=2490),
    "sst2": Task(872, 25, training=67349),
    "stsb": Task(1500, 31, training=5749),
    "wnli": Task(71, 37, training=635),
}
MODELS = {
    "meta-llama/Llama-2-7b-hf": Model(32, 202e6),
    "meta-llama/Llama-2-13b-hf": Model(40, 317e6),
    "meta-llama/Llama-2-70b-hf": Model(80, 856e6),
    "mistralai/Mistral-7B-v0.1": Model(32, 218e6),
    "EleutherAI/pythia-6.9b": Model(32, 201e6),
    "google-bert/bert-large-uncased": Model(24, 12.6e6, hidden=1024),
}
# What plans on the same requests have in common is run once: not while weights learn, nor where text is generated.
SHARING = ("log-likelihoods", "frozen", "operated")
# Seconds of one processor core per layer run and document, training counted as `passes` does.
BUNDLED = {
    ("nano-llama", "nano_arc"): 0.4e-3,
    ("nano-llama", "nano_gsm8k"): 2.2e-3,
    ("nano-llama", "nano_hellaswag"): 1.8e-3,
    ("nano-llama", "nano_lambada"): 0.8e-3,
    ("nano-llama", "nano_winogrande"): 0.45e-3,
    ("nano-bert", "nano_cola"): 0.2e-3,
    ("nano-bert", "nano_paraphrase"): 0.4e-3,
    ("nano-bert", "nano_rte"): 0.35e-3,
    ("nano-bert", "nano_sst2"): 0.2e-3,
    ("nano-bert", "nano_sts"): 0.5e-3,
}


@dataclass(slots=True)
class Cost:
    """What cells cost as a sweep runs them, and what they would cost with each plan alone."""

    cells: int = 0
    layer_runs: int = 0  # times documents, training left out; of the cells whose documents are known
    layer_runs_alone: int = 0
    hours: float = 0.0  # of the cells that can be estimated
    hours_alone: float = 0.0


@dataclass(slots=True)
class Forecast:
    """What the missing cells of a sweep would cost."""

    cells: int
    found: int
    plans: int  # distinct, of all cells
    total: Cost  # of the missing cells
    experiments: tuple[tuple[str, Cost], ...]  # of several, what each would cost by itself
    kinds: tuple[tuple[str, Cost], ...]  # of the missing cells, by what they ask of a model
    by_basis: Counter[str]  # how many missing cells are estimated from what
    unknown: tuple[str, ...]  # why the others are not
    tflops: float

    @property
    def missing(self) -> int:
        """How many cells are to be scored."""
        return self.total.cells


def forecast(
    cells: Sequence[Cell],
    missing: Sequence[Cell],
    rates: Rates,
    known: Documents,
    tflops: float,
    experiments: Iterable[tuple[str, Sequence[Cell]]] = (),
) -> Forecast:
    """What scoring `missing` of `cells` would cost, and those of each of the named `experiments` by itself; `rates` are
    those of the store's records.
    """
    estimate = _Estimate(rates, known, tflops)
    by_basis: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    kinds: dict[str, list[Cell]] = {}
    for cell in missing:
        kinds.setdefault(_kind(cell), []).append(cell)
    return Forecast(
        cells=len(cells),
        found=len(cells) - len(missing),
        plans=len({(cell.model, cell.plan) for cell in cells}),
        total=estimate.cost(missing, by_basis, unknown),
        experiments=tuple((name, estimate.cost(asked)) for name, asked in experiments),
        kinds=tuple((kind, estimate.cost(asked)) for kind, asked in kinds.items()),
        by_basis=by_basis,
        unknown=tuple(f"{what} ({count} cell{'' if count == 1 else 's'})" for what, count in unknown.items()),
        tflops=tflops,
    )


class _Estimate:
    """Adds up what cells cost, group by group of those that differ in their plans alone."""

    def __init__(self, rates: Rates, known: Documents, tflops: float) -> None:
        self._rates, self._known, self._tflops = rates, known, tflops
        self._shared: dict[tuple[frozenset[Plan], int | None], int] = {}

    def cost(
        self, cells: Iterable[Cell], by_basis: Counter[str] | None = None, unknown: Counter[str] | None = None
    ) -> Cost:
        """The cost of `cells`; what it is estimated from, and why some of it is not, is counted in the other two."""
        by_basis, unknown = Counter() if by_basis is None else by_basis, Counter() if unknown is None else unknown
        asked: dict[Hashable, list[Cell]] = {}
        for cell in cells:
            asked.setdefault(_but_the_plan(cell), []).append(cell)
        found = Cost(sum(map(len, asked.values())))
        for group in asked.values():
            cell, plans = group[0], [cell.plan for cell in group]
            documents = self._known.scored(cell)
            if documents is None:
                unknown[f"documents of {cell.task}"] += len(group)
                continue
            sent = passes(documents, self._known.training(cell.task), cell.tuning)
            alone = sum(plan.layer_runs for plan in plans)
            shared = self._runs_together(plans, _room(cell, sent)) if _kind(cell) in SHARING else alone
            found.layer_runs += shared * documents
            found.layer_runs_alone += alone * documents
            basis, seconds = self._seconds(cell, documents, sent)
            if seconds is None:
                unknown[f"{cell.model} on {cell.task}"] += len(group)
                continue
            by_basis[basis] += len(group)
            # The seconds of records hold what sharing saved when they were scored: it is not to be saved twice.
            found.hours += seconds * (alone if basis == "records" else shared) / 3600
            found.hours_alone += seconds * alone / 3600
        return found

    def _runs_together(self, plans: Sequence[Plan], room: int | None) -> int:
        """Layer runs per document of the plans, where as many are run together as there is `room` for."""
        asked = frozenset(plans), room
        if asked not in self._shared:
            together = [plans] if room is None else groups(plans, room)
            self._shared[asked] = sum(Trie.of(some).layer_runs for some in together)
        return self._shared[asked]

    def _seconds(self, cell: Cell, documents: int, sent: int) -> tuple[str, float | None]:
        """What is known of such cells, and their seconds for each layer run of a plan; None where nothing is.

        `documents` are scored, and `sent` counts what goes through the model with training.
        """
        if (rate := self._rates.of(key_of(cell))) is not None:
            return "records", rate * sent
        if (rate := BUNDLED.get((cell.model, cell.task))) is not None:
            return "bundled", rate * sent
        parameters, task = layer_parameters(cell.model), TASKS.get(cell.task)
        if parameters is None or task is None:
            return "parameters", None
        forward = sent * 2 * parameters * task.tokens / (self._tflops * 1e12 * UTILISATION)
        return "parameters", forward + documents * task.generated * STEP / cell.batch_size


def _but_the_plan(cell: Cell) -> Hashable:
    """Everything of a cell that its number depends on, except the plan."""
    return replace(cell, plan=Plan.identity(1))


def _kind(cell: Cell) -> str:
    """What is asked of a model: log-likelihoods, generation, or the protocol of an encoder's tuning.

    A task that is not known is taken for one that generates.
    """
    if cell.tuning is not None:
        return cell.tuning.protocol
    if cell.task in TASKS:
        return "generation" if TASKS[cell.task].generated else "log-likelihoods"
    path = Path(cell.source) if cell.source else tasks.bundled().get(cell.task)
    likely = path is not None and _output_type(path) in ("loglikelihood", "multiple_choice")
    return "log-likelihoods" if likely else "generation"


def _room(cell: Cell, documents: int) -> int | None:
    """How many plans' states of `documents` there is room for; None where there is for all."""
    hidden = hidden_size(cell.model)
    if cell.tuning is None or cell.tuning.protocol != "frozen" or hidden is None:
        return None
    return max(1, STATES_BYTES // (documents * hidden * (2 if cell.dtype in ("bfloat16", "float16") else 4)))


def layer_parameters(model: str) -> float | None:
    """Parameters of one layer: of a model of the table, or by the config.json of a folder."""
    if model in MODELS:
        return MODELS[model].parameters
    config = _config(model)
    try:
        hidden, inner, heads = (int(config[k]) for k in ("hidden_size", "intermediate_size", "num_attention_heads"))
    except (ValueError, KeyError, TypeError):
        return None
    shared = int(config.get("num_key_value_heads") or heads) / heads
    gated = config.get("hidden_act") in ("silu", "swish")
    return hidden * hidden * (2 + 2 * shared) + (3 if gated else 2) * hidden * inner


def hidden_size(model: str) -> int | None:
    """The width of the states: of a model of the table, or by the config.json of a folder."""
    size = MODELS[model].hidden if model in MODELS else _config(model).get("hidden_size")
    return size if isinstance(size, int) and size > 0 else None


def _config(model: str) -> dict[str, Any]:
    """The configuration of a bundled model or a folder; nothing where there is none to read."""
    try:
        config = json.loads((bundled.models().get(model, Path(model)) / "config.json").read_text())
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


class Documents:
    """How many documents tasks have: by the store's records, the bundled files and the table."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._whole = {r.task: r.documents for r in records if r.asked is not None and r.asked.limit is None}

    def scored(self, cell: Cell) -> int | None:
        """Documents that `cell` scores; its limit where the size of the task is not known."""
        known = self._whole.get(cell.task) or _bundled(cell.task)
        known = known or (TASKS[cell.task].documents if cell.task in TASKS else None)
        return cell.limit if known is None else min(known, cell.limit or known)

    def training(self, task: str) -> int | None:
        """Documents that an encoder learns `task` from; None where that is not known."""
        return TASKS[task].training if task in TASKS else _lines(bundled.NANO / "glue" / task / "train.jsonl")

    def work(self, cell: Cell) -> float:
        """Layer runs times documents, those that an encoder learns from included."""
        documents = passes(self.scored(cell) or 1, self.training(cell.task), cell.tuning)
        return float(cell.plan.layer_runs * documents)


def _bundled(task: str) -> int | None:
    files = (bundled.NANO / "tasks" / task / "test.jsonl", bundled.NANO / "glue" / task / "validation.jsonl")
    return next((count for count in map(_lines, files) if count), None)


@functools.lru_cache(maxsize=64)
def _lines(path: Path) -> int | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


@functools.lru_cache(maxsize=64)
def _output_type(path: Path) -> str | None:
    try:
        return tasks.output_type(path)
    except TaskError:
        return None
