"""Plans scored together have the numbers that each has alone, to the last digit, at the price of their trie."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from support.likelihood_cases import BATCH, LIKELIHOODS, PLANS, ask, fields
from support.nano_samples import llama

import painters
from painters import harness, surgery, variants
from painters.harness.lm import language_model
from painters.harness.shared_lm import SharingLM
from painters.sharing.trie import Trie
from painters.tasks import TaskError


@pytest.fixture(scope="module")
def model() -> Any:
    return llama()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_records_are_those_of_each_plan_alone(dtype: torch.dtype, words: Any, yamls: Any) -> None:
    """Also where a task generates, which no plans share."""
    model = llama().to(dtype)
    tasks = [yamls[name] for name in (*LIKELIHOODS, "nano_gsm8k")]
    alone = list(harness.score_all(model, words, PLANS, tasks, batch_size=BATCH))
    together = list(harness.score_together(model, words, PLANS, tasks, batch_size=BATCH, exact_batching=True))
    assert fields(together) == fields(alone)
    assert len(together) == len(alone) == len(fields(alone))
    assert [record.task for record in together] == sorted((record.task for record in alone), key=order(tasks))


def order(tasks: list[str]) -> Any:
    names = [Path(task).stem for task in tasks]
    return names.index


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_bundled_model_on_bundled_documents(name: str) -> None:
    model, words = harness.load_model("nano-llama", device="cpu")
    plans = [variants.parallel(num_layers=12, start=4, loops=loops) for loops in (1, 2)]
    plans += [variants.skip_layer(num_layers=12, layer=layer) for layer in (0, 11)]
    (task,) = harness.prepare(name, limit=3)
    together = list(harness.score_together(model, words, plans, task, exact_batching=True))
    assert fields(together) == fields(list(harness.score_all(model, words, plans, task)))


def test_evaluate_has_the_same_numbers(model: Any, words: Any, yamls: Any) -> None:
    tasks = [yamls[name] for name in LIKELIHOODS]
    table = painters.evaluate(model, PLANS, tasks, tokenizer=words, batch_size=BATCH)
    together = fields(list(harness.score_together(model, words, PLANS, tasks, batch_size=BATCH)))
    assert len(table) == len(together)
    for row in table.itertuples():
        assert row.value == together[row.task, row.plan, row.metric]["value"]


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_answers_are_those_of_lm_eval(name: str, batch_size: int, model: Any, words: Any, yamls: Any) -> None:
    """Log-likelihoods bit for bit, and whether greedy decoding agrees, against lm-eval's own `hf` model."""
    (task,) = harness.prepare(yamls[name])
    with language_model(SharingLM, model, words, batch_size) as lm:
        found = lm.log_likelihoods(PLANS, task.requests)
    stock = HFLM(pretrained=model, tokenizer=copy.deepcopy(words), batch_size=batch_size)
    assert list(found) == list(PLANS)
    for plan in PLANS[:1] + PLANS[3:]:
        with surgery(model, plan):
            assert found[plan] == stock.loglikelihood(task.requests, disable_tqdm=True)
    assert len({tuple(answers) for answers in found.values()}) == len(PLANS)


def test_answers_that_share_a_row_are_those_of_lm_eval(model: Any, words: Any) -> None:
    """Answers that differ in their last token, are asked twice, follow nothing, or begin elsewhere in the same text."""
    requests = ask(
        ("What does a cat eat?", " milk"),
        ("What does a cat eat?", " bones"),
        ("What does a cat eat?", " bones and milk"),
        ("What does a cat eat?", " bones and bread"),
        ("What does a cat eat? bones", " and seeds"),
        ("What does a dog eat? bones", " and seeds"),
        ("What does a dog eat?", " bones and milk"),
        ("What does a cat eat?", " milk"),
        ("", "What does a cat eat?"),
        ("", "milk"),
        ("The dog sat down ", "and slept"),
    )
    stock = HFLM(pretrained=model, tokenizer=copy.deepcopy(words), batch_size=BATCH)
    with language_model(SharingLM, model, words, BATCH) as lm:
        found = lm.log_likelihoods(PLANS, requests)
    for plan in PLANS:
        with surgery(model, plan):
            assert found[plan] == stock.loglikelihood(requests, disable_tqdm=True)


def test_greedy_answers_that_share_a_row_are_those_of_lm_eval(model: Any, words: Any) -> None:
    """An answer that greedy decoding gives, alone and as the end of a longer one."""
    with language_model(SharingLM, model, words, BATCH) as lm:
        for context in ("The cat", "The dog", "The bird", "Who lives", "On Monday", "Anna had"):
            ids = torch.tensor([words(context)["input_ids"]])
            answer = [words.decode(token) for token in model.generate(ids, max_new_tokens=3, do_sample=False)[0, -3:]]
            if words(context + "".join(answer))["input_ids"][-3:] == [words(part)["input_ids"][0] for part in answer]:
                break
        first, *last = answer
        requests = ask((context, "".join(answer[:2]) + " cat"), (context + first, "".join(last)))
        found = lm.log_likelihoods(PLANS, requests)
    assert [greedy for _, greedy in found[PLANS[0]]] == [False, True]
    stock = HFLM(pretrained=model, tokenizer=copy.deepcopy(words), batch_size=BATCH)
    assert found[PLANS[0]] == stock.loglikelihood(requests, disable_tqdm=True)


