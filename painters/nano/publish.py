"""Write a trained network as a Hugging Face folder: weights, tokenizer, configuration, model card."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from painters.nano.encoder.network import export as export_encoder
from painters.nano.encoder.train import EncoderTrainer
from painters.nano.network import export
from painters.nano.pieces import build_bert_tokenizer
from painters.nano.tokenizer import build_tokenizer
from painters.nano.train import Trainer

FOLDER = Path(__file__).parent / "llama"
ENCODER_FOLDER = Path(__file__).parent / "bert"
MAX_BYTES = 8_000_000


class Score(NamedTuple):
    """One measured number of the model card: value and standard error in the metric's own unit."""

    metric: str
    value: float
    stderr: float
    chance: float
    documents: int


def publish(trainer: Trainer, folder: Path = FOLDER) -> Path:
    """Write the decoder's folder and return it: bf16 safetensors, tokenizer, and `training.json`.

    Raise ValueError if the weights are larger than `MAX_BYTES`.
    """
    return _write(_training(trainer), export(trainer.network.to("cpu")), build_tokenizer(), folder)


def publish_encoder(trainer: EncoderTrainer, folder: Path = ENCODER_FOLDER) -> Path:
    """Write the encoder's folder as `publish` writes the decoder's; return it."""
    return _write(_training(trainer), export_encoder(trainer.network.to("cpu")), build_bert_tokenizer(), folder)


def _training(trainer: Trainer | EncoderTrainer) -> dict[str, Any]:
    return trainer.about() | {"tokens": trainer.recipe.tokens, "final_loss": _last_loss(trainer.folder)}


def _write(training: Mapping[str, Any], model: Any, tokenizer: Any, folder: Path) -> Path:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    model.bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    weights = folder / "model.safetensors"
    weights.chmod(0o644)
    size = weights.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(
            f"the bundled weights may take {MAX_BYTES:,} bytes, these take {size:,}: make the shape smaller"
        )
    about = {**training, "parameters": parameters, "weights_bytes": size}
    (folder / "training.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return folder


def _last_loss(run: Path) -> float:
    with (run / "log.csv").open(newline="", encoding="utf-8") as file:
        return float(list(csv.DictReader(file))[-1]["loss"])


def card_fields(config: Mapping[str, Any], training: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the cards of both models say of their shape, size and training."""
    return {
        "layers": config["num_hidden_layers"],
        "hidden": config["hidden_size"],
        "intermediate": config["intermediate_size"],
        "heads": config["num_attention_heads"],
        "vocabulary": config["vocab_size"],
        "parameters": training["parameters"] / 1e6,
        "megabytes": training["weights_bytes"] / 1e6,
        "minutes": training["seconds"] / 60,
        "loss": training["final_loss"],
    }


def write_card(scores: Mapping[str, Score], environment: str, folder: Path = FOLDER) -> Path:
    """Write the model card from `training.json` and the scores of the bundled tasks; return its path."""
    training = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    recipe = training["recipe"]
    rows = "\n".join(
        f"| {task} | {s.metric} | {100 * s.value:.1f} ± {100 * s.stderr:.1f} | {100 * s.chance:.1f} | {s.documents} |"
        for task, s in scores.items()
    )
    path = folder / "README.md"
    path.write_text(
        _CARD.format(
            **card_fields(config, training),
            tokens=training["tokens"] / 1e6,
            rows=rows,
            rows_=recipe["rows"],
            environment=environment,
            **{k: v for k, v in recipe.items() if k != "rows"},
        ),
        encoding="utf-8",
    )
    return path


_CARD = """---
library_name: transformers
license: apache-2.0
language: en
tags: [nano, synthetic, llama]
---

# nano-llama

A Llama of {layers} layers that fits in a package: {parameters:.2f} million parameters, {megabytes:.2f} MB in bf16
(hidden size {hidden}, MLP {intermediate}, {heads} heads, {vocabulary} tokens, tied embeddings, rotary positions). It
exists so that layer surgery can be tried, tested and taught on any machine without a download. It has read nothing but
text that `painters.nano` generates about a small closed world (animals, materials, tools, jobs, invented lands, people
with things, sums up to 99); it knows no English beyond that and is of no use for anything else.

## Scores

Measured by lm-eval on the bundled tasks, zero-shot, in per cent with the standard error over documents.
{environment}

| task | metric | score | chance | documents |
|---|---|---|---|---|
{rows}

## Training

One run, seed {seed}: {steps} steps of {rows_} rows of {length} positions, {tokens:.1f} million positions in all
(padding included), {minutes:.0f} minutes on one to two CPU cores. Muon (rate {rate}, weight decay {weight_decay}) for
the matrices, AdamW (rate {embedding_rate}) for embeddings and norms, {warmup} steps of warm-up, constant rate, linear
decay to zero over the last {decay} steps. The first {settle} steps are a curriculum that starts with plain copying.
Words that nothing in a document determines weigh a tenth in the loss. Final training loss (weighted): {loss:.3f} nats.

`python -m painters.nano train` repeats the run (it resumes from its own checkpoints), `python -m painters.nano publish`
writes this folder, `python -m painters.nano card` measures the scores and writes this page. Another number of threads
or another CPU rounds differently, so a repeated run agrees in kind, not in every bit.

## What to keep in mind

- One seed of training. Differences between plans that are smaller than their paired errors mean nothing, and another
  seed may order plans differently.
- Task documents never occur in the training text, and the facts that nano_arc asks are never asked there. But both come
  from one generator: the tasks test a skill on new combinations of known words, not on new kinds of text.
- Memorised facts are not reasoning, and exact match of a multi-step sum compounds small errors.
- Texts end with `</s>`; three in ten training documents began with `<s>`. The tokenizer adds neither. Positions beyond
  {length} were not trained.
"""
