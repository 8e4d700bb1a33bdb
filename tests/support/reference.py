"""The oracle: the model as a plain loop over its layers, slow and obvious, with nothing of the engine in it.

One function per family does by hand what the model's own forward does: embed, prepare masks and rotary
tables, loop, norm. In the loop every layer gets the mask and the rotary table of its own type. No cache
anywhere: greedy decoding runs everything again for every token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from support.models import ARCHITECTURES, CACHE
from torch import Tensor, nn
from torch.nn.functional import gelu
from transformers import PreTrainedModel
from transformers.masking_utils import (
    create_bidirectional_mask,
    create_bidirectional_sliding_window_mask,
    create_causal_mask,
    create_sliding_window_causal_mask,
)

from painters import Plan
from painters.plan import Half, Layer, Step

RunLayer = Callable[[int, Half | None, Tensor], Tensor]
Family = Callable[[nn.Module, Plan, Tensor, Tensor | None, Tensor | None], Tensor]


def wide(tensor: Tensor) -> Tensor:
    """The tensor in float32 if it is in half precision."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def follow(steps: Sequence[Step], hidden: Tensor, run: RunLayer) -> Tensor:
    """The stream after `steps` on `hidden`."""
    for step in steps:
        if isinstance(step, Layer):
            hidden = run(step.index, step.half, hidden)
            continue
        if step.merge == "mean":
            hidden = torch.stack([follow(branch, hidden, run) for branch in step.branches]).mean(0)
        else:
            output = follow(step.branches[0], hidden, run)
            kind = output.dtype
            change = wide(output) - wide(hidden)
            for branch in step.branches[1:]:
                output = follow(branch, hidden, run)
                kind = torch.promote_types(kind, output.dtype)
                change = change + (wide(output) - wide(hidden))
            hidden = (wide(hidden) + change).to(kind)  # the outputs may be wider than what enters
    return hidden


def llama(base: Any, plan: Plan, ids: Tensor, mask: Tensor | None, positions: Tensor | None) -> Tensor:
    """Llama, Mistral, Qwen2, Qwen3, Phi-3, Gemma2, Gemma3."""
    config = base.config
    hidden = base.embed_tokens(ids)
    if positions is None:
        positions = torch.arange(ids.shape[1])[None]
    asked = {"config": config, "inputs_embeds": hidden, "attention_mask": mask, CACHE: None}
    masks = {"full_attention": create_causal_mask(**asked, position_ids=positions)}
    if getattr(config, "sliding_window", None) is not None:
        masks["sliding_attention"] = create_sliding_window_causal_mask(**asked, position_ids=positions)
    types = getattr(config, "layer_types", None)
    if types is None:
        types = [list(masks)[-1]] * len(base.layers)
    per_type = config.model_type == "gemma3_text"
    rotary = {t: base.rotary_emb(hidden, positions, *([t] if per_type else [])) for t in set(types)}

    def run(i: int, half: Half | None, hidden: Tensor) -> Tensor:
        layer = base.layers[i]
        given = {
            "attention_mask": masks[types[i]],
            "position_embeddings": rotary[types[i]],
            "position_ids": positions,
            CACHE: None,
        }
        if half is None:
            return layer(hidden, **given)
        return attention_half(layer, hidden, given) if half == "attn" else mlp_half(layer, hidden)

    return base.norm(follow(plan.steps, hidden, run))


def attention_half(layer: Any, hidden: Tensor, given: dict[str, Any]) -> Tensor:
    change = layer.self_attn(hidden_states=layer.input_layernorm(hidden), **given)[0]
    if hasattr(layer, "pre_feedforward_layernorm"):  # Gemma2 and Gemma3 norm on both sides
        change = layer.post_attention_layernorm(change)
    return hidden + change


def mlp_half(layer: Any, hidden: Tensor) -> Tensor:
    if hasattr(layer, "pre_feedforward_layernorm"):
        return hidden + layer.post_feedforward_layernorm(layer.mlp(layer.pre_feedforward_layernorm(hidden)))
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden))


def gpt2(base: Any, plan: Plan, ids: Tensor, mask: Tensor | None, positions: Tensor | None) -> Tensor:
    if positions is None:
        positions = torch.arange(ids.shape[1])[None]
    embedded = base.wte(ids)
    causal = create_causal_mask(
        config=base.config,
        inputs_embeds=embedded,
        attention_mask=mask,
        **{CACHE: None},
        position_ids=positions,
    )
    hidden = embedded + base.wpe(positions)

    def run(i: int, half: Half | None, x: Tensor) -> Tensor:
        layer = base.h[i]
        if half is None:
            return layer(x, None, causal, position_ids=positions)
        if half == "attn":
            return x + layer.attn(layer.ln_1(x), attention_mask=causal, position_ids=positions)[0]
        return x + layer.mlp(layer.ln_2(x))

    return base.ln_f(follow(plan.steps, hidden, run))


