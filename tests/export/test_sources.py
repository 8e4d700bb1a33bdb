"""Sources that somebody built or changed by hand: shared tensors, mixed number types, processors beside the weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.models import make_model, padded_batch
from support.outcome import Outcome
from support.reference import assert_same, logits
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedModel,
    dynamic_module_utils,
)

import painters
from painters import Plan, surgery
from painters.export import ExportError
from painters.export.processor import FILES
from painters.models import bundled, load_model

LLAMA = bundled.models()["nano-llama"]


@pytest.fixture(autouse=True)
def own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let transformers keep the code that it loads in the test's own folder."""
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])


# ------------------------------------------------------------------------------------------------------ shared tensors


def deepened() -> PreTrainedModel:
    """A model that was made deeper by hand: one module stands in two places."""
    model = make_model("llama", 3)
    first, second, third = model.model.layers
    model.model.layers = nn.ModuleList([first, second, second, third])
    model.config.num_hidden_layers = 4
    return model


def shared_parameters() -> PreTrainedModel:
    """Two layers of their own with the same parameters."""
    model = make_model("llama", 4)
    for name, parameter in list(model.model.layers[1].named_parameters()):
        path, _, last = name.rpartition(".")
        setattr(model.model.layers[2].get_submodule(path), last, parameter)
    return model


def shared_mlp() -> PreTrainedModel:
    """One part of a layer in two layers."""
    model = make_model("llama", 4)
    model.model.layers[2].mlp = model.model.layers[1].mlp
    return model


def tied_by_hand() -> PreTrainedModel:
    """A head that is the embedding, where the configuration says that they are not tied."""
    model = make_model("llama", 4)
    assert not model.config.tie_word_embeddings
    model.lm_head.weight = model.model.embed_tokens.weight
    return model


def overlapping_views() -> PreTrainedModel:
    """Weights that are parts of one block of memory, and overlap."""
    model = make_model("llama", 4)
    rows, columns = model.model.layers[0].mlp.up_proj.weight.shape
    block = torch.randn(rows + 3, columns)
    model.model.layers[0].mlp.up_proj.weight = nn.Parameter(block[:rows])
    model.model.layers[1].mlp.up_proj.weight = nn.Parameter(block[3:])
    return model


@pytest.mark.parametrize("make", [deepened, shared_parameters, shared_mlp, tied_by_hand, overlapping_views])
@pytest.mark.parametrize(
    ("plan", "with_code"), [("0-3", False), ("0 2 1 3", False), ("0-2 2 1", False), ("0 {1 2}*2 3", True)]
)
def test_shared_tensors_are_written(
    make: Callable[[], PreTrainedModel], plan: str, with_code: bool, tmp_path: Path
) -> None:
    source = make()
    written = painters.export(source, plan, tmp_path / "out", with_code=with_code)
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out", trust_remote_code=with_code).eval()
    ids, mask = padded_batch()
    with torch.no_grad():
        actual = found(input_ids=ids, attention_mask=mask).logits
    assert_same(actual, logits("llama", source, Plan.parse(plan), ids, mask))
    assert written.weights == sum(parameter.nbytes for parameter in found.parameters())


# -------------------------------------------------------------------------------------------------- mixed number types


def half(architecture: str, folder: Path) -> PreTrainedModel:
    """A model that was loaded in bfloat16, so that its buffers are what transformers makes them."""
    make_model(architecture, 4).save_pretrained(folder)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype="bfloat16").eval()
    return model


def float32_head(folder: Path) -> PreTrainedModel:
    model = half("llama", folder)
    model.model.norm.float()
    model.lm_head.float()
    return model


def float32_norms(folder: Path) -> PreTrainedModel:
    model = half("gpt2", folder)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.float()
    return model


@pytest.mark.parametrize("make", [float32_head, float32_norms])
@pytest.mark.parametrize("plan", ["0 2 1", "0 {1 2} 3"])
def test_mixed_number_types_stay_with_code(make: Callable[[Path], PreTrainedModel], plan: str, tmp_path: Path) -> None:
    source = make(tmp_path / "source")
    painters.export(source, plan, tmp_path / "out", with_code=True)
    assert "| dtype | bfloat16 and float32 |" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out", trust_remote_code=True).eval()
    types = {name: tensor.dtype for name, tensor in source.state_dict().items()}
    assert {name: tensor.dtype for name, tensor in found.state_dict().items()} == types
    ids, mask = padded_batch()
    with torch.no_grad():
        actual = found(input_ids=ids, attention_mask=mask).logits
        with surgery(source, plan):
            assert_same(actual, source(input_ids=ids, attention_mask=mask).logits)


