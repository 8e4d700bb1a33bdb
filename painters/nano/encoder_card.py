"""The model card of nano-bert, written from its training and from what fine-tuning it scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from painters import glue
from painters.nano.make_glue import TASKS
from painters.nano.masking import MASKINGS
from painters.nano.publish import ENCODER_FOLDER
from painters.plan import Plan
from painters.results import Record
from painters.tuning import Tuning

SEEDS = (42, 43, 44)
TUNING = Tuning(protocol="retuned", rate=5e-4, warmup=0.1, weight_decay=0.01)


def measure(folder: Path = ENCODER_FOLDER) -> dict[str, list[float]]:
    """Task -> the scores of fine-tuning the bundled encoder with each of the seeds."""
    scorer = glue.Scorer(*glue.load_encoder(str(folder), device="cpu"))
    intact, scores = Plan.identity(scorer.num_layers), {}
    for task in TASKS:
        prepared = scorer.prepare(task, TUNING)
        scores[task] = [_value(scorer.score(intact, prepared, TUNING, seed=seed)) for seed in SEEDS]
    return scores


def _value(records: Sequence[Record]) -> float:
    """What stands for the task; RuntimeError where the fine-tuning diverged, which no card should hide."""
    (value,) = (record.value for record in records if record.primary)
    if value is None:
        raise RuntimeError(f"fine-tuning on {records[0].task} with seed {records[0].seed} diverged")
    return value


def write_encoder_card(scores: Mapping[str, list[float]], folder: Path = ENCODER_FOLDER) -> Path:
    """The path of the model card, written from `training.json` and the scores."""
    training = json.loads((folder / "training.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    rows = "\n".join(
        f"| {task} | {glue.TASKS[task].primary} | {100 * sum(found) / len(found):.1f} "
        f"| {100 * min(found):.1f} to {100 * max(found):.1f} | {0 if glue.TASKS[task].kind == 'regression' else 50} |"
        for task, found in scores.items()
    )
    path = folder / "README.md"
    path.write_text(
        _CARD.format(
            layers=config["num_hidden_layers"],
            hidden=config["hidden_size"],
            intermediate=config["intermediate_size"],
            heads=config["num_attention_heads"],
            vocabulary=config["vocab_size"],
            parameters=training["parameters"] / 1e6,
            megabytes=training["weights_bytes"] / 1e6,
            positions=training["tokens"] / 1e6,
            minutes=training["seconds"] / 60,
            stages="\n".join(_stage(number, stage) for number, stage in enumerate(training["stages"], 1)),
            scored=rows,
            seeds=", ".join(map(str, SEEDS)),
            epochs=TUNING.epochs,
            fine_rate=TUNING.rate,
        )
    )
    return path


def _stage(number: int, stage: Mapping[str, Any]) -> str:
    recipe = stage["recipe"]
    masking = MASKINGS[recipe["masking"]]
    return (
        f"| {number} | {recipe['mixture']} | {recipe['steps']} | {recipe['rate']} | {recipe['decay']} "
        f"| {masking.hide:.2f} / {masking.named:.2f} | {masking.spoil:.2f} | {recipe['seed']} "
        f"| {stage['final_loss']:.3f} |"
    )


_CARD = """---
library_name: transformers
license: apache-2.0
language: en
tags: [nano, synthetic, bert]
---

# nano-bert

A BERT of {layers} layers that fits in a package: {parameters:.2f} million parameters, {megabytes:.2f} MB in bf16
(hidden size {hidden}, MLP {intermediate}, {heads} heads, {vocabulary} tokens, norms after the additions, learned
positions up to 128). It exists so that layer surgery on encoders can be tried, tested and taught on any machine without
a download. It has read nothing but text that `painters.nano` generates about a small closed world; it knows no English
beyond that and is of no use for anything else.

## Scores

Fine-tuned on the 2,000 training documents of a task ({epochs} epochs, batches of 32, AdamW, rate {fine_rate}, all
weights), scored on its 500 validation documents, in per cent; mean and range over the seeds {seeds}.

| task | metric | mean | range | chance |
|---|---|---|---|---|
{scored}

## Training

{positions:.1f} million positions in all (padding included), {minutes:.0f} minutes on a CPU core. Where there are
several stages, each starts from the weights of the one before.

| stage | texts | steps | rate | decay over | hidden: words / names in a second text | spoilt | seed | final loss |
|---|---|---|---|---|---|---|---|---|
{stages}

Muon for the matrices (a fifth of the rate for those that write into the stream), AdamW for the rest, the same rate for
both; a warm-up, a constant rate, a linear decay to zero at the end of a stage. Losses are weighted, in nats, and each
stage asks for other words, so those of different stages do not compare.

Of the words that something determines the shares in the table are hidden or kept to be predicted again. In some texts
one or two words are spoilt (another word that might follow, two neighbours exchanged, a name or thing of a second text
exchanged for another): they are to be restored, and at `<cls>` the network predicts whether there were any. So it has
learned to notice broken text in general before `nano_cola` asks about faults of grammar.

`python -m painters.nano train --model nano-bert` repeats the run (it resumes from its own checkpoints), `publish` and
`card`, with the same option, write this folder.

## What to keep in mind

- One seed of pretraining.
- The texts of the tasks never occur in pretraining, but both come from one generator. Pretraining read acceptable
  sentences, hypotheses that follow and tellings that agree, without labels; half of the opinions that it read went on
  to say whether it was a good or a bad day.
- The head of `BertForMaskedLM` is bundled; the pooler is not: `BertForSequenceClassification` starts with a new one.
"""
