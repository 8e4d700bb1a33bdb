"""Run many plans on the same inputs: what they have in common once, and every answer as if its plan ran alone.

The model's own forward runs once for each plan, for the embeddings, the final norm and the head. In place of its layers
it gets the stream that leaves the plan. The streams come from a walk through the trie of the plans
(`painters.sharing.trie`), which runs each edge once, with the arguments that the model's loop gives its layers.
"""

from __future__ import annotations

import copy
import inspect
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from torch import Tensor, nn
from transformers.cache_utils import Cache

from painters.engine import Program, identity
from painters.engine.merges import MERGES
from painters.engine.recording import Recording, recorded
from painters.engine.verify import self_check
from painters.plan import Layer, Merge, Plan, PlanLike, distinct
from painters.sharing.trie import Trie, Walk
from painters.stack import LayerStack, SurgeryError, without_wrapper

__all__ = ["Sharing"]

_PER_LAYER: Final = ("output_hidden_states", "output_attentions", "output_router_logits")
"""The options of a forward, and of a configuration, by which a model returns outputs of single layers."""


class _NoCopyError(Exception):
    """Layers were given a cache that is none of transformers' own."""


class Sharing:
    """Plans made ready to run together on a model, batch after batch.

    Args:
        model: The model, in evaluation mode when it is run.
        plans: The plans, their texts, or their layers in order. Those that occur twice are run once.
        path: Which list of layers to use where none is found, or not the one you want, as in `painters.surgery`.
        stack: The stack of `model`, if `LayerStack.find` found it before; give it instead of `path`.
        checked: Whether the plans were checked against `stack` before: `Program(plan, stack)` raised nothing. They are
            not checked again then.

    Raises:
        PlanError: If a plan's text is wrong, or a plan does not fit the model.
        SurgeryError: If the model cannot follow a plan.
        ValueError: If both `path` and `stack` are given.

    Examples:
        >>> import torch
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from painters import surgery
        >>> from painters.sharing import Sharing
        >>> _ = torch.manual_seed(0)
        >>> sizes = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "vocab_size": 32}
        >>> model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=4, **sizes)).eval()
        >>> ids = torch.tensor([[5, 6, 7]])
        >>> sharing = Sharing(model, ["0-3", "0-1 3", "0-1 3 2"])
        >>> sharing.trie.layer_runs, sharing.trie.layer_runs_alone
        (6, 11)
        >>> with torch.no_grad():
        ...     for plan, output in sharing.run(input_ids=ids):
        ...         with surgery(model, plan):
        ...             print(plan, torch.equal(output.logits, model(ids).logits))
        0-3 True
        0-1 3 True
        0-1 3-2 True
    """

    def __init__(
        self,
        model: nn.Module,
        plans: Iterable[PlanLike],
        *,
        path: str | None = None,
        stack: LayerStack | None = None,
        checked: bool = False,
    ) -> None:
        self.trie = Trie.of(distinct(plans))
        """The distinct plans, and what they share."""
        if stack is not None and path is not None:
            raise ValueError(f"path={path!r} and a stack that was found already: give one of them")
        self._model = without_wrapper(model)
        self._stack = LayerStack.find(self._model, path) if stack is None else stack
        if not checked:
            for plan in self.trie.plans:
                Program(plan, self._stack)  # refuses what the stack cannot follow
        self._identity = identity(self._stack)
        takes_cache = "use_cache" in inspect.signature(self._model.forward).parameters
        self._defaults = {"use_cache": False} if takes_cache else {}
        self._copies_caches = True
        """Whether no cache was met yet that cannot be copied."""

    def run(
        self, positions: tuple[Tensor, Tensor] | None = None, *, fill_caches: bool = False, **inputs: Any
    ) -> Iterator[tuple[Plan, Any]]:
        """Run the plans on one batch and yield each with its output, bitwise as within `painters.surgery`.

        The plans come in the order of the walk. Between them the streams are kept that later plans need
        (`trie.live_states` at most, each [batch, seq, hidden], and the embeddings). So turn gradients off, and let go
        of an output before asking for the next.

        Args:
            positions: Where the output head is applied: the rows and the columns, two vectors of the same length. The
                logits are then [1, positions, vocabulary], equal to those of the whole batch up to rounding.
            fill_caches: Whether the model makes a cache unless its configuration says otherwise, as in a plain call.
                Each layer run then fills an empty copy that nobody reads: some attention (eager) gives other last bits
                with a cache than without. A model whose cache cannot be copied runs without one.
            **inputs: The inputs of the model's forward, by name, without a cache.

        Yields:
            A plan, and what the model returns under it.

        Raises:
            SurgeryError: If the model is in training mode, is given a cache, or is asked for outputs of single layers.
        """
        fill_caches = fill_caches and not self._stack.own_state and self._copies_caches
        inputs = inputs if fill_caches else self._defaults | inputs
        self._refuse(inputs)
        if fill_caches and any(isinstance(value, Cache) for value in inputs.values()):
            raise SurgeryError(f"{self._stack.name} was given a cache, and plans that share their runs fill their own")
        walk: Iterator[tuple[Plan, Tensor]] | None = None
        started: list[Plan] = []  # in the order of the walk, the plan of this forward last

        def execute(recording: Recording) -> Tensor:
            nonlocal walk
            if walk is None:
                if fill_caches and recording.foreign_cache is not None:
                    raise _NoCopyError
                walk = self._walk(recording, fill_caches)
            if len(started) > done:
                raise SurgeryError(f"{self._stack.name} runs its layers twice in a forward: plans cannot share it")
            plan, stream = next(walk)
            started.append(plan)
            return stream

        for done in range(len(self.trie.plans)):
            with (
                self_check(self._model, self._stack, self._identity),
                recorded(self._model, self._stack, execute),
                self._head_at(positions),
            ):
                try:
                    output = self._model(**inputs)
                except _NoCopyError:
                    self._copies_caches = False
                    output = None
            if output is None:
                yield from self.run(positions, **self._defaults, **inputs)
                return
            yield started[done], output
            del output

    def _walk(self, recording: Recording, fill_caches: bool) -> Iterator[tuple[Plan, Tensor]]:
        """Yield each plan with the stream that leaves it, from what was recorded of the first plan's forward."""
        if recording.cache is not None and not fill_caches:
            raise SurgeryError(
                f"{self._stack.name} was given a cache, and plans that share their runs keep no keys and values: "
                "pass use_cache=False"
            )

        def run(layer: Layer, stream: Tensor) -> Tensor:
            if recording.cache is None:
                return recording.run(layer.index, stream, layer.half)
            # The cache of the recording stays empty, and each run fills a copy: no layer sees what another one wrote.
            return recording.run(layer.index, stream, layer.half, copy.deepcopy(recording.cache))

        def merge(how: Merge, stream: Tensor, members: Iterator[Tensor]) -> Tensor:
            return MERGES[how](stream, members)

        yield from Walk(self.trie, recording.stream, run, merge)

    def _refuse(self, inputs: dict[str, Any]) -> None:
        """Raise SurgeryError for a model or inputs under which shared plans would not answer as each does alone."""
        if any(module.training for module in self._model.modules()):
            raise SurgeryError(
                f"{self._stack.name} is in training mode, and what a layer draws at random would be the same for all "
                "plans that share it: call model.eval(), or train under one plan with painters.surgery"
            )
        for name in _PER_LAYER:
            if inputs.get(name, getattr(getattr(self._model, "config", None), name, False)):
                raise SurgeryError(
                    f"{self._stack.name} is asked for {name}, and a layer that plans share reports to one of them "
                    "only: leave it out, or run the plans one by one with painters.surgery"
                )

    @contextmanager
    def _head_at(self, positions: tuple[Tensor, Tensor] | None) -> Iterator[None]:
        """Give the output head only the hidden states at `positions` within the context."""
        if positions is None:
            yield
            return
        find = getattr(self._model, "get_output_embeddings", None)
        head = find() if find is not None else None
        if not isinstance(head, nn.Module):
            raise SurgeryError(
                f"{self._stack.name} has no output head (get_output_embeddings) to apply at single positions: leave "
                "positions out"
            )
        (rows, columns), thread = positions, threading.get_ident()

        def select(head: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            if threading.get_ident() != thread:
                return None
            hidden = args[0]
            return (hidden[rows.to(hidden.device), columns.to(hidden.device)][None], *args[1:])

        handle = head.register_forward_pre_hook(select)
        try:
            yield
        finally:
            handle.remove()
