"""A plan written as a checkpoint: plain transformers loads it to the same logits and tokens, or it is refused."""

from __future__ import annotations

import importlib
import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from support.export_cases import NAMES, SEQUENCES, START, N, planned
from support.models import ARCHITECTURES, CACHE, PAD, make_model, padded_batch, prompts, shared_model
from support.reference import assert_same, logits
from transformers import PreTrainedModel, dynamic_module_utils

import painters
from painters import Plan, SurgeryError, surgery, variants
from painters.export import ExportError, stored_dtype
from painters.export import build as export_build
from painters.export.config import reordered
from painters.export.verify import difference, probe
from painters.models import load_model

GROUPS = {
    "parallel": variants.parallel(num_layers=N, start=START),
    "looped": variants.parallel(num_layers=N, start=START, loops=3),
    "nested": Plan.parse("1 {(1 2) {3 (4 3)}:sum 2} 5"),
    "sequence": SEQUENCES["shuffle"],
}


@pytest.fixture(autouse=True)
def own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let transformers keep the code that it loads in the test's own folder."""
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])


def reloaded(folder: Path, architecture: str, **options: Any) -> PreTrainedModel:
    """What plain transformers makes of the folder, in evaluation mode."""
    auto = ARCHITECTURES[architecture].auto_class("lm")
    model = auto.from_pretrained(folder, **options)
    assert isinstance(model, PreTrainedModel)
    return model.eval()


def generated(model: PreTrainedModel, **options: Any) -> torch.Tensor:
    found = model.generate(**prompts(), max_new_tokens=20, pad_token_id=PAD, **options)  # type: ignore[operator]
    assert isinstance(found, torch.Tensor)
    return found


def check_alike(architecture: str, source: PreTrainedModel, plan: Plan, found: PreTrainedModel) -> None:
    """Raise AssertionError unless `found` has the logits of the loop over the layers and the tokens of the source."""
    ids, mask = padded_batch()
    with torch.no_grad():
        assert_same(found(input_ids=ids, attention_mask=mask).logits, logits(architecture, source, plan, ids, mask))
    if ARCHITECTURES[architecture].generates:
        with surgery(source, plan):
            expected = generated(source)
        assert torch.equal(generated(found), expected)
        assert expected.shape[1] == prompts()["input_ids"].shape[1] + 20


# ---------------------------------------------------------------------------------------------------- plain checkpoints


@pytest.mark.parametrize("label", SEQUENCES)
@pytest.mark.parametrize("architecture", NAMES)
def test_a_sequence_is_a_plain_checkpoint(architecture: str, label: str, tmp_path: Path) -> None:
    source, plan = shared_model(architecture, N), SEQUENCES[label]
    done = painters.export(source, plan, tmp_path / "out")
    found = reloaded(tmp_path / "out", architecture)
    assert type(found) is type(source)
    assert found.config.num_hidden_layers == plan.layer_runs == done.num_layers
    check_alike(architecture, source, plan, found)


@pytest.mark.parametrize("name", ["nano-llama", "nano-bert"])
def test_a_bundled_model_by_name(name: str, tmp_path: Path) -> None:
    """In the dtype of its file, with its tokenizer and its settings for generation; tied weights stay tied."""
    plan = Plan.parse("0-4 6-11 11")
    done = painters.export(name, plan, tmp_path / "out", max_shard_size="3MB")
    auto = getattr(transformers, done.auto_class)
    found = auto.from_pretrained(tmp_path / "out")
    assert found.dtype == torch.bfloat16 == getattr(torch, stored_dtype(name))
    head = found.get_output_embeddings().weight
    assert head.data_ptr() == found.get_input_embeddings().weight.data_ptr()
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {file for file in done.files if file.endswith(".safetensors")}
    assert len(set(index["weight_map"].values())) > 2

    source, tokenizer = load_model(name, encoders=True)  # float32
    wide = auto.from_pretrained(tmp_path / "out", dtype="float32").eval()
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    text = ["Tom has 5 lamps. Then he buys 3 lamps.", "The"]
    given = again(text, return_tensors="pt", padding=True, padding_side="left")
    assert torch.equal(
        given["input_ids"], tokenizer(text, return_tensors="pt", padding=True, padding_side="left")["input_ids"]
    )
    with torch.no_grad(), surgery(source, plan):
        expected = source(**given).logits
        tokens = source.generate(**given, max_new_tokens=20) if source.can_generate() else None
    with torch.no_grad():
        assert_same(wide(**given).logits, expected)
    if tokens is not None:
        assert torch.equal(wide.generate(**given, max_new_tokens=20), tokens)
        assert wide.generation_config.to_dict() == source.generation_config.to_dict()


