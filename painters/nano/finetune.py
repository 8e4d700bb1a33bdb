"""A quick look at how well an encoder learns a task: fine-tune all of it, score the validation documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import BertForMaskedLM, BertForSequenceClassification

from painters.nano.make_glue import FOLDER
from painters.nano.pieces import build_bert_tokenizer

REGRESSION = "nano_sts"
EPOCHS, RATE = 3, 5e-4


def fine_tune(
    model: BertForMaskedLM, task: str, *, epochs: int = EPOCHS, rate: float = RATE, rows: int = 32, seed: int = 42
) -> float:
    """Accuracy (Pearson's r for `nano_sts`) on the validation documents after training a copy of `model` on the others.

    AdamW, a tenth of the steps of warm-up, then linear decay to zero.
    """
    torch.manual_seed(seed)
    config = type(model.config).from_dict(model.config.to_dict() | {"num_labels": 1 if task == REGRESSION else 2})
    classifier = BertForSequenceClassification(config)
    classifier.load_state_dict(model.state_dict(), strict=False)
    train, valid = (_encoded(FOLDER / task / f"{split}.jsonl") for split in ("train", "validation"))
    labels = train["labels"]
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=rate, weight_decay=0.01)
    steps = epochs * -(-len(labels) // rows)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (0.1 * steps), (steps - step) / (0.9 * steps))
    )
    classifier.train()
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(labels)), rows):
            classifier(**_rows(train, batch)).loss.backward()
            torch.nn.utils.clip_grad_norm_(classifier.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    classifier.eval()  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        batches = torch.split(torch.arange(len(valid["labels"])), 100)
        logits = torch.cat([classifier(**_rows(valid, batch)).logits for batch in batches])
    if task == REGRESSION:
        return float(torch.corrcoef(torch.stack((logits[:, 0], valid["labels"])))[0, 1])
    return float((logits.argmax(-1) == valid["labels"]).float().mean())


def _encoded(path: Path) -> dict[str, torch.Tensor]:
    documents: list[dict[str, Any]] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    keys = [key for key in ("sentence", "sentence1", "sentence2") if key in documents[0]]
    texts = ([document[key] for document in documents] for key in keys)
    encoded = build_bert_tokenizer()(*texts, padding=True, return_tensors="pt")
    return {**encoded, "labels": torch.tensor([document["label"] for document in documents])}


def _rows(encoded: dict[str, torch.Tensor], rows: torch.Tensor) -> dict[str, torch.Tensor]:
    """The chosen rows without the columns that are padding in all of them."""
    chosen = {key: tensor[rows] for key, tensor in encoded.items()}
    length = int(chosen["attention_mask"].sum(-1).max())
    return {key: tensor if key == "labels" else tensor[:, :length] for key, tensor in chosen.items()}
