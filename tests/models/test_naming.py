"""The names by which models are shown: short ones made from paths, chosen ones, and no two alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.fake_records import record, similarity
from support.outcome import Outcome

from painters import experiment, figures, results
from painters.experiment import ExperimentError
from painters.figures import Data
from painters.models.naming import ModelNameError, assign_names, check_name, display_name, display_names
from painters.plan import Plan
from painters.report import report
from painters.sweep import Overrides, load_experiments

SNAPSHOT = "/cache/huggingface/hub/models--meta-llama--Llama-2-7b-hf/snapshots/01c7f73d771dfac7d292323805ebc4"
SHOWN = {
    "nano-llama": "nano-llama",
    "gpt2": "gpt2",
    "meta-llama/Llama-2-7b-hf": "meta-llama/Llama-2-7b-hf",
    "LlamaForCausalLM in memory": "LlamaForCausalLM in memory",
    "/data/me/pruned": "pruned",
    "/data/me/pruned/": "pruned",
    "./pruned": "pruned",
    "~/pruned": "pruned",
    "../../pruned": "pruned",
    "runs/me/pruned": "pruned",
    "C:\\runs\\me\\pruned": "pruned",
    "/data/Llama-2-7b": "Llama-2-7b",
    "/data/qwen2.5": "qwen2.5",
    "/data/model.Q4_K_M.gguf": "model.Q4_K_M",
    "/data/pruned/checkpoint-500": "pruned/checkpoint-500",
    "/data/pruned/checkpoint-500/": "pruned/checkpoint-500",
    "/data/pruned/final": "pruned/final",
    "/data/pruned/step_1000": "pruned/step_1000",
    "/data/pruned/epoch3": "pruned/epoch3",
    "/data/pruned/500": "pruned/500",
    "/data/pruned/checkpoints/checkpoint-500": "pruned/checkpoint-500",
    "/data/pruned/step_1000/hf": "pruned/step_1000/hf",
    "/checkpoint-3": "checkpoint-3",
    SNAPSHOT: "meta-llama/Llama-2-7b-hf",
    "/cache/models--gpt2/snapshots/607a30d783df": "gpt2",
    f"{SNAPSHOT}/checkpoint-500": "meta-llama/Llama-2-7b-hf/checkpoint-500",
    "/": "/",
    "..": "..",
    "": "",
}


@pytest.mark.parametrize("model", SHOWN)
def test_paths_get_short_names_and_other_names_stay(model: str) -> None:
    assert display_name(model) == SHOWN[model]


ALIKE = [
    (["/data/a/llama", "/data/b/llama"], ["a/llama", "b/llama"]),
    (["/x/a/llama", "/y/a/llama", "gpt2"], ["x/a/llama", "y/a/llama", "gpt2"]),
    (["/data/a/final", "/data/b/final"], ["a/final", "b/final"]),
    (["/x/a/final", "/y/a/final"], ["x/a/final", "y/a/final"]),
    (["/data/llama", "/data/llama/"], ["/data/llama", "/data/llama/"]),
    (["/h/models--a--b/snapshots/1111111aaa", "/h/models--a--b/snapshots/2222222bbb"], ["a/b@1111111", "a/b@2222222"]),
    (["a/b", "/h/models--a--b/snapshots/1111111aaa"], ["a/b", "a/b@1111111"]),
]


@pytest.mark.parametrize(("models", "names"), ALIKE)
def test_models_with_the_same_last_part_are_told_apart(models: list[str], names: list[str]) -> None:
    assert display_names(models) == dict(zip(models, names, strict=True))
    chosen = display_names(models, dict.fromkeys(models, "mine"))
    assert len(set(chosen.values())) == len(models)
    assert all(name.startswith("mine (") for name in chosen.values())


@pytest.mark.parametrize("name", ["", "  ", "two\nlines", "\x1b[31mred", "x" * 61])
def test_a_name_that_cannot_be_shown_is_refused(name: str) -> None:
    with pytest.raises(ModelNameError, match="give 1 to 60 printable characters on one line") as caught:
        check_name(name)
    assert caught.value.exit_code == 2


def test_names_are_given_to_the_only_model_or_to_one_of_several() -> None:
    folder = "/data/lr=1e-4/llama"
    assert assign_names(["mine"], [folder], ["bert"]) == {folder: "mine"}
    assert assign_names(["a=b"], [folder]) == {folder: "a=b"}
    assert assign_names([f"{folder}=mine", "bert=small"], [folder], ["bert"]) == {folder: "mine", "bert": "small"}
    assert assign_names(["b=mine"], ["/data/a", "/data/b"]) == {"/data/b": "mine"}
    assert assign_names(["mine"], [], ["bert"]) == {"bert": "mine"}
    with pytest.raises(ModelNameError, match=r"found 2 models \(a, b\); give MODEL=NAME with one of them"):
        assign_names(["mine"], ["/data/a", "/data/b"])
    with pytest.raises(ModelNameError, match="a already has the name 'x'"):
        assign_names(["a=x", "a=y"], ["/data/a", "/data/b"])


# --------------------------------------------------------------------------------------------- records and experiments


def test_a_name_changes_no_key_and_no_digest() -> None:
    one = record(Plan.identity(12), "fake_arc", 1.0)
    named = one.model_copy(update={"name": "mine"})
    assert results.key(named) == results.key(one)
    assert results.digest([named]) == results.digest([one])
    assert "name" not in one.model_dump_json().replace('"name_', "")
    measured = similarity("m", "flat")
    assert measured.model_copy(update={"name": "mine"}).key == measured.key


FILE = """
title: Two layers
{name}
models: {models}
tasks: [nano_lambada]
variants: [{{plan: 0-10}}]
encoder:
  {encoder}
  models: [/data/bert]
  tasks: [nano_rte]
  tuning: [frozen]
