"""How far shared batches move log-likelihoods in each number type: what docs/exact.md says."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest
import torch

from painters import Plan, harness
from painters.harness.lm import language_model
from painters.harness.shared_lm import SharingLM

LIMITS = {"float32": (5e-6, 2e-5), "float16": (0.01, 0.1), "bfloat16": (0.06, 0.5)}
"""Number type -> nats, in the mean and at most."""


@functools.cache
def log_likelihoods(name: str, dtype: str, exact: bool) -> torch.Tensor:
    """Those of the intact nano-llama on the first documents of a task."""
    model, tokenizer = harness.load_model("nano-llama", dtype=dtype, device="cpu")
    (task,) = harness.prepare(name, limit=20)
    identity = Plan.identity(12)
    with language_model(SharingLM, model, tokenizer, 32) as lm:
        batches = lm.batches(task.requests, exact=exact)
        assert batches.exact is exact
        answers = lm.log_likelihoods([identity], task.requests, batches)[identity]
    return torch.tensor([value for value, _ in answers], dtype=torch.float64)


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("name", ["nano_arc", "nano_winogrande", "nano_hellaswag"])
def test_how_far_shared_batches_are_from_lm_evals(name: str, dtype: str) -> None:
    exact, shared = (log_likelihoods(name, dtype, kind) for kind in (True, False))
    mean, most = LIMITS[dtype]
    assert (shared - exact).abs().mean() < mean
    assert (shared - exact).abs().max() < most
    if dtype != "float32":
        assert (shared - exact).abs().max() > 2e-5  # the bound of single precision does not hold


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_in_half_precision_neither_kind_of_batch_is_nearer_to_float32(dtype: str) -> None:
    names = ["nano_arc", "nano_winogrande", "nano_hellaswag"]
    truth, exact, shared = (
        torch.cat([log_likelihoods(name, kind, batches) for name in names])
        for kind, batches in (("float32", True), (dtype, True), (dtype, False))
    )
    ratio = (shared - truth).abs().mean() / (exact - truth).abs().mean()
    assert 0.7 < ratio < 1.4


@pytest.mark.parametrize("page", ["exact", "faq", "honest", "sharing"])
def test_the_pages_say_for_which_number_type_the_bound_holds(page: str) -> None:
    text = " ".join((Path(__file__).parents[2] / "docs" / f"{page}.md").read_text().split())
    bounds = [text[max(0, found.start() - 120) : found.end() + 60] for found in re.finditer("2e-5 nats", text)]
    assert bounds
    assert all("float32" in bound for bound in bounds)