def gpt_neox(base: Any, plan: Plan, ids: Tensor, mask: Tensor | None, positions: Tensor | None) -> Tensor:
    if positions is None:
        positions = torch.arange(ids.shape[1])[None]
    hidden = base.embed_in(ids)
    causal = create_causal_mask(
        config=base.config,
        inputs_embeds=hidden,
        attention_mask=mask,
        **{CACHE: None},
        position_ids=positions,
    )
    rotary = base.rotary_emb(hidden, positions)

    def run(i: int, half: Half | None, x: Tensor) -> Tensor:
        layer, given = base.layers[i], {"attention_mask": causal, "position_embeddings": rotary}
        if half is None:
            return layer(x, position_ids=positions, **given)
        if half == "attn":
            return x + layer.attention(layer.input_layernorm(x), **given)[0]
        return x + layer.mlp(layer.post_attention_layernorm(x))

    return base.final_layer_norm(follow(plan.steps, hidden, run))


def opt(base: Any, plan: Plan, ids: Tensor, mask: Tensor | None, positions: Tensor | None) -> Tensor:
    decoder = base.decoder
    seen = torch.ones(ids.shape) if mask is None else mask
    if positions is None:
        positions = (torch.cumsum(seen, dim=1) * seen - 1).long()
    hidden = decoder.embed_tokens(ids)
    causal = create_causal_mask(config=decoder.config, inputs_embeds=hidden, attention_mask=mask, **{CACHE: None})
    hidden = hidden + decoder.embed_positions(seen, 0, position_ids=positions)

    def run(i: int, half: Half | None, x: Tensor) -> Tensor:
        layer = decoder.layers[i]
        if half is None:
            return layer(x, attention_mask=causal, position_ids=positions)
        norm = layer.self_attn_layer_norm if half == "attn" else layer.final_layer_norm
        y = norm(x) if layer.do_layer_norm_before else x
        if half == "attn":
            y = layer.self_attn(y, attention_mask=causal, position_ids=positions)[0]
        else:
            y = layer.fc2(torch.relu(layer.fc1(y)))
        return x + y if layer.do_layer_norm_before else norm(x + y)

    hidden = follow(plan.steps, hidden, run)
    return hidden if decoder.final_layer_norm is None else decoder.final_layer_norm(hidden)


def bert(base: Any, plan: Plan, ids: Tensor, mask: Tensor | None, positions: Tensor | None) -> Tensor:
    """BERT, RoBERTa, ELECTRA."""
    hidden = base.embeddings(input_ids=ids, position_ids=positions)
    if hasattr(base, "embeddings_project"):
        hidden = base.embeddings_project(hidden)
    both_ways = create_bidirectional_mask(config=base.config, inputs_embeds=hidden, attention_mask=mask)

    def run(i: int, half: Half | None, x: Tensor) -> Tensor:
        layer = base.encoder.layer[i]
        if half is None:
            return layer(x, both_ways)
        if half == "attn":
            output = layer.attention.output
            return output.LayerNorm(x + output.dense(layer.attention.self(x, attention_mask=both_ways)[0]))
        return layer.output.LayerNorm(x + layer.output.dense(gelu(layer.intermediate.dense(x))))

    return follow(plan.steps, hidden, run)


def distilbert(base: Any, plan: Plan, ids: Tensor, mask: Tensor | None, positions: Tensor | None) -> Tensor:
    hidden = base.embeddings(ids, None, positions)
    both_ways = create_bidirectional_mask(config=base.config, inputs_embeds=hidden, attention_mask=mask)

    def run(i: int, half: Half | None, x: Tensor) -> Tensor:
        layer = base.transformer.layer[i]
        if half is None:
            return layer(x, both_ways)
        if half == "attn":
            return layer.sa_layer_norm(x + layer.attention(x, attention_mask=both_ways)[0])
        return layer.output_layer_norm(x + layer.ffn.lin2(gelu(layer.ffn.lin1(x))))

    return follow(plan.steps, hidden, run)


