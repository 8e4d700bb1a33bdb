"""Fine-tune a sequence classifier, or its head alone on precomputed states, and read its answers."""

from __future__ import annotations

import inspect
import itertools
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import get_linear_schedule_with_warmup

from painters.errors import first_line
from painters.experiment.tuning import Tuning
from painters.glue.checkpoint import Checkpoint
from painters.glue.tasks import Encoded
from painters.memory import MemoryExhausted, is_exhausted
from painters.models import ModelError

OnBatch: TypeAlias = Callable[[int], None]
"""Called after every batch with the number of its documents."""
K = TypeVar("K")
KeyedForward: TypeAlias = Callable[..., Iterable[tuple[K, Any]]]
"""Takes a model's inputs and gives its output under each of several keys: `Sharing.run` does, by plan."""


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch on the CPU and on `device`; restore its random state on leaving."""
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Make torch use deterministic kernels on a GPU, where it has such; restore its settings on leaving.

    The CPU needs no setting: all its kernels that are used here are deterministic.
    """
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it is first used
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*deterministic")
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def fine_tune(
    model: Any, documents: Encoded, tuning: Tuning, seed: int, on_batch: OnBatch, checkpoint: Checkpoint | None = None
) -> None:
    """Fine-tune all weights of `model` on `documents`; leave the model in evaluation mode.

    The training goes on from the state in `checkpoint`, and keeps its state there.
    """

    def loss(indices: Tensor) -> Tensor:
        labels = documents.labels[indices].to(model.device)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=tuning.precision == "bfloat16"):
            batch_loss: Tensor = model(**_inputs(model, documents, indices), labels=labels).loss
        return batch_loss

    model.train()
    _minimize(loss, list(model.parameters()), len(documents), tuning, seed, on_batch, checkpoint)
    model.eval()


