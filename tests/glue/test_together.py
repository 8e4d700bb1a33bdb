"""Encoders under plans that share their runs have the numbers of each plan alone, at the price of the plans' trie."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from support.glue_samples import NUM_LAYERS, encoder, tokenizer, write_task
from support.models import ENCODERS

from painters import Plan, glue, surgery, variants
from painters.experiment.tuning import PROTOCOLS, Tuning
from painters.glue import Prepared, Scorer, protocols, training
from painters.glue.protocols import ScoringJob
from painters.plan import PlanError, distinct
from painters.results import Record
from painters.sharing import Sharing
from painters.sharing.trie import Trie, groups

BATCH = 7  # divides neither split: last batches are short
TRAIN, VALIDATION = 40, 24
PLANS = distinct(
    [
        Plan.identity(NUM_LAYERS),
        *(variants.skip(num_layers=NUM_LAYERS, start=start) for start in variants.windows(NUM_LAYERS)),
        *(variants.parallel(num_layers=NUM_LAYERS, start=0, loops=loops) for loops in (1, 2, 3)),
        "0 {(1 2) 3}:sum 1",
        "3-0",
    ]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tasks")


@pytest.fixture(scope="module")
def cola(folder: Path) -> Prepared:
    return glue.prepare(write_task(folder, "cola", train=TRAIN, validation=VALIDATION), tokenizer())


@pytest.fixture(scope="module")
def stsb(folder: Path) -> Prepared:
    return glue.prepare(write_task(folder, "stsb", train=TRAIN, validation=VALIDATION), tokenizer())


def tuning(protocol: str, **fields: Any) -> Tuning:
    return Tuning.model_validate({"protocol": protocol, "rate": 3e-3, "epochs": 2, "batch_size": 9, **fields})


def fields(records: list[Record]) -> list[dict[str, Any]]:
    """Everything that the records hold but when and how fast they were made."""
    return [record.model_dump(exclude={"seconds", "date"}) for record in records]


def together(scorer: Scorer, task: Prepared, how: Tuning, plans: Any = PLANS, **options: Any) -> list[Record]:
    return list(scorer.score_together(plans, task, how, batch_size=BATCH, **options))


def one_by_one(scorer: Scorer, task: Prepared, how: Tuning, plans: Any = PLANS) -> list[Record]:
    return [record for plan in plans for record in scorer.score(plan, task, how, batch_size=BATCH)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ["cola", "stsb"])
def test_records_are_those_of_each_plan_alone(name: str, protocol: str, cola: Prepared, stsb: Prepared) -> None:
    task, how = {"cola": cola, "stsb": stsb}[name], tuning(protocol)
    plans = PLANS if protocol != "retuned" else PLANS[:2]
    scorer, state = Scorer(encoder(), tokenizer()), torch.get_rng_state()
    found = together(scorer, task, how, plans)
    assert torch.equal(torch.get_rng_state(), state)
    assert fields(found) == fields(one_by_one(Scorer(encoder(), tokenizer()), task, how, plans))
    assert len(found) == len(plans) * len(task.task.metrics)


@pytest.mark.parametrize("architecture", ENCODERS)
@pytest.mark.parametrize("protocol", ["frozen", "operated"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_answers_are_bitwise_those_of_each_plan_alone(
    architecture: str, protocol: str, dtype: torch.dtype, cola: Prepared
) -> None:
    """Logits distinguish more than metrics: no two plans have the same."""
    scorer = Scorer(encoder(architecture).to(dtype), tokenizer())
    job, tuner = ScoringJob(cola, tuning(protocol), 5, BATCH), scorer._fine_tuner
    found = {plan: logits for plan, logits, _ in tuner.together(PLANS, job, lambda _: None)}
    for plan in PLANS:
        assert torch.equal(found[plan], tuner.logits(plan, job, lambda _: None)), plan
    assert len({str(logits.tolist()) for logits in found.values()}) == len(PLANS)


@pytest.mark.parametrize("architecture", ENCODERS)
def test_states_are_bitwise_those_under_surgery(architecture: str, cola: Prepared) -> None:
    model = Scorer(encoder(architecture), tokenizer())._fine_tuner.classifier(cola.task, 3).eval()
    run = Sharing(model, PLANS).run
    found = training.keyed_states(run, model, cola.train, BATCH, lambda _: None)
    assert set(found) == set(PLANS)
    for plan, states in found.items():
        with surgery(model, plan):
            assert torch.equal(states, training.states_of(model, cola.train, BATCH, lambda _: None))


def counting(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by the index of every layer that runs outside of training."""
    calls: list[int] = []
    build = scorer._fine_tuner.classifier

    def classifier(*args: Any) -> Any:
        model = build(*args)
        for index, layer in enumerate(model.bert.encoder.layer):
            layer.register_forward_hook(lambda layer, *_, index=index: calls.extend([index] * (not layer.training)))
        return model

    monkeypatch.setattr(scorer._fine_tuner, "classifier", classifier)
    return calls


