"""Every kind of cache and mode of generation that plans are tried with: a row brings its tests and its line in the
tables of docs/caches.md, which `PYTHONPATH=tests python tests/support/cache_cases.py` writes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from support.models import CACHE, make_model, prompts, shared_model, tokens
from torch import Tensor
from transformers import DynamicCache, QuantizedCache, StaticCache
from transformers.cache_utils import QuantizedLayer

PAGE = Path(__file__).parents[2] / "docs" / "caches.md"
LAYERS = 4
NEW_TOKENS = 8

PLANS = {
    "skip": "0 1 3",
    "skip layer 0": "1-3",
    "swap": "1 0 2 3",
    "repeat": "0 1 1 1 2 3",
    "parallel": "0 {1 2} 3",
    "looped parallel": "0 {1 2}*3 3",
    "nested": "0 {(1 2) {3 (1 {2 3}:sum)}} 3",
}

Run = Callable[[Any], Tensor]


@dataclass(frozen=True)
class Row:
    """What is asked for and how. `run` does it with a model; `expected`, if given, comes to the same in another way."""

    what: str
    asked: str
    run: Run
    models: tuple[str, ...] = ("llama",)
    refused: str = ""
    """A pattern of the SurgeryError; empty where the row is exact."""
    reason: str = ""
    """Why it is refused, for the page."""
    expected: Run | None = None


class Rounded(QuantizedLayer):
    """Groups and residual as transformers' own quantised slots have them, and a quantiser that rounds to eighths."""

    def _quantize(self, tensor: Tensor, axis: int) -> Tensor:
        return (tensor * 8).round()

    def _dequantize(self, q_tensor: Tensor) -> Tensor:
        return q_tensor / 8


def rounded_cache(model: Any) -> QuantizedCache:
    cache = QuantizedCache("fp8", model.config)
    cache.layers = [Rounded(residual_length=3) for _ in cache.layers]
    return cache


def batch(**options: Any) -> Run:
    """Generates from a batch that is padded on the left."""
    return lambda model: _generate(model, prompts(), **options)


def single(**options: Any) -> Run:
    """Generates from one prompt that repeats itself, so that drafts are sometimes right."""
    prompt = {"input_ids": tokens(1, 4).repeat(1, 4), "attention_mask": torch.ones(1, 16, dtype=torch.long)}
    return lambda model: _generate(model, prompt, **options)


def _generate(model: Any, prompt: dict[str, Tensor], **options: Any) -> Tensor:
    torch.manual_seed(3)
    given = {name: value(model) if callable(value) else value for name, value in options.items()}
    result: Tensor = model.generate(**prompt, max_new_tokens=NEW_TOKENS, **{"do_sample": False, **given})
    return result


def continued(model: Any) -> Tensor:
    """The logits while a cache is filled in pieces, its rows are repeated, chosen and reordered, and it is cropped."""
    cache, ids, found = DynamicCache(config=model.config), tokens(2, 12), []
    cache.activate_past_recording()

    def feed(piece: Tensor) -> None:
        found.append(model(piece, **{CACHE: cache}, use_cache=True).logits.flatten())
        cache.crop(0)

    feed(ids[:, :7])
    feed(ids[:, 7:8])
    cache.batch_repeat_interleave(2)
    feed(ids[:, 8:10].repeat_interleave(2, dim=0))
    cache.batch_select_indices(torch.tensor([0, 3, 1]))
    cache.reorder_cache(torch.tensor([2, 0, 1]))
    feed(tokens(3, 3, seed=1))
    model(tokens(3, 4, seed=2), **{CACHE: cache}, use_cache=True)
    cache.crop(-4)  # as after drafts that were all wrong
    feed(tokens(3, 2, seed=3))
    return torch.cat(found)


def prefix(model: Any) -> Tensor:
    """Tokens generated behind a prefix whose cache was filled before, by way of a copy of that cache."""
    ids = tokens(1, 9)
    filled = model(ids[:, :6], use_cache=True)[CACHE]
    return torch.cat([_generate(model, {"input_ids": ids}, **{CACHE: copy.deepcopy(filled)}) for _ in range(2)])


def other(model: Any) -> Any:
    return make_model("llama", 2, seed=5)


FP8 = {"cache_implementation": "quantized", "cache_config": {"backend": "fp8"}}
SLIDING = ("llama", "mistral")
ALL = ("llama", "mistral", "gpt2")

