"""The stack is found in every architecture and head, and what cannot be operated on is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.models import ARCHITECTURES, GROUPED, SIZE, TOKENS, WINDOW, Head, make_model, mixed, tokens
from support.reference import assert_same
from torch import Tensor, nn
from transformers import (
    AlbertConfig,
    AlbertModel,
    AutoModel,
    AutoModelForCausalLM,
    CodeGenConfig,
    FalconConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3nTextConfig,
    Gemma3TextConfig,
    GPTJConfig,
    GPTNeoConfig,
    SiglipVisionConfig,
    SwinConfig,
    SwinModel,
    T5Config,
    T5ForConditionalGeneration,
    XLNetConfig,
)

from painters import surgery
from painters.engine import LayerStack, SurgeryError
from painters.stack import SPECIAL

PATHS = {
    "llama": ("model", "layers"),
    "mistral": ("model", "layers"),
    "qwen2": ("model", "layers"),
    "qwen3": ("model", "layers"),
    "phi3": ("model", "layers"),
    "gemma2": ("model", "layers"),
    "gemma3": ("model", "layers"),
    "gpt2": ("transformer", "h"),
    "gpt_neox": ("gpt_neox", "layers"),
    "opt": ("model", "decoder.layers"),
    "bert": ("bert", "encoder.layer"),
    "roberta": ("roberta", "encoder.layer"),
    "electra": ("electra", "encoder.layer"),
    "distilbert": ("distilbert", "transformer.layer"),
    "modernbert": ("model", "layers"),
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("head", ["lm", "classifier", "bare"])
def test_the_stack_is_found(architecture: str, head: Head) -> None:
    model = make_model(architecture, 5, head=head)
    stack = LayerStack.find(model)
    base, inner = PATHS[architecture]
    prefix = "" if head == "bare" else f"{base if base in dict(model.named_children()) else 'model'}."
    assert stack.path == prefix + inner
    assert stack.layers is model.get_submodule(stack.path)
    assert stack.num_layers == 5
    assert stack.name == type(model).__name__
    assert stack.returns is None
    assert stack.halves is not None
    own = [()] * 5 if architecture == "distilbert" else [(i,) for i in range(5)]
    assert list(stack.cache_indices) == own
    assert f"{_path_of(model, stack.owner)}.{stack.inner_path}".lstrip(".") == stack.path


def _path_of(model: nn.Module, module: nn.Module) -> str:
    return next(name for name, m in model.named_modules() if m is module)


def test_the_name_is_that_of_the_checkpoint() -> None:
    model = make_model("bert", 5)
    model.config._name_or_path = "bert-base-uncased"
    assert LayerStack.find(model).name == "bert-base-uncased"


def composite() -> Any:
    text = Gemma3TextConfig(num_hidden_layers=5, layer_types=mixed(5), sliding_window=WINDOW, head_dim=8, **GROUPED)
    vision = SiglipVisionConfig(
        num_hidden_layers=9, hidden_size=64, intermediate_size=96, num_attention_heads=4, image_size=28
    )
    torch.manual_seed(0)
    return Gemma3ForConditionalGeneration(
        Gemma3Config(text_config=text.to_dict(), vision_config=vision.to_dict(), image_token_index=99)
    ).eval()


def test_the_text_stack_of_a_composite_model() -> None:
    model, ids = composite(), tokens(2, 9) % 90
    assert LayerStack.find(model).path == "model.language_model.layers"
    with torch.inference_mode():
        before = model(ids).logits
        with surgery(model, "0-4"):
            assert_same(model(ids).logits, before)
        with surgery(model, "4-0"):
            assert not torch.equal(model(ids).logits, before)


def test_a_path_names_another_stack() -> None:
    model = composite()
    stack = LayerStack.find(model, "model.vision_tower.encoder.layers")
    assert stack.num_layers == 9
    with torch.inference_mode(), surgery(model, "8-0", path=stack.path):
        model(tokens(2, 9) % 90)  # no image, so that this forward does not run the stack
    with pytest.raises(SurgeryError, match=r"has nothing at 'model\.layers': give the path of a ModuleList"):
        LayerStack.find(model, "model.layers")
    with pytest.raises(SurgeryError, match=r"has a Gemma3TextModel at 'model\.language_model'"):
        LayerStack.find(model, "model.language_model")


TUPLES = {
    "codegen": CodeGenConfig(n_layer=4, n_embd=32, n_head=4, rotary_dim=4, n_positions=64, **TOKENS),
    "falcon": FalconConfig(num_hidden_layers=4, hidden_size=32, num_attention_heads=4, **TOKENS),
    "gptj": GPTJConfig(n_layer=4, n_embd=32, n_head=4, rotary_dim=4, n_positions=64, **TOKENS),
    "gpt_neo": GPTNeoConfig(
        num_layers=4,
        hidden_size=32,
        num_heads=4,
        attention_types=[[["global", "local"], 2]],
        max_position_embeddings=64,
        **TOKENS,
    ),
}


@pytest.mark.parametrize("name", TUPLES)
def test_layers_that_return_tuples(name: str) -> None:
    """The identity is the model; another plan decodes with a cache what it decodes without."""
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(TUPLES[name]).eval()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    ids = tokens(2, 9)
    stack, seen = LayerStack.find(model), []
    handle = stack.layers[0].register_forward_hook(lambda layer, args, output: seen.append(output))
    with torch.inference_mode():
        before = model(ids).logits
        handle.remove()
        assert stack.returns == (None if isinstance(seen[0], Tensor) else len(seen[0]))
        with surgery(model, "0-3"):
            assert_same(model(ids).logits, before)
        with surgery(model, "1 {2 3 2}*2 0"):
            options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 8, "do_sample": False}
            cached = model.generate(ids, **options)
            assert torch.equal(cached, model.generate(ids, **options, use_cache=False))


def test_an_unknown_architecture_by_size_alone() -> None:
    """XLNet's layers bear no mark: the list with most parameters is taken, and its tuples are noticed."""
    torch.manual_seed(0)
    model = AutoModel.from_config(XLNetConfig(d_model=32, n_layer=4, n_head=4, d_inner=64, vocab_size=60))
    assert LayerStack.find(model).path == "layer"
    found = "there is work between the layers, or they return tuples"
    with torch.inference_mode(), surgery(model, "0-3"), pytest.raises(SurgeryError, match=found):
        model(tokens(2, 9) % 60)


