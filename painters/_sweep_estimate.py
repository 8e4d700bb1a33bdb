"""What a sweep would cost, without weights, documents or network: cells, layer runs and an estimate of hours.

Where the store holds records of a model and task, their seconds per layer run and document are used. Else they are
those measured of the bundled models, or follow from the facts below. Documents are counts of the published sets; tokens
are rounded means with Llama's or BERT's tokenizer, over all requests of a document and including the shots.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from painters import bundled
from painters._sweep_pace import Rates, key_of, passes
from painters.experiment import Cell
from painters.results import Record

TFLOPS = 312.0  # an A100's dense peak in half precision
UTILISATION = 0.3  # of that peak, in batches of a few short prompts
STEP = 0.7e-3  # seconds that one layer takes to decode one token of a batch, whatever its rows
FORMULA = (
    "seconds = layer runs x documents x (2 x parameters of a layer x tokens of a document / (TFLOPS x utilisation) "
    "+ generated tokens x seconds of a decoding step / batch size); training counts three forwards a document and epoch"
)


@dataclass(frozen=True, slots=True)
class Task:
    """What is assumed of a task: counts of documents, and tokens per document."""

    documents: int  # that are scored
    tokens: int
    generated: int = 0
    training: int = 0


@dataclass(frozen=True, slots=True)
class Model:
    """What is known of a model: its layers, and the parameters of one."""

    num_layers: int
    parameters: float


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
    "google-bert/bert-large-uncased": Model(24, 12.6e6),
}
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
class Forecast:
    """What the missing cells of a sweep would cost."""

    cells: int
    found: int
    plans: int  # distinct, of all cells
    missing: int
    layer_runs: int  # times documents, training left out; of the missing cells whose documents are known
    hours: float  # of the missing cells that can be estimated
    by_basis: Counter[str] = field(default_factory=Counter)  # how many missing cells are estimated from what
    unknown: tuple[str, ...] = ()  # why the others are not
    tflops: float = TFLOPS


def forecast(cells: Sequence[Cell], missing: Sequence[Cell], rates: Rates, known: Documents, tflops: float) -> Forecast:
    """What scoring `missing` of `cells` would cost; `rates` are those of the store's records."""
    found = Forecast(
        len(cells),
        len(cells) - len(missing),
        len({(c.model, c.plan) for c in cells}),
        len(missing),
        0,
        0.0,
        tflops=tflops,
    )
    unknown: Counter[str] = Counter()
    for cell in missing:
        documents = known.scored(cell)
        if documents is None:
            unknown[f"documents of {cell.task}"] += 1
            continue
        found.layer_runs += cell.plan.layer_runs * documents
        sent = cell.plan.layer_runs * passes(documents, known.training(cell.task), cell.tuning)
        rate = rates.of(key_of(cell))
        if rate is not None:
            found.hours += rate * sent / 3600
            found.by_basis["records"] += 1
        elif (rate := BUNDLED.get((cell.model, cell.task))) is not None:
            found.hours += rate * sent / 3600
            found.by_basis["bundled"] += 1
        elif (seconds := _seconds(cell, sent, documents, tflops)) is not None:
            found.hours += seconds / 3600
            found.by_basis["parameters"] += 1
        else:
            unknown[f"{cell.model} on {cell.task}"] += 1
    found.unknown = tuple(f"{what} ({count} cell{'' if count == 1 else 's'})" for what, count in unknown.items())
    return found


def _seconds(cell: Cell, sent: int, documents: int, tflops: float) -> float | None:
    """Seconds from parameters and tokens; None where either is not known."""
    parameters, task = layer_parameters(cell.model), TASKS.get(cell.task)
    if parameters is None or task is None:
        return None
    forward = sent * 2 * parameters * task.tokens / (tflops * 1e12 * UTILISATION)
    return forward + cell.plan.layer_runs * documents * task.generated * STEP / cell.batch_size


def layer_parameters(model: str) -> float | None:
    """Parameters of one layer: of a model of the table, or by the config.json of a folder."""
    if model in MODELS:
        return MODELS[model].parameters
    path = bundled.models().get(model, Path(model)) / "config.json"
    try:
        config = json.loads(path.read_text())
        hidden, inner, heads = (int(config[k]) for k in ("hidden_size", "intermediate_size", "num_attention_heads"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    shared = int(config.get("num_key_value_heads") or heads) / heads
    gated = config.get("hidden_act") in ("silu", "swish")
    return hidden * hidden * (2 + 2 * shared) + (3 if gated else 2) * hidden * inner


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
