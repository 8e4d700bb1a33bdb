"""Files of the shape that the real benchmarks have, and tiny random models of the paper's two architectures."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM

from painters.models import BUNDLED

WORDS = "the red lamp is in a house and Tom has two small dogs near an old tree".split()
DOCUMENTS = 6


def save_llama(folder: Path, layers: int = 6) -> Path:
    """A random Llama that reads with nano-llama's tokenizer."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=_vocabulary("nano-llama"), hidden_size=32, intermediate_size=48, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=2048,
    )  # fmt: skip
    return _save(LlamaForCausalLM(config), folder, "nano-llama")


def save_bert(folder: Path, layers: int = 6) -> Path:
    """A random BERT that reads with nano-bert's tokenizer."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=_vocabulary("nano-bert"), hidden_size=32, intermediate_size=48, num_hidden_layers=layers,
        num_attention_heads=2, max_position_embeddings=128,
    )  # fmt: skip
    return _save(BertForMaskedLM(config), folder, "nano-bert")


def _vocabulary(model: str) -> int:
    return int(json.loads((BUNDLED[model] / "config.json").read_text())["vocab_size"])


def _save(model: Any, folder: Path, reader: str) -> Path:
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((BUNDLED[reader] / name).read_bytes())
    return folder


def _text(draw: random.Random, length: int = 8) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(length))


def _arc(draw: random.Random, i: int) -> dict[str, Any]:
    choices = {"text": [_text(draw, 3) for _ in range(4)], "label": ["A", "B", "C", "D"]}
    return {"id": str(i), "question": _text(draw), "choices": choices, "answerKey": draw.choice("ABCD")}


def _hellaswag(draw: random.Random, i: int) -> dict[str, Any]:
    return {
        "ind": i, "activity_label": _text(draw, 2), "ctx_a": _text(draw), "ctx_b": _text(draw, 3), "ctx": _text(draw),
        "endings": [_text(draw, 4) for _ in range(4)], "source_id": "x", "split": "val", "split_type": "indomain",
        "label": str(i % 4),
    }  # fmt: skip


def _gsm8k(draw: random.Random, i: int) -> dict[str, Any]:
    return {"question": f"{_text(draw)}?", "answer": f"{_text(draw)} <<2+{i}={2 + i}>>\n#### {2 + i}"}


def _winogrande(draw: random.Random, i: int) -> dict[str, Any]:
    sentence = f"{_text(draw, 4)} _ {_text(draw, 4)}"
    return {"sentence": sentence, "option1": "Tom", "option2": "the dog", "answer": str(1 + i % 2)}


def _lambada(draw: random.Random, _: int) -> dict[str, Any]:
    return {"text": _text(draw, 20)}


def _single(draw: random.Random, i: int) -> dict[str, Any]:
    return {"sentence": _text(draw), "label": i % 2, "idx": i}


def _pair(draw: random.Random, i: int) -> dict[str, Any]:
    return {"sentence1": _text(draw), "sentence2": _text(draw), "label": i % 2, "idx": i}


def _qnli(draw: random.Random, i: int) -> dict[str, Any]:
    return {"question": f"{_text(draw)}?", "sentence": _text(draw), "label": i % 2, "idx": i}


def _stsb(draw: random.Random, i: int) -> dict[str, Any]:
    return {**_pair(draw, i), "label": i * 5 / DOCUMENTS}


MAKERS = {
    "arc_challenge": (_arc, ("train", "validation", "test")),
    "hellaswag": (_hellaswag, ("train", "validation")),
    "gsm8k": (_gsm8k, ("train", "test")),
    "winogrande": (_winogrande, ("train", "validation")),
    "lambada_openai": (_lambada, ("test",)),
    **dict.fromkeys(("cola", "sst2"), (_single, ("train", "validation"))),
    **dict.fromkeys(("mrpc", "rte", "wnli"), (_pair, ("train", "validation"))),
    "qnli": (_qnli, ("train", "validation")),
    "stsb": (_stsb, ("train", "validation")),
}


def write_data(folder: Path) -> Path:
    """A folder for each of the paper's tasks, with a few documents for each split in the columns of the hub."""
    for name, (make, splits) in MAKERS.items():
        (folder / name).mkdir(parents=True)
        for split in splits:
            draw = random.Random(f"{name}/{split}")
            lines = (json.dumps(make(draw, i)) for i in range(DOCUMENTS))
            (folder / name / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
