"""What lm-eval, transformers or a task's own code raise is one line with the task's name, and loses no other task."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.nano_samples import NUM_LAYERS, llama
from support.outcome import Outcome

import painters
from painters import Plan, harness
from painters.experiment import Experiment
from painters.harness.tasks import prepare_with
from painters.results import Store, read
from painters.sweep import run

IDENTITY = Plan.identity(NUM_LAYERS)


@pytest.fixture(scope="module")
def model() -> Any:
    return llama()


@pytest.fixture
def long_texts(tmp_path: Path) -> str:
    """A task that generates more tokens than the bundled model's context, or the tiny one's, has room for."""
    return generating(tmp_path, "long_texts", max_gen_toks=8192)


def generating(folder: Path, name: str, **options: Any) -> str:
    documents = [{"q": f"Tom has {count} lamps. Tom has", "a": f" {count}"} for count in range(3)]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(document) + "\n" for document in documents))
    fields = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{q}}",
        "doc_to_target": "{{a}}",
        "generation_kwargs": {"until": ["."], **options},
        "metric_list": [{"metric": "exact_match"}],
    }
    (folder / f"{name}.yaml").write_text(json.dumps(fields))
    return str(folder / f"{name}.yaml")


def test_more_tokens_than_the_context(model: Any, words: Any, yamls: Any, long_texts: str) -> None:
    tasks = [yamls["nano_arc"], long_texts, yamls["nano_lambada"]]
    message = r"task 'long_texts' generates up to 8,192 tokens \(max_gen_toks\), and the model takes 256"
    with pytest.raises(harness.ScoringError, match=message) as raised:
        painters.evaluate(model, "0-2 4-5", tasks, tokenizer=words, limit=2)
    assert {(record.task, record.plan) for record in raised.value.records} == {
        (task, plan) for task in ("nano_arc", "nano_lambada") for plan in ("0-5", "0-2 4-5")
    }
    with pytest.raises(harness.ScoringError, match=message):
        harness.score(model, words, IDENTITY, long_texts)


def test_a_run_scores_the_other_tasks(painters: Callable[..., Outcome], long_texts: str, tmp_path: Path) -> None:
    tasks = f"nano_arc,{long_texts},nano_lambada"
    outcome = painters("run", "--plan", "0-4 6-11", "--tasks", tasks, "--limit", "2", "--quiet", "--out", "r.jsonl")
    assert outcome.code == 1
    assert outcome.err.startswith("painters: task 'long_texts' generates up to 8,192 tokens")
    assert len(outcome.err.splitlines()) == 1
    assert "nano_arc" in outcome.out
    assert "nano_lambada" in outcome.out
    assert {record.task for record in read(tmp_path / "r.jsonl")} == {"nano_arc", "nano_lambada"}
    outcome = painters("run", "--plan", "0-4 6-11", "--tasks", long_texts, "--quiet", "--json")
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (1, "", 1)


def test_a_sweep_scores_the_other_tasks(long_texts: str, tmp_path: Path) -> None:
    fields = {"title": "x", "models": "nano-llama", "tasks": ["nano_arc", long_texts], "protocol": {"limit": 2}}
    experiment = Experiment.model_validate({**fields, "variants": [{"plan": "0-4 6-11"}]})
    summary = run(experiment, Store(tmp_path / "runs"))
    assert (summary.done, len(summary.failures)) == (2, 2)
    assert all("generates up to 8,192 tokens" in failure.reason for failure in summary.failures)


class Boom(Exception):
    """An error of nobody that painters knows."""


def boom(*_: Any, **__: Any) -> Any:
    raise Boom("out of luck\nmore")


@pytest.mark.parametrize(
    ("name", "owner", "attribute", "when"),
    [
        ("nano_gsm8k", "model", "forward", "its requests were answered"),
        ("nano_arc", "model", "forward", "its requests were answered"),
        ("nano_arc", "tokenizer", "encode", "its requests were answered"),
        ("nano_gsm8k", "tokenizer", "decode", "its requests were answered"),
        ("nano_arc", "task", "process_results", "its answers were turned into metrics"),
        ("nano_arc", "task", "aggregation", "its answers were turned into metrics"),
        ("nano_arc", "task", "higher_is_better", "its answers were turned into metrics"),
        ("nano_gsm8k", "task", "apply_filters", "its answers were turned into metrics"),
    ],
)
@pytest.mark.parametrize("exact", [False, True])
def test_errors_of_others(
    name: str,
    owner: str,
    attribute: str,
    when: str,
    exact: bool,
    words: Any,
    yamls: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, tokenizer = llama(), copy.deepcopy(words)
    (task,) = harness.prepare(yamls[name], limit=2)
    (other,) = harness.prepare(yamls["nano_lambada"], limit=2)
    scorer = harness.Scorer(model, tokenizer)
    scorer.check(IDENTITY)
    if owner == "tokenizer":
        monkeypatch.setattr(type(tokenizer), attribute, boom)
    else:
        monkeypatch.setattr({"model": model, "task": task.task}[owner], attribute, boom)
    message = f"task '{name}' raised Boom while {when}: out of luck"
    tasks = [task, other] if owner == "task" else [task]
    with pytest.raises(harness.ScoringError, match=message) as raised:
        painters.evaluate(model, IDENTITY, tasks, tokenizer=tokenizer, exact_batching=exact)
    assert isinstance(raised.value.__cause__, Boom)
    assert str(raised.value).endswith("out of luck")
    assert {record.task for record in raised.value.records} == {task.name for task in tasks[1:]}
    with pytest.raises(harness.ScoringError, match=message):
        harness.score(model, tokenizer, IDENTITY, task)


@pytest.mark.parametrize(
    "attribute",
    ["doc_to_text", "doc_to_choice", "doc_to_target", "has_training_docs", "construct_requests", "test_docs"],
)
def test_errors_while_prompts_are_built(attribute: str, yamls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import lm_eval.api.task

    monkeypatch.setattr(lm_eval.api.task.ConfigurableTask, attribute, boom)
    with pytest.raises(harness.TaskError, match="out of luck"):
        prepare_with(yamls["nano_arc"], painters.experiment.ScoringProtocol(limit=1, shots=0))


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("name", ["nano_arc", "nano_gsm8k"])
def test_what_the_callers_own_callback_raises_is_its_own(
    name: str, exact: bool, model: Any, words: Any, yamls: Any
) -> None:
    with pytest.raises(Boom, match="out of luck"):
        painters.evaluate(model, IDENTITY, yamls[name], tokenizer=words, limit=2, exact_batching=exact, progress=boom)


def test_a_tokenizer_without_bos_and_eos(model: Any, words: Any, yamls: Any) -> None:
    """Log-likelihoods with a context need neither, and are those with them."""
    bare = copy.deepcopy(words)
    bare.bos_token = bare.eos_token = None
    for name in ("nano_arc", "nano_lambada", "nano_winogrande", "nano_hellaswag"):
        for exact in (True, False):
            options: dict[str, Any] = {"limit": 3, "exact_batching": exact}
            with_both = painters.evaluate(model, ["0-5", "0-2 4-5"], yamls[name], tokenizer=words, **options)
            found = painters.evaluate(model, ["0-5", "0-2 4-5"], yamls[name], tokenizer=bare, **options)
            assert found["value"].tolist() == with_both["value"].tolist()
    with pytest.raises(
        harness.ScoringError, match="'nano_gsm8k' generates texts, and the model's tokenizer names no EOS"
    ):
        painters.evaluate(model, "0-5", yamls["nano_gsm8k"], tokenizer=bare, limit=2)
    eos = copy.deepcopy(words)
    eos.bos_token = None
    assert len(painters.evaluate(model, "0-5", yamls["nano_gsm8k"], tokenizer=eos, limit=2)) == 1


def test_an_answer_without_a_context_needs_one_of_them(model: Any, words: Any, tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"a": "What does a cat eat"}\n')
    fields = {
        "task": "bare",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "d.jsonl"}},
        "test_split": "test",
        "output_type": "loglikelihood",
        "doc_to_text": "",
        "doc_to_target": "{{a}}",
        "target_delimiter": "",
        "metric_list": [{"metric": "perplexity"}],
    }
    (tmp_path / "bare.yaml").write_text(json.dumps(fields))
    bare = copy.deepcopy(words)
    bare.bos_token = bare.eos_token = None
    for exact in (True, False):
        with pytest.raises(harness.ScoringError, match="names neither: set"):
            painters.evaluate(model, "0-5", str(tmp_path / "bare.yaml"), tokenizer=bare, exact_batching=exact)