def batches(*counts: int) -> int:
    return sum(math.ceil(count / BATCH) for count in counts)


def test_layers_run_once_for_every_edge_and_batch(cola: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer, trie = Scorer(encoder(), tokenizer()), Trie.of(PLANS)
    assert trie.layer_runs < trie.layer_runs_alone / 1.5
    calls = counting(scorer, monkeypatch)
    together(scorer, cola, tuning("frozen"))
    assert len(calls) == trie.layer_runs * batches(TRAIN, VALIDATION)
    calls.clear()
    together(scorer, cola, tuning("operated"))
    assert len(calls) == trie.layer_runs * batches(VALIDATION)
    calls.clear()
    one_by_one(scorer, cola, tuning("operated"))
    assert len(calls) == trie.layer_runs_alone * batches(VALIDATION)


@pytest.mark.parametrize("most", [1, 3])
def test_states_of_many_plans_are_made_in_groups(most: int, cola: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    model, how = encoder(), tuning("frozen")
    expected = fields(together(Scorer(model, tokenizer()), cola, how))
    size = (TRAIN + VALIDATION) * model.config.hidden_size * 4
    monkeypatch.setattr(protocols, "STATES_BYTES", size * most + size // 2)
    grouped = list(groups(PLANS, most))
    assert [len(group) for group in grouped[:-1]] == [most] * (len(grouped) - 1)
    assert sorted(plan for group in grouped for plan in map(str, group)) == sorted(map(str, PLANS))
    scorer = Scorer(model, tokenizer())
    calls = counting(scorer, monkeypatch)
    found = together(scorer, cola, how)
    runs = sum(Trie.of(group).layer_runs for group in grouped)
    assert len(calls) == runs * batches(TRAIN, VALIDATION)
    assert [record.plan for record in found[::2]] == [str(plan) for group in grouped for plan in group]
    order = [str(plan) for plan in PLANS]
    assert sorted(fields(found), key=lambda record: order.index(record["plan"])) == expected
    monkeypatch.setattr(protocols, "STATES_BYTES", 1)  # one plan has no room: it is made nonetheless
    assert len(together(scorer, cola, how)) == len(expected)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_progress_counts_every_document_of_every_plan(protocol: str, cola: Prepared) -> None:
    calls: list[tuple[int, int, str]] = []
    scorer, plans = Scorer(encoder(), tokenizer()), PLANS[:3]
    together(scorer, cola, tuning(protocol), plans, progress=lambda *args: calls.append(args))
    each = {"retuned": 2 * TRAIN, "frozen": 3 * TRAIN, "operated": 0}[protocol]
    once = {"operated": 2 * TRAIN}.get(protocol, 0)
    total = once + 3 * (each + VALIDATION)
    assert calls[-1] == (total, total, "3 plans on cola")
    assert [done for done, _, _ in calls] == sorted({done for done, _, _ in calls})


def test_seconds_are_a_plans_part_and_its_own(cola: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that ticks once a batch of states or of answers, and a hundred times for a training."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def slow(name: str, seconds: float) -> None:
        function = getattr(protocols, name)

        def slower(*args: Any) -> Any:
            now[0] += seconds
            return function(*args)

        monkeypatch.setattr(protocols, name, slower)

    slow("keyed_states", 5.0)
    slow("keyed_logits", 10.0)
    slow("fine_tune", 100.0)
    slow("fine_tune_classifier", 100.0)
    plans = (Plan.identity(NUM_LAYERS), Plan.parse("0"))  # 4 layer runs and 1
    scorer = Scorer(encoder(), tokenizer())
    found = together(scorer, cola, tuning("frozen"), plans)
    assert [record.seconds for record in found[::2]] == pytest.approx([8 + 100, 2 + 100])
    found = together(scorer, cola, tuning("operated"), plans)
    assert [record.seconds for record in found[::2]] == pytest.approx([8 + 100, 2])
    found = together(scorer, cola, tuning("operated"), plans)
    assert [record.seconds for record in found[::2]] == pytest.approx([8, 2])


def test_records_come_while_others_are_trained_and_nothing_stays(cola: Prepared) -> None:
    model = encoder()
    scorer, state = Scorer(model, tokenizer()), torch.get_rng_state()
    before = {key: weight.clone() for key, weight in model.state_dict().items()}
    counts: list[int] = []
    records = scorer.score_together(PLANS, cola, tuning("frozen"), progress=lambda done, *_: counts.append(done))
    assert next(records).plan == str(PLANS[0])
    assert counts[-1] == len(PLANS) * (TRAIN + VALIDATION) + 2 * TRAIN  # all states, one classifier
    assert torch.equal(torch.get_rng_state(), state)
    records.close()
    assert not model.training
    assert all(torch.equal(weight, before[key]) for key, weight in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_of_the_models_that_were_fine_tuned_the_last_is_kept(cola: Prepared, stsb: Prepared) -> None:
    scorer = Scorer(encoder(), tokenizer())
    for task in (cola, stsb, cola):
        together(scorer, task, tuning("operated"), PLANS[:1])
        (kept,) = scorer._fine_tuner._baselines.values()
        assert kept.config.num_labels == task.task.labels


def test_evaluate_shares_and_lists_plan_by_plan(
    cola: Prepared, stsb: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    how, words = tuning("frozen"), tokenizer()
    expected = one_by_one(Scorer(encoder(), words), cola, how, PLANS[1:])
    options: dict[str, Any] = {"tokenizer": words, "tuning": how, "batch_size": BATCH}
    monkeypatch.setattr(Scorer, "score", None)
    table = glue.evaluate(encoder(), PLANS[1:], [cola, stsb], **options)
    assert table["plan"].tolist() == [str(plan) for plan in PLANS[1:] for _ in range(5)]
    assert table["task"].tolist() == (["cola"] * 2 + ["stsb"] * 3) * (len(PLANS) - 1)
    assert table[table["task"] == "cola"]["value"].tolist() == [record.value for record in expected]


def test_messages_are_those_of_score(cola: Prepared) -> None:
    scorer = Scorer(encoder(), tokenizer())

    def score(plans: Any = PLANS, **options: Any) -> None:
        how = options.pop("how", tuning("frozen"))
        next(scorer.score_together(plans, cola, how, **options))

    with pytest.raises(PlanError, match="no plan given: name one or more"):
        score([])
    with pytest.raises(PlanError, match="runs layer 9"):
        score(["0-3", "0 9"])
    with pytest.raises(ValueError, match="batch_size 0: give a number of documents"):
        score(batch_size=0)
    with pytest.raises(ValueError, match=r"prepared with documents=None, and the tuning says documents=5"):
        score(how=tuning("frozen", documents=5))
