"""Every kind of cache and mode of generation is exact under every kind of plan, or refused, as docs/caches.md says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf
from support.cache_cases import CACHES, LAYERS, MODES, PAGE, PLANS, REFUSED, Row, batch, model_of, page, single
from support.models import CACHE, SIZE, TOKENS, make_model, prompts, shared_model, tokens
from support.unrolled import unrolled
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer
from transformers.generation.continuous_batching import PagedAttentionCache

from painters import Plan, surgery
from painters.engine import SurgeryError

PATHS = {"llama": "model.layers", "mistral": "model.layers", "gpt2": "transformer.h"}


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(PAGE.read_text()), "run `PYTHONPATH=tests python tests/support/cache_cases.py`"


@pytest.mark.filterwarnings("ignore:.*mark_static_address:UserWarning")
@pytest.mark.parametrize(
    ("row", "name"), [pytest.param(row, name, id=f"{row.what}-{name}") for row in CACHES + MODES for name in row.models]
)
def test_exact(row: Row, name: str) -> None:
    model = model_of(name)
    with torch.inference_mode():
        for label, text in PLANS.items():
            plan = Plan.parse(text)
            expected = (row.expected or row.run)(unrolled(model, PATHS[name], plan))
            with surgery(model, plan):
                found = row.run(model)
            assert torch.equal(found, expected), label


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.what)
def test_refused(row: Row) -> None:
    model = make_model("llama", LAYERS)
    for text in PLANS.values():
        # ValueError is transformers' own refusal, which comes first where it has one.
        with torch.inference_mode(), surgery(model, text), pytest.raises((SurgeryError, ValueError), match=row.refused):
            row.run(model)
    assert model.config.num_hidden_layers == LAYERS


@pytest.mark.parametrize(
    "options", [{}, {"cache_implementation": "static"}, {"num_beams": 3}, {"prefill_chunk_size": 4}]
)
@pytest.mark.parametrize("name", ["gemma3", "qwen3"])
def test_layers_of_two_kinds(name: str, options: dict[str, Any]) -> None:
    """Sliding and full layers in one plan, where no stock model could stand for a parallel step."""
    model = model_of(name)
    for text in PLANS.values():
        with torch.inference_mode(), surgery(model, text):
            expected = batch(num_beams=options.get("num_beams", 1), use_cache=False)(model)
            assert torch.equal(batch(**options)(model), expected), text


@pytest.mark.parametrize("name", ["gemma3", "qwen3"])
def test_drafts_are_taken_back_in_layers_of_two_kinds(name: str) -> None:
    model = model_of(name)
    for text in PLANS.values():
        with torch.inference_mode(), surgery(model, text):
            expected = single(use_cache=False)(model)
            assert torch.equal(single(prompt_lookup_num_tokens=3)(model), expected), text


HYBRIDS: dict[str, Any] = {
    "mamba": lambda: hf.MambaConfig(num_hidden_layers=LAYERS, hidden_size=32, state_size=8, **TOKENS),
    "jamba": lambda: hf.JambaConfig(
        num_hidden_layers=LAYERS,
        attn_layer_period=2,
        attn_layer_offset=1,
        num_experts=2,
        mamba_d_state=8,
        use_mamba_kernels=False,
        num_key_value_heads=2,
        **SIZE,
    ),
    "lfm2": lambda: hf.Lfm2Config(
        num_hidden_layers=LAYERS, layer_types=["conv", "full_attention"] * 2, num_key_value_heads=2, **SIZE
    ),
    "gpt_oss": lambda: hf.GptOssConfig(
        num_hidden_layers=LAYERS,
        layer_types=["sliding_attention", "full_attention"] * 2,
        sliding_window=4,
        head_dim=8,
        num_local_experts=2,
        num_experts_per_tok=1,
        num_key_value_heads=2,
        **SIZE,
    ),
}


def randomised(model: Any) -> Any:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.eval()


def logits(model: Any, prompt: dict[str, Tensor], **options: Any) -> Tensor:
    """What seeded sampling of a few tokens chose from, in order."""
    torch.manual_seed(3)
    done = model.generate(
        **prompt, max_new_tokens=6, do_sample=True, output_logits=True, return_dict_in_generate=True, **options
    )
    return torch.stack(done.logits, dim=1)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("name", HYBRIDS)
def test_states_and_sinks(name: str, static: bool) -> None:
    """A recurrent layer has one state per execution, and a sink belongs to its layer."""
    model = randomised(hf.AutoModelForCausalLM.from_config(HYBRIDS[name]()))
    options = {"cache_implementation": "static"} if static else {}
    for text in PLANS.values():
        with torch.inference_mode(), surgery(model, text):
            expected = logits(model, prompts(), use_cache=False)
            torch.testing.assert_close(logits(model, prompts(), **options), expected, rtol=1e-4, atol=1e-4)


def test_drafts_are_taken_back_where_recurrent_layers_are_idle() -> None:
    model = randomised(hf.AutoModelForCausalLM.from_config(HYBRIDS["lfm2"]()))
    for text in PLANS.values():
        with torch.inference_mode(), surgery(model, text):
            expected = single(use_cache=False)(model)
            assert torch.equal(single(prompt_lookup_num_tokens=3)(model), expected), text


def test_states_that_layers_keep_in_themselves() -> None:
    config = hf.RecurrentGemmaConfig(
        num_hidden_layers=LAYERS,
        lru_width=32,
        attention_window_size=8,
        block_types=["recurrent", "attention"],
        num_key_value_heads=1,
        **SIZE,
    )
    model = randomised(hf.AutoModelForCausalLM.from_config(config))
    for text in PLANS.values():
        with torch.inference_mode(), surgery(model, text):
            expected = logits(model, prompts(), use_cache=False)
            runs = [layer.index for layer in Plan.parse(text).walk()]
            if len(runs) == len(set(runs)):
                torch.testing.assert_close(logits(model, prompts()), expected, rtol=1e-4, atol=1e-4)
            else:
                with pytest.raises(
                    SurgeryError, match=r"keeps a state in its Recurrent.* more than once: pass use_cache"
                ):
                    logits(model, prompts())


def test_layers_that_share_a_slot_have_one_each_under_the_identity() -> None:
    """A merged model, whose two uses of one layer would write to one slot."""
    model, ids = make_model("llama", LAYERS), tokens(2, 9)
    model.model.layers[2] = model.model.layers[1]
    with torch.inference_mode(), surgery(model, "0-3"):
        expected = model(ids, use_cache=False).logits
        cache = DynamicCache(config=model.config)
        found = [model(piece, **{CACHE: cache}, use_cache=True).logits for piece in ids.split([6, 1, 2], dim=1)]
    torch.testing.assert_close(torch.cat(found, dim=1), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("plan", ["0 2", "3-0", "0 0 1-3"])
def test_a_cache_of_states_belongs_to_its_plan(plan: str) -> None:
    model, ids = randomised(hf.AutoModelForCausalLM.from_config(HYBRIDS["mamba"]())), tokens(2, 9)
    name = "cache" if CACHE == "cache" else "cache_params"
    with torch.inference_mode():
        with surgery(model, plan):
            cache = model(ids, use_cache=True)[name]
        with pytest.raises(SurgeryError, match=r"filled under the plan .*, not by the intact model"):
            model(ids[:, :1], **{name: cache})
        cache.reset()
        with surgery(model, "0-3"):
            found = model(ids, **{name: cache}).logits
        torch.testing.assert_close(found, model(ids, use_cache=False).logits)


@pytest.fixture(scope="module")
def translator() -> Any:
    torch.manual_seed(0)
    config = hf.M2M100Config(
        d_model=32,
        encoder_layers=3,
        encoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_layers=LAYERS,
        decoder_attention_heads=4,
        decoder_ffn_dim=48,
        decoder_start_token_id=2,
        max_position_embeddings=64,
        **TOKENS,
    )
    return randomised(hf.M2M100ForConditionalGeneration(config))


@pytest.mark.parametrize("options", [{}, {"cache_implementation": "static"}, {"num_return_sequences": 2}])
def test_encoder_decoder(translator: Any, options: dict[str, Any]) -> None:
    rows = {"num_return_sequences": options.get("num_return_sequences", 1)}
    for text in PLANS.values():
        with torch.inference_mode(), surgery(translator, text, stack="decoder"):
            expected = logits(translator, prompts(), use_cache=False, **rows)
            torch.testing.assert_close(logits(translator, prompts(), **options), expected, rtol=1e-4, atol=1e-4)


def test_encoder_decoder_offloaded(translator: Any) -> None:
    found = r"given an offloaded DynamicCache beside an encoder's, .*: use a DynamicCache"
    with torch.inference_mode(), surgery(translator, "1-3", stack="decoder"), pytest.raises(SurgeryError, match=found):
        batch(cache_implementation="offloaded")(translator)


@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_offloaded_slots_are_fetched_as_they_are_due(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a stand-in for the CPU that loses what is read without being fetched."""
    away: dict[int, tuple[Any, Any]] = {}

    def offload(slot: Any) -> None:
        if slot.is_initialized:
            away[id(slot)] = slot.keys, slot.values
            slot.keys, slot.values = slot.keys.to("meta"), slot.values.to("meta")

    def prefetch(slot: Any) -> None:
        if slot.is_initialized:
            slot.keys, slot.values = away.pop(id(slot))

    monkeypatch.setattr(DynamicLayer, "offload", offload)
    monkeypatch.setattr(DynamicLayer, "prefetch", prefetch)
    model = model_of(name)
    for text in PLANS.values():
        with torch.inference_mode(), surgery(model, text):
            expected = batch()(model)
            assert torch.equal(batch(cache_implementation="offloaded")(model), expected), text
            assert len(away) == Plan.parse(text).layer_runs
        away.clear()


