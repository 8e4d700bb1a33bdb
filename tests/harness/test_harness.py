"""Scores are lm-eval's: to the last digit for the model as it is, and for a plan those of a model built that
way.
"""

from __future__ import annotations

import copy
import logging
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lm_eval.api.task
import lm_eval.evaluator
import numpy as np
import pytest
import torch
from lm_eval import simple_evaluate
from lm_eval.api.metrics import stderr_for_metric
from lm_eval.api.registry import get_model
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from support.nano_samples import NUM_LAYERS, llama
from transformers import BertConfig, BertLMHeadModel

import painters
from painters import Plan, harness, results, surgery
from painters import tasks as bundled_tasks
from painters.results import Record, scoring

NAMES = ["nano_arc", "nano_gsm8k", "nano_hellaswag", "nano_lambada", "nano_winogrande"]
IDENTITY = Plan.identity(NUM_LAYERS)
NO_INDEX = TaskManager(include_defaults=False)  # the index of lm-eval's own tasks takes many seconds
BATCH = 3  # divides none of the numbers of requests: last batches are short


@pytest.fixture(scope="module", autouse=True)
def _no_inventory() -> Iterator[None]:
    """Keep lm-eval's simple_evaluate from running a second of subprocesses to describe the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lm_eval.evaluator, "add_env_info", lambda results: None)
        yield


@pytest.fixture(scope="module")
def model() -> Any:
    return llama()


def stock(model: Any, words: Any, yaml: str, **options: Any) -> dict[str, Any]:
    """What lm-eval's own `hf` model and its own simple_evaluate make of a task."""
    task = lm_eval.api.task.ConfigurableTask(config=bundled_tasks.config(Path(yaml)))
    lm = HFLM(pretrained=model, tokenizer=copy.deepcopy(words), batch_size=BATCH)
    found = simple_evaluate(lm, tasks=[task], bootstrap_iters=0, task_manager=NO_INDEX, **options)
    assert found is not None
    return dict(found)


def values(records: list[Record]) -> dict[str, float | None]:
    return {record.metric: record.value for record in records}


def stock_values(found: dict[str, Any], name: str) -> dict[str, float]:
    return {
        key.split(",")[0]: value for key, value in found["results"][name].items() if "," in key and "_stderr" not in key
    }


def answers(task: harness.Prepared) -> list[list[Any]]:
    """Log-likelihoods and texts that the last plan gave, request by request: more telling than 0 and 1."""
    return [request.resps for request in task.requests]


@pytest.mark.parametrize("name", NAMES)
def test_identity_is_lm_evals_hf_model_to_the_last_digit(name: str, model: Any, words: Any, yamls: Any) -> None:
    found = stock(model, words, yamls[name])
    (task,) = harness.prepare(yamls[name])
    records = harness.score(model, words, IDENTITY, task, batch_size=BATCH)
    samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
    assert answers(task) == [answer for sample in samples for answer in sample["resps"]]
    assert values(records) == stock_values(found, name)
    for record in records:
        assert list(record.outcomes or ()) == [float(sample[record.metric]) for sample in samples]
        assert record.documents == len(samples)
        assert record.task_version == str(found["versions"][name])


@pytest.mark.parametrize("shots", [1, 3])
def test_shots_are_lm_evals(shots: int, model: Any, words: Any, yamls: Any) -> None:
    found = stock(model, words, yamls["nano_gsm8k"], num_fewshot=shots)
    (task,) = harness.prepare(yamls["nano_gsm8k"], shots=shots)
    prompts = [sample["arguments"][0][0] for sample in found["samples"]["nano_gsm8k"]]
    assert [request.args[0] for request in task.requests] == prompts
    assert prompts[0].count("Question:") == shots + 1
    assert values(harness.score(model, words, IDENTITY, task, batch_size=BATCH)) == stock_values(found, "nano_gsm8k")


def without(model: Any, gone: set[int]) -> Any:
    """A copy of `model` from which these layers were cut, as a smaller model that never had them."""
    smaller = copy.deepcopy(model)
    kept = [layer for i, layer in enumerate(smaller.model.layers) if i not in gone]
    smaller.model.layers = torch.nn.ModuleList(kept)
    for i, layer in enumerate(kept):
        layer.self_attn.layer_idx = i
    smaller.config.num_hidden_layers = len(kept)
    smaller.config.layer_types = None
    return smaller


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("plan", "gone"), [("0-2 4-5", {3}), ("1-5", {0}), ("0 5", {1, 2, 3, 4})])
def test_skipping_is_removing(plan: str, gone: set[int], name: str, model: Any, words: Any, yamls: Any) -> None:
    (task,) = harness.prepare(yamls[name], limit=4)
    records = harness.score(model, words, plan, task, batch_size=BATCH)
    skipped = answers(task)
    smaller = without(model, gone)
    removed = harness.score(smaller, words, Plan.identity(NUM_LAYERS - len(gone)), task, batch_size=BATCH)
    assert skipped == answers(task)
    assert values(records) == values(removed)
    harness.score(model, words, IDENTITY, task, batch_size=BATCH)
    assert skipped != answers(task)