def test_experts_are_written_one_by_one_as_others_do(tmp_path: Path) -> None:
    """In memory transformers keeps them together."""
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = transformers.MixtralConfig(vocab_size=101, num_hidden_layers=3, num_local_experts=3, **sizes)
    torch.manual_seed(0)
    source = transformers.MixtralForCausalLM(config).eval()
    painters.export(source, "2 0 0", tmp_path / "out")
    names = load_file(tmp_path / "out" / "model.safetensors").keys()
    assert sum(name.endswith(".w1.weight") for name in names) == 9
    painters.export(source, "2 {0 1}", tmp_path / "code", with_code=True)
    found = reloaded(tmp_path / "code", "llama", trust_remote_code=True)
    with torch.no_grad(), surgery(source, "2 {0 1}"):
        expected = source(**prompts()).logits
        # products of few rows round otherwise where weights lie at other addresses
        torch.testing.assert_close(found(**prompts()).logits, expected, rtol=0, atol=2e-6)


def test_kinds_of_layers_move_with_them(tmp_path: Path) -> None:
    source = shared_model("qwen3", N)
    kinds = source.config.layer_types
    for text in ("0-2 4-5", "1 0 5-2", "0-3 3 3-5"):
        plan = Plan.parse(text)
        painters.export(source, plan, tmp_path / "out", force=True)
        config = json.loads((tmp_path / "out" / "config.json").read_text())
        assert config["layer_types"] == [kinds[run.index] for run in plan.walk()]
        assert config["num_hidden_layers"] == plan.layer_runs
    assert source.config.layer_types == kinds


# name: (configuration, the plan's order, what the configuration must then say)
FIELDS: dict[str, tuple[transformers.PreTrainedConfig, list[int], dict[str, Any]]] = {
    "rotary layers": (
        transformers.SmolLM3Config(num_hidden_layers=8, pad_token_id=0, vocab_size=8),
        [3, 2, 7, 7],
        {"no_rope_layers": [0, 1, 0, 0], "num_hidden_layers": 4},
    ),
    "layers that slide from some layer on": (
        transformers.Qwen2Config(num_hidden_layers=6, use_sliding_window=True, max_window_layers=3),
        [0, 2, 4, 5],
        {"max_window_layers": 2, "layer_types": ["full_attention"] * 2 + ["sliding_attention"] * 2},
    ),
    "a pattern from before layer_types": (
        transformers.Gemma3TextConfig(num_hidden_layers=6),
        [5, 0, 5],
        {"layer_types": ["full_attention", "sliding_attention", "full_attention"]},
    ),
    "types in a short form": (
        transformers.GPTNeoConfig(num_layers=4, attention_types=[[["global", "local"], 2]]),
        [0, 2, 3],
        {"attention_layers": ["global", "global", "local"], "num_layers": 3},
    ),
    "experts in every other layer": (
        transformers.Qwen2MoeConfig(num_hidden_layers=6, decoder_sparse_step=2, mlp_only_layers=[3]),
        [1, 2, 5],
        {"mlp_only_layers": [1], "decoder_sparse_step": 1},
    ),
    "no list of layers": (
        transformers.LlamaConfig(num_hidden_layers=3, eos_token_id=[7, 8, 9]),
        [2, 0],
        {"eos_token_id": [7, 8, 9], "num_hidden_layers": 2},
    ),
    "a text model in another": (
        transformers.Gemma3Config(text_config={"num_hidden_layers": 6}),
        [5, 0],
        {"text_config.layer_types": ["full_attention", "sliding_attention"], "text_config.num_hidden_layers": 2},
    ),
}


@pytest.mark.parametrize("case", FIELDS)
def test_configurations_in_another_order(case: str) -> None:
    config, order, expected = FIELDS[case]
    before = config.to_dict()
    made = reordered(config, order)
    assert type(made) is type(config)
    for path, value in expected.items():
        found: Any = made
        for name in path.split("."):
            found = getattr(found, name)
        assert found == value, path
    assert config.to_dict() == before


