"""Exact batching is lm-eval's to the last digit under every attention, for plans as for the model as it is."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from support.likelihood_cases import BATCH, PLANS
from support.models import make_model
from support.nano_samples import llama
from transformers import AutoModelForCausalLM, AutoTokenizer

import painters
from painters import Plan, harness, surgery
from painters.harness.lm import language_model
from painters.harness.shared_lm import SharingLM
from painters.sharing import Sharing

NANO = Path(painters.__file__).parent / "nano" / "llama"
PAIRS = [
    ("Question: x\nAnswer:", " red"),
    ("Question: x\nAnswer:", " red hat and shoes"),
    ("Tom has 5 lamps. Kate", " gave the crown"),
    ("Zoe", " Zoe" * 20),
    ("Question: x\nAnswer:", " red hat"),
    ("Question: x\nAnswer: red", " hat"),
]
REQUESTS = [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(PAIRS)]


def log_likelihoods(model: Any, tokenizer: Any, plans: Any, *, exact: bool, batch_size: int = BATCH) -> dict[Plan, Any]:
    with language_model(SharingLM, model, tokenizer, batch_size) as lm:
        lm.exact_batching = exact
        return lm.log_likelihoods(plans, REQUESTS, lm.batches(REQUESTS, exact=exact))


@pytest.fixture(scope="module")
def nano_tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(NANO)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # within torch, for flex_attention
@pytest.mark.parametrize("attention", ["sdpa", "eager", "flex_attention"])
def test_the_bundled_model(attention: str, dtype: torch.dtype, nano_tokenizer: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(NANO, dtype=dtype, attn_implementation=attention).eval()
    plans = [Plan.parse(text) for text in ("0-11", "0-4 6-11", "1-11", "0-3 {4-8}*2 9-11", "0-3 (4 5)*2 6-11 0")]
    found = log_likelihoods(model, nano_tokenizer, plans, exact=True)
    for plan in plans:
        with surgery(model, plan):
            lm = HFLM(pretrained=model, tokenizer=copy.deepcopy(nano_tokenizer), batch_size=BATCH)
            assert found[plan] == lm.loglikelihood(REQUESTS, disable_tqdm=True)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_records_are_those_of_each_plan_alone(attention: str, words: Any, yamls: Any) -> None:
    model = llama()
    model.set_attn_implementation(attention)
    for kv, plans in (("exact", PLANS), ("averaged", PLANS[:-1])):  # halves have no averages
        for name in ("nano_arc", "nano_winogrande"):
            (task,) = harness.prepare(yamls[name])
            together = {}
            for record in harness.score_together(
                model, words, plans, task, batch_size=BATCH, kv=kv, exact_batching=True
            ):
                together.setdefault(record.plan, [request.resps for request in task.requests])
            for plan in plans:
                list(harness.score(model, words, plan, task, batch_size=BATCH, kv=kv))
                assert together[str(plan)] == [request.resps for request in task.requests]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "mistral", "gemma3", "qwen3", "phi3", "opt"])
def test_each_layer_run_fills_a_cache_of_its_own(architecture: str, attention: str) -> None:
    """Bitwise what the model gives under each plan with the cache that it makes by default."""
    model = make_model(architecture, 5)
    model.set_attn_implementation(attention)
    ids = torch.randint(3, 90, (3, 6), generator=torch.Generator().manual_seed(0))
    plans = ["0-4", "1-4", "0 (1 2)*2 3-4", "0 {1-3}*2 4"]
    sharing = Sharing(model, plans)
    with torch.no_grad():
        found = {plan: output.logits for plan, output in sharing.run(fill_caches=True, input_ids=ids)}
        again = {plan: output.logits for plan, output in sharing.run(fill_caches=True, input_ids=ids)}
        for plan, logits in found.items():
            with surgery(model, plan):
                assert torch.equal(logits, model(ids).logits)
            assert torch.equal(logits, again[plan])


def test_one_text_split_at_two_places(nano_tokenizer: Any) -> None:
    """lm-eval answers the request with the longer context from the wrong positions, and exact batching as it does.

    Shared batches read the right ones: what a plain forward says. docs/exact.md states it.
    """
    model = AutoModelForCausalLM.from_pretrained(NANO, dtype=torch.float32).eval()
    context, answer = PAIRS[5]
    whole = nano_tokenizer.encode(context + answer, add_special_tokens=False)
    count = len(whole) - len(nano_tokenizer.encode(context, add_special_tokens=False))
    with torch.no_grad():
        scores = torch.log_softmax(model(torch.tensor([whole[:-1]])).logits[0], -1)
    right = float(scores[-count:].gather(1, torch.tensor(whole[-count:])[:, None]).sum())
    by_lm_eval = HFLM(pretrained=model, tokenizer=copy.deepcopy(nano_tokenizer), batch_size=BATCH)
    (identity,) = plans = [Plan.identity(12)]
    exact, shared = (log_likelihoods(model, nano_tokenizer, plans, exact=kind)[identity] for kind in (True, False))
    assert exact == by_lm_eval.loglikelihood(REQUESTS, disable_tqdm=True)
    assert shared[5][0] == pytest.approx(right, abs=1e-4)
    assert abs(exact[5][0] - right) > 0.1
    alone = by_lm_eval.loglikelihood(REQUESTS[5:], disable_tqdm=True)
    assert alone[0][0] == pytest.approx(right, abs=1e-4)
