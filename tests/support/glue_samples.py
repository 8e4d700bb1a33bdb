"""A toy task that a tiny encoder learns, in files of the real tasks' shape; a tokenizer of whole words; encoders."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
from support.models import VOCABULARY, make_model
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from painters.glue import TASKS

NUM_LAYERS = 4
GOOD, BAD = ("good", "fine", "great"), ("bad", "poor", "awful")
OTHERS = tuple(f"word{i}" for i in range(80))


def tokenizer() -> PreTrainedTokenizerFast:
    """`<cls> a <sep>` or `<cls> a <sep> b <sep>`; the pad token has the id 0, as in tests/support/models.py."""
    tokens = ["<pad>", "<unk>", "<cls>", "<sep>", *GOOD, *BAD, *OTHERS]
    assert len(tokens) <= VOCABULARY
    ids = {token: i for i, token in enumerate(tokens)}
    backend = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="<cls>:0 $A:0 <sep>:0",
        pair="<cls>:0 $A:0 <sep>:0 $B:0 <sep>:0",
        special_tokens=[("<cls>", 2), ("<sep>", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        unk_token="<unk>",
        cls_token="<cls>",
        sep_token="<sep>",
        model_max_length=40,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def encoder(architecture: str = "bert", head: Any = "classifier", seed: int = 0) -> Any:
    """A random encoder of four layers; in evaluation mode."""
    return make_model(architecture, NUM_LAYERS, seed=seed, head=head)


def bert_without_dropout(head: Any = "classifier") -> Any:
    """A random BERT whose training is the same function as its evaluation."""
    model = encoder(head=head)
    model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = 0.0
    return model


def untrained_bert() -> BertForSequenceClassification:
    """A BERT with the small weights that training starts from, and no dropout."""
    torch.manual_seed(0)
    config = make_model("bert", NUM_LAYERS).config.to_dict()
    quiet = {"initializer_range": 0.1, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return BertForSequenceClassification(BertConfig(**{**config, **quiet})).eval()


def documents(name: str, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Documents of the task's shape. The label says which words of feeling the texts have: separable."""
    task, draw = TASKS[name], random.Random(seed)
    made = []
    for i in range(count):
        label = draw.randrange(2)
        texts = [draw.choices(OTHERS, k=draw.randint(2, 9)) for _ in task.fields]
        for text in texts:
            text.insert(draw.randrange(len(text)), draw.choice(GOOD if label else BAD))
        score = label if task.labels > 1 else 4.0 * label + draw.random()
        made.append(dict(zip(task.fields, map(" ".join, texts), strict=True)) | {"label": score, "idx": i})
    return made


def write_task(folder: Path, name: str = "cola", train: int = 96, validation: int = 40, kind: str = ".jsonl") -> Path:
    """The folder of the task `name` within `folder`, with a file for each split."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    for split, count, seed in (("train", train, 1), ("validation", validation, 2)):
        write(folder / name / f"{split}{kind}", documents(name, count, seed))
    return folder / name


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    import pandas as pd

    match path.suffix:
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case ".parquet":
            pd.DataFrame(rows).to_parquet(path)
        case suffix:
            pd.DataFrame(rows).to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")


def save(model: Any, folder: Path) -> Path:
    """The folder, with the model and the tokenizer in it."""
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def weights(model: Any) -> dict[str, torch.Tensor]:
    """A copy of all weights."""
    return {name: weight.detach().clone() for name, weight in model.state_dict().items()}
