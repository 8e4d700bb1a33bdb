"""Fine-tune a sequence classifier, or its head alone on states that were computed before, and read its answers."""

from __future__ import annotations

import inspect
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import get_linear_schedule_with_warmup

from painters.errors import first_line
from painters.experiment.tuning import Tuning
from painters.glue.tasks import Encoded
from painters.memory import MemoryExhausted, is_exhausted
from painters.models import ModelError

Tell: TypeAlias = Callable[[int], None]
"""Called after every batch with the number of its documents."""
K = TypeVar("K")
Run: TypeAlias = Callable[..., Iterable[tuple[K, Any]]]
"""Takes a model's inputs, and gives its output under each of several names, such as plans (`Sharing.run`)."""


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Nothing; torch's random state of the CPU and of `device` is that of `seed`, and afterwards as it was."""
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Nothing; on a GPU torch takes meanwhile the kernels that add up in one order, where it has such: on the CPU all
    that is used here do.
    """
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS looks when it is first used
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*deterministic")
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def fine_tune(model: Any, documents: Encoded, tuning: Tuning, seed: int, tell: Tell) -> None:
    """Nothing; all weights of `model` have learned `documents`, as `tuning` says, and it is in evaluation mode."""

    def loss(chosen: Tensor) -> Tensor:
        labels = documents.labels[chosen].to(model.device)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=tuning.precision == "bfloat16"):
            found: Tensor = model(**_inputs(model, documents, chosen), labels=labels).loss
        return found

    model.train()
    _descend(list(model.parameters()), loss, len(documents), tuning, seed, tell)
    model.eval()


def fine_tune_classifier(model: Any, states: Tensor, labels: Tensor, tuning: Tuning, seed: int, tell: Tell) -> None:
    """Nothing; the classifier of `model` has learned `labels` from `states` (`states_of`), and nothing else changed.

    The dropout in front of the classifier and within it is active. That of the encoder is not, unlike in the paper's
    code, since every document was encoded once.
    """
    drop, head = _dropout(model), model.classifier

    def loss(chosen: Tensor) -> Tensor:
        logits = head(drop(states[chosen])).float()
        wanted = labels[chosen].to(logits.device)
        return F.mse_loss(logits.squeeze(-1), wanted) if logits.shape[-1] == 1 else F.cross_entropy(logits, wanted)

    drop.train()
    head.train()
    _descend(list(head.parameters()), loss, len(labels), tuning, seed, tell)
    model.eval()


def states_of(model: Any, documents: Encoded, rows: int, tell: Tell) -> Tensor:
    """What enters the classifier for each document in order, [documents, ...], computed in batches of `rows`.

    Of whole sequences, [batch, seq, hidden], only the first position is kept: the classifiers of RoBERTa and ELECTRA
    look at no other, and ModelError is raised for one that does.
    """
    return states_under(_as_it_is(model), model, documents, rows, tell)[None]


def states_under(run: Run[K], model: Any, documents: Encoded, rows: int, tell: Tell) -> dict[K, Tensor]:
    """The `states_of` the documents under everything that `run` runs."""
    caught: list[Tensor] = []
    handle = model.classifier.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    try:
        return _forward(run, model, documents, rows, tell, lambda _: _first(model, caught.pop()))
    finally:
        handle.remove()


def _first(model: Any, states: Tensor) -> Tensor:
    if states.dim() < 3:
        return states
    if not torch.equal(model.classifier.forward(states), model.classifier.forward(states[:, :1])):
        raise ModelError(
            f"{type(model).__name__} under the protocol 'frozen': its classifier reads more than the first position; "
            f"use 'retuned' or 'operated'"
        )
    return states[:, :1]


def logits_of(model: Any, documents: Encoded, rows: int, tell: Tell) -> Tensor:
    """The logits [documents, labels] of each document in order, float32 on the CPU, in batches of `rows`."""
    return logits_under(_as_it_is(model), model, documents, rows, tell)[None]


def logits_under(run: Run[K], model: Any, documents: Encoded, rows: int, tell: Tell) -> dict[K, Tensor]:
    """The `logits_of` the documents under everything that `run` runs."""
    return _forward(run, model, documents, rows, tell, lambda output: output.logits.float().cpu())


@torch.no_grad()
def classified(model: Any, states: Tensor) -> Tensor:
    """The logits [documents, labels] that the classifier makes of `states`, float32 on the CPU."""
    logits: Tensor = model.classifier(states)
    return logits.float().cpu()


@torch.no_grad()
def _forward(
    run: Run[K], model: Any, documents: Encoded, rows: int, tell: Tell, keep: Callable[[Any], Tensor]
) -> dict[K, Tensor]:
    """What `keep` makes of the outputs for each document in order; short documents run first, for less padding."""
    model.eval()
    found: dict[K, Tensor] = {}
    for chosen in torch.split(torch.argsort(documents.lengths, stable=True), rows):
        for name, output in run(**_inputs(model, documents, chosen)):
            kept = keep(output)
            if name not in found:
                found[name] = kept.new_empty(len(documents), *kept.shape[1:])
            found[name][chosen.to(kept.device)] = kept
            tell(len(chosen))
    return found


def _as_it_is(model: Any) -> Run[None]:
    return lambda **inputs: [(None, model(**inputs))]


def _inputs(model: Any, documents: Encoded, chosen: Tensor) -> dict[str, Tensor]:
    """What `model` takes of a batch: DistilBERT, say, has no token types, and its tokenizer may have."""
    taken = inspect.signature(model.forward).parameters
    return {name: values.to(model.device) for name, values in documents.rows(chosen).items() if name in taken}


def with_room(answers: Iterable[K], tuning: Tuning, rows: int) -> Iterator[K]:
    """The answers; MemoryExhausted with advice where memory does not suffice: batches are part of what is measured, for
    smaller ones draw another dropout.
    """
    try:
        yield from answers
    except Exception as error:
        if not is_exhausted(error):
            raise
        raise MemoryExhausted(
            f"fine-tuning in batches of {tuning.batch_size} and scoring in batches of {rows} has no room in memory, "
            f"and both are part of the protocol: give smaller ones (batch_size in tuning and protocol), or fewer "
            f"tokens (max_length, now {tuning.max_length}): {first_line(error)}"
        ) from error


def _descend(
    parameters: Sequence[nn.Parameter],
    loss: Callable[[Tensor], Tensor],
    count: int,
    tuning: Tuning,
    seed: int,
    tell: Tell,
) -> None:
    """Nothing; `parameters` went down the gradient of `loss`, which takes the rows of a batch, as in transformers'
    Trainer: each epoch in an order of its own, AdamW, vectors without decay, a norm of at most 1, a linear rate.
    """
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": tuning.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=tuning.rate, fused=True)
    steps = tuning.epochs * math.ceil(count / tuning.batch_size)
    warmup = math.ceil(tuning.warmup * steps)
    schedule = get_linear_schedule_with_warmup(optimizer, warmup, steps)  # type: ignore[no-untyped-call]
    order = torch.Generator().manual_seed(seed)
    with repeatable(parameters[0].device):
        for _ in range(tuning.epochs):
            for chosen in torch.split(torch.randperm(count, generator=order), tuning.batch_size):
                loss(chosen).backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
                tell(len(chosen))


def _dropout(model: Any) -> nn.Module:
    """The dropout that a model applies before its classifier; nothing where the classifier has its own."""
    return next((child for child in model.children() if isinstance(child, nn.Dropout)), nn.Identity())
