"""GGUF files as models: their numbers, under plans, exported, in records; and files that are wrong."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import gguf_files
from support.outcome import Outcome
from support.reference import logits as reference_logits
from transformers import AutoModelForCausalLM

from painters import Plan, evaluate, export, results, surgery
from painters.harness import PaintersLM
from painters.models import ModelError, describe, load_model, num_layers, skeleton
from painters.models.fetched import sha256
from painters.models.source import ModelSource, find_source, join_gguf

PLANS = ("0-3", "0 3", "0 {1 2} 3", "0 (1 2)*2 3", "3-0")
TEXT = "Question: Tom has 5 lamps. Then he buys 3 lamps."


def logits(model: Any, tokenizer: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(tokenizer(TEXT, return_tensors="pt")["input_ids"]).logits


@pytest.fixture(scope="module", params=gguf_files.KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gguf_files.write(gguf_files.source("llama"), tmp_path_factory.mktemp("gguf") / "tiny.gguf", "Q8_0")


@pytest.mark.parametrize(("quantisation", "error"), [("F32", 1e-6), ("F16", 1e-3), ("Q8_0", None), ("Q4_1", None)])
def test_a_file_gives_the_logits_of_its_source(
    kind: str, quantisation: str, error: float | None, tmp_path: Path
) -> None:
    model = gguf_files.source(kind)
    path = gguf_files.write(model, tmp_path / "tiny.gguf", quantisation)
    loaded, tokenizer = load_model(str(path), device="cpu")
    assert loaded.dtype == torch.float32
    found, source = logits(loaded, tokenizer), logits(model, tokenizer)
    if error is not None:
        assert (found - source).abs().max() <= error
    rounded = logits(gguf_files.quantised(model, quantisation), tokenizer) if quantisation != "F32" else source
    assert torch.equal(found, rounded)


@pytest.mark.parametrize("text", PLANS)
def test_plans_equal_the_plain_loop(file: Path, text: str) -> None:
    model, tokenizer = load_model(str(file), device="cpu")
    plan = Plan.parse(text)
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    with surgery(model, plan), torch.no_grad():
        found = model(ids).logits
    with torch.no_grad():
        assert torch.equal(found, reference_logits("llama", model, plan, ids))


def test_the_tokenizer_is_the_files(file: Path) -> None:
    _, tokenizer = load_model(str(file), device="cpu")
    assert tokenizer.encode(TEXT) == gguf_files.tokenizer().encode(TEXT).ids
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<s>", "</s>", "<pad>")


def test_special_tokens_are_set_by_the_metadata(tmp_path: Path) -> None:
    path = gguf_files.write(gguf_files.source("llama"), tmp_path / "tiny.gguf", eos_token_id=0, add_bos_token=True)
    _, tokenizer = load_model(str(path), device="cpu")
    assert tokenizer.eos_token == "<pad>"
    assert tokenizer.encode("a")[:1] == [tokenizer.bos_token_id]


def test_records_hold_the_files_name_and_digest(file: Path) -> None:
    model, tokenizer = load_model(str(file), device="cpu")
    assert describe(model) == (str(file), f"tiny.gguf@sha256:{sha256(file)}")
    table = evaluate(model, ["0 3"], "nano_arc", tokenizer=tokenizer, limit=2, progress=False)
    assert set(table["model"]) == {str(file)}


def test_the_command_line(file: Path, painters: Callable[..., Outcome]) -> None:
    options = ("--plan", "0 3", "--tasks", "nano_arc", "--limit", "2", "--quiet", "--out", "{tmp}/r.jsonl")
    one = painters("run", "--model", str(file), *options)
    assert one.code == 0, one.err
    assert "de-quantizing" not in one.err
    (record, *_) = results.read("r.jsonl")
    assert record.revision == f"tiny.gguf@sha256:{sha256(file)}"


def test_lm_evals_command_line_and_class(file: Path) -> None:
    lm = PaintersLM(str(file), plan="0 3", device="cpu")
    other = PaintersLM(str(file.parent), gguf_file=file.name, plan="0 3", device="cpu")
    assert str(lm.plan) == "0 3"
    assert torch.equal(lm.model.lm_head.weight, other.model.lm_head.weight)


def test_an_export_answers_as_the_file_under_the_plan(file: Path, tmp_path: Path) -> None:
    exported = export(str(file), "0 2 3", tmp_path / "out")
    model, tokenizer = load_model(str(file), device="cpu")
    again = AutoModelForCausalLM.from_pretrained(exported.folder, dtype=torch.float32).eval()
    with surgery(model, "0 2 3"):
        expected = logits(model, tokenizer)
    assert torch.equal(logits(again, tokenizer), expected)
    assert "quantization_config" not in Path(exported.folder, "config.json").read_text(encoding="utf-8")
    card = Path(exported.folder, "README.md").read_text(encoding="utf-8")
    assert f"tiny.gguf@sha256:{sha256(file)}" in card


def test_a_loaded_file_can_be_saved_and_trained(file: Path, tmp_path: Path) -> None:
    model, tokenizer = load_model(str(file), device="cpu")
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    with surgery(model, "0 3"):
        model(ids, labels=ids).loss.backward()
    assert model.model.layers[0].mlp.up_proj.weight.grad is not None
    assert model.model.layers[1].mlp.up_proj.weight.grad is None
    model.save_pretrained(tmp_path / "saved")
    again, _ = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)


def test_the_header_is_enough_for_sizes(file: Path) -> None:
    assert num_layers(str(file)) == gguf_files.LAYERS
    assert skeleton(str(file)).device.type == "meta"


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _short_header(content: bytes) -> bytes:
    return content[:40]


def _many_tensors(content: bytes) -> bytes:
    return content[:8] + (2**60).to_bytes(8, "little") + content[16:]


def _no_magic(content: bytes) -> bytes:
    return b"GGML" + content[4:]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_cut, "cannot be read"),
        (_short_header, "cannot be read as a GGUF file"),
        (_many_tensors, "cannot be read as a GGUF file"),
        (_no_magic, "is no GGUF file"),
    ],
)
def test_damaged_files(file: Path, tmp_path: Path, damage: Callable[[bytes], bytes], says: str) -> None:
    path = tmp_path / "damaged.gguf"
    path.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ModelError, match=says):
        load_model(str(path), device="cpu")


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ModelError, match=r"there is no file of this name"):
        load_model("no/such.gguf")


def test_a_file_on_the_hub_that_is_out_of_reach() -> None:
    with pytest.raises(ModelError, match=r"org/model-GGUF/file.gguf"):
        load_model("org/model-GGUF/file.gguf")


def test_metadata_that_contradicts_itself(tmp_path: Path) -> None:
    path = gguf_files.write(gguf_files.source("llama"), tmp_path / "tiny.gguf", eos_token_id=100_000)
    with pytest.raises(ModelError, match=r"tiny\.gguf"):
        load_model(str(path), device="cpu")


def test_without_the_package_gguf(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gguf" else find(name))
    with pytest.raises(ModelError, match=r"pip install 'painters\[gguf\]'"):
        load_model(str(file))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("org/model", ModelSource("org/model")),
        ("org/model-GGUF/a/b.gguf", ModelSource("org/model-GGUF", "a/b.gguf")),
        ("./org/model/b.gguf", ModelSource("org/model", "b.gguf", is_local=True)),
        ("/org/model/b.gguf", ModelSource("/org/model", "b.gguf", is_local=True)),
        ("b.gguf", ModelSource(".", "b.gguf", is_local=True)),
    ],
)
def test_what_a_name_means(name: str, source: ModelSource) -> None:
    assert find_source(name) == source


def test_one_name_of_a_repository_and_a_file() -> None:
    assert find_source(join_gguf("org/model", "b.gguf")) == ModelSource("org/model", "b.gguf")
