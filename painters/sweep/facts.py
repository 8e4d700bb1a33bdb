"""Facts that estimates are made of: sizes of tasks and models, and seconds that the bundled ones took.

Counts of documents are those of the published data sets. Tokens are rounded means with the tokenizer of Llama or BERT,
over all requests of a document, shots included.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from painters import tasks
from painters.experiment import Cell
from painters.models import bundled
from painters.results import Record
from painters.sweep.eta import passes
from painters.sweep.output_types import lm_eval_output_type, output_type

TFLOPS = 312.0
"""The device's peak that an estimate assumes: an A100's, dense, in half precision."""
UTILISATION = 0.3
"""The share of that peak that is reached, in batches of a few short prompts."""
STEP = 0.7e-3
"""Seconds that one layer takes to decode one token of a batch, whatever the batch size."""
FORMULA = (
    "seconds = layer runs x documents x (2 x parameters of a layer x tokens of a document / (TFLOPS x utilisation) "
    "+ generated tokens x seconds of a decoding step / batch size); training counts three forwards a document and epoch"
)
"""How an estimate is made, in words."""


_LIKELIHOODS = ("loglikelihood", "loglikelihood_rolling", "multiple_choice")


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What is assumed of a task: counts of documents, and tokens per document."""

    documents: int  # that are scored
    tokens: int
    generated: int = 0
    training: int = 0


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model: its layers, the parameters of one, and the hidden size of an encoder."""

    num_layers: int
    parameters: float
    hidden: int | None = None


TASKS = {
    "arc_challenge": TaskFacts(1172, 160),
    "hellaswag": TaskFacts(10042, 420),
    "winogrande": TaskFacts(1267, 60),
    "gsm8k": TaskFacts(1319, 1000, generated=256),  # five shots; a batch decodes until its longest answer, 256 at most
    "lambada_openai": TaskFacts(5153, 85),
    "cola": TaskFacts(1043, 12, training=8551),
    "mrpc": TaskFacts(408, 53, training=3668),
    "qnli": TaskFacts(5463, 50, training=104743),
    "rte": TaskFacts(277, 70, training=2490),
    "sst2": TaskFacts(872, 25, training=67349),
    "stsb": TaskFacts(1500, 31, training=5749),
    "wnli": TaskFacts(71, 37, training=635),
}
MODELS = {
    "smollm2": ModelFacts(30, 3.54e6),
    "meta-llama/Llama-2-7b-hf": ModelFacts(32, 202e6),
    "meta-llama/Llama-2-13b-hf": ModelFacts(40, 317e6),
    "meta-llama/Llama-2-70b-hf": ModelFacts(80, 856e6),
    "mistralai/Mistral-7B-v0.1": ModelFacts(32, 218e6),
    "EleutherAI/pythia-6.9b": ModelFacts(32, 201e6),
    "google-bert/bert-large-uncased": ModelFacts(24, 12.6e6, hidden=1024),
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


def layer_parameters(model: str) -> float | None:
    """Return the parameters of one layer, from the table or the config.json of a folder, else None."""
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
    """Return the hidden size of a model, from the table or the config.json of a folder, else None."""
    size = MODELS[model].hidden if model in MODELS else _config(model).get("hidden_size")
    return size if isinstance(size, int) and size > 0 else None


def _config(model: str) -> dict[str, Any]:
    """Return the configuration of a bundled model or a folder; an empty one where none can be read."""
    try:
        config = json.loads((bundled.models().get(model, Path(model)) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def request_kind(cell: Cell) -> str:
    """Return what the cell needs of a model: log-likelihoods, generation, or an encoder's protocol.

    A task is looked up among the facts, the bundled ones and the YAML files of lm-eval. Of one that is in none, as
    where code makes it, the kind is "not known"; its plans are taken to share nothing.
    """
    if cell.tuning is not None:
        return cell.tuning.protocol
    if cell.task in TASKS:
        return "generation" if TASKS[cell.task].generated else "log-likelihoods"
    path = Path(cell.source) if cell.source else tasks.bundled().get(cell.task)
    found = (
        lm_eval_output_type(path.name if path else cell.task) if path is None or path.is_dir() else output_type(path)
    )
    if found is None:
        return "not known"
    return "log-likelihoods" if found in _LIKELIHOODS else "generation"


class Documents:
    """How many documents tasks have: by the store's records, the bundled files or the table.

    Args:
        records: The records of a store; those that were scored without a limit count.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._unlimited = {
            record.task: record.documents
            for record in records
            if record.asked is not None and record.asked.limit is None and record.sample_seed is None
        }

    def scored(self, cell: Cell) -> int | None:
        """Return the number of documents that `cell` scores; what it asks for where the task's size is not known."""
        known = self._unlimited.get(cell.task) or _bundled(cell.task)
        known = known or (TASKS[cell.task].documents if cell.task in TASKS else None)
        selection = cell.protocol.selection
        if known is not None:
            return selection.count(known)
        asked = selection.limit if selection.sample is None else selection.sample
        return int(asked) if asked is not None and asked >= 1 else None

    def training(self, task: str) -> int | None:
        """Return the number of training documents of `task`; None where it is not known."""
        return TASKS[task].training if task in TASKS else _lines(bundled.NANO / "glue" / task / "train.jsonl")

    def work(self, cell: Cell) -> float:
        """Return the layer runs times documents of `cell`, training documents included."""
        documents = passes(self.scored(cell) or 1, self.training(cell.task), cell.tuning)
        return float(cell.plan.layer_runs * documents)


def _bundled(task: str) -> int | None:
    """Return the number of documents of a bundled task; None for any other."""
    files = (bundled.NANO / "tasks" / task / "test.jsonl", bundled.NANO / "glue" / task / "validation.jsonl")
    return next((count for count in map(_lines, files) if count), None)


@functools.lru_cache(maxsize=64)
def _lines(path: Path) -> int | None:
    """Return the number of lines that are not blank; None where there is no such file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())
