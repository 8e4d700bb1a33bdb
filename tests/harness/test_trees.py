"""Requests that share their beginnings get lm-eval's answers up to rounding, on every model that takes such trees."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from support.likelihood_cases import BATCH, LIKELIHOODS, PLANS, ask, fields
from support.models import ARCHITECTURES, PAD, make_model
from support.nano_samples import llama, tokenizer
from torch import nn

from painters import Plan, harness, variants
from painters.harness.batches import BatchLimits, as_lm_eval
from painters.harness.lm import language_model
from painters.harness.shared_lm import SharingLM
from painters.harness.trees import TreeLayout, as_trees
from painters.sharing.trie import Trie
from painters.tasks import TaskError

NATS = 2e-5
DECODERS = [name for name, row in ARCHITECTURES.items() if row.generates]
SLIDING = {"mistral", "qwen2", "qwen3", "gemma2", "gemma3"}
"""Rows of tests/support/models.py whose layers see four positions back."""


@pytest.fixture(scope="module")
def model() -> Any:
    return llama()


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def either(request: Any) -> Any:
    """A model whose attention is by name, so that trees share a row, or not, so that each has its own."""
    model = llama()
    model.set_attn_implementation(request.param)
    return model


def close(found: list[tuple[float, bool]], expected: list[tuple[float, bool]]) -> bool:
    """Whether the answers are equal up to rounding, and the greedy tokens altogether."""
    return [greedy for _, greedy in found] == [greedy for _, greedy in expected] and [
        likely for likely, _ in found
    ] == pytest.approx([likely for likely, _ in expected], rel=0, abs=NATS)


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_answers_are_lm_evals_up_to_rounding(name: str, batch_size: int, either: Any, words: Any, yamls: Any) -> None:
    (task,) = harness.prepare(yamls[name])
    by_name = either.config._attn_implementation == "sdpa"
    with language_model(SharingLM, either, words, batch_size) as lm:
        trees = lm.batches(task.requests, exact=False)
        assert not trees.exact
        assert all(bool(batch.groups) == by_name for batch in trees)
        expected = lm.log_likelihoods(PLANS, task.requests)
        found = lm.log_likelihoods(PLANS, task.requests, trees)
        rows = lm.batches(task.requests, exact=True)
        positions, of_rows = (sum(batch.inputs["input_ids"].numel() for batch in made) for made in (trees, rows))
        assert positions < of_rows or (positions == of_rows and name != "nano_hellaswag")  # small ones share little
    assert list(found) == list(PLANS)
    for plan in PLANS:
        assert close(found[plan], expected[plan])
    assert len({tuple(answers) for answers in found.values()}) == len(PLANS)


@pytest.mark.parametrize("attention", [None, "eager"])
@pytest.mark.parametrize("architecture", DECODERS)
def test_every_architecture(architecture: str, attention: str | None) -> None:
    """Those whose layers see less than a row are scored row by row; the others take trees, and agree."""
    model = make_model(architecture, 7)
    if attention is not None:
        model.set_attn_implementation(attention)
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(PAD + 1, 100, (40,), generator=draw).tolist()
    tokenised = [(None, tokens[:9], tokens[20 + i : 22 + i + i % 3]) for i in range(5)]
    tokenised += [(None, tokens[9:15], [tokens[30 + i]]) for i in range(3)]
    requests = [SimpleNamespace(args=None) for _ in tokenised]
    plans = [Plan.identity(7), variants.skip(num_layers=7, start=1), variants.parallel(num_layers=7, start=1, loops=2)]
    with language_model(SharingLM, model, tokenizer(), 4) as lm:
        lm._tokenised = lambda _: (tokenised, None)
        batches = lm.batches(requests, exact=False)
        assert batches.exact == (architecture in SLIDING)
        expected = lm.log_likelihoods(plans, requests)
        found = lm.log_likelihoods(plans, requests, batches)
    for plan in plans:
        assert close(found[plan], expected[plan])


class Blind(nn.Module):
    """Attention to all positions before, whatever the mask says."""

    def forward(self, hidden_states: torch.Tensor, **_: Any) -> tuple[torch.Tensor, None]:
        count = torch.arange(1, hidden_states.shape[1] + 1)[:, None]
        return hidden_states.cumsum(1) / count, None


def test_a_model_that_does_not_heed_the_mask_is_scored_row_by_row(words: Any, yamls: Any) -> None:
    model = llama()
    model.model.layers[2].self_attn = Blind()
    plans = ["0-5", "0 2-5"]
    found = list(harness.score_together(model, words, plans, yamls["nano_hellaswag"], batch_size=BATCH))
    assert {record.batching for record in found} == {"lm-eval"}
    assert fields(found) == fields(
        list(harness.score_all(model, words, plans, yamls["nano_hellaswag"], batch_size=BATCH))
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_takes_trees(dtype: torch.dtype, words: Any, yamls: Any) -> None:
    model = llama().to(dtype)
    with language_model(SharingLM, model, words, BATCH) as lm:
        (task,) = harness.prepare(yamls["nano_hellaswag"])
        assert not lm.batches(task.requests, exact=False).exact


def test_records_say_how_they_were_batched(model: Any, words: Any, yamls: Any) -> None:
    def batching(**options: Any) -> set[tuple[str, str]]:
        tasks = [yamls["nano_arc"], yamls["nano_gsm8k"]]
        records = harness.score_together(model, words, PLANS[:2], tasks, batch_size=BATCH, **options)
        return {(record.task, record.batching) for record in records}

    assert ("nano_arc", "shared") in batching()
    assert batching(exact_batching=True) == {("nano_arc", "lm-eval"), ("nano_gsm8k", "lm-eval")}


def test_a_batch_holds_no_more_positions_than_lm_evals(either: Any, words: Any, yamls: Any) -> None:
    (task,) = harness.prepare(yamls["nano_hellaswag"])
    for batch_size in (1, 3, 8):
        with language_model(SharingLM, either, words, batch_size) as lm:
            rows, trees = (lm.batches(task.requests, exact=exact) for exact in (True, False))
        most = max(batch.inputs["input_ids"].numel() for batch in rows)
        for batch in trees:
            ids = batch.inputs["input_ids"]
            assert ids.numel() <= most or len(ids) == 1 or len(batch.groups) == 1
            if (mask := batch.inputs.get("attention_mask")) is not None:
                assert mask.shape == (len(ids), 1, ids.shape[1], ids.shape[1])
            for group, after in itertools.pairwise(batch.groups):
                assert group.end == after.begin
        assert any("attention_mask" in batch.inputs or batch.groups for batch in trees)
        assert not trees.exact


def test_answers_that_share_and_repeat(either: Any, words: Any) -> None:
    """Answers that differ in their last token, are asked twice, follow nothing, or begin elsewhere in the same text."""
    requests = ask(
        ("What does a cat eat?", " milk"),
        ("What does a cat eat?", " bones"),
        ("What does a cat eat?", " bones and milk"),
        ("What does a cat eat? bones", " and seeds"),
        ("What does a dog eat?", " bones and milk"),
        ("What does a cat eat?", " milk"),
        ("", "What does a cat eat?"),
        ("", "milk"),
        ("The dog sat down ", "and slept"),
    )
    stock = HFLM(pretrained=either, tokenizer=tokenizer(), batch_size=BATCH)
    with language_model(SharingLM, either, words, BATCH) as lm:
        found = lm.log_likelihoods(PLANS[:1], requests, lm.batches(requests, exact=False))
    # One by one: of answers of several lengths that end alike, lm-eval reads some from the wrong places.
    alone = [stock.loglikelihood([request], disable_tqdm=True)[0] for request in requests]
    assert close(found[PLANS[0]], alone)


def test_long_contexts_lose_their_beginning(model: Any, words: Any) -> None:
    requests = ask(("The cat ran away. " * 60, "Then it slept"), ("The dog", " sat down"))
    with language_model(SharingLM, model, words, 2) as lm:
        expected = lm.log_likelihoods(PLANS[:2], requests)
        found = lm.log_likelihoods(PLANS[:2], requests, lm.batches(requests, exact=False))
        with pytest.raises(TaskError, match=r"an answer has 360 tokens, and the model scores 1 to 256 of them at once"):
            lm.batches(ask(("The", " cat ran away. Then it" * 60)), exact=False)
    for plan in PLANS[:2]:
        assert close(found[plan], expected[plan])


def test_heads_and_layers_run_for_what_is_new_alone(words: Any, yamls: Any) -> None:
    """The head once for each plan and distinct scored position, layers once for each edge and batch."""
    model = llama()
    (task,) = harness.prepare(yamls["nano_hellaswag"])
    plans = [plan for plan in PLANS if not plan.has_halves]
    heads: list[int] = []
    layers: list[int] = []
    with language_model(SharingLM, model, words, BATCH) as lm:
        batches = lm.batches(task.requests, exact=False)
        model.lm_head.register_forward_hook(lambda _head, args, _out: heads.append(args[0][..., 0].numel()))
        for layer in model.model.layers:
            layer.register_forward_hook(lambda _layer, args, _out: layers.append(args[0][..., 0].numel()))
        lm.log_likelihoods(plans, task.requests, batches)
    scored = sum(len(batch.scored[0]) for batch in batches)
    assert sum(heads) == scored * len(plans)
    assert scored < sum(len(batch.tokens) for batch in batches)  # answers begin at the same position
    positions = sum(batch.inputs["input_ids"].numel() for batch in batches)
    assert sum(layers) == positions * Trie.of(plans).layer_runs


def test_rows_that_do_not_branch_need_no_mask() -> None:
    alone: list[Any] = [(None, [5, 6, 7], [8]), (None, [9, 6], [7, 8])]
    device = torch.device("cpu")

    def made(requests: list[Any], one_row: bool) -> Any:
        (batch,) = as_trees(requests, BatchLimits(4, 64, device), TreeLayout(64, torch.float32, one_row))
        return batch

    both = [*alone, (None, [5, 6, 7], [9, 9])]
    assert made(alone, False).inputs.keys() == {"input_ids"}
    assert made(both, False).inputs.keys() == {"input_ids", "position_ids", "attention_mask"}
    assert made(alone, True).inputs.keys() == made(both, True).inputs.keys() == {"input_ids", "position_ids"}
    (group,) = made(alone, True).groups
    assert (group.mask, group.trunk, group.rows, group.width) == (None, 3, 2, 3)
    (group,) = made([*both, (None, [5, 6, 7, 9, 9, 9], [8, 8, 8])], True).groups[:1]
    assert group.mask.shape == (group.rows, 1, group.width - group.trunk, group.width)


def test_a_model_is_tried_on_a_tree_that_branches(either: Any, words: Any) -> None:
    """The longest request may stand alone."""
    requests = ask(
        ("The cat ran away. " * 8, "Then"),
        *(("What does a dog eat?", f" {what}") for what in ("milk", "bones and", "bones")),
    )
    with language_model(SharingLM, either, words, 1) as lm:
        batches = lm.batches(requests, exact=False)
    assert "attention_mask" not in next(iter(batches)).inputs
    assert {1, 2} <= {index for index, _, _ in batches.trial.spans}


def test_rows_and_trees_of_the_same_requests_cover_the_same_answers() -> None:
    tokenised: list[Any] = [(None, [5, 6, 7], [8]), (None, [5, 6, 7], [9, 10]), (None, [5, 6], [7, 8])]
    limits = BatchLimits(2, 64, torch.device("cpu"))
    for batches in (
        as_lm_eval(tokenised, limits),
        *(as_trees(tokenised, limits, TreeLayout(8, torch.float32, one_row)) for one_row in (True, False)),
    ):
        spans = sorted(index for batch in batches for index, _, _ in batch.spans)
        assert spans == [0, 1, 2]
        once, again = ([batch.tokens.tolist() for batch in batches] for _ in range(2))
        assert once == again
