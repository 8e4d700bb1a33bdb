"""`painters reproduce`: what is missing is scored, what is there is drawn without torch, other models by name."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.outcome import Outcome
from support.real_shapes import save_bert, save_llama, write_data

from painters import figures, reproduction
from painters.results import Store

ROOT = Path(__file__).parents[2]
Painters = Callable[..., Outcome]
WITHOUT_TORCH = """
import sys
for name in ("torch", "transformers", "lm_eval", "datasets", "accelerate"):
    sys.modules[name] = None
from painters.cli import main
main()
"""


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_missing_is_scored_and_then_redrawn_without_torch(painters: Painters, tmp_path: Path) -> None:
    made = painters("reproduce", "1", "2", "14", "--limit", "3", "--out", "{tmp}/there", "--json")
    assert made.code == 0
    result = json.loads(made.out)
    assert result["sweep"]["done"] == 24  # on one task: the intact model, 12 layers skipped, 11 swaps
    assert result["similarities_measured"] == 4
    assert {figure["figure"]: figure["drawn"] for figure in result["figures"]} == {1: True, 2: True, 14: True}
    drawn = files(tmp_path / "there" / "figures")
    assert sorted(drawn) == sorted(f"fig{n:02d}.{kind}" for n in (1, 2, 14) for kind in ("svg", "png", "csv", "md"))

    again = [sys.executable, "-c", WITHOUT_TORCH, "reproduce", "1", "2", "14", "--limit", "3", "--out", "there"]
    done = subprocess.run(again, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "torch" not in done.stderr
    assert files(tmp_path / "there" / "figures") == drawn


def test_the_papers_tasks_for_other_models_with_documents_of_ones_own(painters: Painters, tmp_path: Path) -> None:
    save_llama(tmp_path / "llama", 4)
    save_bert(tmp_path / "bert", 4)
    write_data(tmp_path / "data")
    made = painters(
        "reproduce", "3", "4", "--model", "{tmp}/llama", "--encoder", "{tmp}/bert", "--data", "{tmp}/data",
        "--limit", "2", "--dtype", "float32", "--out", "{tmp}/out", "--json",
    )  # fmt: skip
    assert made.code == 0, made.err
    records = Store(tmp_path / "out").records()
    decoded = {(record.task, record.shots) for record in records if record.tuning is None}
    assert decoded == {
        ("arc_challenge", 0), ("hellaswag", 0), ("gsm8k", 5), ("winogrande", 0), ("lambada_openai", 0),
    }  # fmt: skip
    encoded = {(record.task, record.tuning.protocol) for record in records if record.tuning}
    seven = ("cola", "mrpc", "qnli", "rte", "sst2", "stsb", "wnli")
    assert encoded == {(task, protocol) for task in seven for protocol in ("retuned", "frozen")}
    assert {record.tuning.rate for record in records if record.tuning} == {2e-5, 3e-2}  # the paper's
    assert all(figure["drawn"] for figure in json.loads(made.out)["figures"])
    caption = (tmp_path / "out" / "figures" / "fig04.md").read_text()
    assert "arc_challenge" in caption
    assert "stsb" in caption


def test_the_plan_of_the_papers_own_run_needs_no_weights(painters: Painters) -> None:
    asked = ("--model", "meta-llama/Llama-2-7b-hf", "--encoder", "google-bert/bert-large-uncased")
    result = json.loads(painters("reproduce", "all", *asked, "--plan-only", "--json").out)
    assert result["missing"] == result["cells"] > 5000
    assert 100 < result["hours"] < result["hours_alone"]
    assert 3 * result["layer_runs"] < result["layer_runs_alone"]
    assert result["similarities"] == 5
    assert not result["no_estimate"]
    by_name = {one["experiment"]: one for one in result["experiments"]}
    assert set(by_name) >= {f"paper/fig{number}" for number in (2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13)}
    assert by_name["paper/fig13"]["cells"] < sum(one["cells"] for one in by_name.values())
    generates = by_name["paper/fig12"]  # nothing of it is shared
    assert (generates["layer_runs"], generates["hours"]) == (generates["layer_runs_alone"], generates["hours_alone"])


def test_the_cost_of_the_paper_fits_a_terminal(painters: Painters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = json.loads(painters("reproduce", "all", "--paper", "--plan-only", "--json").out)
    shown = painters("reproduce", "all", "--paper", "--plan-only").out
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    costs = {one["experiment"]: one for one in result["experiments"] if one["cells"]}
    costs |= {one["kind"]: one for one in result["kinds"]} | {"all": {**result, "cells": result["missing"]}}
    rows = {words[0]: words[1:] for words in map(str.split, lines) if words and words[0] in costs}
    assert set(rows) == set(costs) > {"all", "log-likelihoods", "generation", "retuned", "frozen"}
    for name, row in rows.items():
        assert row[:3] == [f"{costs[name][count]:,}" for count in ("cells", "layer_runs_alone", "layer_runs")]
    times = result["layer_runs_alone"] / result["layer_runs"]
    assert rows["all"][3:] == [f"{times:.2f}", f"{result['hours_alone']:,.0f}", f"{result['hours']:,.0f}"]
    assert f"hours about {result['hours']:,.0f} shared, {result['hours_alone']:,.0f} alone" in " ".join(shown.split())
    assert "also where requests of one document begin alike" in " ".join(shown.split())


def test_a_cell_that_fails_does_not_keep_figures_from_being_drawn(painters: Painters, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()  # a folder without a model
    made = painters("reproduce", "1", "3", "--encoder", "{tmp}/none", "--out", "{tmp}/out", "--quiet")
    assert made.code == 1
    assert "none" in made.out
    assert (tmp_path / "out" / "figures" / "fig01.svg").exists()


@pytest.mark.parametrize(
    "command", ["plot {} --from results --json", "reproduce {} --plan-only", "sweep {} --plan-only"]
)
def test_a_figure_is_its_number_or_the_name_of_its_experiment(painters: Painters, command: str, tmp_path: Path) -> None:
    """Every command that takes figures understands both."""
    (tmp_path / "results").symlink_to(ROOT / "results")
    by_number, by_name = (painters(*command.format(figure).split()) for figure in ("4", "fig4"))
    assert by_number.code == 0, by_number.err
    assert by_name == by_number


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["15"], "there is no figure"),
        (["two"], "two"),
        (["2", "--encoder", "nano-bert"], "no encoder is scored for fig2"),
        (["2", "--tflops", "3"], "--plan-only"),
        (["2", "--data", "{tmp}/nowhere"], "no such folder"),
    ],
)
def test_mistakes_get_one_message(painters: Painters, arguments: list[str], message: str) -> None:
    outcome = painters("reproduce", *arguments)
    assert outcome.code == 2
    assert message in " ".join(outcome.err.split())
    assert "Traceback" not in outcome.err


def test_there_is_an_experiment_for_every_figure_that_needs_records() -> None:
    from painters.experiment import shipped

    assert {f"fig{number}" for number in figures.FIGURES if number > 1} <= set(shipped())


@pytest.mark.parametrize(
    ("named", "folder"),
    [
        ({"model": ".."}, "runs/outer-quick"),
        ({"model": "."}, "runs/inner-quick"),
        ({"model": "../"}, "runs/outer-quick"),
        ({"model": "meta-llama/Llama-2-7b-hf"}, "runs/Llama-2-7b-hf-quick"),
        ({"model": "../other", "encoder": "."}, "runs/other-inner-quick"),
        ({}, "runs/quick"),
    ],
)
def test_records_go_to_a_folder_with_the_name_of_the_model(
    named: dict[str, str], folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "outer" / "inner")
    assert reproduction.default_folder(**named, quick=True) == Path(folder)
