"""Rolling log-likelihoods, as of wikitext: lm-eval's values, for plans together, and of texts longer than the model."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from lm_eval.models.huggingface import HFLM
from support.likelihood_cases import PLANS
from support.nano_samples import NUM_LAYERS, llama
from support.outcome import Outcome

import painters
from painters import Plan, harness, surgery
from painters.experiment import Experiment
from painters.results import Record, Store, read
from painters.sweep import plan as forecast
from painters.sweep import run

TEXTS = [
    "What does a cat eat? milk and bread",
    "",
    "On Monday Anna lost a dog. Then Ben found the dog and gave it to Anna because " * 3,
    "bread",
    "On Monday Anna lost a dog. Then Ben sat down and ran away. On Monday Cleo went home and then slept. " * 2,
    "bread",
]
METRICS = ("word_perplexity", "byte_perplexity", "bits_per_byte")


@pytest.fixture
def rolling(tmp_path: Path) -> str:
    """A task of these texts."""
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    fields = {
        "task": "rolling",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "texts.jsonl"}},
        "test_split": "test",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": metric} for metric in METRICS],
    }
    path = tmp_path / "rolling.yaml"
    path.write_text(json.dumps(fields))
    return str(path)


def short_context(positions: int, **options: Any) -> Any:
    """The tiny model with a context of so many positions."""
    model = llama()
    config = copy.deepcopy(model.config)
    config.max_position_embeddings = positions
    other = type(model)._from_config(config, **options).eval()
    other.load_state_dict(model.state_dict())
    return other


def stock(model: Any, words: Any, requests: list[Any], batch_size: int) -> list[float]:
    lm = HFLM(pretrained=model, tokenizer=copy.deepcopy(words), batch_size=batch_size)
    answers: list[float] = lm.loglikelihood_rolling(requests, disable_tqdm=True)
    return answers


def answered(model: Any, words: Any, task: Any, plans: Any, **options: Any) -> dict[str, list[float]]:
    """Plan -> the log-likelihood of each text."""
    found = {}
    for record in harness.score_together(model, words, plans, task, **options):
        found.setdefault(record.plan, [request.resps[0] for request in task.requests])
    return found


@pytest.mark.parametrize("positions", [256, 16, 7])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_the_values_are_lm_evals(positions: int, batch_size: int, words: Any, rolling: str) -> None:
    model = short_context(positions)
    (task,) = harness.prepare(rolling)
    longest = max(len(words.encode(text)) for text in TEXTS)
    assert (longest > 3 * positions) is (positions < 256)
    exact = answered(model, words, task, PLANS, batch_size=batch_size, exact_batching=True)
    shared = answered(model, words, task, PLANS, batch_size=batch_size)
    for plan in PLANS:
        with surgery(model, plan):
            expected = stock(model, words, task.requests, batch_size)
        text = str(Plan.parse(plan) if isinstance(plan, str) else plan)
        assert exact[text] == expected
        assert shared[text] == pytest.approx(expected, abs=1e-3)
        list(harness.score(model, words, plan, task, batch_size=batch_size))
        assert [request.resps[0] for request in task.requests] == expected
    assert exact[str(Plan.identity(NUM_LAYERS))][1] == 0  # a text of nothing


def test_records_and_tables(words: Any, rolling: str) -> None:
    model = short_context(16)
    (task,) = harness.prepare(rolling)
    lm_answers = stock(model, words, task.requests, 8)
    sizes = {"word": sum(len(text.split()) for text in TEXTS), "byte": sum(len(text.encode()) for text in TEXTS)}
    table = painters.evaluate(model, ["0-5", "0-2 4-5"], rolling, tokenizer=words)
    intact = table[table["plan"] == "0-5"].set_index("metric")
    assert intact.loc["byte_perplexity", "value"] == pytest.approx(math.exp(-sum(lm_answers) / sizes["byte"]), rel=1e-5)
    assert intact.loc["bits_per_byte", "value"] == pytest.approx(
        -sum(lm_answers) / sizes["byte"] / math.log(2), rel=1e-5
    )
    assert set(table["documents"]) == {len(TEXTS)}
    assert (table["difference"] != 0).tolist() == [False] * 3 + [True] * 3
    counts: list[tuple[int, int]] = []
    painters.evaluate(
        model, "0-2 4-5", rolling, tokenizer=words, progress=lambda done, total, what: counts.append((done, total))
    )
    assert counts == [(done + 1, 2 * len(TEXTS)) for done in range(2 * len(TEXTS))]


def test_plans_share_their_runs(words: Any, rolling: str) -> None:
    """Two plans that differ in their last layer run all others once."""
    model = short_context(16)
    (task,) = harness.prepare(rolling)
    calls = [0] * NUM_LAYERS

    def count(index: int) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            calls[index] += 1

        return hook

    for index, layer in enumerate(model.model.layers):
        layer.register_forward_hook(count(index))
    scorer = harness.Scorer(model, words)
    plans = scorer.check(["0-5", "0-4"])
    calls[:] = [0] * NUM_LAYERS
    list(scorer.score(plans, task))
    first = list(calls)
    assert len(set(first)) == 1  # the trial of token trees runs the intact model
    calls[:] = [0] * NUM_LAYERS
    list(scorer.score(plans, task))
    assert calls == [calls[0]] * NUM_LAYERS
    assert 0 < calls[0] < first[0]


def test_a_run_and_a_sweep(painters: Callable[..., Outcome], rolling: str, tmp_path: Path) -> None:
    for more in ((), ("--exact-batching",)):
        outcome = painters("run", "--plan", "0-4 6-11", "--tasks", rolling, "--quiet", "--out", "r.jsonl", *more)
        assert outcome.code == 0, outcome.err
    records = read(tmp_path / "r.jsonl")
    assert {record.batching for record in records} == {"shared", "lm-eval"}
    values = {(r.plan, r.metric, r.batching): r.value for r in records}
    for (plan, metric, batching), value in values.items():
        assert value == pytest.approx(values[plan, metric, "lm-eval"], rel=1e-4), batching
    fields = {"title": "x", "models": "nano-llama", "tasks": rolling, "variants": [{"plan": "0-4 6-11"}]}
    experiment = Experiment.model_validate(fields)
    cost = forecast(experiment, Store(tmp_path / "runs"))
    assert [kind for kind, _ in cost.kinds] == ["log-likelihoods"]
    summary = run(experiment, Store(tmp_path / "runs"))
    assert (summary.done, summary.lacks) == (2, False)
    assert {r.value for r in Store(tmp_path / "runs").records()} <= {*values.values()}


def test_windows_halve_where_memory_does_not_suffice(words: Any, rolling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = short_context(16)
    (task,) = harness.prepare(rolling)
    expected = answered(model, words, task, "0-5")["0-5"]
    forward = model.model.forward

    def limited(input_ids: Any, **options: Any) -> Any:
        if input_ids.numel() > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(input_ids=input_ids, **options)

    monkeypatch.setattr(model.model, "forward", limited)
    with pytest.warns(UserWarning, match="rolling: batches of 8 rows did not fit into memory"):
        records: list[Record] = list(harness.score_together(model, words, "0-5", task, batch_size=8))
    assert records[0].batching == "shared"
    assert [request.resps[0] for request in task.requests] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_model_that_takes_no_trees(attention: str, words: Any, rolling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is scored in lm-eval's batches, and has its very numbers."""
    from painters.harness.shared_lm import SharingLM

    monkeypatch.setattr(SharingLM, "_takes_trees", lambda *_: False)
    model = short_context(16, attn_implementation=attention)
    (task,) = harness.prepare(rolling)
    expected = stock(model, words, task.requests, 3)
    assert answered(model, words, task, "0-5", batch_size=3)["0-5"] == expected


def test_without_a_token_to_begin_with(words: Any, rolling: str) -> None:
    bare = copy.deepcopy(words)
    bare.bos_token = bare.eos_token = None
    with pytest.raises(harness.ScoringError, match=r"names neither: set tokenizer\.bos_token or eos_token"):
        painters.evaluate(llama(), "0-5", rolling, tokenizer=bare)


def test_a_recurrent_model(words: Any, rolling: str) -> None:
    config = transformers.MambaConfig(vocab_size=len(words), hidden_size=16, num_hidden_layers=3, state_size=4)
    torch.manual_seed(0)
    model = transformers.MambaForCausalLM(config).eval()
    (task,) = harness.prepare(rolling)
    expected = stock(model, words, task.requests, 3)
    for exact in (True, False):
        assert answered(model, words, task, "0-2", batch_size=3, exact_batching=exact)["0-2"] == expected