@pytest.mark.parametrize("head", ["classifier", "bare"])
@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_the_class_stays_what_it_was(architecture: str, head: Any, tmp_path: Path) -> None:
    source, plan = shared_model(architecture, N, head=head), SEQUENCES["reverse"]
    done = painters.export(source, plan, tmp_path / "out")
    auto = ARCHITECTURES[architecture].auto_class(head)
    assert done.auto_class == auto.__name__
    found = auto.from_pretrained(tmp_path / "out").eval()
    ids, mask = padded_batch()
    with torch.no_grad(), surgery(source, plan):
        assert_same(found(input_ids=ids, attention_mask=mask)[0], source(input_ids=ids, attention_mask=mask)[0])


CODE = """
from transformers import LlamaConfig, LlamaForCausalLM

class MyConfig(LlamaConfig):
    model_type = "mine"

class MyModel(LlamaForCausalLM):
    config_class = MyConfig

    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = output.logits * 2
        return output
"""


def test_a_model_with_code_of_its_own_takes_it_along(tmp_path: Path) -> None:
    shared_model("llama", N).save_pretrained(tmp_path / "in")
    (tmp_path / "in" / "mine.py").write_text(CODE)
    config = json.loads((tmp_path / "in" / "config.json").read_text())
    names = {"AutoConfig": "mine.MyConfig", "AutoModelForCausalLM": "mine.MyModel"}
    (tmp_path / "in" / "config.json").write_text(json.dumps(config | {"model_type": "mine", "auto_map": names}))
    source = reloaded(tmp_path / "in", "llama", trust_remote_code=True)
    done = painters.export(source, "5-0", tmp_path / "out")
    assert done.trust_remote_code
    assert "trust_remote_code=True" in (tmp_path / "out" / "README.md").read_text()
    found = reloaded(tmp_path / "out", "llama", trust_remote_code=True)
    with torch.no_grad(), surgery(source, "5-0"):
        assert_same(found(**prompts()).logits, source(**prompts()).logits)
    with pytest.raises(ExportError, match="is a MyModel, which is not a class of transformers itself"):
        painters.export(source, "0 {1-3}", tmp_path / "code", with_code=True)


# -------------------------------------------------------------------------------------------------- what cannot be said


def gpt2_scaled_by_place() -> PreTrainedModel:
    config = ARCHITECTURES["gpt2"].config(N)
    config.scale_attn_by_inverse_layer_idx = True
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(config).eval()


@pytest.mark.parametrize(
    ("make", "plan", "words"),
    [
        (gpt2_scaled_by_place, "1 0 2-5", ("layer 0 would have attn.scaling=", "layer 1 of")),
        (lambda: shared_model("modernbert", N), "5-0", ("attn_norm.class='Identity'", "'LayerNorm'")),
    ],
)
def test_what_no_configuration_can_say(make: Any, plan: str, words: tuple[str, ...], tmp_path: Path) -> None:
    source = make()
    with pytest.raises(ExportError, match="cannot be a plain checkpoint") as refused:
        painters.export(source, plan, tmp_path / "out")
    for word in (*words, "--with-code"):
        assert word in str(refused.value)
    assert list(tmp_path.iterdir()) == []
    painters.export(source, plan, tmp_path / "out", with_code=True)
    auto = getattr(transformers, export_build.auto_class(source))
    found = auto.from_pretrained(tmp_path / "out", trust_remote_code=True).eval()
    ids, mask = padded_batch()
    with torch.no_grad(), surgery(source, plan):
        assert_same(found(input_ids=ids, attention_mask=mask).logits, source(input_ids=ids, attention_mask=mask).logits)