def fine_tune_classifier(
    model: Any,
    states: Tensor,
    labels: Tensor,
    tuning: Tuning,
    seed: int,
    on_batch: OnBatch,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Fine-tune only the classifier of `model`, on `states` (`states_of`) and their `labels`.

    The model is left in evaluation mode. The dropout in front of the classifier and within it is active. That of the
    encoder is not, unlike in the paper's code, since every document was encoded once.
    """
    dropout, classifier = _dropout(model), model.classifier

    def loss(indices: Tensor) -> Tensor:
        logits = classifier(dropout(states[indices])).float()
        targets = labels[indices].to(logits.device)
        return F.mse_loss(logits.squeeze(-1), targets) if logits.shape[-1] == 1 else F.cross_entropy(logits, targets)

    dropout.train()
    classifier.train()
    _minimize(loss, list(classifier.parameters()), len(labels), tuning, seed, on_batch, checkpoint)
    model.eval()


def states_of(model: Any, documents: Encoded, batch_size: int, on_batch: OnBatch) -> Tensor:
    """Return what enters the classifier for each document, in order: `[documents, ...]`.

    Of whole sequences, `[batch, seq, hidden]`, only the first position is kept: the classifiers of RoBERTa and ELECTRA
    read no other. Raise ModelError for a classifier that does.
    """
    return keyed_states(_single(model), model, documents, batch_size, on_batch)[None]


def keyed_states(
    forward: KeyedForward[K],
    model: Any,
    documents: Encoded,
    batch_size: int,
    on_batch: OnBatch,
    checkpoint: Checkpoint | None = None,
) -> dict[K, Tensor]:
    """Return the `states_of` the documents for each key of `forward`."""
    captured: list[Tensor] = []
    handle = model.classifier.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
    try:
        states = partial(_states, model, captured)
        return _run_all(forward, model, documents, batch_size, on_batch, states, checkpoint)
    finally:
        handle.remove()


def _states(model: Any, captured: list[Tensor], _: Any) -> Tensor:
    """Return what entered the classifier in the forward before."""
    return _first(model, captured.pop())


def _first(model: Any, states: Tensor) -> Tensor:
    """Return the first position of `[batch, seq, hidden]`; ModelError where the classifier reads more."""
    if states.dim() < 3:
        return states
    if not torch.equal(model.classifier.forward(states), model.classifier.forward(states[:, :1])):
        raise ModelError(
            f"{type(model).__name__} under the protocol 'frozen': its classifier reads more than the first position; "
            f"use 'retuned' or 'operated'"
        )
    return states[:, :1]


def logits_of(model: Any, documents: Encoded, batch_size: int, on_batch: OnBatch) -> Tensor:
    """Return the logits `[documents, labels]` of each document, in order, float32 on the CPU."""
    return keyed_logits(_single(model), model, documents, batch_size, on_batch)[None]


def keyed_logits(
    forward: KeyedForward[K],
    model: Any,
    documents: Encoded,
    batch_size: int,
    on_batch: OnBatch,
    checkpoint: Checkpoint | None = None,
) -> dict[K, Tensor]:
    """Return the `logits_of` the documents for each key of `forward`."""

    def logits(output: Any) -> Tensor:
        of_batch: Tensor = output.logits.float().cpu()
        return of_batch

    return _run_all(forward, model, documents, batch_size, on_batch, logits, checkpoint)


@torch.no_grad()
def classified(model: Any, states: Tensor) -> Tensor:
    """Return the logits `[documents, labels]` of the classifier for `states`, float32 on the CPU."""
    logits: Tensor = model.classifier(states)
    return logits.float().cpu()


@torch.no_grad()
def _run_all(
    forward: KeyedForward[K],
    model: Any,
    documents: Encoded,
    batch_size: int,
    on_batch: OnBatch,
    extract: Callable[[Any], Tensor],
    checkpoint: Checkpoint | None = None,
) -> dict[K, Tensor]:
    """Return for each key what `extract` takes from the outputs, in the documents' order.

    Short documents run first, so that batches hold less padding. Batches whose results are in `checkpoint` do not run
    again, but for the last one.
    """
    model.eval()
    state = checkpoint.load() if checkpoint is not None else None
    before: dict[str, Tensor] = {} if state is None else state["results"]
    results: dict[K, Tensor] = {}
    batches = torch.split(torch.argsort(documents.lengths, stable=True), batch_size)
    first = 0 if state is None else int(state["batches"])
    if first:
        on_batch(len(before) * sum(map(len, batches[:first])))
    for number, indices in enumerate(batches[first:], first + 1):
        for key, output in forward(**_inputs(model, documents, indices)):
            extracted = extract(output)
            if key not in results and str(key) in before:
                results[key] = before[str(key)].to(extracted.device)
            elif key not in results:
                results[key] = extracted.new_empty(len(documents), *extracted.shape[1:])
            results[key][indices.to(extracted.device)] = extracted
            on_batch(len(indices))
        if checkpoint is not None and number < len(batches):
            named = {str(key): tensor for key, tensor in results.items()}
            checkpoint.step(len(indices), lambda: {"batches": number, "results": named})  # noqa: B023 - called at once
    return results


def _single(model: Any) -> KeyedForward[None]:
    """Return the model's own forward, with its output under the only key None."""
    return lambda **inputs: [(None, model(**inputs))]


def _inputs(model: Any, documents: Encoded, indices: Tensor) -> dict[str, Tensor]:
    """Return the inputs of a batch that `model` takes.

    DistilBERT, for one, takes no token types, and its tokenizer may make them.
    """
    parameters = inspect.signature(model.forward).parameters
    return {name: values.to(model.device) for name, values in documents.batch(indices).items() if name in parameters}


def with_memory_advice(values: Iterable[K], tuning: Tuning, batch_size: int) -> Iterator[K]:
    """Yield `values`; raise MemoryExhausted with advice where memory runs out meanwhile.

    Batches are not made smaller here, because they are part of what is measured: smaller ones draw another dropout.
    """
    try:
        yield from values
    except Exception as error:
        if not is_exhausted(error):
            raise
        raise MemoryExhausted(
            f"fine-tuning in batches of {tuning.batch_size} and scoring in batches of {batch_size} does not fit into "
            f"memory. Batch sizes are part of the protocol, so they are not halved: give smaller ones (batch_size in "
            f"tuning and protocol), or fewer tokens (max_length, now {tuning.max_length}): {first_line(error)}"
        ) from error


def _minimize(
    loss: Callable[[Tensor], Tensor],
    parameters: Sequence[nn.Parameter],
    count: int,
    tuning: Tuning,
    seed: int,
    on_batch: OnBatch,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Minimize `loss` as transformers' Trainer does.

    `loss` is a function of a batch: a tensor of document indices below `count`. Each epoch has an order of its own.
    AdamW; vectors without weight decay; gradients clipped to a norm of 1; a linear learning rate.
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
    epochs = (torch.split(torch.randperm(count, generator=order), tuning.batch_size) for _ in range(tuning.epochs))
    batches = itertools.chain.from_iterable(epochs)
    training = _Training(parameters, optimizer, schedule)
    state = None if checkpoint is None else checkpoint.load()
    first = 0 if state is None else training.restore(state)
    if first:
        on_batch(sum(map(len, itertools.islice(batches, first))))
    with repeatable(parameters[0].device):
        for step, indices in enumerate(batches, first + 1):
            loss(indices).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            on_batch(len(indices))
            if checkpoint is not None:
                checkpoint.step(len(indices), partial(training.state, step), is_last=step == steps)


@dataclass(frozen=True, slots=True)
class _Training:
    """What a training changes, and with it the random state of torch, which dropout draws from."""

    parameters: Sequence[nn.Parameter]
    optimizer: torch.optim.Optimizer
    schedule: Any

    def state(self, step: int) -> dict[str, Any]:
        """Return everything that determines the steps after `step`."""
        device = self.parameters[0].device
        return {
            "step": step,
            "parameters": [parameter.detach() for parameter in self.parameters],
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "random": torch.get_rng_state(),
            "random_of_device": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> int:
        """Go back to a state and return its step."""
        for parameter, saved in zip(self.parameters, state["parameters"], strict=True):
            parameter.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["random"])
        if state["random_of_device"] is not None:
            torch.cuda.set_rng_state(state["random_of_device"], self.parameters[0].device)
        return int(state["step"])


def _dropout(model: Any) -> nn.Module:
    """Return the dropout in front of the classifier; the identity where the classifier has its own."""
    return next((child for child in model.children() if isinstance(child, nn.Dropout)), nn.Identity())
