"""Run many plans on the same inputs: whatever they have in common once, every answer as if its plan ran alone.

The model's own forward runs once for each plan, for the embeddings, the final norm and the head. In the place of its
layers it gets the stream that leaves the plan; on the way from one such stream to the next the edges of the trie are
run (`painters.sharing.trie`), each once, with the arguments that the model's loop gives its layers.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from torch import Tensor, nn

from painters.engine import Program, identity
from painters.engine.merges import MERGES
from painters.engine.recording import Recording, recorded
from painters.engine.verify import self_check
from painters.plan import Layer, Merge, Plan
from painters.sharing.trie import Trie, Walk
from painters.stack import LayerStack, SurgeryError, without_wrapper

__all__ = ["Sharing"]

_PER_LAYER: Final = ("output_hidden_states", "output_attentions", "output_router_logits")


class Sharing:
    """Plans made ready to run together on a model, batch after batch.

    Raises PlanError for a plan that does not fit the model, SurgeryError for a model that cannot follow it. `path`
    names the list of layers where it is not found or another one is meant; `stack` is the list where it was found
    before. `checked` says that a `Program` was made of every plan for this stack, which is then not done again.
    """

    def __init__(
        self,
        model: nn.Module,
        plans: Iterable[Plan | str],
        *,
        path: str | None = None,
        stack: LayerStack | None = None,
        checked: bool = False,
    ) -> None:
        self.trie = Trie.of(Plan.parse(plan) if isinstance(plan, str) else plan for plan in plans)
        """The distinct plans, and what they share."""
        model = without_wrapper(model)
        self._model = model
        if stack is not None and path is not None:
            raise ValueError(f"path={path!r} and a stack that was found already: give one of them")
        self._stack = LayerStack.find(model, path) if stack is None else stack
        if not checked:
            for plan in self.trie.plans:
                Program(plan, self._stack)  # refuses what the stack cannot follow
        self._identity = identity(self._stack)
        takes_cache = "use_cache" in inspect.signature(model.forward).parameters
        self._defaults = {"use_cache": False} if takes_cache else {}

    def run(self, positions: tuple[Tensor, Tensor] | None = None, **inputs: Any) -> Iterator[tuple[Plan, Any]]:
        """Each plan with what the model returns under it for `inputs`, bit for bit as within `painters.surgery`.

        The plans come in the order of the walk, and the streams that are still needed (`trie.live_states` at most,
        each [batch, seq, hidden], and the embeddings) are kept from one to the next: turn gradients off, and let go of
        an output before asking for the next. `inputs` are those of the model's forward, without a cache.

        With `positions` (rows, columns), two vectors of as many indices, the output head is applied there only: the
        logits are [1, positions, vocabulary], equal to those of the whole batch up to rounding.

        Raises SurgeryError for a model in training mode, for a cache, and for outputs of single layers.
        """
        inputs = self._defaults | inputs
        self._refuse(inputs)
        walk: Iterator[tuple[Plan, Tensor]] | None = None
        answered: list[Plan] = []

        def execute(recording: Recording) -> Tensor:
            nonlocal walk
            if walk is None:
                walk = self._walk(recording)
            if len(answered) > done:
                raise SurgeryError(f"{self._stack.name} runs its layers twice in a forward: plans cannot share it")
            plan, stream = next(walk)
            answered.append(plan)
            return stream

        for done in range(len(self.trie.plans)):
            with (
                self_check(self._model, self._stack, self._identity),
                recorded(self._model, self._stack, execute),
                self._head_at(positions),
            ):
                output = self._model(**inputs)
            yield answered[done], output
            del output

    def _walk(self, recording: Recording) -> Iterator[tuple[Plan, Tensor]]:
        if recording.cache is not None:
            raise SurgeryError(
                f"{self._stack.name} was given a cache, and plans that share their runs keep no keys and values: "
                "pass use_cache=False"
            )

        def run(layer: Layer, stream: Tensor) -> Tensor:
            return recording.run(layer.index, stream, layer.half)

        def merge(how: Merge, stream: Tensor, members: Iterator[Tensor]) -> Tensor:
            return MERGES[how](stream, members)

        yield from Walk(self.trie, recording.stream, run, merge)

    def _refuse(self, inputs: dict[str, Any]) -> None:
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
        """Nothing; meanwhile the output head sees the hidden states at `positions` only."""
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
        rows, columns = positions

        def choose(head: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            hidden = args[0]
            return (hidden[rows.to(hidden.device), columns.to(hidden.device)][None], *args[1:])

        handle = head.register_forward_pre_hook(choose)
        try:
            yield
        finally:
            handle.remove()