def test_a_quantised_cache_may_change_hands_when_emptied() -> None:
    model, ids = model_of("llama"), tokens(2, 9)
    cache = hf.QuantizedCache("fp8", model.config)
    with torch.inference_mode():
        for text in ("3 3 1", "0 {1 1 2}*2", "0-3", "1 0"):
            with surgery(model, text):
                assert torch.equal(model(ids, **{CACHE: cache}).logits, model(ids, use_cache=False).logits)
            cache.reset()
        assert {type(slot).__name__ for slot in cache.layers} != {"Fp8QuantizedLayer"}  # slots that stand in
        with surgery(model, "0-3"):
            model(ids, **{CACHE: cache})
        assert [type(slot).__name__ for slot in cache.layers] == ["Fp8QuantizedLayer"] * LAYERS


def test_a_cache_that_has_no_slots_for_repeats() -> None:
    """Continuous batching gives the layers a cache of another kind, by another name."""

    class PagedCache(PagedAttentionCache):
        def __init__(self) -> None:
            pass

        def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
            return key_states, value_states

    model, ids, paged = model_of("llama"), tokens(2, 9), PagedCache()
    given: dict[str, Any] = {"cache": paged, "use_cache": False, "position_ids": torch.arange(9)[None]}
    with torch.inference_mode():
        with surgery(model, "1 1.mlp {2 3}"):
            model(ids, **given)
        for text, kv in (("0 1 1", "exact"), ("{(0 1.attn) 1}", "exact"), ("0 {1 2}", "averaged")):
            found = r"given a PagedCache, in which the plan .* cannot place slots, .*: use `generate` with a Dyn"
            with surgery(model, text, kv=kv), pytest.raises(SurgeryError, match=found):  # type: ignore[arg-type]
                model(ids, **given)