def test_a_looped_plan_is_scored_as_the_uncached_model_computes(model: Any, words: Any, yamls: Any) -> None:
    plan = "0-1 {2-3}*3 4-5"
    (task,) = harness.prepare(yamls["nano_lambada"])
    (record,) = (r for r in harness.score(model, words, plan, task, batch_size=1) if r.metric == "perplexity")
    with surgery(model, Plan.parse(plan)), torch.no_grad():
        for request, outcome in zip(task.requests, record.outcomes or (), strict=True):
            context, target = (words(text)["input_ids"] for text in request.args)
            logits = model(torch.tensor([[*context, *target[:-1]]]), use_cache=False).logits[0, -len(target) :]
            expected = logits.log_softmax(-1).gather(-1, torch.tensor(target)[:, None]).sum()
            assert outcome == expected.item()
    assert record.value != harness.score(model, words, IDENTITY, task, batch_size=1)[0].value


def test_evaluate_compares_with_the_intact_model(model: Any, words: Any, yamls: Any) -> None:
    plans = ["0-1 {2-3}*2 4-5", "0-1 4-5"]
    tasks = [yamls["nano_arc"], yamls["nano_lambada"]]
    table = painters.evaluate(model, plans, tasks, tokenizer=words, batch_size=BATCH, exact_batching=True)
    assert list(table["plan"].unique()) == [str(Plan.parse(plan)) for plan in plans]
    assert list(table["plan"]) == [plan for plan in table["plan"].unique() for _ in range(len(table) // len(plans))]
    assert set(table["task"]) == {"nano_arc", "nano_lambada"}
    intact = {
        (r.task, r.metric): r
        for name in ("nano_arc", "nano_lambada")
        for r in harness.score(model, words, IDENTITY, yamls[name], batch_size=BATCH)
    }
    scored = {
        (r.plan, r.task, r.metric): r
        for plan in plans
        for name in ("nano_arc", "nano_lambada")
        for r in harness.score(model, words, plan, yamls[name], batch_size=BATCH)
    }
    for row in table.itertuples():
        ours, whole = scored[row.plan, row.task, row.metric], intact[row.task, row.metric]
        assert (row.value, row.intact, row.difference) == (ours.value, whole.value, ours.value - whole.value)
        assert (row.layer_runs, row.depth) == (Plan.parse(row.plan).layer_runs, Plan.parse(row.plan).depth)
        if row.metric in ("acc", "acc_norm"):
            pairs = [a - b for a, b in zip(ours.outcomes, whole.outcomes, strict=True)]
            n, mean = len(pairs), sum(pairs) / len(pairs)
            expected = math.sqrt(sum((d - mean) ** 2 for d in pairs) / (n - 1) / n)
            assert row.difference_stderr == pytest.approx(expected, abs=1e-12)
            if whole.value > row.chance:
                assert row.normalised == pytest.approx((row.value - row.chance) / (row.intact - row.chance))
            else:
                assert math.isnan(row.normalised)
    assert table.loc[table["metric"] == "perplexity", ["normalised", "chance"]].isna().all(axis=None)


def test_evaluate_without_the_intact_model_leaves_it_absent(model: Any, words: Any, yamls: Any) -> None:
    table = painters.evaluate(model, "0-1 4-5", yamls["nano_winogrande"], tokenizer=words, intact=False)
    assert table[["intact", "difference", "difference_stderr", "normalised"]].isna().all(axis=None)
    assert len(table) == 1


def test_a_call_with_more_tasks_and_plans_gives_the_same_numbers(model: Any, words: Any, yamls: Any) -> None:
    prepared = harness.prepare([yamls[name] for name in NAMES])
    together = list(harness.score_all(model, words, ["0-1 4-5", IDENTITY, "0-1 4-5"], prepared, batch_size=BATCH))
    assert {record.plan for record in together} == {"0-1 4-5", str(IDENTITY)}
    alone = [
        r
        for plan in ("0-1 4-5", IDENTITY)
        for name in NAMES
        for r in harness.score(model, words, plan, yamls[name], batch_size=BATCH)
    ]
    fields = {"seconds", "date"}
    assert [r.model_dump(exclude=fields) for r in together] == [r.model_dump(exclude=fields) for r in alone]


def test_stderr_is_lm_evals_closed_form(model: Any, words: Any, yamls: Any) -> None:
    for record in harness.score(model, words, "0-1 4-5", [yamls[name] for name in NAMES], batch_size=BATCH):
        if record.metric == "perplexity":
            # lm-eval bootstraps this one; the delta method is the limit of that for many documents.
            lls = record.outcomes or ()
            mean = sum(lls) / len(lls)
            spread = math.sqrt(sum((ll - mean) ** 2 for ll in lls) / (len(lls) - 1) / len(lls))
            assert record.stderr == pytest.approx(math.exp(-mean) * spread)
            continue
        closed = stderr_for_metric(lm_eval.api.metrics.mean, 0) or stderr_for_metric(lm_eval.api.metrics.mean, 1)
        assert record.stderr == closed(list(record.outcomes or ()))
        p, n = record.value, record.documents
        assert record.stderr == pytest.approx(math.sqrt(p * (1 - p) / (n - 1)))


def test_chance_comes_from_the_documents(yamls: Any) -> None:
    chance = {task.name: task.chance for task in harness.prepare(list(yamls.values()))}
    assert chance["nano_arc"] == pytest.approx((5 / 3 + 4 / 4) / 9)  # three choices in five documents, four in four
    assert chance["nano_hellaswag"] == 0.25
    assert chance["nano_winogrande"] == 0.5
    assert chance["nano_lambada"] == chance["nano_gsm8k"] == 0


def test_the_metric_that_stands_for_a_task(model: Any, words: Any, yamls: Any) -> None:
    records = harness.score(model, words, IDENTITY, list(yamls.values()), limit=2)
    primary = {record.task: record.metric for record in records if record.primary}
    assert primary == {name: "exact_match" if name == "nano_gsm8k" else "acc" for name in NAMES}
    assert sum(record.primary for record in records) == len(NAMES)


def test_limit_keeps_the_first_documents(model: Any, words: Any, yamls: Any) -> None:
    whole, head = harness.prepare(yamls["nano_arc"])[0], harness.prepare(yamls["nano_arc"], limit=2)[0]
    assert [request.args for request in head.requests] == [
        request.args for request in whole.requests[: len(head.requests)]
    ]
    assert head.documents == 2
    assert head.digest != whole.digest
    (acc, _) = harness.score(model, words, IDENTITY, head)
    assert len(acc.outcomes or ()) == acc.documents == 2


def test_progress_counts_every_answer(model: Any, words: Any, yamls: Any) -> None:
    seen: list[tuple[int, int, str]] = []
    prepared = harness.prepare([yamls["nano_arc"], yamls["nano_gsm8k"]])
    requests = sum(len(task.requests) for task in prepared)
    harness.evaluate(
        model,
        "0-1 4-5",
        prepared,
        tokenizer=words,
        progress=lambda done, total, what: seen.append((done, total, what)),
    )
    assert [done for done, _, _ in seen] == list(range(1, 2 * requests + 1))
    assert {total for _, total, _ in seen} == {2 * requests}
    assert {what for _, _, what in seen} == {
        "2 plans on nano_arc",
        *(f"{plan} on nano_gsm8k" for plan in (IDENTITY, "0-1 4-5")),
    }


def test_scoring_is_silent_and_leaves_everything_as_it_was(
    model: Any, words: Any, yamls: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    model.train()
    model.model.layers[1].eval()
    modes = [module.training for module in model.modules()]
    random.random()  # somewhere in its course: scoring starts from a seed of its own
    state, random_state = (
        copy.deepcopy(model.state_dict()),
        (random.getstate(), str(np.random.get_state()), torch.random.get_rng_state().tolist()),
    )
    level = logging.getLogger("lm_eval").level
    try:
        harness.score(model, words, "0-1 {2-3}*2 4-5", list(yamls.values()), limit=2)
        assert [module.training for module in model.modules()] == modes
    finally:
        model.eval()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert (random.getstate(), str(np.random.get_state()), torch.random.get_rng_state().tolist()) == random_state
    assert words.pad_token is None
    assert logging.getLogger("lm_eval").level == level
    assert capfd.readouterr() == ("", "")


def test_answers_that_are_not_finite_are_counted_and_no_number(words: Any, yamls: Any) -> None:
    broken = llama()
    with torch.no_grad():
        broken.lm_head.weight.fill_(math.nan)
    records = {record.metric: record for record in harness.score(broken, words, IDENTITY, yamls["nano_lambada"])}
    assert records["perplexity"].value is None
    assert records["perplexity"].stderr is None
    assert records["perplexity"].outcomes is None
    assert records["perplexity"].not_finite == records["perplexity"].documents
    assert records["acc"].value is None
    assert results.frame(list(records.values()))["value"].isna().tolist() == [True, True]


def test_lm_eval_finds_the_model_by_name(model: Any, words: Any, yamls: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    plan = "0-1 {2-3}*2 4-5"
    task = lm_eval.api.task.ConfigurableTask(config=bundled_tasks.config(Path(yamls["nano_lambada"])))
    lm = get_model("painters").create_from_arg_string(
        f"pretrained={tmp_path},plan={plan},device=cpu", {"batch_size": BATCH}
    )
    found = simple_evaluate(lm, tasks=[task], bootstrap_iters=0, task_manager=NO_INDEX)
    assert found is not None
    ours = harness.score(model, words, plan, yamls["nano_lambada"], batch_size=BATCH)
    assert values(ours) == stock_values(dict(found), "nano_lambada")
    assert values(ours) != values(harness.score(model, words, IDENTITY, yamls["nano_lambada"], batch_size=BATCH))


def test_key_changes_with_everything_that_changes_the_number(model: Any, words: Any, yamls: Any) -> None:
    def key(model: Any = model, plan: Any = IDENTITY, task: Any = yamls["nano_gsm8k"], **options: Any) -> str:
        return results.key(harness.score(model, words, plan, task, **{"limit": 2, **options})[0])

    keys = [
        key(),
        key(plan="0-1 4-5"),
        key(task=yamls["nano_arc"]),
        key(model=llama(seed=1)),
        key(limit=3),
        key(shots=1),
        key(shots=1, seed=1),
        key(batch_size=2),
        key(kv="averaged"),
        key(model=llama().to(torch.bfloat16)),
    ]
    assert len(set(keys)) == len(keys)
    assert key() == keys[0]


def test_messages(model: Any, words: Any, yamls: Any) -> None:
    arc = yamls["nano_arc"]
    with pytest.raises(ValueError, match=r"batch_size 'auto': give a number of rows.*free memory"):
        harness.score(model, words, IDENTITY, arc, batch_size="auto")  # type: ignore[arg-type]
    with pytest.raises(harness.TaskError, match="limit 0: give a whole number of documents"):
        harness.score(model, words, IDENTITY, arc, limit=0)
    with pytest.raises(harness.TaskError, match="shots -1"):
        harness.score(model, words, IDENTITY, arc, shots=-1)
    with pytest.raises(
        harness.TaskError, match="'nano_arc' with 2 shots: it has no documents but those it is scored on"
    ):
        harness.score(model, words, IDENTITY, arc, shots=2)
    with pytest.raises(harness.TaskError, match="no task given"):
        harness.score(model, words, IDENTITY, [])
    with pytest.raises(ValueError, match="no plan given"):
        harness.evaluate(model, [], arc, tokenizer=words)
    with pytest.raises(painters.PlanError, match=r"plan runs layer 6, but .* has 6 layers \(0 to 5\)"):
        harness.score(model, words, "0-9", arc)
    with pytest.raises(harness.ModelError, match="LlamaForCausalLM without its tokenizer: give tokenizer="):
        harness.evaluate(model, IDENTITY, arc)
    with pytest.raises(harness.ModelError, match="by name with a tokenizer"):
        harness.evaluate("nano-llama", IDENTITY, arc, tokenizer=words)
    with pytest.raises(ValueError, match="kv is 'wrong'"):
        harness.score(model, words, IDENTITY, arc, kv="wrong")


@pytest.mark.filterwarnings("ignore:If you want to use `BertLMHeadModel`")
def test_encoders_are_refused(words: Any, yamls: Any) -> None:
    bert = BertLMHeadModel(
        BertConfig(vocab_size=200, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    )
    with pytest.raises(harness.ModelError, match=r"is an encoder \(bert\): lm-eval's tasks need.*painters.glue"):
        harness.score(bert, words, "0", yamls["nano_arc"])


def test_paired_difference_of_other_documents_is_refused() -> None:
    with pytest.raises(ValueError, match="paired difference of 2 and 1 documents"):
        scoring.difference_stderr("mean", [0.0, 1.0], 0.5, [1.0], 1.0)
