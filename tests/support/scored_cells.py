"""Cells of every kind, scored: run as a script it prints what this process makes of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from support.glue_samples import encoder, write_task
from support.glue_samples import tokenizer as pieces
from support.nano_samples import llama, tokenizer, write_tasks

from painters import glue, harness
from painters.experiment.tuning import PROTOCOLS, Tuning


def scored(folder: Path) -> list[dict[str, Any]]:
    """The records without dates and seconds: in shared and in lm-eval's batches, of log-likelihoods and of texts, and
    after every protocol of fine-tuning.
    """
    tasks, records = write_tasks(folder), []
    for exact in (False, True):
        for name in ("nano_arc", "nano_lambada", "nano_gsm8k"):
            options: dict[str, Any] = {"batch_size": 2, "limit": 4, "exact_batching": exact}
            plans = ["0-5", "0-1 {2-4}*2 5", "0-2 4-5"]
            records += harness.score_together(llama(), tokenizer(), plans, tasks[name], **options)
    scorer = glue.Scorer(encoder(), pieces())
    path = write_task(folder / "glue", "stsb", train=16, validation=16)
    for protocol in PROTOCOLS:
        tuning = Tuning(protocol=protocol, epochs=2, rate=1e-2, batch_size=8)
        plans = [f"0-{scorer.num_layers - 1}", "0"]
        records += scorer.score_together(plans, scorer.prepare(path, tuning), tuning, seed=7)
    return [record.model_dump(exclude={"seconds", "date"}) for record in records]


if __name__ == "__main__":
    print(json.dumps(scored(Path(sys.argv[1]))))