def test_requests_that_are_asked_more_than_once(model: Any, words: Any, yamls: Any) -> None:
    (task,) = harness.prepare(yamls["nano_lambada"], limit=2)
    for request in task.requests:
        request.repeats = 2
    list(harness.score_together(model, words, PLANS[:2], task, exact_batching=True))
    found = [request.resps for request in task.requests]
    list(harness.score_all(model, words, PLANS[1], task))
    assert found == [request.resps for request in task.requests]
    assert [len(answers) for answers in found] == [2, 2]


def test_long_contexts_lose_their_beginning_as_in_lm_eval(model: Any, words: Any) -> None:
    requests = ask(("The cat ran away. " * 60, "Then it slept"), ("The dog", " sat down"))
    stock = HFLM(pretrained=model, tokenizer=copy.deepcopy(words), batch_size=2)
    with language_model(SharingLM, model, words, 2) as lm:
        assert max(len(lm.tok_encode(request.args[0])) for request in requests) > lm.max_length
        found = lm.log_likelihoods(PLANS, requests)
        with pytest.raises(TaskError, match=r"an answer has 360 tokens, and the model scores 1 to 256 of them at once"):
            lm.log_likelihoods(PLANS, ask(("The", " cat ran away. Then it" * 60)))
        with surgery(model, PLANS[0]):
            assert lm.loglikelihood(requests, disable_tqdm=True) == found[PLANS[0]]  # and goes on as lm-eval's model
    with surgery(model, PLANS[3]):
        assert found[PLANS[3]] == stock.loglikelihood(requests, disable_tqdm=True)


def test_layers_run_once_for_every_edge_and_batch(words: Any, yamls: Any) -> None:
    """Requests are tokenised once, whatever the number of plans."""
    model = llama()
    (task,) = harness.prepare(yamls["nano_hellaswag"])
    runs: list[int] = []
    texts: list[str] = []
    for layer in model.model.layers:
        layer.register_forward_hook(lambda *_: runs.append(1))
    with language_model(SharingLM, model, words, BATCH) as lm:
        encode = lm.tok_encode
        lm.tok_encode = lambda text, *rest, **more: texts.append(text) or encode(text, *rest, **more)
        plans = [plan for plan in PLANS if not plan.has_halves]
        rows = {tuple(encode("".join(request.args))[:-1]) for request in task.requests}
        lm.log_likelihoods(plans, task.requests)
    assert len(runs) == -(-len(rows) // BATCH) * Trie.of(plans).layer_runs
    assert len(texts) == 2 * len(task.requests)


def test_progress_and_seconds(model: Any, words: Any, yamls: Any) -> None:
    seen: list[tuple[int, int, str]] = []
    tasks = harness.prepare([yamls["nano_arc"], yamls["nano_gsm8k"]])
    requests = [len(task.requests) for task in tasks]
    records = list(
        harness.score_together(
            model, words, PLANS[:3], tasks, progress=lambda done, total, what: seen.append((done, total, what))
        )
    )
    assert [done for done, _, _ in seen] == list(range(1, 3 * sum(requests) + 1))
    assert {total for _, total, _ in seen} == {3 * sum(requests)}
    named = {"3 plans on nano_arc", *(f"{plan} on nano_gsm8k" for plan in PLANS[:3])}
    assert {what for _, _, what in seen} == named
    shares = {record.plan: record.seconds / record.layer_runs for record in records if record.task == "nano_arc"}
    assert max(shares.values()) == pytest.approx(min(shares.values()))


def test_messages_are_those_of_score_all(model: Any, words: Any, yamls: Any) -> None:
    def score(plans: Any = PLANS, **options: Any) -> None:
        next(harness.score_together(model, words, plans, yamls["nano_arc"], **options))

    with pytest.raises(ValueError, match="batch_size 'auto': give a number of rows"):
        score(batch_size="auto")
    with pytest.raises(ValueError, match="no plan given"):
        score([])
    with pytest.raises(painters.PlanError, match="plan runs layer 6"):
        score("0-6")
    with pytest.raises(ValueError, match="kv is 'wrong'"):
        score(kv="wrong")
    with pytest.raises(
        painters.SurgeryError, match="kv='averaged' averages the keys and values of single whole layers"
    ):
        score(kv="averaged")
