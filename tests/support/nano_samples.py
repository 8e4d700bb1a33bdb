"""A tiny random Llama, a tokenizer of whole words, and a few documents for each bundled task's YAML."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from painters import tasks as bundled_tasks

NUM_LAYERS = 6
_WORDS = (
    "Question Answer What does a cat dog bird fish eat milk bones seeds bread Who lives in the house barn "
    "tree sea "
    "Anna Ben Cleo Dan gave book to because was kind tired had lost it found went home and then slept sat "
    "down ran away On Monday told story about has apples buys more How many now"
).split()
_PATTERN = r"\n| ?[A-Za-z]+| ?[0-9]| ?[^A-Za-z0-9 \n]| "


def tokenizer() -> PreTrainedTokenizerFast:
    """Whole words with their leading space, single digits and marks."""
    marks = ["\n", " ", *":.?#+=-*_", *"0123456789"]
    pieces = [
        "<unk>",
        "<s>",
        "</s>",
        *marks,
        *(f" {mark}" for mark in marks[2:]),
        *_WORDS,
        *(f" {w}" for w in _WORDS),
    ]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(_PATTERN), "isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
    )


def llama(num_layers: int = NUM_LAYERS, seed: int = 0) -> LlamaForCausalLM:
    """A random Llama large enough in its weights that every layer matters."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer()),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=None,
    )
    return LlamaForCausalLM(config).eval()


_PAIRS = [
    ("cat", "milk"),
    ("dog", "bones"),
    ("bird", "seeds"),
    ("fish", "bread"),
    ("cat", "bread"),
    ("dog", "milk"),
    ("bird", "bread"),
    ("fish", "seeds"),
    ("cat", "bones"),
]
_FOODS = ["milk", "bones", "seeds", "bread"]
_NAMES = ["Anna", "Ben", "Cleo", "Dan"]


def documents() -> dict[str, dict[str, list[dict[str, Any]]]]:
    """task -> file -> documents."""
    arc = [
        # Unequal numbers of choices: chance is a mean over documents.
        {"question": f"What does a {animal} eat?", "choices": _FOODS[: 3 + i % 2], "answer": i % 3}
        for i, (animal, _) in enumerate(_PAIRS)
    ]
    hellaswag = [
        {
            "ctx": f"The {animal} found {food}. Then it",
            "endings": ["ate", f"went to the {food}", "sat down", "ran away."],
            "label": i % 4,
        }
        for i, (animal, food) in enumerate(_PAIRS)
    ]
    winogrande = [
        {
            "sentence": f"{one} gave the book to {two} because _ was {('kind', 'tired')[i % 2]}.",
            "option1": one,
            "option2": two,
            "answer": str(1 + i // 3 % 2),
        }
        for i, (one, two) in enumerate((a, b) for a in _NAMES for b in _NAMES if a != b)
    ]
    lambada = [
        {"text": f"On Monday {one} lost a {animal}. Then {two} found the {animal} and gave it to {one}"}
        for (animal, _), one, two in zip(_PAIRS, _NAMES * 3, _NAMES[1:] * 3, strict=False)
    ]
    gsm8k = [
        {
            "question": f"{_NAMES[i % 4]} has {i} apples and buys {j} more. How many now?",
            "answer": f"{i} + {j} = {i + j}.\n#### {i + j}",
        }
        for i in range(4)
        for j in range(1, 3)
    ]
    shots = [
        {
            "question": f"{_NAMES[i % 4]} has {i + 4} apples. How many now?",
            "answer": f"{i + 4}.\n#### {i + 4}",
        }
        for i in range(5)
    ]
    return {
        "nano_arc": {"test.jsonl": arc},
        "nano_hellaswag": {"test.jsonl": hellaswag},
        "nano_winogrande": {"test.jsonl": winogrande},
        "nano_lambada": {"test.jsonl": lambada},
        "nano_gsm8k": {"test.jsonl": gsm8k, "train.jsonl": shots},
    }


def write_tasks(folder: Path) -> dict[str, str]:
    """task -> path of its YAML: the bundled YAMLs with the documents above."""
    paths = {}
    for name, files in documents().items():
        (folder / name).mkdir(parents=True)
        paths[name] = str(shutil.copy(bundled_tasks.bundled()[name], folder / name))
        for file, rows in files.items():
            (folder / name / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return paths


def write_grid(folder: Path, grid: str) -> None:
    """The folder gets a tiny model, tasks for it, and the experiment grid.yaml, {model} being the model's path."""
    llama().save_pretrained(folder / "model")
    tokenizer().save_pretrained(folder / "model")
    write_tasks(folder / "tasks")
    (folder / "grid.yaml").write_text(grid.format(model=folder / "model"))
