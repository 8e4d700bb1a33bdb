"""What a sweep would cost, by hand, and the time that is left of one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.records import cell, scored

from painters import sweep
from painters.experiment import cells, load
from painters.experiment.tuning import Tuning
from painters.plan import Plan
from painters.results import Store
from painters.sharing.trie import Trie, groups
from painters.sweep.estimate import Cost, forecast
from painters.sweep.eta import EtaEstimator, Progress, Rates, passes, recorded
from painters.sweep.facts import BUNDLED, MODELS, STEP, TASKS, UTILISATION, Documents, layer_parameters

RETUNED, FROZEN = Tuning(protocol="retuned", epochs=2), Tuning(protocol="frozen", documents=50)


def test_training_costs_passes() -> None:
    assert passes(10, 100, None) == 10
    assert passes(10, 100, RETUNED) == 10 + 3 * 2 * 100
    assert passes(10, 100, FROZEN) == 10 + 50
    assert passes(10, 100, Tuning(protocol="operated")) == 10
    assert passes(10, None, RETUNED) == 10


def test_the_estimate_by_hand() -> None:
    seven = {"model": "meta-llama/Llama-2-7b-hf", "num_layers": 32, "plan": Plan.parse("0-9 12-31"), "limit": None}
    arc = cell(task="arc_challenge", **seven)
    gsm8k = cell(task="gsm8k", **{**seven, "limit": 100})
    found = forecast([arc, gsm8k], [arc, gsm8k], Rates(), Documents(), tflops=100)
    assert (found.cells, found.found, found.missing, found.plans) == (2, 0, 2, 1)
    assert found.total.layer_runs == found.total.layer_runs_alone == 30 * 1172 + 30 * 100
    forward = 30 * 2 * 202e6 / (100e12 * UTILISATION)
    seconds = forward * (1172 * 160 + 100 * 1000) + 30 * 100 * 256 * STEP / 8
    assert found.total.hours == found.total.hours_alone == pytest.approx(seconds / 3600)
    assert found.by_basis == {"parameters": 2}
    bert = {"model": "google-bert/bert-large-uncased", "num_layers": 24, "plan": Plan.identity(24), "limit": None}
    rte = cell(task="rte", tuning=RETUNED, **bert)
    found = forecast([rte], [rte], Rates(), Documents(), tflops=100)
    assert found.total.layer_runs == 24 * 277
    seconds = 24 * (277 + 6 * 2490) * 2 * 12.6e6 * 70 / (100e12 * UTILISATION)
    assert found.total.hours == pytest.approx(seconds / 3600)


def test_records_of_the_store_go_before_parameters(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append(scored(seconds=12.0))  # 6 layer runs, 4 documents: half a second each, for both metrics together
    done, todo = cell(), cell(plan=Plan.parse("0-2"), limit=100)
    other = cell(task="something", limit=None)
    records = store.records()
    found = forecast([done, todo, other], store.missing([done, todo, other]), _rates(records), Documents(records), 1)
    assert (found.cells, found.found, found.missing, found.plans) == (3, 1, 2, 2)
    assert found.total.hours == pytest.approx(3 * 100 * 0.5 / 3600)
    assert found.by_basis == {"records": 1}
    assert found.unknown == ("documents of something (1 cell)",)
    assert found.total.layer_runs == 300


# By hand: 4, 3, 3, 5 and 4 layer runs. Together: 0, 1, 2, 3, then 2 beside 1, then both again, and 3 after 0.
FIVE = tuple(Plan.parse(text) for text in ("0-3", "0-2", "0 {1-2}", "0 {1-2}*2", "0 3 1-2"))
ALONE, SHARED = 4 + 3 + 3 + 5 + 4, 4 + 1 + 2 + 3
LLAMA = {"model": "meta-llama/Llama-2-7b-hf", "num_layers": 32, "limit": 10}
BERT = {"model": "google-bert/bert-large-uncased", "num_layers": 24, "limit": 10}


def cost(*kinds: dict[str, Any], plans: Sequence[Plan] = FIVE) -> Cost:
    """The cost of these kinds of cells, each under all the plans."""
    asked = [cell(**kind, plan=plan) for plan in plans for kind in kinds]
    return forecast(asked, asked, Rates(), Documents(), tflops=100).total


@pytest.mark.parametrize(
    ("kind", "shares"),
    [
        ({**LLAMA, "task": "arc_challenge"}, True),
        ({**LLAMA, "task": "lambada_openai"}, True),
        ({**LLAMA, "task": "gsm8k"}, False),
        ({**LLAMA, "task": "nano_arc"}, True),
        ({**LLAMA, "task": "nano_gsm8k"}, False),
        ({**LLAMA, "task": "unheard_of"}, False),
        ({**BERT, "task": "rte", "tuning": RETUNED}, False),
        ({**BERT, "task": "rte", "tuning": FROZEN}, True),
        ({**BERT, "task": "rte", "tuning": Tuning(protocol="operated")}, True),
    ],
)
def test_plans_share_their_runs_where_they_can(kind: dict[str, Any], shares: bool) -> None:
    found = cost(kind)
    assert found.layer_runs_alone == ALONE * 10
    assert found.layer_runs == (SHARED if shares else ALONE) * 10
    assert found.hours == pytest.approx(found.hours_alone * (SHARED / ALONE if shares else 1))
    if kind["task"] in TASKS:
        assert found.hours > 0


def test_hours_of_what_is_shared_and_what_is_not_by_hand() -> None:
    kinds = {**LLAMA, "task": "winogrande"}, {**LLAMA, "task": "gsm8k"}, {**BERT, "task": "rte", "tuning": FROZEN}
    found = cost(*kinds)
    assert found.cells == 15
    assert found.layer_runs_alone == ALONE * 30
    assert found.layer_runs == (SHARED + ALONE + SHARED) * 10
    a_token = 2 / (100e12 * UTILISATION)
    winogrande = a_token * 202e6 * 60 * 10
    gsm8k = a_token * 202e6 * 1000 * 10 + 10 * 256 * STEP / 8
    rte = a_token * 12.6e6 * 70 * (10 + 50)
    assert found.hours * 3600 == pytest.approx(SHARED * winogrande + ALONE * gsm8k + SHARED * rte)
    assert found.hours_alone * 3600 == pytest.approx(ALONE * (winogrande + gsm8k + rte))
    asked = [cell(**kind, plan=plan) for plan in FIVE for kind in kinds]
    by_kind = dict(forecast(asked, asked, Rates(), Documents(), tflops=100).kinds)
    expected = zip(("log-likelihoods", "generation", "frozen"), map(cost, kinds), strict=True)
    assert by_kind == dict(expected)


@pytest.mark.parametrize(
    "other",
    [
        {"task": "winogrande"}, {"limit": 9}, {"shots": 1}, {"seed": 1}, {"batch_size": 9}, {"dtype": "float16"},
        {"revision": "main"}, {"kv": "averaged"}, {"model": "mistralai/Mistral-7B-v0.1"},
    ],
)  # fmt: skip
def test_only_plans_on_the_same_requests_share(other: dict[str, Any]) -> None:
    kind = {**LLAMA, "task": "arc_challenge"}
    one, two = FIVE[:2]  # the second is the beginning of the first
    asked = [cell(**kind, plan=one), cell(**{**kind, **other}, plan=two)]
    found = forecast(asked, asked, Rates(), Documents(), tflops=100).total
    assert found.layer_runs == found.layer_runs_alone == 4 * 10 + 3 * other.get("limit", 10)
    assert cost(kind, plans=(one, two)).layer_runs == 4 * 10


def test_a_task_of_ones_own_shares_by_its_yaml(tmp_path: Path) -> None:
    text = "task: mine\ndataset_kwargs: {data_files: {test: test.jsonl}}\n"
    for kind, runs in (("multiple_choice", SHARED), ("generate_until", ALONE), (None, ALONE)):
        path = tmp_path / str(kind) / "mine.yaml"
        path.parent.mkdir()
        path.write_text(text + (f"output_type: {kind}\n" if kind else ""))
        assert cost({**LLAMA, "task": "mine", "source": str(path)}).layer_runs == runs * 10
    assert cost({**LLAMA, "task": "mine", "source": str(tmp_path / "none.yaml")}).layer_runs == ALONE * 10


@pytest.mark.parametrize(("dtype", "room"), [("auto", 2), ("bfloat16", 4)])
def test_states_that_do_not_fit_are_shared_in_groups(dtype: str, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    states = 10 + 50  # scored, and learned from
    monkeypatch.setattr("painters.sweep.estimate.STATES_BYTES", 2 * states * 1024 * 4 + 1)
    kind = {**BERT, "task": "rte", "dtype": dtype}
    expected = sum(Trie.of(some).layer_runs for some in groups(FIVE, room))
    assert SHARED < expected < ALONE
    assert cost({**kind, "tuning": FROZEN}).layer_runs == expected * 10
    assert cost({**kind, "tuning": Tuning(protocol="operated")}).layer_runs == SHARED * 10


def test_seconds_of_records_hold_what_sharing_saved(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append(scored(seconds=12.0))
    records = store.records()
    asked = [cell(plan=plan, limit=100) for plan in FIVE]
    found = forecast(asked, asked, _rates(records), Documents(records), 1)
    assert found.by_basis == {"records": 5}
    assert (found.total.layer_runs, found.total.layer_runs_alone) == (SHARED * 100, ALONE * 100)
    assert found.total.hours == found.total.hours_alone == pytest.approx(ALONE * 100 * 0.5 / 3600)


def test_each_experiment_by_itself_and_what_they_have_in_common_once(tmp_path: Path) -> None:
    """The intact model, 0 {1-4} and 0-1 {2-3} 4; and with each group twice."""
    for name, loops in (("once", 1), ("twice", 2)):
        (tmp_path / f"{name}.yaml").write_text(
            "title: t\nmodels: [{name: tiny, num_layers: 5}]\ntasks: nano_arc\nprotocol: {limit: 10}\n"
            f"variants: [{{name: parallel, start: [0, 1], loops: {loops}}}]\n"
        )
    asked = [load(str(tmp_path / f"{name}.yaml")) for name in ("once", "twice")]
    found = sweep.plan(asked, Store(tmp_path / "store"))
    assert [name for name, _ in found.experiments] == ["once.yaml", "twice.yaml"]
    once, twice = (part for _, part in found.experiments)
    assert (once.cells, once.layer_runs_alone) == (3, (5 + 5 + 5) * 10)
    # 0 to 4; then 2, 3 and 4 beside 1; then 3 beside 2, and 4 after both
    assert once.layer_runs == (5 + 3 + 1 + 1) * 10
    assert (twice.cells, twice.layer_runs_alone) == (3, (5 + 9 + 7) * 10)
    assert twice.layer_runs == (5 + 3 + 4 + 1 + 2 + 1) * 10
    assert (found.total.cells, found.missing) == (5, 5)
    assert found.total.layer_runs_alone == (5 + 5 + 5 + 9 + 7) * 10
    assert found.total.layer_runs == (5 + 3 + 4 + 1 + 1 + 2 + 1) * 10
    assert sweep.plan(asked[:1], Store(tmp_path / "store")).experiments == ()
    Store(tmp_path / "store").append(scored(plan="0-4", num_layers=5, layer_runs=5, asked={"limit": 10}))
    found = sweep.plan(asked, Store(tmp_path / "store"))
    assert (found.found, found.missing, [part.cells for _, part in found.experiments]) == (1, 4, [2, 2])


def test_the_bundled_models_have_been_measured(tmp_path: Path) -> None:
    found = sweep.plan(load("fig11"), Store(tmp_path))
    assert (found.by_basis, found.unknown) == ({"bundled": found.cells}, ())
    arc = cell(model="nano-llama", task="nano_arc", limit=100)
    found = forecast([arc], [arc], Rates(), Documents(), tflops=1)
    assert found.total.hours == pytest.approx(6 * 100 * BUNDLED["nano-llama", "nano_arc"] / 3600)


def _rates(records: Any) -> Rates:
    return recorded(records, Documents().training)


def test_the_papers_sweep_is_planned_without_weights_or_network(tmp_path: Path) -> None:
    found = sweep.plan(load("paper/fig4"), Store(tmp_path))
    assert found.cells == (16 + 1) * 5 + (12 + 1) * 7 * 2
    assert (found.found, found.missing, found.unknown) == (0, found.cells, ())
    assert found.plans == 17 + 13
    runs_of_plans = sum(plan.layer_runs for plan in {p.plan for p in load("paper/fig4").grid(32)}) + 32
    documents = {name: TASKS[name].documents for name in ("arc_challenge", "hellaswag", "winogrande", "gsm8k")}
    assert documents == {"arc_challenge": 1172, "hellaswag": 10042, "winogrande": 1267, "gsm8k": 1319}  # PAPER's
    decoders = sweep.plan(load("paper/fig4").without_encoders(), Store(tmp_path))
    assert decoders.total.layer_runs_alone == runs_of_plans * (sum(documents.values()) + 5153)
    assert 1 < decoders.total.hours < found.total.hours < 1000
    twice = sweep.plan(load("paper/fig8").without_encoders(), Store(tmp_path), tflops=sweep.TFLOPS * 2)
    assert twice.total.hours < sweep.plan(load("paper/fig8").without_encoders(), Store(tmp_path)).total.hours
    assert not (tmp_path / "paper").exists()


@pytest.mark.parametrize("name", ["paper/fig11", "paper/fig2", "paper/fig12"])
def test_every_model_and_task_of_the_paper_is_known(name: str, tmp_path: Path) -> None:
    found = sweep.plan(load(name), Store(tmp_path))
    assert found.unknown == ()
    for one in cells(load(name), lambda model: MODELS[model.name].num_layers):
        assert MODELS[one.model].num_layers == one.num_layers


def test_parameters_of_a_folder(tmp_path: Path) -> None:
    config = {"hidden_size": 8, "intermediate_size": 32, "num_attention_heads": 4, "hidden_act": "gelu"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert layer_parameters(str(tmp_path)) == 4 * 64 + 2 * 8 * 32
    gated = {**config, "hidden_act": "silu", "num_key_value_heads": 2}
    (tmp_path / "config.json").write_text(json.dumps(gated))
    assert layer_parameters(str(tmp_path)) == 3 * 64 + 3 * 8 * 32
    assert layer_parameters("nobody/nothing") is None
    assert layer_parameters("google-bert/bert-large-uncased") == pytest.approx(4 * 1024**2 + 2 * 1024 * 4096, rel=0.01)


def test_the_time_that_is_left_goes_by_layer_runs_of_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    reports: list[Progress] = []
    long, short = cell(), cell(plan=Plan.parse("0-2"))
    slow = cell(task="nano_gsm8k")
    documents = Documents()
    eta = EtaEstimator(Rates(), documents.work, reports.append)
    eta.expect([long, short, slow])
    eta.start(long)
    assert reports[-1].left is None
    eta.finish(long, 6.0)  # 6 layer runs, 4 documents: a quarter of a second each
    assert reports[-1] == Progress(1, 3, str(long), 0.0, 0.0, pytest.approx(3.0 + 6.0), cells=0)
    eta.start(slow)
    now[0] = 1.0
    eta.within(1, 4)
    assert reports[-1].left == pytest.approx(3.0 + 4.5)
    eta.finish(slow, 60.0)
    assert reports[-1].left == pytest.approx(3.0)
    eta.finish(short, None)
    assert (reports[-1].done, reports[-1].total, reports[-1].left) == (3, 3, 0.0)


def test_workers_share_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("painters.sweep.eta.EVERY", -1.0)
    before = Rates()
    before.learn(("tiny", "nano_arc", None), 24.0, 24.0)
    reports: list[Progress] = []
    eta = EtaEstimator(before, Documents().work, reports.append)
    eta.workers = 2
    one, other, third = cell(), cell(plan=Plan.parse("0-2")), cell(plan=Plan.parse("3-5"))
    eta.expect([one, other, third])
    eta.start(one)
    eta.start(other)
    assert reports[-1].left == pytest.approx((24 + 12 + 12) / 2)
    eta.within(1, 2, cells=[one])
    assert (reports[-1].share, reports[-1].left) == (0.25, pytest.approx((12 + 12 + 12) / 2))
    eta.finish(one, 24.0)
    eta.within(1, 2, cells=[other])
    assert reports[-1].left == pytest.approx((6 + 12) / 2)
    eta.stop(other)
    eta.start(third)
    assert reports[-1].left == pytest.approx((12 + 12) / 2)
    eta.finish(third, 12.0)
    assert reports[-1].left == pytest.approx(12), "the last cell keeps one worker busy"


def test_the_pace_of_before_counts_until_there_is_one_of_now() -> None:
    before = Rates()
    before.learn(("tiny", "nano_arc", None), 24.0, 24.0)
    reports: list[Progress] = []
    eta = EtaEstimator(before, Documents().work, reports.append)
    eta.expect([cell(), cell(plan=Plan.parse("0-2"))])
    eta.start(cell())
    assert reports[-1].left == pytest.approx(24 + 12)
    eta.finish(cell(), 12.0)
    assert reports[-1].left == pytest.approx(6)
