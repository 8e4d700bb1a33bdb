"""The command line as a user meets it: tables, JSON, records, and one clear message for every mistake."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.outcome import Outcome

from painters import results

ROOT = Path(__file__).parents[2]

LLAMA = ROOT / "painters" / "nano" / "llama"


QUICK = ("--tasks", "nano_winogrande", "--limit", "8", "--batch-size", "8")


# ------------------------------------------------------------------------------------------------------------- mistakes


def test_ctrl_c_keeps_what_is_finished(painters: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    from painters import harness

    whole = harness.score_beside_intact

    def interrupted(*args: object, **kwargs: object):  # type: ignore[no-untyped-def]
        yield next(whole(*args, **kwargs))  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(harness, "score_beside_intact", interrupted)
    found = painters("run", "--plan", "0-10", *QUICK, "--out", "r.jsonl")
    assert found.code == 130
    assert "kept" in found.err
    assert "Traceback" not in found.err
    assert len(results.read("r.jsonl")) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_one_message(painters: Callable[..., Outcome]) -> None:
    found = painters("run", "--plan", "0-10", *QUICK, "--out", "/dev/full")
    assert found.code == 1
    assert "No space left" in found.err
    assert "Traceback" not in found.err


# -------------------------------------------------------------------------------------------------------------- scoring


def test_run_prints_a_table_and_keeps_the_records(painters: Callable[..., Outcome]) -> None:
    found = painters("run", "--variant", "parallel", "--loops", "3", *QUICK)
    assert found.code == 0, found.err
    for words in (
        "0-3 {4-8}*3 9-11",
        "nano_winogrande",
        "median",
        "layer runs 22 (intact 12)",
        "depth 10 (intact 12)",
    ):
        assert words in found.out
    kept = results.read("runs/records.jsonl")
    assert [record.plan for record in kept] == ["0-11", "0-3 {4-8}*3 9-11"]
    assert kept[1].variant == "parallel"
    assert kept[1].params == {"start": 3, "loops": 3}
    assert all(len(record.outcomes or ()) == 8 for record in kept)


def test_json_holds_the_numbers_of_the_table(painters: Callable[..., Outcome]) -> None:
    found = painters("run", "--plan", "0-4 6-11", *QUICK, "--json")
    assert found.code == 0, found.err
    assert found.err == ""
    told = json.loads(found.out)
    (row,) = told["rows"]
    intact, planned = results.read("runs/records.jsonl")
    assert (row["intact"], row["value"]) == (intact.value, planned.value)
    assert row["difference"] == pytest.approx(row["value"] - row["intact"])
    assert told["layer_runs"] == 11
    assert told["median_normalised"] == row["normalised"]


def test_the_identity_changes_nothing(painters: Callable[..., Outcome]) -> None:
    found = painters("run", "--plan", "0-11", *QUICK, "--json")
    (row,) = json.loads(found.out)["rows"]
    assert row["difference"] == 0
    assert row["difference_stderr"] == 0


def test_records_of_two_runs_are_in_one_file(painters: Callable[..., Outcome]) -> None:
    for plan in ("0-10", "1-11"):
        assert painters("run", "--plan", plan, *QUICK, "--out", "a/b.jsonl", "--quiet").code == 0
    assert [record.plan for record in results.read("a/b.jsonl")] == ["0-11", "0-10", "0-11", "1-11"]


def test_a_local_folder_is_a_model(painters: Callable[..., Outcome], tmp_path: Path) -> None:
    shutil.copytree(LLAMA, tmp_path / "copy")
    told = [
        json.loads(painters("run", "--plan", "0-10", *QUICK, "--json", "--dtype", "float32", "--model", model).out)
        for model in ("nano-llama", str(tmp_path / "copy"))
    ]
    assert told[0]["rows"] == told[1]["rows"]


# -------------------------------------------------------------------------------------------------------------- showing


def test_show_draws_the_plan_and_says_its_cost(painters: Callable[..., Outcome], tmp_path: Path) -> None:
    found = painters("show", "--variant", "parallel", "--start", "14", "--layers", "32", "--out", "{tmp}/plan.svg")
    assert found.code == 0, found.err
    assert found.out.startswith("0-14 {15-17} 18-31\n")
    assert "32 layer runs, depth 30" in found.out
    assert (tmp_path / "plan.svg").read_text().startswith("<?xml")


def test_show_takes_the_layers_from_a_model(painters: Callable[..., Outcome]) -> None:
    found = painters("show", "--variant", "skip-layer", "--layer", "5", "--json")
    assert json.loads(found.out) == {
        "plan": "0-4 6-11", "num_layers": 12, "layer_runs": 11, "depth": 11, "distinct_layers": 11, "file": None,
    }  # fmt: skip
    assert painters("show", "0-12", "--model", "nano-llama").code == 2


def test_variants_lists_every_variant_and_window(painters: Callable[..., Outcome]) -> None:
    from painters.variants import VARIANTS

    found = painters("variants", "--layers", "12")
    assert all(name in found.out for name in VARIANTS)
    assert "3 (default)" in found.out
    told = json.loads(painters("variants", "--layers", "12", "--json").out)
    assert [row["name"] for row in told] == list(VARIANTS)
    assert next(row for row in told if row["name"] == "skip")["starts"] == [0, 1, 2, 3, 4, 5]


def test_models_and_tasks_are_listed(painters: Callable[..., Outcome]) -> None:
    found = json.loads(painters("models", "--json").out)
    named = [(model["name"], model["layers"]) for model in found]
    assert named == [("nano-bert", 12), ("nano-llama", 12), ("smollm2", 30)]
    assert all(model["bytes"] <= 8_000_000 for model in found if model["state"] == "bundled")
    assert "nano-llama" in painters("models").out
    told = json.loads(painters("tasks", "--json").out)
    assert {task["name"] for task in told} == {
        f"nano_{n}" for n in ("arc", "hellaswag", "gsm8k", "winogrande", "lambada")
    }
    assert all(task["documents"] == 500 and task["about"] for task in told)
    assert "nano_gsm8k" in painters("tasks").out


def test_a_model_is_inspected(painters: Callable[..., Outcome]) -> None:
    told = json.loads(painters("models", "--inspect", "nano-llama", "--json").out)
    assert (told["class"], told["stack"], told["layers"]) == ("LlamaForCausalLM", "model.layers", 12)
    assert told["refused"] is None
    assert told["halves"] is True
    assert told["cache_indices"] == [[i] for i in range(12)]
    assert [found["path"] for found in told["lists"]] == ["model.layers"]
    shown = painters("models", "--inspect", "nano-llama").out
    assert "12 of LlamaDecoderLayer" in shown
    assert "0 to 11" in shown


def test_an_encoder_decoder_is_inspected(painters: Callable[..., Outcome], tmp_path: Path) -> None:
    from transformers import BartConfig

    size = {"d_model": 16, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "vocab_size": 50}
    BartConfig(encoder_layers=3, decoder_layers=2, **size).save_pretrained(tmp_path)
    told = json.loads(painters("models", "--inspect", str(tmp_path), "--json").out)
    assert told["stack"] is None
    assert "is an encoder-decoder" in told["refused"]
    assert {(found["stack"], found["layers"]) for found in told["lists"]} == {("encoder", 3), ("decoder", 2)}
    told = json.loads(painters("models", "--inspect", str(tmp_path), "--stack", "decoder", "--json").out)
    assert (told["stack"], told["layers"]) == ("decoder.layers", 2)
    assert "refused" in painters("models", "--inspect", str(tmp_path)).out


def test_what_cannot_be_inspected(painters: Callable[..., Outcome], tmp_path: Path) -> None:
    assert "--inspect" in painters("models", "--stack", "decoder").err
    (tmp_path / "config.json").write_text('{"model_type": "encoder-decoder"}')
    assert painters("models", "--inspect", str(tmp_path)).code


def test_version_and_help(painters: Callable[..., Outcome]) -> None:
    from painters import __version__

    assert painters("--version").out.strip() == f"painters {__version__}"
    for command in ((), ("run",), ("show",), ("variants",), ("models",), ("tasks",)):
        found = painters(*command, "--help")
        assert found.code == 0
        assert "Usage" in found.out


@pytest.mark.parametrize(
    "arguments",
    [("show", "0-14 {15-17}*3 18-31"), ("variants",), ("models",), ("tasks",), ("show", "--variant", "skip")],
    ids=" ".join,
)
def test_the_light_commands_load_no_torch(arguments: tuple[str, ...], tmp_path: Path) -> None:
    code = f"import sys; from painters import cli; sys.argv = ['painters', *{arguments!r}]\n"
    code += "try: cli.main()\nexcept SystemExit as end: print('LOADED', end.code, 'torch' in sys.modules)"
    root = str(ROOT)
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        env=os.environ | {"PYTHONPATH": root},
    )
    assert "LOADED 0 False" in found.stdout, found.stderr
