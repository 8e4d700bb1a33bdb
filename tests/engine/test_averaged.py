"""kv="averaged" is the cache of the paper's released code: against a plain re-implementation for Llama."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.models import CACHE, make_model, padded_batch, prompts, shared_model, tokens
from torch import Tensor
from transformers import StaticCache
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from painters import Plan, surgery
from painters.engine import SurgeryError
from painters.plan import Layer, Parallel

NEW_TOKENS = 12
KeysValues = tuple[Tensor, Tensor]
GROUPS = ["0-1 {2-4} 5 6", "0 {1-5}*3 6", "{0 1} {2 2 3} 4-6", "0-4 {5 6}:sum"]


class Released:
    """Llama with the released cache, written out: a list of (keys, values), one pair per step of the plan.

    More than one token: every member of a group attends to its own keys and values, and their means are kept.
    One token: every member attends to what is kept and to its own pair, and the means are appended.
    """

    def __init__(self, model: Any, plan: Plan) -> None:
        self.model, self.plan = model, plan
        self.kept: list[KeysValues] = []

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The logits [batch, vocabulary] of the last token; `mask` covers the past and `ids`."""
        base = self.model.model
        hidden = base.embed_tokens(ids)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        rotary = base.rotary_emb(hidden, positions)
        past, self.kept = self.kept, []
        for index, step in enumerate(self.plan.steps):
            before = past[index] if past else None
            members = [step] if isinstance(step, Layer) else [branch[0] for branch in step.branches]
            outputs, pairs = [], []
            for member in members:
                output, pair = self.layer(base.layers[member.index], hidden, rotary, before, mask)
                outputs.append(output)
                pairs.append(pair)
            if isinstance(step, Parallel) and step.merge == "sum":
                hidden = hidden + torch.stack([output - hidden for output in outputs]).sum(0)
            else:
                hidden = torch.stack(outputs).mean(0)
            keys, values = (torch.stack(part).mean(0) for part in zip(*pairs, strict=True))
            if before is not None:
                keys, values = torch.cat([before[0], keys], dim=2), torch.cat([before[1], values], dim=2)
            self.kept.append((keys, values))
        return self.model.lm_head(base.norm(hidden))[:, -1]

    def layer(
        self, layer: Any, hidden: Tensor, rotary: KeysValues, past: KeysValues | None, mask: Tensor
    ) -> tuple[Tensor, KeysValues]:
        """The stream after the layer, and the keys and values that these tokens add."""
        attention = layer.self_attn
        x = layer.input_layernorm(hidden)
        shape = (*x.shape[:2], -1, attention.head_dim)
        query, key, value = (
            project(x).view(shape).transpose(1, 2) for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        query, key = apply_rotary_pos_emb(query, key, *rotary)
        keys, values = key, value
        if past is not None:
            keys, values = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        groups = query.shape[1] // keys.shape[1]
        scores = query @ keys.repeat_interleave(groups, dim=1).transpose(2, 3) * attention.head_dim**-0.5
        num_queries, num_keys = scores.shape[2:]
        visible = torch.ones(num_queries, num_keys).tril(num_keys - num_queries).bool()
        visible = visible & mask.bool()[:, None, None]
        weights = scores.masked_fill(~visible, -1e9).softmax(-1)
        mixed = weights @ values.repeat_interleave(groups, dim=1)
        hidden = hidden + attention.o_proj(mixed.transpose(1, 2).flatten(2))
        return hidden + layer.mlp(layer.post_attention_layernorm(hidden)), (key, value)

    def generate(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        scores = [self.forward(ids, mask)]
        while True:
            ids = torch.cat([ids, scores[-1].argmax(-1, keepdim=True)], dim=1)
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            if len(scores) == NEW_TOKENS:
                return ids, torch.stack(scores, dim=1)
            scores.append(self.forward(ids[:, -1:], mask))


def generate(model: Any, **options: Any) -> tuple[Tensor, Tensor]:
    done = model.generate(
        **prompts(),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        **options,
    )
    return done.sequences, torch.stack(done.logits, dim=1)


@pytest.mark.parametrize("text", GROUPS)
def test_it_generates_what_the_released_cache_generates(text: str) -> None:
    model, plan = shared_model("llama", 7), Plan.parse(text)
    with torch.inference_mode():
        expected, scores = Released(model, plan).generate(*prompts().values())
        with surgery(model, plan, kv="averaged"):
            found, found_scores = generate(model)
    assert torch.equal(found, expected)
    torch.testing.assert_close(found_scores, scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("text", GROUPS)
def test_it_is_exact_for_the_prompt_only(text: str) -> None:
    """The first new token is that of the exact cache, the logits of later ones are far off."""
    model = shared_model("llama", 7)
    with torch.inference_mode():
        with surgery(model, text):
            exact = generate(model)[1]
        with surgery(model, text, kv="averaged"):
            averaged = generate(model)[1]
    assert torch.equal(averaged[:, 0], exact[:, 0])
    assert (averaged[:, 1] - exact[:, 1]).abs().mean() > 0.05


@pytest.mark.parametrize("text", ["0-6", "0-1 {3}*2 5", "0 2 2 {4} 6", "6-1"])
def test_without_groups_it_is_exact(text: str) -> None:
    """A group of one member averages nothing."""
    model = shared_model("llama", 7)
    with torch.inference_mode():
        with surgery(model, text):
            exact, scores = generate(model)
        with surgery(model, text, kv="averaged"):
            found, found_scores = generate(model)
    assert torch.equal(found, exact)
    assert torch.equal(found_scores, scores)


@pytest.mark.parametrize("text", GROUPS)
def test_without_a_cache_it_is_exact(text: str) -> None:
    model = shared_model("llama", 7)
    ids, mask = padded_batch()
    with torch.inference_mode():
        with surgery(model, text):
            expected = model(ids, attention_mask=mask, use_cache=False).logits
        with surgery(model, text, kv="averaged"):
            assert torch.equal(model(ids, attention_mask=mask, use_cache=False).logits, expected)
            assert torch.equal(model(ids, attention_mask=mask).logits, expected)


def test_one_slot_per_executed_group() -> None:
    model, ids = shared_model("llama", 7), tokens(2, 9)
    with torch.inference_mode(), surgery(model, "0 {1-3}*3 {4 5} 6", kv="averaged"):
        cache = model(ids, use_cache=True)[CACHE]
        model(ids[:, :1], **{CACHE: cache})
    assert [layer.get_seq_length() for layer in cache.layers] == [10] * 9
    widths = [layer.keys.shape[3] for layer in cache.layers]
    assert widths == [
        8,
        8,
        1,
        1,
        8,
        1,
        8,
        8,
        8,
    ]  # 0, 1-3, two idle, 4-5, one idle, 6, and two more loops of 1-3


def test_a_prompt_of_one_token() -> None:
    model, ids = shared_model("llama", 7), tokens(2, 6)
    with torch.inference_mode():
        released = Released(model, plan := Plan.parse(GROUPS[1]))
        with surgery(model, plan, kv="averaged"):
            cache = None
            for i in range(6):
                output = model(ids[:, i : i + 1], **{CACHE: cache}, use_cache=True)
                cache = output[CACHE]
                expected = released.forward(ids[:, i : i + 1], torch.ones(2, i + 1, dtype=torch.long))
                torch.testing.assert_close(output.logits[:, -1], expected, rtol=1e-4, atol=1e-4)


def test_beams() -> None:
    """Beams reorder the shared slots: with one beam per prompt nothing changes, and three run."""
    model = shared_model("llama", 7)
    with torch.inference_mode(), surgery(model, GROUPS[0], kv="averaged"):
        found = model.generate(**prompts(), max_new_tokens=8, do_sample=False, num_beams=3)
    assert found.shape == (3, 17)


@pytest.mark.parametrize(("text", "group"), [("0 {(1 2) 3} 6", r"\{\(1-2\) 3\}"), ("0 {1.attn 2}", r"\{1\.attn 2\}")])
def test_groups_of_anything_but_whole_layers(text: str, group: str) -> None:
    with pytest.raises(SurgeryError, match=f"averages .* of single whole layers, but {group} has other branches"):
        surgery(shared_model("llama", 7), text, kv="averaged").__enter__()


def test_layers_of_several_attentions() -> None:
    model = make_model("llama", 7)
    model.model.layers[2].mlp.layer_idx = 7
    with pytest.raises(
        SurgeryError, match=r"averaged' needs layers with one attention each, unlike LlamaDecoderLayer$"
    ):
        surgery(model, "0 {1-3} 6", kv="averaged").__enter__()
    with surgery(model, "0 {3-4} 6", kv="averaged"):
        pass


def test_several_tokens_on_top_of_a_filled_cache() -> None:
    model, ids = shared_model("llama", 7), tokens(2, 9)
    with torch.inference_mode(), surgery(model, "0 {1-3} 6", kv="averaged"):
        cache = model(ids, use_cache=True)[CACHE]
        with pytest.raises(SurgeryError, match="one prompt and then single tokens, but 3 tokens came on top"):
            model(ids[:, :3], **{CACHE: cache})


def test_other_caches() -> None:
    model, ids = shared_model("llama", 7), tokens(2, 9)
    plan = "0 {1-3} 6"
    with torch.inference_mode(), surgery(model, plan, kv="averaged"):
        static = StaticCache(model.config, max_cache_len=12)
        with pytest.raises(SurgeryError, match=r"defined for a DynamicCache .*and this is a StaticCache of Static"):
            model(ids, **{CACHE: static})
    sliding, found = make_model("gemma3", 7), "is a DynamicCache of DynamicSlidingWindowLayer, DynamicLayer"
    with (
        torch.inference_mode(),
        surgery(sliding, plan, kv="averaged"),
        pytest.raises(SurgeryError, match=found),
    ):
        sliding(ids)