CACHES = [
    Row("dynamic (the default)", "nothing", batch(), ALL),
    Row(
        "dynamic, made without a config",
        "`past_key_values=DynamicCache()`",
        batch(**{CACHE: lambda m: DynamicCache()}),
        SLIDING,
    ),
    Row("none", "`use_cache=False`", batch(use_cache=False), SLIDING),
    Row("static", '`cache_implementation="static"`', batch(cache_implementation="static"), ALL),
    Row(
        "static, given",
        "`past_key_values=StaticCache(config, length)`",
        batch(**{CACHE: lambda m: StaticCache(m.config, max_cache_len=20)}),
        SLIDING,
    ),
    Row("quantised, 8-bit float", '`cache_implementation="quantized"`, backend fp8', batch(**FP8)),
    Row(
        "quantised in groups, with a residual",
        "`QuantizedCache` with slots such as quanto's",
        batch(**{CACHE: rounded_cache}),
        ("llama", "gpt2"),
    ),
    Row(
        "offloaded",
        '`cache_implementation="offloaded"`',
        batch(cache_implementation="offloaded"),
        SLIDING,
        expected=batch(),
    ),
    Row(
        "offloaded static",
        '`cache_implementation="offloaded_static"`',
        batch(cache_implementation="offloaded_static"),
        SLIDING,
        expected=batch(cache_implementation="static"),
    ),
]
MODES = [
    Row(
        "sampling, several per prompt",
        "`do_sample=True, num_return_sequences=3`",
        batch(do_sample=True, num_return_sequences=3),
    ),
    Row("beam search", "`num_beams=3`", batch(num_beams=3), SLIDING),
    Row(
        "beam search, static cache",
        '`num_beams=3`, `"static"`',
        batch(num_beams=3, cache_implementation="static"),
        SLIDING,
    ),
    Row("beam search, quantised cache", '`num_beams=3`, `"quantized"`', batch(num_beams=3, **FP8)),
    Row(
        "beam sampling",
        "`do_sample=True, num_beams=3`",
        batch(do_sample=True, num_beams=3, num_return_sequences=2),
    ),
    Row("prompt in chunks", "`prefill_chunk_size=4`", batch(prefill_chunk_size=4), SLIDING),
    Row(
        "prompt in chunks, static cache",
        '`prefill_chunk_size=4`, `"static"`',
        batch(prefill_chunk_size=4, cache_implementation="static"),
        SLIDING,
    ),
    Row("prompt lookup", "`prompt_lookup_num_tokens=3`", single(prompt_lookup_num_tokens=3), ALL),
    Row("assisted by another model", "`assistant_model=other`", single(assistant_model=other), ALL),
    Row(
        "assisted by the model itself, under its plan",
        "`assistant_model=model`",
        single(assistant_model=lambda m: m),
        SLIDING,
    ),
    Row("assisted sampling", "`assistant_model=other, do_sample=True`", single(assistant_model=other, do_sample=True)),
    Row("behind a prefix whose cache was kept", "`past_key_values=copy.deepcopy(filled)`", prefix, SLIDING),
    Row(
        "a cache continued by hand",
        "`crop`, `reorder_cache`, `batch_repeat_interleave`, `batch_select_indices`, several tokens at a time",
        continued,
        SLIDING,
    ),
]
REFUSED = [
    Row(
        "early exit",
        "`assistant_early_exit=2`",
        single(assistant_early_exit=2),
        refused="num_hidden_layers was set to 2 of the 4 layers, as assistant_early_exit does, .*: pass prompt_lookup",
        reason="a plan does not end early",
    ),
    Row(
        "prompt lookup or assistance, quantised cache",
        '`prompt_lookup_num_tokens=3`, `"quantized"`',
        single(prompt_lookup_num_tokens=3, **FP8),
        refused="QuantizedCache was asked to take tokens .*: use a DynamicCache|requires a cache that can be cropped",
        reason="transformers' quantised slots take tokens back only in part; from 5.24 on it refuses this itself",
    ),
    Row(
        "a class of cache of one's own",
        "`past_key_values=Mine()`, also where it inherits",
        batch(**{CACHE: lambda m: type("Mine", (DynamicCache,), {})()}),
        refused="was given a Mine, whose slots a plan cannot place: use a DynamicCache, a StaticCache, a Q",
        reason="what it does with its slots is not known",
    ),
]
"""What no plan but the identity does, with a message that says so."""

BEGIN, END = "<!-- rows -->", "<!-- /rows -->"


def page(text: str) -> str:
    """`text`, the page, with the tables between its marks as the rows above have them."""
    plans = ", ".join(f"{label} (`{plan}`)" for label, plan in PLANS.items())
    lines = [f"Plans of {LAYERS} layers: {plans}."]
    for title, rows in (("Caches", CACHES), ("Modes of `generate`", MODES), ("Refused", REFUSED)):
        lines += ["", f"## {title}", "", "| what | asked by | |", "|---|---|---|"]
        for row in rows:
            outcome = f"refused: {row.reason}" if row.refused else f"exact ({', '.join(row.models)})"
            lines.append(f"| {row.what} | {row.asked} | {outcome} |")
    before, rest = text.split(BEGIN)
    return "\n".join([before + BEGIN, *lines, END + rest.split(END)[1]])


def model_of(name: str) -> Any:
    return shared_model(name, LAYERS)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
