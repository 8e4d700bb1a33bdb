"""What a sweep would cost, by hand, and the time that is left of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_store import cell, scored

from painters import sweep
from painters._sweep_estimate import BUNDLED, MODELS, STEP, TASKS, UTILISATION, Documents, forecast, layer_parameters
from painters._sweep_pace import Pace, Progress, Rates, passes, recorded
from painters.experiment import cells, load
from painters.plan import Plan
from painters.results import Store
from painters.tuning import Tuning

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
    assert found.layer_runs == 30 * 1172 + 30 * 100
    forward = 30 * 2 * 202e6 / (100e12 * UTILISATION)
    seconds = forward * (1172 * 160 + 100 * 1000) + 30 * 100 * 256 * STEP / 8
    assert found.hours == pytest.approx(seconds / 3600)
    assert found.by_basis == {"parameters": 2}
    bert = {"model": "google-bert/bert-large-uncased", "num_layers": 24, "plan": Plan.identity(24), "limit": None}
    rte = cell(task="rte", tuning=RETUNED, **bert)
    found = forecast([rte], [rte], Rates(), Documents(), tflops=100)
    assert found.layer_runs == 24 * 277
    seconds = 24 * (277 + 6 * 2490) * 2 * 12.6e6 * 70 / (100e12 * UTILISATION)
    assert found.hours == pytest.approx(seconds / 3600)


def test_records_of_the_store_go_before_parameters(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append(scored(seconds=12.0))  # 6 layer runs, 4 documents: half a second each, for both metrics together
    done, todo = cell(), cell(plan=Plan.parse("0-2"), limit=100)
    other = cell(task="something", limit=None)
    records = store.records()
    found = forecast([done, todo, other], store.missing([done, todo, other]), _rates(records), Documents(records), 1)
    assert (found.cells, found.found, found.missing, found.plans) == (3, 1, 2, 2)
    assert found.hours == pytest.approx(3 * 100 * 0.5 / 3600)
    assert found.by_basis == {"records": 1}
    assert found.unknown == ("documents of something (1 cell)",)
    assert found.layer_runs == 300


def test_the_bundled_models_have_been_measured(tmp_path: Path) -> None:
    found = sweep.plan(load("fig11"), Store(tmp_path))
    assert (found.by_basis, found.unknown) == ({"bundled": found.cells}, ())
    arc = cell(model="nano-llama", task="nano_arc", limit=100)
    found = forecast([arc], [arc], Rates(), Documents(), tflops=1)
    assert found.hours == pytest.approx(6 * 100 * BUNDLED["nano-llama", "nano_arc"] / 3600)


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
    assert decoders.layer_runs == runs_of_plans * (sum(documents.values()) + 5153)
    assert 1 < decoders.hours < found.hours < 1000
    twice = sweep.plan(load("paper/fig8").without_encoders(), Store(tmp_path), tflops=sweep.TFLOPS * 2)
    assert twice.hours < sweep.plan(load("paper/fig8").without_encoders(), Store(tmp_path)).hours
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
    told: list[Progress] = []
    long, short = cell(), cell(plan=Plan.parse("0-2"))
    slow = cell(task="nano_gsm8k")
    documents = Documents()
    pace = Pace(Rates(), documents.work, told.append)
    pace.expect([long, short, slow])
    pace.start(long)
    assert told[-1].left is None
    pace.finish(long, 6.0)  # 6 layer runs, 4 documents: a quarter of a second each
    assert told[-1] == Progress(1, 3, str(long), 0.0, 0.0, pytest.approx(3.0 + 6.0))
    pace.start(slow)
    now[0] = 1.0
    pace.within(1, 4)
    assert told[-1].left == pytest.approx(3.0 + 4.5)
    pace.finish(slow, 60.0)
    assert told[-1].left == pytest.approx(3.0)
    pace.finish(short, None)
    assert (told[-1].done, told[-1].total, told[-1].left) == (3, 3, 0.0)


def test_the_pace_of_before_counts_until_there_is_one_of_now() -> None:
    before = Rates()
    before.learn(("tiny", "nano_arc", None), 24.0, 24.0)
    told: list[Progress] = []
    pace = Pace(before, Documents().work, told.append)
    pace.expect([cell(), cell(plan=Plan.parse("0-2"))])
    pace.start(cell())
    assert told[-1].left == pytest.approx(24 + 12)
    pace.finish(cell(), 12.0)
    assert told[-1].left == pytest.approx(6)