@pytest.mark.parametrize("make", [float32_head, float32_norms])
def test_mixed_number_types_in_a_plain_checkpoint(make: Callable[[Path], PreTrainedModel], tmp_path: Path) -> None:
    with pytest.raises(
        ExportError,
        match=r"is in float32 and other tensors are in bfloat16, but transformers loads .* in one number type",
    ) as refused:
        painters.export(make(tmp_path / "source"), "0 2 1", tmp_path / "out")
    assert "--with-code" in str(refused.value)
    assert "model.to(torch.bfloat16)" in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_two_wide_number_types_are_refused_with_the_reason(tmp_path: Path) -> None:
    model = make_model("llama", 4)
    model.model.norm.double()
    model.lm_head.double()
    with pytest.raises(ExportError, match=r"is in float64 and other tensors are in float32.*\. Cast the source"):
        painters.export(model, "0 {1 2}", tmp_path / "out", with_code=True)


def test_a_model_that_only_autocast_can_run(tmp_path: Path) -> None:
    model = half("llama", tmp_path / "source")
    model.model.layers[1].float()
    with pytest.raises(ExportError, match=r"fails on a plain batch .* in bfloat16 and float32: cast it to one type"):
        painters.export(model, "0-2", tmp_path / "out")


# ----------------------------------------------------------------------------------------------------------- processor

VISION = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
PICTURE = {"image_size": 16, "patch_size": 8}
TEXT = {
    **{"vocab_size": 1672, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "pad_token_id": 0},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8},
}


def gemma3() -> PreTrainedModel:
    config = Gemma3Config(
        text_config={**TEXT, "sliding_window": 8}, vision_config={**VISION, **PICTURE}, mm_tokens_per_image=4
    )
    return Gemma3ForConditionalGeneration(config)


def llava() -> PreTrainedModel:
    vision = {"model_type": "clip_vision_model", **VISION, **PICTURE, "projection_dim": 16}
    return LlavaForConditionalGeneration(LlavaConfig(text_config={"model_type": "llama", **TEXT}, vision_config=vision))


def multimodal_folder(make: Callable[[], PreTrainedModel], folder: Path) -> dict[str, str]:
    """Write the model with all that may lie beside a multimodal one; return the files of its processor."""
    torch.manual_seed(0)
    make().eval().save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(LLAMA)
    tokenizer.add_tokens(["<image>"])
    tokenizer.save_pretrained(folder)
    (folder / "generation_config.json").write_text('{"do_sample": true, "top_k": 7, "eos_token_id": [2, 3]}')
    (folder / "additional_chat_templates").mkdir()
    files = {
        "processor_config.json": '{"processor_class": "LlavaProcessor", "patch_size": 8}',
        "preprocessor_config.json": '{"image_processor_type": "CLIPImageProcessor"}',
        "video_preprocessor_config.json": '{"video_processor_type": "LlavaOnevisionVideoProcessor"}',
        "audio_tokenizer_config.json": "{}",
        "chat_template.json": '{"chat_template": "{{ old }}"}',
        "chat_template.jinja": "{{ messages }}",
        "additional_chat_templates/tools.jinja": "{{ tools }}",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    assert {name.partition("/")[0] for name in files} == set(FILES)
    return files


@pytest.mark.parametrize("make", [gemma3, llava])
@pytest.mark.parametrize(("plan", "more"), [("0 2 1", ()), ("0 {1 2} 3", ("--with-code",))])
def test_the_processor_comes_along(
    make: Callable[[], PreTrainedModel],
    plan: str,
    more: tuple[str, ...],
    painters: Callable[..., Outcome],
    tmp_path: Path,
) -> None:
    files = multimodal_folder(make, tmp_path / "source")
    assert painters("export", "--model", "source", "--plan", plan, "--to", "out", *more).code == 0
    for name, text in files.items():
        assert (tmp_path / "out" / name).read_text() == text, name
    assert "<image>" in AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab()
    settings = GenerationConfig.from_pretrained(tmp_path / "out")
    assert (settings.do_sample, settings.top_k, settings.eos_token_id) == (True, 7, [2, 3])
    listed = json.loads((tmp_path / "out" / "config.json").read_text())["text_config"]["num_hidden_layers"]
    assert listed == (4 if more else 3)
    AutoModelForImageTextToText.from_pretrained(tmp_path / "out", trust_remote_code=bool(more))


def test_a_text_model_has_no_processor(tmp_path: Path) -> None:
    model, tokenizer = load_model("nano-llama")
    exported = painters.export(model, "0-3", tmp_path / "out", tokenizer=tokenizer)
    assert not set(FILES) & set(exported.files)
