"""Training under a plan: one step of AdamW leaves the parameters that it leaves with the plain loop, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support import reference
from support.learners import PLANS, loss_of, make_learner, under, with_checkpoints
from support.models import padded_batch, tokens
from support.reference import assert_same
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint
from transformers import Trainer, TrainingArguments

from painters import Plan, surgery
from painters.engine import SurgeryError

DROPOUT = 0.1


def step(model: Any, forward: Callable[[Any], Tensor], ids: Tensor) -> dict[str, Tensor | None]:
    """The gradients of one step of AdamW on the logits that `forward` gives."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    torch.manual_seed(5)
    loss_of(forward(model), ids).backward()
    optimizer.step()
    return {name: p.grad for name, p in model.named_parameters()}


def assert_same_step(
    make: Callable[[], Any], expected: Callable[[Any], Tensor], found: Callable[[Any], Tensor], ids: Tensor
) -> None:
    """Nothing. The two forwards leave the same parameters and the same gradients, None where no layer ran."""
    theirs, ours, untouched = make(), make(), make()
    expected_gradients, gradients = step(theirs, expected, ids), step(ours, found, ids)
    moved = False
    for (name, before), after, same in zip(
        untouched.named_parameters(), theirs.parameters(), ours.parameters(), strict=True
    ):
        assert_same(same, after)
        moved = moved or not torch.equal(before, after)
        gradient, other = gradients[name], expected_gradients[name]
        assert (gradient is None) == (other is None), name
        if gradient is not None and other is not None:
            assert_same(gradient, other)
    assert moved


@pytest.mark.parametrize("architecture", ["llama", "bert"])
@pytest.mark.parametrize("text", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("reentrant", [None, False, True], ids=["stored", "checkpointed", "reentrant"])
def test_one_step_of_adamw(architecture: str, text: str, reentrant: bool | None) -> None:
    plan, (ids, mask) = Plan.parse(text), padded_batch()
    assert_same_step(
        lambda: with_checkpoints(make_learner(architecture), reentrant),
        lambda model: reference.logits(architecture, model, plan, ids, mask),
        under(plan, ids, mask, use_cache=False),
        ids,
    )


@pytest.mark.parametrize("architecture", ["llama", "bert"])
@pytest.mark.parametrize("reentrant", [None, False, True], ids=["stored", "checkpointed", "reentrant"])
@pytest.mark.parametrize("bfloat16", [False, True], ids=["float32", "autocast"])
def test_dropout_draws_what_the_plain_loop_draws(architecture: str, reentrant: bool | None, bfloat16: bool) -> None:
    """Layers draw from the generator in the order in which they are executed; autocast takes part too."""
    plan, ids = Plan.parse(PLANS["nested"]), tokens(2, 9)
    ours = under(plan, ids, use_cache=False)

    def cast(forward: Callable[[Any], Tensor]) -> Callable[[Any], Tensor]:
        def run(model: Any) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16) if bfloat16 else nullcontext():
                return forward(model)

        return run

    assert_same_step(
        lambda: with_checkpoints(make_learner(architecture, DROPOUT), reentrant),
        cast(lambda model: reference.logits(architecture, model, plan, ids)),
        cast(ours),
        ids,
    )


@pytest.mark.parametrize("reentrant", [None, False], ids=["stored", "checkpointed"])
def test_the_default_cache_changes_no_gradient(reentrant: bool | None) -> None:
    """Nobody passes use_cache=False: the layers keep keys and values, or with checkpoints the model does without."""
    plan, ids = Plan.parse(PLANS["loop"]), tokens(2, 9)
    assert_same_step(
        lambda: with_checkpoints(make_learner("llama"), reentrant),
        lambda model: reference.logits("llama", model, plan, ids),
        under(plan, ids),
        ids,
    )


def test_layers_that_do_not_run_get_no_gradient() -> None:
    model, ids = make_learner("llama"), tokens(2, 9)
    gradients = step(model, under(Plan.parse("0-1 4-6"), ids), ids)
    idle = {name for name, gradient in gradients.items() if gradient is None}
    assert idle == {name for name in gradients if name.startswith(("model.layers.2.", "model.layers.3."))}


