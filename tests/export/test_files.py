"""Where an export is written, what lies beside its weights, and what is said when it cannot be."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import subprocess
from collections import namedtuple
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from support.export_cases import NAMES, N
from support.export_cases import SEQUENCES as PLANS
from support.models import make_model, shared_model
from support.outcome import Outcome
from transformers import PreTrainedModel

import painters
from painters.export import ExportError, readable
from painters.export import build as export_build
from painters.export import files as export_files
from painters.export.card import MERGEKIT, recipe
from painters.models import bundled

PLAN = "0-2 4 3 5"


def model() -> PreTrainedModel:
    return shared_model("llama", N)


def no_code(folder: Path) -> Path:
    """A checkpoint that lies there before."""
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "mine.txt").write_text("mine")
    return folder


# -------------------------------------------------------------------------------------------------------- the folder


def test_a_folder_of_somebody_is_not_touched(tmp_path: Path) -> None:
    there = no_code(tmp_path / "out")
    with pytest.raises(ExportError, match=r"holds 2 entries \(config.json, mine.txt\).*--force"):
        painters.export(model(), PLAN, there)
    (there / "config.json").unlink()
    with pytest.raises(ExportError, match=r"no config\.json, so it is no checkpoint"):
        painters.export(model(), PLAN, there, force=True)
    assert [path.name for path in there.iterdir()] == ["mine.txt"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="there is a file of this name"):
        painters.export(model(), PLAN, tmp_path / "file", force=True)


def test_an_empty_folder_and_new_parents_will_do(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for to in (tmp_path / "out", tmp_path / "new" / "deep"):
        painters.export(model(), PLAN, to)
        assert (to / "config.json").exists()
        assert os.access(to, os.X_OK)
        assert [path.name for path in to.parent.iterdir() if path.name.startswith(".")] == []


def test_force_replaces_a_checkpoint_whole(tmp_path: Path) -> None:
    there = no_code(tmp_path / "out")
    painters.export(model(), PLAN, there, force=True)
    assert not (there / "mine.txt").exists()
    assert json.loads((there / "config.json").read_text())["num_hidden_layers"] == N
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_source_is_not_replaced(tmp_path: Path) -> None:
    model().save_pretrained(tmp_path / "in" / "model")
    source = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "in" / "model")
    (tmp_path / "in" / "config.json").write_text("{}")
    for to in (tmp_path / "in" / "model", tmp_path / "in"):
        with pytest.raises(ExportError, match="itself lies there"):
            painters.export(source, PLAN, to, force=True)


# What may happen on the way, and what is said of it; None where it is the exception itself.
FAILURES: dict[str, tuple[BaseException, str | None]] = {
    "Ctrl-C": (KeyboardInterrupt(), None),
    "a full disk": (OSError(errno.ENOSPC, "No space left on device"), "the disk became full"),
    "a full disk under safetensors": (
        SafetensorError("I/O error: No space left on device (os error 28)"),
        "became full",
    ),
    "another error of the disk": (OSError(errno.EIO, "Input/output error"), None),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("place", ["write", "verify"])
def test_nothing_half_written_is_left(
    failure: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error, words = FAILURES[failure]
    written: list[str] = []

    def write(self: Any, folder: Path, max_shard_size: Any) -> None:
        (folder / "config.json").write_text("{}")
        written.append(folder.name)
        if place == "write":
            raise error

    def verify(*args: Any) -> None:
        raise error

    monkeypatch.setattr(export_build.Checkpoint, "write", write)
    monkeypatch.setattr(export_build, "verify", verify)
    there = no_code(tmp_path / "out")
    with pytest.raises(type(error) if words is None else ExportError, match=words):
        painters.export(model(), PLAN, there, force=True)
    assert written[0].startswith(".out-unfinished-")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (there / "mine.txt").read_text() == "mine"


def test_the_old_folder_stays_if_the_new_one_cannot_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, rename = no_code(tmp_path / "out"), Path.rename

    def stubborn(self: Path, target: Path) -> Path:
        if target == there and not self.name.endswith("-replaced"):
            raise PermissionError(errno.EACCES, "not now")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stubborn)
    with pytest.raises(PermissionError):
        painters.export(model(), PLAN, there, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (there / "mine.txt").read_text() == "mine"


def test_a_disk_without_room_is_seen_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(export_files.shutil, "disk_usage", lambda path: usage(9, 0, 2_000_000))
    with pytest.raises(ExportError, match=r"the weights take .* kB, and 2\.0 MB are free"):
        painters.export(model(), PLAN, tmp_path / "new" / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (7_800_000, "7.8 MB"), (3 * 10**12, "3,000.0 GB")]
)
def test_sizes_are_readable(size: int, text: str) -> None:
    assert readable(size) == text


# -------------------------------------------------------------------------------------------------------- the requests


class Wrapped(torch.nn.Module):
    """No model of transformers."""


def _quantised() -> PreTrainedModel:
    made = make_model("llama", 2)
    made.hf_quantizer = object()
    return made


def _adapted() -> PreTrainedModel:
    made = make_model("llama", 2)
    made._hf_peft_config_loaded = True
    return made


def _spread() -> PreTrainedModel:
    made = make_model("llama", 2)
    made.lm_head.to("meta")
    return made


def _encoder_decoder() -> PreTrainedModel:
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 8, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    heads = {"encoder_attention_heads": 1, "decoder_attention_heads": 1}
    return transformers.BartForConditionalGeneration(transformers.BartConfig(vocab_size=9, **sizes, **heads))


def _elsewhere() -> PreTrainedModel:
    class Mine(transformers.LlamaForCausalLM):
        pass

    return Mine(model().config).eval()


CODE = {"with_code": True}
REFUSED: dict[str, tuple[Callable[[], Any], str, dict[str, Any], str]] = {
    "a group": (model, "0 {1-3} 4", {}, r"runs layers side by side.*--with-code"),
    "a half": (model, "0 1.attn 4", {}, r"runs halves of layers.*--with-code"),
    "a recipe for a group": (model, "0 {1-3} 4", {**CODE, "mergekit": True}, r"mergekit puts whole layers"),
    "a recipe for a model in memory": (model, PLAN, {"mergekit": True}, r"mergekit reads models from a folder"),
    "a layer that is not there": (model, "0-6", {}, r"layer 6.*6 layers \(0 to 5\)"),
    "files of no size": (model, PLAN, {"max_shard_size": 0}, r"max_shard_size 0: give"),
    "files of an unknown size": (model, PLAN, {"max_shard_size": "big"}, r"max_shard_size 'big'.*5GB"),
    "a name with a tokenizer": (lambda: "nano-llama", PLAN, {"tokenizer": object()}, r"by name with a tokenizer"),
    "no model": (Wrapped, PLAN, {"source": "mine"}, r"mine is a Wrapped.*merge it first"),
    "a quantised model": (_quantised, "1 0", {}, r"is quantised"),
    "adapters": (_adapted, "1 0", {}, r"has adapters on it"),
    "a model in pieces": (_spread, "1 0", {}, r"lies on cpu, meta: load it on one device"),
    "an encoder-decoder": (_encoder_decoder, "0", {}, r"is an encoder-decoder .* one stack of layers can be exported"),
    "code for code": (_elsewhere, PLAN, CODE, r"is a Mine, which is not a class of transformers itself"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str, tmp_path: Path) -> None:
    make, plan, options, words = REFUSED[case]
    with pytest.raises(painters.PaintersError, match=words):
        painters.export(make(), plan, tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_the_source_is_left_as_it_was(tmp_path: Path) -> None:
    source = make_model("gemma3", N).train()
    config, before = source.config.to_dict(), {name: t.clone() for name, t in source.state_dict().items()}
    painters.export(source, PLAN, tmp_path / "out")
    painters.export(source, "0 {1-3} 4", tmp_path / "code", with_code=True)
    assert source.training
    assert source.config.to_dict() == config
    assert all(torch.equal(tensor, before[name]) for name, tensor in source.state_dict().items())


# ------------------------------------------------------------------------------------------------------ beside weights


def test_the_card_says_what_was_done(tmp_path: Path) -> None:
    painters.export(model(), "0-1 4 4 5", tmp_path / "out", source="somebody/model")
    text = (tmp_path / "out" / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head) == {
        "base_model": "somebody/model",
        "library_name": "transformers",
        "tags": ["painters", "layer-surgery"],
    }
    for words in (
        "# out\n",
        "`0-1 4*2 5`",
        "| source | somebody/model |",
        "5, made of 4 of the source's 6",
        "not healed",
        f"painters {painters.__version__}, transformers {transformers.__version__}",
        "| dtype | float32 |",
        'AutoModelForCausalLM.from_pretrained("out")',
        "\n0 1 4 4 5\n",
        "never run: 2-3",
    ):
        assert words in body, words
    painters.export(model(), "0 {1-3} 4", tmp_path / "code", with_code=True)
    text = (tmp_path / "code" / "README.md").read_text()
    assert "6, of which the plan runs 5" in text
    assert text.count("trust_remote_code=True") == 2
    assert "modeling_planned.py" in text


@given(st.lists(st.integers(0, 20), min_size=1, max_size=40))
def test_a_recipe_is_the_order(order: list[int]) -> None:
    made = yaml.safe_load(recipe("org/name", order, "bfloat16"))
    assert (made["merge_method"], made["dtype"]) == ("passthrough", "bfloat16")
    ranges = [source["layer_range"] for part in made["slices"] for source in part["sources"]]
    assert [layer for first, end in ranges for layer in range(first, end)] == order
    assert all(after[0] != before[1] for before, after in pairwise(ranges))


def mergekit() -> Path:
    """The Python of an environment that has mergekit, which wants other releases than painters does."""
    python = os.environ.get("MERGEKIT_PYTHON", "")
    command = Path(python).with_name("mergekit-yaml")
    if not python or not command.exists():
        pytest.skip("MERGEKIT_PYTHON names no python beside which mergekit-yaml lies: see CONTRIBUTING.md")
    return command


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


LEGACY = {
    "gpt_neox": {f"gpt_neox.layers.N.attention.{name}" for name in ("bias", "masked_bias", "rotary_emb.inv_freq")},
    "bert": {"bert.pooler.dense.weight", "bert.pooler.dense.bias"},
}
"""Tensors that mergekit 0.1.5 requires, that published checkpoints have, and that transformers no longer saves."""

UNKNOWN = {
    "bert": {f"cls.predictions.transform.{m}.{p}" for m in ("dense", "LayerNorm") for p in ("weight", "bias")},
}
"""Tensors that mergekit 0.1.5 leaves out of its copy: of BertForMaskedLM it knows no more than this."""


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [*NAMES, "nano-llama"])
def test_mergekit_builds_the_same_tensors(architecture: str, tmp_path: Path) -> None:
    command, source = mergekit(), architecture
    legacy, unknown = LEGACY.get(architecture, set()), UNKNOWN.get(architecture, set())
    if architecture in NAMES:
        source = saved_and_loaded(shared_model(architecture, N), tmp_path / "in", legacy)
    for label, plan in PLANS.items():
        out, merged = tmp_path / label, tmp_path / f"{label}-merged"
        painters.export(source, plan, out, mergekit=True)
        done = subprocess.run(
            [command, out / MERGEKIT, merged, "--no-copy-tokenizer"], capture_output=True, text=True, check=False
        )
        if done.returncode:  # it writes the weights, and then a configuration with the source's layer_types
            assert "must be equal to the number of `layer_types`" in done.stderr, done.stderr
            assert "layer_types" in json.loads((out / "config.json").read_text())
            assert plan.layer_runs != N
        ours, theirs = _tensors(out), _tensors(merged)
        assert ours.keys() - theirs.keys() == unknown
        assert {re.sub(r"\.\d+\.", ".N.", name) for name in theirs.keys() - ours.keys()} == legacy
        for name in ours.keys() - unknown:
            assert ours[name].dtype == theirs[name].dtype
            assert torch.equal(ours[name], theirs[name]), name


def saved_and_loaded(made: PreTrainedModel, folder: Path, more: set[str]) -> Any:
    """The model as loaded from `folder`, where its file holds more tensors than it needs; N stands for each layer."""
    made.save_pretrained(folder)
    names = {name.replace(".N.", f".{layer}.") for name in more for layer in range(N)}
    file = folder / "model.safetensors"
    save_file(load_file(file) | {name: torch.zeros(1) for name in names}, file, {"format": "pt"})
    return type(made).from_pretrained(folder).eval()


# ---------------------------------------------------------------------------------------------------- the command line


def test_the_command_writes_what_loads(painters: Callable[..., Outcome], tmp_path: Path) -> None:
    found = painters("export", "--variant", "skip", "--start", "4", "--to", "out", "--mergekit")
    assert found.code == 0, found.err
    for words in ("nano-llama under 0-4 8-11: 9 layers, 6.0 MB", "Written to out", "bit for bit", "not healed"):
        assert words in found.out
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.num_hidden_layers == 9
    assert str(bundled.models()["nano-llama"]) in (tmp_path / "out" / MERGEKIT).read_text()


def test_the_command_in_json(painters: Callable[..., Outcome], tmp_path: Path) -> None:
    model().save_pretrained(tmp_path / "in")
    shutil.copy(bundled.models()["nano-llama"] / "tokenizer.json", tmp_path / "in")
    arguments = ("--model", "in", "--plan", "0 {1-3} 4-5", "--with-code", "--max-shard-size", "20KB", "--json")
    found = painters("export", "--to", "out", *arguments)
    assert found.code == 0, found.err
    assert "Loading in" not in found.err
    written = json.loads(found.out)
    assert (written["plan"], written["source"], written["with_code"]) == ("0 {1-3} 4-5", "in", True)
    assert sorted(written["files"]) == sorted(path.name for path in (tmp_path / "out").iterdir())
    assert {"config.json", "tokenizer.json", "modeling_planned.py", "README.md"} < set(written["files"])


def test_the_commands_of_the_page_about_exports(painters: Callable[..., Outcome], tmp_path: Path) -> None:
    text = (bundled.NANO.parents[1] / "docs" / "exports.md").read_text()
    commands = [shlex.split(line) for line in text.splitlines() if line.startswith("painters export ")]
    assert len(commands) == 2
    for command in commands:
        found = painters(*command[1:])
        assert found.code == 0, found.err
    load = transformers.AutoModelForCausalLM.from_pretrained
    assert load(tmp_path / "nano-llama-short").config.num_hidden_layers == 9
    with pytest.raises(ValueError, match="trust_remote_code"):
        load(tmp_path / "nano-llama-wide", trust_remote_code=False)


def test_mistakes_show_before_loading(painters: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    from painters import models

    def load(*args: Any, **options: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(models, "load_model", load)
    assert painters("export", "--plan", "0 {1-3} 4", "--to", "out").code == 2


def test_ctrl_c_leaves_nothing(
    painters: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verify(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export_build, "verify", verify)
    found = painters("export", "--plan", "0-4", "--to", "out")
    assert found.code == 130
    assert "Traceback" not in found.err
    assert list(tmp_path.iterdir()) == []
