"""Sparse layers under plans: router logits of every execution, and losses where no sparse layer runs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import pytest
import torch
from architectures.check import ready

from painters import surgery
from painters.engine import SurgeryError

OPTION = "output_router_logits"


@cache
def made(model_type: str) -> tuple[Any, dict[str, Any]]:
    model, given = ready(model_type)
    return model, given | {"labels": given.get("decoder_input_ids", given["input_ids"])}


@pytest.mark.parametrize("by_configuration", [False, True])
@pytest.mark.parametrize(
    ("model_type", "text"),
    [
        ("jamba", "0 2 4"),  # layers 1 and 3 are sparse
        ("mixtral", "0.attn 1.attn"),  # every MLP is sparse
        ("qwen2_moe", "0.attn"),
        ("olmoe", "{0.attn 1.attn}:sum"),
        ("deepseek_v3", "0-2"),  # computes no loss of its routers
    ],
)
def test_without_a_sparse_layer_the_loss_is_that_of_the_labels(
    model_type: str, text: str, by_configuration: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, given = made(model_type)
    with torch.inference_mode(), surgery(model, text):
        expected = model(**given)
        if by_configuration:
            monkeypatch.setattr(model.config, OPTION, True, raising=False)
        output = model(**given, **({} if by_configuration else {OPTION: True}))
    assert torch.equal(output.loss, expected.loss)
    assert getattr(output, "aux_loss", None) is None
    assert not output.get("router_logits")


def test_with_a_sparse_layer_the_loss_has_that_of_its_routers() -> None:
    model, given = made("jamba")
    with torch.inference_mode():
        for text, runs in {"0 1": 1, "1*3 0": 3, "0-4": 2}.items():
            with surgery(model, text):
                output, without = model(**given, **{OPTION: True}), model(**given)
            assert len(output.router_logits) == runs
            added = model.config.router_aux_loss_coef * output.aux_loss
            torch.testing.assert_close(output.loss, without.loss + added)
        outside = model(**given, **{OPTION: True})
        assert torch.equal(outside.loss, output.loss)


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_an_encoder_decoder_needs_the_routers_of_both(stack: str) -> None:
    model, given = made("nllb-moe")
    with torch.inference_mode(), surgery(model, "0", stack=stack):
        with pytest.raises(
            SurgeryError, match=r'the plan "0" runs none of the sparse layers .* \(3\): pass output_router'
        ):
            model(**given, **{OPTION: True})
        assert torch.isfinite(model(**given).loss)
    with torch.inference_mode(), surgery(model, "3", stack=stack):
        assert torch.isfinite(model(**given, **{OPTION: True}).loss)


def test_another_thread_keeps_the_losses_of_its_routers() -> None:
    model, given = made("jamba")

    def loss() -> torch.Tensor:
        with torch.inference_mode():
            found: torch.Tensor = model(**given, **{OPTION: True}).loss
        return found

    intact = loss()
    with ThreadPoolExecutor(1) as pool, surgery(model, "0 2 4", threads="own"):
        assert torch.equal(pool.submit(loss).result(), intact)
        assert not torch.equal(loss(), intact)