def test_steps_under_several_plans_in_turn() -> None:
    """As in training with layers dropped at random."""
    ids = tokens(2, 9)
    ours, theirs = make_learner("llama"), make_learner("llama")
    optimizers = [torch.optim.AdamW(model.parameters(), lr=0.01) for model in (ours, theirs)]
    for text in [*PLANS.values(), "0-6", "6-0"]:
        plan = Plan.parse(text)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss_of(under(plan, ids)(ours), ids).backward()
        loss_of(reference.logits("llama", theirs, plan, ids), ids).backward()
        for optimizer in optimizers:
            optimizer.step()
    for found, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_same(found, expected)


def test_what_is_kept_for_backward_may_be_packed_by_anything() -> None:
    """By what has no name, too: only the hooks of a checkpoint are looked for."""
    model, ids = make_learner("llama"), tokens(2, 9)

    def gradients() -> list[Any]:
        model.zero_grad()
        model(ids, use_cache=False).logits.sum().backward()
        return [parameter.grad for parameter in model.parameters()]

    with surgery(model, "1 0"):
        plain = gradients()
        with saved_tensors_hooks(partial(torch.clone), lambda kept: kept):
            packed = gradients()
    assert sum(gradient is not None for gradient in plain) > 10
    assert all(a is b or torch.equal(a, b) for a, b in zip(packed, plain, strict=True))


def test_a_checkpoint_around_the_whole_model() -> None:
    """Its backward pass runs the model again, and must do so within the context; else a swap would pass unseen."""
    plan, ids = Plan.parse("0 2 1 3-6"), tokens(2, 9)

    def whole(model: Any) -> Tensor:
        logits: Tensor = checkpoint(lambda i: model(i, use_cache=False).logits, ids, use_reentrant=False)
        return logits

    ours, theirs = make_learner("llama"), make_learner("llama")
    with surgery(ours, plan):
        loss_of(whole(ours), ids).backward()
    loss_of(reference.logits("llama", theirs, plan, ids), ids).backward()
    for found, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert found.grad is not None
        assert expected.grad is not None
        assert_same(found.grad, expected.grad)

    with surgery(ours, plan):
        loss = loss_of(whole(ours), ids)
    with pytest.raises(SurgeryError, match=r"checkpoint that holds the whole model, .* call backward inside it"):
        loss.backward()


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_around_each_call_of_the_loop(reentrant: bool) -> None:
    """As models did it before their layers were checkpoints themselves: the loop's calls come again in backward."""

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

        def forward(self, stream: Tensor) -> Tensor:
            for layer in self.layers:
                stream = checkpoint(layer.__call__, stream, use_reentrant=reentrant)
            return stream

    model, stream = Loop(), torch.ones(1, 4, requires_grad=True)

    def train() -> None:
        with surgery(model, "0 2 1", path="layers"):
            model(stream).sum().backward()

    with pytest.raises(
        SurgeryError, match=r"a checkpoint around its calls is not supported|does not hand layer 1 what"
    ):
        train()


@pytest.mark.parametrize("reentrant", [None, False], ids=["stored", "checkpointed"])
def test_the_trainer_of_transformers(reentrant: bool | None, tmp_path: Path) -> None:
    """Under a skip it trains what it trains in a model whose layers were taken out."""
    options = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=3,
        per_device_train_batch_size=2,
        **{"use_cpu": True, "report_to": [], "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True},
    )
    data: Any = [{"input_ids": row, "labels": row} for row in tokens(8, 9)]
    kept = [0, 1, 4, 5, 6]
    ours, cut = (with_checkpoints(make_learner("llama"), reentrant) for _ in range(2))
    with surgery(ours, "0-1 4-6"):
        Trainer(ours, options, train_dataset=data).train()
    cut.model.layers = nn.ModuleList(cut.model.layers[i] for i in kept)
    cut.config.num_hidden_layers = len(kept)
    Trainer(cut, options, train_dataset=data).train()
    ours.model.layers = nn.ModuleList(ours.model.layers[i] for i in kept)
    for found, expected in zip(ours.parameters(), cut.parameters(), strict=True):
        assert_same(found, expected)
