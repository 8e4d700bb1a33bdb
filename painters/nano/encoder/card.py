"""The model card of nano-bert, written from its training and from its scores after fine-tuning."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from painters import glue
from painters.experiment.tuning import Tuning
from painters.nano.encoder.masking import HIDE
from painters.nano.make_glue import TASKS
from painters.nano.publish import ENCODER_FOLDER, card_fields
from painters.plan import Plan
from painters.results import Record

SEEDS = (42, 43)
TUNING = Tuning(protocol="operated", epochs=8, rate=2e-4, warmup=0.1, weight_decay=0.01, precision="bfloat16")
"""Without a plan the same as `retuned`; `operated` allows to take layers out of the fine-tuned model afterwards."""
FIRST = 4
"""The number of first layers that are taken out for the last column."""


def measure(folder: Path = ENCODER_FOLDER) -> dict[str, list[tuple[float, float]]]:
    """Return for each task the scores by seed: of the fine-tuned encoder, and without its first layers."""
    scorer = glue.Scorer(*glue.load_encoder(str(folder), device="cpu"))
    plans = Plan.identity(scorer.num_layers), Plan.of(*range(FIRST, scorer.num_layers))
    scores = {}
    for task in TASKS:
        prepared = scorer.prepare(task, TUNING)
        scores[task] = [
            (_value(scorer.score(plans[0], prepared, TUNING, seed=seed)),
             _value(scorer.score(plans[1], prepared, TUNING, seed=seed)))
            for seed in SEEDS
        ]  # fmt: skip
    return scores


def _metric(task: str) -> str:
    """Return the metric that the card shows: accuracy where the task has it, else the primary one."""
    row = glue.TASKS[task]
    return "accuracy" if "accuracy" in row.metrics else row.primary


def _value(records: Sequence[Record]) -> float:
    """Return the score; RuntimeError where the fine-tuning diverged, which a card must not hide."""
    (value,) = (record.value for record in records if record.metric == _metric(record.task))
    if value is None:
        raise RuntimeError(f"fine-tuning on {records[0].task} with seed {records[0].seed} diverged")
    return value


def write_encoder_card(scores: Mapping[str, list[tuple[float, float]]], folder: Path = ENCODER_FOLDER) -> Path:
    """Write the model card from `training.json` and the scores; return its path."""
    training = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    rows = "\n".join(
        f"| {task} | {_metric(task)} | {' '.join(f'{100 * score:.1f}' for score, _ in by_seed)} "
        f"| {' '.join(f'{100 * score:.1f}' for _, score in by_seed)} "
        f"| {0 if glue.TASKS[task].kind == 'regression' else 50} |"
        for task, by_seed in scores.items()
    )
    path = folder / "README.md"
    path.write_text(
        _CARD.format(
            **card_fields(config, training),
            positions=training["tokens"] / 1e6,
            hide=HIDE,
            scored=rows,
            seeds=" and ".join(map(str, SEEDS)),
            first=FIRST,
            epochs=TUNING.epochs,
            fine_rate=TUNING.rate,
            **training["recipe"],
        ),
        encoding="utf-8",
    )
    return path


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
weights), scored on its 500 validation documents, in per cent, for the seeds {seeds}; and the same models with the first
{first} layers taken out afterwards.

| task | metric | intact | without its first layers | chance |
|---|---|---|---|---|
{scored}

## Training

One run, seed {seed}: {steps} steps of {rows} rows of {length} positions, {positions:.1f} million positions in all
(padding included), {minutes:.0f} minutes on a CPU core. Muon (rate {rate}, weight decay {weight_decay}; a fifth of the
rate for the matrices that write into the stream), AdamW (rate {embedding_rate}) for the rest, {warmup} steps of
warm-up, constant rate, linear decay to zero over the last {decay} steps. Final training loss (weighted): {loss:.3f}
nats.

The first {hold} steps are mostly drills of looking words up: lists of pairs ("Tom has the lamp. Anna has the key.
Anna has the ..."), nine in ten answers hidden at once, and lists said twice. By step {settle} the texts are the settled
mixture. Heads of the first two layers start out by looking at near words, and those of the others at what is like the
word itself: without such a start, and without the drills, no look-up formed within some thousands of steps.

Of the words that something determines {hide:.0%} are hidden, and a telling word or two of each statement in a pair's
second text. Half of the texts are spoilt: a single one in a word or two (another word that might follow, two neighbours
exchanged), the second of a pair in what it says (two names exchanged, another name, a word for its contrary). Shown
words are judged, `<sound>` or `<flawed>`, and at `<cls>` the whole text is. So the network has learned to notice broken
text in general, and a statement that does not agree with a text, before a task asks about it.

`python -m painters.nano train --model nano-bert` repeats the run (it resumes from its own checkpoints), `publish` and
`card`, with the same option, write this folder.

## What to keep in mind

- One seed of pretraining.
- The texts of the tasks never occur in pretraining, but both come from one generator. Pretraining read acceptable
  sentences, hypotheses that follow and tellings that agree, without labels; most of the opinions that it read went on
  to say whether it was a good or a bad day.
- The head of `BertForMaskedLM` is bundled; the pooler is not: `BertForSequenceClassification` starts with a new one.
"""