def test_a_list_inside_a_module_dict() -> None:
    """nanoGPT's way to write it: the list's parent is a ModuleDict, which is never called."""

    class Nano(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = nn.ModuleDict({"h": nn.ModuleList(nn.Linear(8, 8) for _ in range(4))})
            self.head = nn.Linear(8, 3)

        def forward(self, stream: Tensor) -> Tensor:
            for layer in self.transformer.h:
                stream = layer(stream)
            return self.head(stream)

    model, x = Nano(), torch.randn(2, 3, 8)
    with surgery(model, "3 1"):
        assert_same(model(x), model.head(model.transformer.h[1](model.transformer.h[3](x))))
    assert_same(model(x), Nano.forward(model, x))


def test_no_list_of_layers() -> None:
    with pytest.raises(SurgeryError, match="Linear has no list of layers that can be recognised: give its path"):
        LayerStack.find(nn.Linear(3, 3))


def test_several_lists_of_layers() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left = make_model("llama", 3, head="bare")
            self.right = make_model("llama", 3, head="bare")

    with pytest.raises(SurgeryError, match=r"several lists of layers \(left\.layers, right\.layers\): give"):
        LayerStack.find(Two())


def small(kind: Any, config: Any) -> nn.Module:
    torch.manual_seed(0)
    return kind(config)


T5 = {"vocab_size": 60, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_heads": 4}
REFUSED = [
    (T5ForConditionalGeneration, T5Config(**T5), "is an encoder-decoder, and a plan runs one stack: say stack="),
    (
        AlbertModel,
        AlbertConfig(embedding_size=16, **SIZE),
        r"\(AlbertLayer(Group)?\) are one shared layer that the model runs again and again",
    ),
    (
        SwinModel,
        SwinConfig(embed_dim=8, depths=[2, 2], num_heads=[2, 2], image_size=32),
        r"holds stages \(SwinStage\) .*shapes change .*: give the path .* such as encoder\.layers\.0\.blocks",
    ),
]


@pytest.mark.parametrize(("kind", "config", "message"), REFUSED, ids=lambda v: getattr(v, "__name__", ""))
def test_stacks_that_are_refused(kind: Any, config: Any, message: str) -> None:
    with pytest.raises(SurgeryError, match=message):
        surgery(small(kind, config), "0").__enter__()


def test_an_inner_stage_of_a_hierarchical_stack() -> None:
    model = small(
        SwinModel, SwinConfig(embed_dim=8, depths=[2, 3], num_heads=[2, 2], image_size=32, window_size=2)
    ).eval()
    pixels = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        before = model(pixels).last_hidden_state
        with surgery(model, "0-2", path="encoder.layers.1.blocks"):
            assert_same(model(pixels).last_hidden_state, before)
        with surgery(model, "2-0", path="encoder.layers.1.blocks"):
            assert not torch.equal(model(pixels).last_hidden_state, before)


def test_layers_that_share_keys_and_values() -> None:
    model = make_model("gemma3", 5)
    model.config.num_kv_shared_layers = 2
    with pytest.raises(SurgeryError, match="its late layers read the keys and values of earlier layers"):
        LayerStack.find(model)
    assert "Gemma3nTextDecoderLayer" in SPECIAL
    assert Gemma3nTextConfig().num_kv_shared_layers


# torch's own compiler uses what torch itself has deprecated
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("how", ["torch.compile(model)", "model.compile()", "the inner model"])
def test_compiled_models_are_refused(how: str) -> None:
    model: Any = make_model("llama", 5)
    if how == "model.compile()":
        model.compile()
    elif how == "the inner model":
        model.model = torch.compile(model.model)
    else:
        model = torch.compile(model)
    with pytest.raises(SurgeryError, match=r"compiled as a whole.*: compile the layers instead .*compile\(\)"):
        surgery(model, "0-4").__enter__()


def test_compiled_layers_are_welcome() -> None:
    """With a backend that compiles nothing, since what matters is that they are found and called."""
    model, ids, plan = make_model("llama", 5), tokens(2, 9), "4-0 0.attn"
    with torch.inference_mode():
        with surgery(model, plan):
            expected = model(ids, use_cache=False).logits
        for i in range(5):
            model.model.layers[i] = torch.compile(model.model.layers[i], backend="eager")
        with surgery(model, plan):
            assert_same(model(ids, use_cache=False).logits, expected)


def test_every_special_row_is_of_a_known_kind() -> None:
    """A row says something: a tuple or a reason, and names whole words that fit their sentence."""
    for name, special in SPECIAL.items():
        assert special.returns or special.hands_on or special.refused or special.own_state or special.stacks_outputs, (
            name
        )
        assert special.refused is None or not special.refused.endswith("."), name