def modernbert(base: Any, plan: Plan, ids: Tensor, mask: Tensor | None, positions: Tensor | None) -> Tensor:
    if positions is None:
        positions = torch.arange(ids.shape[1])[None]
    hidden = base.embeddings(input_ids=ids)
    asked = {"config": base.config, "inputs_embeds": hidden, "attention_mask": mask}
    masks = {
        "full_attention": create_bidirectional_mask(**asked),
        "sliding_attention": create_bidirectional_sliding_window_mask(**asked),
    }
    types = base.config.layer_types
    rotary = {t: base.rotary_emb(hidden, positions, t) for t in masks}

    def run(i: int, half: Half | None, x: Tensor) -> Tensor:
        layer, given = base.layers[i], {"attention_mask": masks[types[i]], "position_embeddings": rotary[types[i]]}
        if half is None:
            return layer(x, **given)
        if half == "attn":
            return x + layer.attn(layer.attn_norm(x), **given)[0]
        return x + layer.mlp(layer.mlp_norm(x))

    return base.final_norm(follow(plan.steps, hidden, run))


FAMILIES: dict[str, Family] = {
    "llama": llama,
    "gpt2": gpt2,
    "gpt_neox": gpt_neox,
    "opt": opt,
    "bert": bert,
    "distilbert": distilbert,
    "modernbert": modernbert,
}


def hidden_states(
    architecture: str, model: PreTrainedModel, plan: Plan, ids: Tensor, mask: Tensor | None = None
) -> Tensor:
    """The last hidden state [batch, seq, hidden] of `model` (with any head) under `plan`."""
    return FAMILIES[ARCHITECTURES[architecture].family](model.base_model, plan, ids, mask, None)


def logits(
    architecture: str,
    model: Any,
    plan: Plan,
    ids: Tensor,
    mask: Tensor | None = None,
    positions: Tensor | None = None,
) -> Tensor:
    """The logits [batch, seq, vocabulary] of a language model, causal or masked, under `plan`."""
    hidden = FAMILIES[ARCHITECTURES[architecture].family](model.base_model, plan, ids, mask, positions)
    scores = language_head(architecture, model, hidden)
    cap = getattr(model.config, "final_logit_softcapping", None)
    return scores if cap is None else torch.tanh(scores / cap) * cap


def language_head(architecture: str, model: Any, hidden: Tensor) -> Tensor:
    match architecture:
        case "bert":
            return model.cls(hidden)
        case "electra":
            return model.generator_lm_head(model.generator_predictions(hidden))
        case "distilbert":
            return model.vocab_projector(model.vocab_layer_norm(model.activation(model.vocab_transform(hidden))))
        case "modernbert":
            return model.decoder(model.head(hidden))
        case "gpt_neox":  # called embed_out in older releases
            return model.get_output_embeddings()(hidden)
        case _:
            return model.lm_head(hidden)


def classes(architecture: str, model: Any, plan: Plan, ids: Tensor, mask: Tensor | None = None) -> Tensor:
    """The scores [batch, classes] of a sequence classifier under `plan`."""
    hidden = FAMILIES[ARCHITECTURES[architecture].family](model.base_model, plan, ids, mask, None)
    match architecture:
        case "bert":
            return model.classifier(model.bert.pooler(hidden))
        case "roberta" | "electra":
            return model.classifier(hidden)
        case "distilbert":
            return model.classifier(torch.relu(model.pre_classifier(hidden[:, 0])))
        case "modernbert":
            return model.classifier(model.head(hidden[:, 0]))
        case _:  # decoders score the last token that is no padding
            last = (torch.arange(ids.shape[1]) * (ids != model.config.pad_token_id)).argmax(-1)
            return model.score(hidden)[torch.arange(len(ids)), last]


def assert_same(found: Tensor, expected: Tensor) -> None:
    """Nothing. Bitwise equal everywhere, padding included: both run the very same operations there too."""
    assert not torch.isnan(expected).any()
    assert torch.equal(found, expected), f"off by {(found - expected).abs().max():.2e}"


def greedy(
    architecture: str, model: PreTrainedModel, plan: Plan, ids: Tensor, mask: Tensor, new_tokens: int
) -> tuple[Tensor, Tensor]:
    """Prompts [batch, seq] padded on the left, with `new_tokens` likeliest tokens behind them, and the logits
    [batch, new_tokens, vocabulary] that these were chosen from."""
    chosen_from = []
    for _ in range(new_tokens):
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        scores = logits(architecture, model, plan, ids, mask, positions)[:, -1]
        chosen_from.append(scores)
        ids = torch.cat([ids, scores.argmax(-1, keepdim=True)], dim=1)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    return ids, torch.stack(chosen_from, dim=1)
