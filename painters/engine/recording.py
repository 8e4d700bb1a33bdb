"""Record how a model's own loop calls its layers, then execute something else in the loop's place.

For the length of one forward a stand-in takes the place of the list of layers. The model's loop meets
recorders in it: each notes the arguments meant for its layer and hands the stream back untouched; the last
one executes. So every layer later runs with the mask, rotary table or other arguments that the model's loop
had for that layer, and the model, its parameters, names and other people's hooks stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, SupportsIndex, overload

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from painters.engine.side_outputs import behind_the_stream
from painters.plan import Half
from painters.stack import LayerList, LayerStack, SurgeryError


class Call(NamedTuple):
    """What the model's loop gave one layer besides the stream."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Recording:
    """One forward of the stack: the stream that entered it and the arguments of every layer.

    It runs the layers of the module that is being executed, so that it holds for a copy of the model too.
    """

    def __init__(self, stack: LayerStack, layers: LayerList, execute: Callable[[Recording], Tensor]) -> None:
        self.layers: list[nn.Module] = list(layers)
        self.calls: list[Call] = []
        self.done = False
        self.cache: Cache | None = None
        self.foreign_cache: Any = None
        """What looks like a cache and is none of transformers' Cache, such as that of continuous batching."""
        self._stack = stack
        self._execute = execute
        self._returns = stack.returns
        self._rest: tuple[Any, ...] = (None,) * ((stack.returns or 1) - 1)
        self._handed: Tensor | None = None

    stream: Tensor
    """What entered the first layer, [batch, seq, hidden]."""

    def visit(self, index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the loop gets from layer `index`: the untouched stream, and from the last the executed one."""
        if not args or index != len(self.calls) or (index and args[0] is not self._handed):
            raise SurgeryError(self._not_a_chain(index, args))
        if index == 0:
            self.stream = args[0]
            if self._stack.hands_on:
                self._rest = behind_the_stream(self.layers[0], self._stack.cache_indices[0], args, kwargs)
                self._returns = len(self._rest) + 1
        self.calls.append(Call(args[1:], kwargs))
        # Every layer hands on a view of its own, so that a loop that gives them all the same stream is seen.
        hidden = self._handed = self.stream.view_as(self.stream)
        if len(self.calls) == len(self.layers):
            self._refuse_carried_state()
            self.cache = self._find_cache()
            hidden = self._execute(self)
            self.done = True
        return (hidden, *self._rest) if self._returns else hidden

    def _refuse_carried_state(self) -> None:
        """Nothing; SurgeryError where the first layer was given a second stream, and the next one what came of it.

        Recorders return None behind the stream, so that None is what the loop then hands on.
        """
        if self._stack.hands_on or not self._rest or len(self.calls) < 2:
            return
        (args, kwargs), (next_args, next_kwargs) = self.calls[:2]
        pairs = [
            *zip(args, next_args, strict=False),
            *((value, next_kwargs.get(name)) for name, value in kwargs.items()),
        ]
        if any(isinstance(value, Tensor) and after is None for value, after in pairs):
            raise SurgeryError(
                f"{self._stack.name}: the layers at {self._stack.path} hand a state besides the stream on to the next: "
                "they run only in their own order"
            )

    def _find_cache(self) -> Cache | None:
        """The cache that the layers were given; raises SurgeryError where they were given several."""
        found: Cache | None = None
        for args, kwargs in self.calls:
            for value in (*args, *kwargs.values()):
                if isinstance(value, Cache):
                    if found is not None and found is not value:
                        raise SurgeryError(f"{self._stack.name} gives its layers several caches: not supported")
                    found = value
                elif type(value).__name__.endswith("Cache"):
                    self.foreign_cache = value
        return found

    def run(self, index: int, hidden: Tensor, half: Half | None = None, cache: Cache | None = None) -> Tensor:
        """The stream after layer `index` (or one half of it) on `hidden`, with the layer's own arguments.

        `cache` takes the place of the cache that the loop gave the layer.
        """
        args, kwargs = self.calls[index]
        if self.cache is not None and cache is not self.cache:
            args = tuple(cache if value is self.cache else value for value in args)
            kwargs = {name: cache if value is self.cache else value for name, value in kwargs.items()}
        layer = self.layers[index]
        if half is not None:
            assert self._stack.halves is not None  # the plan was checked
            return self._stack.halves.run(layer, half, hidden, args, kwargs)
        try:
            output = layer(hidden, *args, **kwargs)
        except (RuntimeError, ValueError, IndexError) as error:
            self._refuse_other_shape(index, hidden, error)
            raise
        returns = self._returns
        # The loop got a tuple of as many as it reads; what a layer returns beyond that nobody misses.
        if isinstance(output, tuple | list) != (returns is not None):
            raise SurgeryError(
                f"{self._stack.name}: {type(layer).__name__} returns a {type(output).__name__}, and "
                f"{'a tensor' if returns is None else f'a tuple of {returns}'} was expected: it needs a row "
                "in painters.stack.SPECIAL"
            )
        result: Tensor = output if returns is None else output[0]
        return result

    def _refuse_other_shape(self, index: int, hidden: Tensor, error: Exception) -> None:
        """Nothing; SurgeryError where layer `index` failed on `hidden` because the intact model gives it another shape.

        Backbones have layers that shrink the picture and widen the stream, which run only where they are.
        """
        stream, shapes = self.stream, []
        try:
            with torch.no_grad():
                for layer, (args, kwargs) in zip(self.layers, self.calls, strict=True):
                    shapes.append(tuple(stream.shape))
                    given = [None if value is self.cache else value for value in args]
                    named = {name: None if value is self.cache else value for name, value in kwargs.items()}
                    output = layer(stream, *given, **named)
                    stream = output if isinstance(output, Tensor) else output[0]
        except Exception:
            return  # the layer's own error is the one to see
        if shapes[index] != tuple(hidden.shape):
            raise SurgeryError(
                f"{self._stack.name}: the plan gives layer {index} at {self._stack.path} a stream of shape "
                f"{tuple(hidden.shape)}, and in the intact model it gets {shapes[index]}: some layers of this stack "
                "change the shape, and a plan must leave those where they are"
            ) from error

    def _not_a_chain(self, index: int, args: tuple[Any, ...]) -> str:
        where = f"{self._stack.name}: the loop over {self._stack.path}"
        if not args:
            return f"{where} passes the stream to layer {index} by name: not supported"
        if self.done:
            why = "shared layers are" if torch._C._current_graph_task_id() == -1 else "a checkpoint around its calls is"
            return f"{where} runs layer {index} again after the last one: {why} not supported"
        if index != len(self.calls):
            return f"{where} came to layer {index} when {len(self.calls)} was due: it must keep the order"
        return (
            f"{where} does not hand layer {index} what layer {index - 1} returned: there is work between the "
            "layers, or they return tuples (and need a row in painters.stack.SPECIAL)"
        )


class _Recorder:
    """What the loop meets in place of a layer. Attributes are the layer's: some loops ask for its attention
    type."""

    def __init__(self, recording: Recording, index: int) -> None:
        self._recording = recording
        self._index = index

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._recording.visit(self._index, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recording.layers[self._index], name)


class _StandIn(nn.ModuleList):
    """The list of layers as the loop sees it: the same children under the same names, but iteration and
    indexing meet the recorders. Whoever walks the module tree meanwhile (to install hooks, say) finds the
    real layers."""

    def __init__(self, original: LayerList, recording: Recording, key: object) -> None:
        recorders = [_Recorder(recording, index) for index in range(len(recording.layers))]
        vars(self).update(vars(original), original=original, recording=recording, recorders=recorders, key=key)

    original: LayerList
    recording: Recording
    recorders: list[_Recorder]
    key: object

    def __iter__(self) -> Iterator[Any]:
        return iter(self.recorders)

    def forward(self, stream: Tensor) -> Any:
        """What a Sequential returns, whose loop is its own forward."""
        for recorder in self.recorders:
            stream = recorder(stream)
        return stream

    @overload
    def __getitem__(self, index: slice) -> Any: ...
    @overload
    def __getitem__(self, index: SupportsIndex) -> Any: ...
    def __getitem__(self, index: slice | SupportsIndex) -> Any:
        return self.recorders[index]


class _Watch:
    """Whether the stack was executed since the model was last called.

    A flag that is written before it is read, since a counter would have torch compile callers anew at every call.
    """

    def __init__(self) -> None:
        self.executed = False
        self.is_open = True
        """Whether the context still holds."""


@contextmanager
def recorded(
    model: nn.Module, stack: LayerStack, execute: Callable[[Recording], Tensor], always: bool = True
) -> Iterator[None]:
    """Nothing; within the context every forward of `model` runs `execute` in place of its layers.

    Nested contexts: the inner one executes. A deep copy of the model made inside keeps executing. Raises
    SurgeryError where a forward ended without `execute` (unless `always` is False: some forwards do not run
    the stack), and at the end where somebody removed the hooks.
    """
    *holder, attribute = stack.inner_path.split(".")
    holder_path = ".".join(holder)
    key, watch = object(), _Watch()
    config = getattr(stack.owner, "config", None)
    depth = getattr(config, "num_hidden_layers", None)

    def follow(recording: Recording) -> Tensor:
        stream = execute(recording)
        if stream.requires_grad and _is_checkpointed():
            stream.register_hook(refuse_after)  # type: ignore[no-untyped-call]
        return stream

    def refuse_after(grad: Tensor) -> None:
        if not watch.is_open:
            raise SurgeryError(_RUN_AGAIN_AFTER.format(stack=stack))

    # The hooks find the list through the module they are called with, so that a deep copy runs its own.
    def enter(owner: nn.Module, args: Any) -> None:
        children = owner.get_submodule(holder_path)._modules
        layers = children[attribute]
        original = layers.original if isinstance(layers, _StandIn) else layers
        assert isinstance(original, nn.ModuleList | nn.Sequential)
        children[attribute] = _StandIn(original, Recording(stack, original, follow), key)

    def leave(owner: nn.Module, args: Any, output: Any) -> None:
        children = owner.get_submodule(holder_path)._modules
        layers = children[attribute]
        if not isinstance(layers, _StandIn) or layers.key is not key:
            watch.executed = True  # an inner context executed in this one's place
            return
        children[attribute] = layers.original
        if layers.recording.done:
            watch.executed = True
        elif output is not None:  # None: the forward raised, which is the error to see
            visited = len(layers.recording.calls)
            if config is not None and getattr(config, "num_hidden_layers", None) != depth:
                # assistant_early_exit sets this for one call, and does not set it back when the call fails
                config.num_hidden_layers = depth
                raise SurgeryError(_EARLY_EXIT.format(stack=stack, visited=visited))
            raise SurgeryError(_NOT_EXECUTED.format(stack=stack, visited=visited))

    def begin(module: nn.Module, args: Any) -> None:
        watch.executed = False

    def end(module: nn.Module, args: Any, output: Any) -> None:
        if always and not watch.executed:
            raise SurgeryError(_NOT_EXECUTED.format(stack=stack, visited=0))

    handles = (
        stack.owner.register_forward_pre_hook(enter),
        stack.owner.register_forward_hook(leave, always_call=True),
        model.register_forward_pre_hook(begin),
        model.register_forward_hook(end),
    )
    try:
        with _class_of_its_own(stack.layers):
            yield
        present = all(handle.id in (handle.hooks_dict_ref() or ()) for handle in handles)
    finally:
        watch.is_open = False
        for handle in handles:
            handle.remove()
        # torch runs no hooks after a KeyboardInterrupt
        children = stack.owner.get_submodule(holder_path)._modules
        layers = children[attribute]
        if isinstance(layers, _StandIn) and layers.key is key:
            children[attribute] = layers.original
    if not present:
        raise SurgeryError(
            f"{stack.name}: another tool removed the hooks that make it follow the plan, so that it ran "
            "intact: use the two one after the other"
        )


@contextmanager
def _class_of_its_own(layers: LayerList) -> Iterator[None]:
    """Nothing; meanwhile the class of `layers` is a new one that adds nothing to the old.

    Torch's compiler does not look for new hooks in what it has compiled, but for the classes of the modules that it
    met there. So a function that was compiled before is compiled anew with the plan, and one that was compiled with a
    plan is not used without it, nor with another.
    """
    before = type(layers)
    layers.__class__ = type(before.__name__, (before,), {"__module__": before.__module__})
    try:
        yield
    finally:
        layers.__class__ = before


_EARLY_EXIT = (
    "{stack.name}: config.num_hidden_layers was set to {visited} of the {stack.num_layers} layers, as "
    "assistant_early_exit does, and a plan does not end early: pass prompt_lookup_num_tokens or an assistant_model"
)
_NOT_EXECUTED = (
    "{stack.name}: the forward ended without the plan, for its loop met {visited} of the {stack.num_layers} "
    "layers at {stack.path}: does it run another list, or stop at config.num_hidden_layers?"
)

_RUN_AGAIN_AFTER = (
    "{stack.name} ran under a plan within a checkpoint that holds the whole model, and its backward pass, which runs "
    "the model again, came after the context: call backward inside it, or checkpoint the layers instead"
)


def _is_checkpointed() -> bool:
    """Whether what runs now is within a (non-reentrant) checkpoint of torch, and will be run again in backward."""
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    hooks = None if top is None else top(False)
    return hooks is not None and getattr(hooks[0], "__qualname__", "").startswith("_checkpoint_hook.")
