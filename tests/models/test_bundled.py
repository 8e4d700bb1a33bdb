"""The bundled model on the bundled tasks: lm-eval's very numbers, and as good as the card says."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lm_eval.api.task
import lm_eval.evaluator
import pytest
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

import painters
from painters import harness, tasks
from painters.models import load_model

ROOT = Path(__file__).parents[2]
LEAST = {"nano_arc": 0.80, "nano_gsm8k": 0.75, "nano_hellaswag": 0.90, "nano_lambada": 0.60, "nano_winogrande": 0.90}
SKIP, GONE = "0-4 6-11", 5
FEW = [pytest.param(12, id="12 documents"), pytest.param(None, id="all documents", marks=pytest.mark.slow)]
BATCH = 8


@pytest.fixture(scope="module", autouse=True)
def _no_inventory() -> Iterator[None]:
    """Keep lm-eval's simple_evaluate from running subprocesses to describe the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lm_eval.evaluator, "add_env_info", lambda results: None)
        yield


@pytest.fixture(scope="module")
def nano() -> tuple[Any, Any]:
    return load_model("nano-llama")


def stock(model: Any, tokenizer: Any, name: str, limit: int | None) -> dict[str, float]:
    """What lm-eval's own `hf` model and evaluator say of a bundled task."""
    task = lm_eval.api.task.ConfigurableTask(config=tasks.config(tasks.bundled()[name]))
    lm = HFLM(pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=BATCH)
    manager = TaskManager(include_defaults=False)
    found = simple_evaluate(lm, tasks=[task], bootstrap_iters=0, task_manager=manager, limit=limit)
    assert found is not None
    row = found["results"][name]
    return {key.split(",")[0]: value for key, value in row.items() if "," in key and "_stderr" not in key}


@pytest.mark.parametrize("limit", FEW)
@pytest.mark.parametrize("name", LEAST)
def test_identity_gives_the_numbers_of_lm_evals_hf_model(nano: tuple[Any, Any], name: str, limit: int | None) -> None:
    records = harness.score(*nano, "0-11", name, limit=limit, batch_size=BATCH)
    assert {record.metric: record.value for record in records} == stock(*nano, name, limit)


@pytest.mark.parametrize("limit", FEW)
@pytest.mark.parametrize("name", LEAST)
def test_skipping_gives_the_numbers_of_a_model_without_the_layer(
    nano: tuple[Any, Any], name: str, limit: int | None
) -> None:
    model, tokenizer = nano
    records = harness.score(model, tokenizer, SKIP, name, limit=limit, batch_size=BATCH)
    shorter = copy.deepcopy(model)
    del shorter.model.layers[GONE]
    for i, layer in enumerate(shorter.model.layers):
        layer.self_attn.layer_idx = i
    shorter.config.num_hidden_layers -= 1
    assert {record.metric: record.value for record in records} == stock(shorter, tokenizer, name, limit)


@pytest.mark.slow
@pytest.mark.parametrize("name", LEAST)
def test_the_card_tells_what_the_model_scores(nano: tuple[Any, Any], name: str) -> None:
    """The card's numbers are measured again; another CPU may round a few documents the other way."""
    card = (ROOT / "painters" / "nano" / "llama" / "README.md").read_text()
    told = re.search(rf"\| {name} \| \w+ \| ([\d.]+) ± ([\d.]+) \|", card)
    assert told is not None
    first = next(record for record in harness.score(*nano, "0-11", name) if record.primary)
    assert first.value is not None
    assert first.value >= LEAST[name]
    assert 100 * first.value == pytest.approx(float(told[1]), abs=1.0)


def test_running_the_middle_in_parallel_costs_something(nano: tuple[Any, Any]) -> None:
    """All middle layers side by side ruin sums; the model as it is can do them."""
    found = painters.evaluate(nano[0], ["0 {1-10} 11"], ["nano_gsm8k"], tokenizer=nano[1], limit=40, batch_size=40)
    (row,) = found.itertuples()
    assert row.intact > 0.5
    assert row.difference < -0.3


# --------------------------------------------------------------------------------------------------------------- README


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_the_python_of_the_readme_is_short() -> None:
    (code,) = blocks("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 12


def test_the_table_of_the_readme_is_the_cards(nano: tuple[Any, Any]) -> None:
    """The README's intact column and the model card tell the same scores."""
    table = next(block for block in blocks("text") if "nano_arc" in block)
    card = (ROOT / "painters" / "nano" / "llama" / "README.md").read_text()
    for name in LEAST:
        shown = re.search(rf"^{name} +\w+ +[\d.]+ +([\d.]+ ± [\d.]+)", table, re.MULTILINE)
        assert shown is not None
        told = re.search(rf"\| {name} \| \w+ \| ([\d.]+ ± [\d.]+) \|", card)
        assert told is not None
        assert shown[1] == told[1]


def test_the_docs_name_every_tested_architecture() -> None:
    from support.models import ARCHITECTURES

    text = (ROOT / "docs" / "exact.md").read_text()
    named = text[text.index("<!-- architectures -->") : text.index("<!-- /architectures -->")]
    plain = {name.lower() for name in re.findall(r"[\w-]+", named)}
    assert all(
        any(re.sub(r"[\W_]", "", p).startswith(re.sub(r"[\W_\d]", "", a.lower())[:4]) for p in plain)
        for a in ARCHITECTURES
    )


def test_the_training_of_the_bundled_model_is_told(nano: tuple[Any, Any]) -> None:
    training = json.loads((ROOT / "painters" / "nano" / "llama" / "training.json").read_text())
    assert training["parameters"] == sum(parameter.numel() for parameter in nano[0].parameters())
    assert training["step"] == training["recipe"]["steps"]
