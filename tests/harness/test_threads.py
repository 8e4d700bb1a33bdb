"""Evaluations in several threads give the numbers that each gives alone, and the model stays usable."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import nn

import painters
from painters.models import load_model


def test_evaluate_and_similarity_in_threads() -> None:
    model, tokenizer = load_model("nano-llama", device="cpu")
    ids = torch.randint(3, 100, (2, 9), generator=torch.Generator().manual_seed(0))
    plans = ("0-3 {4-8} 9-11", "0-3 8-4 9-11")
    results: dict[tuple[str, str], Any] = {}
    errors: list[BaseException] = []

    def evaluated(plan: str) -> Any:
        tasks = ["nano_arc", "nano_gsm8k"]
        table = painters.evaluate(model, plan, tasks, tokenizer=tokenizer, limit=4, progress=False)
        return table.drop(columns="seconds", errors="ignore")

    def similar(plan: str) -> Any:
        return painters.similarity(model, ["Tom has a lamp.", "Ann has two."], plan, tokenizer=tokenizer)

    def intact(_: str) -> Any:
        with torch.no_grad():
            return [model(ids).logits for _ in range(40)]

    functions = {"evaluate": evaluated, "similarity": similar, "intact": intact}
    jobs = [(name, plan) for name in functions for plan in plans]

    def run(name: str, plan: str) -> None:
        try:
            results[name, plan] = functions[name](plan)
        except BaseException as error:
            errors.append(error)

    expected = {job: functions[job[0]](job[1]) for job in jobs}
    threads = [threading.Thread(target=run, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for (name, plan), found in results.items():
        if name == "intact":
            assert all(map(torch.equal, found, expected[name, plan]))
        else:
            assert found.equals(expected[name, plan]), (name, plan)
    assert type(model.model.layers) is nn.ModuleList
    assert not model._forward_hooks
    assert not model.model._forward_pre_hooks