@pytest.mark.slow
def test_continuous_batching() -> None:
    model = make_model("llama", LAYERS)
    ids = [tokens(1, 7, seed)[0].tolist() for seed in range(3)]
    settings = hf.GenerationConfig(max_new_tokens=8, do_sample=False, eos_token_id=-1, pad_token_id=0)
    for text in ("1-3", "0 {1 2} 3", "0 1 1 2 3"):
        with surgery(model, text):
            done = model.generate_batch(ids, generation_config=settings, progress_bar=False).values()
            expected = [model.generate(torch.tensor([row]), generation_config=settings)[0, 7:].tolist() for row in ids]
        if text == "0 1 1 2 3":
            assert all("cannot place slots" in output.error for output in done)
        else:
            assert [output.generated_tokens for output in done] == expected


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention(attention: str) -> None:
    model = shared_model("mistral", LAYERS, attention=attention)
    for text in PLANS.values():
        plan = Plan.parse(text)
        with torch.inference_mode():
            expected = batch()(unrolled(model, "model.layers", plan))
            with surgery(model, plan):
                assert torch.equal(batch()(model), expected), text


# torch's own compiler uses what torch itself has deprecated
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("intact_first", [True, False])
@pytest.mark.parametrize("what", ["a function", "the model", "its forward"])
def test_compiled_callers_follow_the_plan(what: str, intact_first: bool) -> None:
    """With a backend that compiles nothing: what matters is whether an old trace is used again."""
    torch._dynamo.reset()  # type: ignore[no-untyped-call]
    model, ids = make_model("llama", 2), tokens(2, 9)
    function = {"a function": lambda ids, **options: model(ids, **options), "its forward": model.forward}.get(
        what, model
    )
    compiled = torch.compile(function, backend="eager", fullgraph=True)

    def logits(call: Any) -> Tensor:
        result: Tensor = call(ids, use_cache=False).logits
        return result

    with torch.inference_mode():
        intact = logits(model)
        if intact_first:
            assert torch.equal(logits(compiled), intact)
        for text in ("1 0", "0 {0 1}*2"):
            with surgery(model, text):
                expected = logits(model)
                assert not torch.equal(expected, intact)
                for _ in range(3):
                    assert torch.equal(logits(compiled), expected)
            assert torch.equal(logits(compiled), intact)
    assert type(model.model.layers) is torch.nn.ModuleList


def test_a_wrapped_model_is_not_compiled_either() -> None:
    class Wrapper(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

    model = make_model("llama", LAYERS)
    with surgery(Wrapper(model), "1-3"):
        assert model.get_compiled_call(None) == model.__call__
    assert "get_compiled_call" not in vars(model)
