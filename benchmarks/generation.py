"""Measure generation under a plan: lm-eval's loop around `model.generate` and the harness's, in turn.

One process, one thread, processor time. Both sides get the same requests, batch size and plan, and the tokens of the
answers are counted once, so that the ratio of the times is that of the tokens per second. The harness runs twice:
without drafts, and with the intact model's answers as drafts, as in every sweep that has scored the intact model.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Annotated, Any

import torch
import typer
from lm_eval.models.huggingface import HFLM

from painters import harness, surgery
from painters.harness.lm import PaintersLM, language_model
from painters.harness.tasks import quiet

PLANS = ("0-11", "0-5 7-11", "0-4 6 5 7-11", "0-3 8-11", "1-11", "0-3 {4-7}*3 8-11", "0-3 5*4 8-11")
"""In order: the intact model; one layer skipped; two layers swapped; several skipped; the first one skipped; middle
layers in parallel, three times; one layer repeated in place of its neighbours."""


def main(
    documents: Annotated[int, typer.Option(help="How many of the task's documents.")] = 128,
    shots: Annotated[int, typer.Option(help="Examples in front of each question.")] = 0,
    same_shots: Annotated[bool, typer.Option(help="The same examples, the first ones, in front of all.")] = False,
    rounds: Annotated[int, typer.Option(help="How often each side runs, in turn.")] = 5,
    batch_size: Annotated[list[int] | None, typer.Option(help="Batch size; several are run in turn.")] = None,
    plan: Annotated[list[str] | None, typer.Option(help="Plans for the 12 layers of nano-llama.")] = None,
) -> None:
    """Print a line for each batch size and plan: tokens per second of the three sides, and their ratios."""
    torch.set_num_threads(1)
    model, tokenizer = harness.load_model("nano-llama", device="cpu")
    (task,) = harness.prepare("nano_gsm8k", limit=documents, shots=0 if same_shots else shots)
    requests = with_examples(shots, task) if same_shots else task.requests
    kind = "the same shots" if same_shots else "shots"
    print(f"nano_gsm8k, {documents} documents, {shots} {kind}, {rounds} rounds, torch {torch.__version__}")
    print(f"{'batch':>5}  {'plan':20}{'tokens':>7}{'lm-eval':>9}{'painters':>9}{'drafted':>9}  ratios, lowest-highest")
    for rows in batch_size or [32, 8]:
        with quiet():
            stock = HFLM(pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=rows)
        with quiet(), language_model(PaintersLM, model, tokenizer, rows) as lm:
            lm.exact_batching = False
            intact = answers_of(lm, requests)
            for text in plan or PLANS:
                with surgery(model, text):
                    turns, expected = compared(stock, lm, requests, intact, rounds)
                tokens = sum(len(tokenizer(answer, add_special_tokens=False)["input_ids"]) for answer in expected)
                rates = [tokens / statistics.median(seconds) for seconds in zip(*turns, strict=True)]
                print(f"{rows:>5}  {text:20}{tokens:>7}" + "".join(f"{rate:>9.0f}" for rate in rates), end="")
                for side in (1, 2):
                    ratios = sorted(turn[0] / turn[side] for turn in turns)
                    print(f"  {statistics.median(ratios):.2f}, {ratios[0]:.2f}-{ratios[-1]:.2f}", end="")
                print(flush=True)


def answers_of(lm: PaintersLM, requests: list[Any]) -> dict[tuple[int, ...], list[int]]:
    """Return the tokens with which the model answers, by prompt."""
    lm.known_answers = {}
    lm.generate_until(requests, disable_tqdm=True)
    return lm.known_answers


def compared(
    stock: HFLM, lm: PaintersLM, requests: list[Any], intact: dict[tuple[int, ...], list[int]], rounds: int
) -> tuple[list[tuple[float, float, float]], list[str]]:
    """Return the seconds of each round (lm-eval, ours, ours with drafts) and the generated texts.

    Raise RuntimeError where the texts are not the same on all sides.
    """
    turns = []
    for _ in range(rounds):
        theirs, expected = timed(partial(stock.generate_until, requests, disable_tqdm=True))
        lm.known_answers = None
        ours, texts = timed(partial(lm.generate_until, requests, disable_tqdm=True))
        lm.known_answers = dict(intact)
        drafted, drafted_texts = timed(partial(lm.generate_until, requests, disable_tqdm=True))
        if not expected == texts == drafted_texts:
            raise RuntimeError("the texts are not the same on all sides")
        turns.append((theirs, ours, drafted))
    return turns, expected


def with_examples(shots: int, task: harness.Prepared) -> list[Any]:
    """Return the task's requests with the same first examples in front of each."""
    question, answer = task.task.doc_to_text, task.task.doc_to_target
    header = "".join(f"{question(doc)} {answer(doc)}\n\n" for doc in list(task.task.fewshot_docs())[:shots])
    return [SimpleNamespace(args=(header + request.args[0], request.args[1])) for request in task.requests]


def timed(run: Callable[[], list[str]]) -> tuple[float, list[str]]:
    """Return the processor seconds of a run, and what it returns."""
    start = time.process_time()
    result = run()
    return time.process_time() - start, result


if __name__ == "__main__":
    typer.run(main)