"""


def written(folder: Path, name: str = "", models: str = "[/data/llama]", encoder: str = "") -> Path:
    path = folder / "mine.yaml"
    path.write_text(FILE.format(name=name, models=models, encoder=encoder))
    return path


def test_an_experiment_names_its_models(tmp_path: Path) -> None:
    assert experiment.load(written(tmp_path)).names == {}
    named = experiment.load(written(tmp_path, "name: half a llama", encoder="name: small"))
    assert named.names == {"/data/llama": "half a llama", "/data/bert": "small"}
    assert named.name == "mine.yaml"
    several = experiment.load(written(tmp_path, models="[{name: /data/a, shown: one}, /data/b]"))
    assert several.names == {"/data/a": "one"}
    [changed] = load_experiments([str(written(tmp_path, "name: x"))], Overrides(names=["y", "bert=z"]))
    assert changed.names == {"/data/llama": "y", "/data/bert": "z"}
    [other] = load_experiments([str(written(tmp_path, "name: x"))], Overrides(model="gpt2"))
    assert other.names == {}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "name: x", "models": "[/data/a, /data/b]"}, "line 3: name: it names one model, and there are 2"),
        ({"name": "name: 3"}, "line 3: name: found 3: give 1 to 60 characters"),
        ({"encoder": "name: ''"}, "line 8: encoder.name: found '': give 1 to 60 characters"),
        ({"models": "[{name: a, shown: ''}]"}, "line 4: models.0.shown: "),
    ],
)
def test_mistakes_of_names_in_experiments(tmp_path: Path, fields: dict[str, str], message: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        experiment.load(written(tmp_path, **fields))
    assert message in str(caught.value)


# ------------------------------------------------------------------------------------------------------------- commands


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of records of a model in a folder."""
    plans = [Plan.identity(12), Plan.parse("0-3 9-11"), Plan.parse("0-4 8-11")]
    some = [record(plan, "fake_lambada", 0.9, model="/data/me/llama", variant="skip") for plan in plans]
    results.append(tmp_path / "records" / "scores.jsonl", some)
    return tmp_path / "records"


@pytest.mark.parametrize(("option", "shown"), [((), "llama"), (("--name", "mine"), "mine")])
def test_figures_and_reports_show_the_same_name(
    painters: Callable[..., Outcome], folder: Path, tmp_path: Path, option: tuple[str, ...], shown: str
) -> None:
    outcome = painters("plot", "13", "--from", str(folder), "--to", str(tmp_path / "to"), *option)
    assert outcome.code == 0, outcome.err
    texts = {path.suffix: path.read_text() for path in (tmp_path / "to").iterdir() if path.suffix != ".png"}
    assert f"Model: {shown} (weights" in texts[".md"]
    assert f"Model: {shown} (weights" in texts[".svg"]
    assert f"\n{shown},0-11," in texts[".csv"]
    outcome = painters("report", str(folder), "--out", str(tmp_path / "page.html"), *option)
    assert outcome.code == 0, outcome.err
    texts[".html"] = (tmp_path / "page.html").read_text()
    assert f"plans on {shown}." in texts[".html"]
    assert f'"model":"{shown}"' in texts[".html"]
    assert not any("/data/me" in text for text in texts.values())


@pytest.mark.parametrize("command", ["plot", "report"])
def test_a_name_for_no_model_is_refused(
    painters: Callable[..., Outcome], folder: Path, tmp_path: Path, command: str
) -> None:
    results.append(folder / "scores.jsonl", [record(Plan.identity(12), "fake_arc", 1.0, model="/data/b")])
    place = ("--from", str(folder), "--to", str(tmp_path / "to")) if command == "plot" else (str(folder),)
    outcome = painters(command, *place, "--name", "mine")
    assert outcome.code == 2
    assert "name 'mine': found 2 models (b, llama); give MODEL=NAME" in outcome.err
    assert "Traceback" not in outcome.err


def test_run_and_similarity_keep_the_name(painters: Callable[..., Outcome], tmp_path: Path) -> None:
    out = tmp_path / "runs" / "records.jsonl"
    ran = painters(
        *("run", "--plan", "0-10", "--tasks", "nano_lambada", "--limit", "2", "--name", " mine ", "--out", str(out))
    )
    assert ran.code == 0, ran.err
    assert ran.out.startswith("mine under 0-10")
    measured = painters("similarity", "--limit", "2", "--name", "mine", "--out", str(out.parent))
    assert measured.code == 0, measured.err
    assert measured.out.startswith("mine, intact")
    scores, similarities = figures.read([out.parent])
    assert {(one.model, one.name) for one in (*scores, *similarities)} == {("nano-llama", "mine")}
    assert Data.of(scores, similarities).names == {"nano-llama": "mine"}
    refused = painters("run", "--plan", "0-10", "--name", "", "--out", str(out))
    assert (refused.code, "give 1 to 60 printable characters" in refused.err) == (2, True)


def test_a_sweep_keeps_the_names_of_its_file(painters: Callable[..., Outcome], tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "{title: Two layers, name: half a llama, models: [nano-llama], tasks: [nano_lambada], protocol: {limit: 2}, "
        "variants: [{plan: 0-10}], similarity: {models: [nano-llama], inputs: nano_lambada, limit: 2}}"
    )
    done = painters("sweep", str(path), "--out", str(tmp_path / "out"), "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["done"] == 2
    scores, _ = figures.read([tmp_path / "out"])
    assert {one.name for one in scores} == {"half a llama"}
    with pytest.raises(ModelNameError, match="printable"):
        report(tmp_path / "out", tmp_path / "page.html", names="no\nname")