def test_what_computes_otherwise_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tensors in the source's order under the plan's configuration, or one of them damaged on the way."""
    whole, write = export_build._rearranged, export_build.Checkpoint.write
    with monkeypatch.context() as wrong:
        wrong.setattr(export_build, "_rearranged", lambda model, path, order: whole(model, path, range(len(order))))
        with pytest.raises(
            ExportError, match=r"loaded again, its outputs for a batch of tokens are off by .*--with-code"
        ):
            painters.export(shared_model("llama", N), "5-0", tmp_path / "out")

    def damaged(self: export_build.Checkpoint, folder: Path, max_shard_size: int | str) -> None:
        write(self, folder, max_shard_size)
        tensors = load_file(folder / "model.safetensors")
        tensors["model.norm.weight"][3] += 1
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    monkeypatch.setattr(export_build.Checkpoint, "write", damaged)
    with pytest.raises(ExportError, match=r"loaded again, its tensor model\.norm\.weight is not that of the source"):
        painters.export(shared_model("llama", N), "5-0", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_probe_sees_which_layers_slide() -> None:
    """Also where windows are wider than the probe."""
    one, two = make_model("qwen3", N), make_model("qwen3", N)
    for model, kinds in ((one, one.config.layer_types), (two, sorted(one.config.layer_types))):
        model.config.sliding_window, model.config.layer_types = 4096, kinds
    first = probe(one)
    assert difference(probe(one), first) is None
    assert "batch of tokens are off" in (difference(probe(two), first) or "")
    assert one.config.sliding_window == 4096


def test_the_probe_decodes() -> None:
    found, other = probe(shared_model("llama", N)), probe(shared_model("llama", N), Plan.parse("0-5"))
    assert len(found.logits) == 5
    assert difference(found, other) is None
    other.logits[3] = other.logits[3] + 1
    assert "token 3 decoded" in (difference(found, other) or "")


def test_a_model_that_the_probe_does_not_suit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_model("llama", N)
    monkeypatch.setattr(source.model.embed_tokens, "forward", lambda ids: ids.nothing)
    with pytest.raises(ExportError, match=r"LlamaForCausalLM.*fails on a plain batch of tokens.*nothing"):
        painters.export(source, "5-0", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------------ with code


@pytest.mark.parametrize("label", GROUPS)
@pytest.mark.parametrize("architecture", NAMES)
def test_any_plan_with_its_code(architecture: str, label: str, tmp_path: Path) -> None:
    source, plan = shared_model(architecture, N), GROUPS[label]
    done = painters.export(source, plan, tmp_path / "out", with_code=True)
    assert done.with_code
    found = reloaded(tmp_path / "out", architecture, trust_remote_code=True)
    assert type(found).__name__ == f"Planned{type(source).__name__}"
    assert found.state_dict().keys() == source.state_dict().keys()
    check_alike(architecture, source, plan, found)


def test_halves_with_their_code(tmp_path: Path) -> None:
    for architecture in ("llama", "gemma3"):
        source, plan = shared_model(architecture, N), Plan.parse("0.attn {1.attn 1.mlp (2 3.mlp)}:sum 4 4.attn 5")
        painters.export(source, plan, tmp_path / "out", with_code=True, force=True)
        code = (tmp_path / "out" / "modeling_planned.py").read_text()
        assert str(plan) in code
        assert max(map(len, code.splitlines())) <= 120
        found = reloaded(tmp_path / "out", architecture, trust_remote_code=True)
        with surgery(source, plan):
            expected = generated(source)
        assert torch.equal(generated(found), expected)


def test_halves_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="halves of OPTDecoderLayer cannot be written as code"):
        painters.export(shared_model("opt", N), "0.attn 1-5", tmp_path / "out", with_code=True)
    assert not list(tmp_path.iterdir())


def test_half_precision_with_its_code(tmp_path: Path) -> None:
    shared_model("llama", N).save_pretrained(tmp_path / "in")
    source, plan = reloaded(tmp_path / "in", "llama", dtype="bfloat16"), Plan.parse("0 {1-3}*2 {4 5}:sum")
    painters.export(source, plan, tmp_path / "out", with_code=True)
    found, given = reloaded(tmp_path / "out", "llama", trust_remote_code=True), prompts()
    assert found.dtype == torch.bfloat16
    with torch.no_grad(), surgery(source, plan):
        assert_same(found(**given).logits, source(**given).logits)


def test_a_model_that_was_cast_is_recognised(tmp_path: Path) -> None:
    """Casting takes rotary frequencies along, which transformers keeps in float32 when it loads a model."""
    with pytest.raises(ExportError, match=r"inv_freq in bfloat16, but .* float32, .* load the source in bfloat16"):
        painters.export(make_model("llama", N).bfloat16(), "0-4", tmp_path / "out")


@pytest.mark.parametrize("options", [{"num_beams": 3}, {"cache_implementation": "static"}, {"use_cache": False}])
def test_generation_with_code(options: dict[str, Any], tmp_path: Path) -> None:
    source, plan = shared_model("gemma3", N), GROUPS["nested"]
    painters.export(source, plan, tmp_path / "out", with_code=True)
    found = reloaded(tmp_path / "out", "gemma3", trust_remote_code=True)
    with surgery(source, plan):
        expected = generated(source, **options)
    assert torch.equal(generated(found, **options), expected)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "bert"])
@pytest.mark.parametrize("label", GROUPS)
def test_the_code_before_it_is_written(architecture: str, label: str) -> None:
    source, found = planned(architecture, GROUPS[label])
    check_alike(architecture, source, GROUPS[label], found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_halves_merges_and_static_caches_before_they_are_written(dtype: torch.dtype) -> None:
    plan = Plan.parse("0.attn {1.attn 1.mlp (2 3.mlp)}:sum {1 4 4} 5.mlp 4.attn")
    source, found = planned("gemma3", plan, dtype)
    with surgery(source, plan):
        expected = generated(source, cache_implementation="static")
    assert torch.equal(generated(found, cache_implementation="static"), expected)


def test_the_code_refuses_what_it_cannot_run() -> None:
    ids = prompts()["input_ids"]
    source, found = planned("llama", Plan.parse("0 {1-3} 4 4"))
    with pytest.raises(ValueError, match="decodes with a DynamicCache or a StaticCache, not a OtherCache"):
        found(input_ids=ids, **{CACHE: type("OtherCache", (transformers.DynamicCache,), {})()})
    with pytest.raises(ValueError, match="this cache was filled by another model: start with a new one"):
        found(input_ids=ids, **{CACHE: source(input_ids=ids)[CACHE]})
    found.model.config.num_hidden_layers = 4
    with pytest.raises(RuntimeError, match="forward ended without its plan"):
        found(input_ids=ids)
    found.model.config.num_hidden_layers = N
    inner = found.model.forward
    found.model.forward = lambda *args, **kwargs: [layer(torch.zeros(1, 1, 32)) for layer in found.model.layers]
    with pytest.raises(RuntimeError, match="loops over the layers in another way"):
        found(input_ids=ids)
    found.model.forward = inner
    assert found(input_ids=ids).logits.shape[:2] == ids.shape


def test_a_cache_of_another_model_is_refused(tmp_path: Path) -> None:
    source = shared_model("llama", N)
    painters.export(source, "0 {1-3} 4-5", tmp_path / "out", with_code=True)
    found = reloaded(tmp_path / "out", "llama", trust_remote_code=True)
    ids = prompts()["input_ids"]
    cache = source(input_ids=ids)[CACHE]
    with pytest.raises(ValueError, match="filled by another model"):
        found(input_ids=ids, **{CACHE: cache})


def test_code_is_asked_for_and_kept(tmp_path: Path) -> None:
    """It never loads as the source without a word, and goes on into what is saved of it."""
    source, ids = shared_model("llama", N), prompts()["input_ids"]
    painters.export(source, "0 {1-3} 4-5", tmp_path / "out", with_code=True)
    with pytest.raises(ValueError, match="trust_remote_code"):
        reloaded(tmp_path / "out", "llama", trust_remote_code=False)
    found = reloaded(tmp_path / "out", "llama", trust_remote_code=True)
    found.save_pretrained(tmp_path / "again")
    again = reloaded(tmp_path / "again", "llama", trust_remote_code=True)
    with torch.no_grad():
        assert_same(again(input_ids=ids).logits, found(input_ids=ids).logits)
    with pytest.raises(SurgeryError, match="runs a plan by the code that it brings"), surgery(found, "0-5"):
        pass


def test_the_code_needs_no_painters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, plan = shared_model("bert", N), GROUPS["looped"]
    painters.export(source, plan, tmp_path / "out", with_code=True)
    with monkeypatch.context() as blocked:
        blocked.setitem(sys.modules, "painters", None)  # an import of it, or of a part of it, fails
        with pytest.raises(ImportError):
            importlib.import_module("painters")
        found = reloaded(tmp_path / "out", "bert", trust_remote_code=True)
        output = found(**prompts()).logits
    with surgery(source, plan):
        assert_same(output, source(**prompts()).logits)


def test_an_export_with_code_answers_in_several_threads(tmp_path: Path) -> None:
    source, ids = shared_model("llama", N), torch.arange(14).reshape(2, 7)
    painters.export(source, "0 {1-3} 4-5", tmp_path / "out", with_code=True)
    model = reloaded(tmp_path / "out", "llama", trust_remote_code=True)
    with torch.no_grad():
        expected = model(ids).logits
    interval, outputs = sys.getswitchinterval(), list[torch.Tensor]()

    def call() -> None:
        with torch.no_grad():
            outputs.extend(model(ids).logits for _ in range(20))

    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=call) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert len(outputs) == 60
    assert all(torch.equal(output, expected) for output in outputs)
