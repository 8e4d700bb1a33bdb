"""Record how a model's own loop calls its layers, then execute something else in the place of the loop.

For the length of one forward, a list of recorders replaces the list of layers. Each recorder notes the arguments meant
for its layer and returns the stream untouched; the last one executes the plan. So every layer later runs with the
mask, rotary table and other arguments that the model's loop had for that layer. The model's parameters and names, and
the hooks of others, stay as they are. Only the thread that runs the forward meets recorders, so that other threads can
call the model at the same time (`painters/engine/scopes.py`).
`painters/export/modeling.py` is a deliberate twin: a change to the recording here belongs there too.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple, NoReturn, SupportsIndex, overload

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.cache_utils import Cache

from painters import _compat
from painters.engine.gathering import Gathering, GatheringOptions
from painters.engine.scopes import LOCK, Scope, Site, Threads, site_of
from painters.engine.side_outputs import side_outputs_of
from painters.plan import Half
from painters.stack import LayerList, LayerStack, SurgeryError
from painters.stack.search import StandInList


class Call(NamedTuple):
    """The arguments that the model's loop gave one layer, without the stream."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Recording:
    """One forward of the stack: the stream that entered it and the arguments of every layer.

    It runs the layers that it is given, and not those of `stack`: within a copy of the model they are the copy's.
    """

    def __init__(
        self,
        stack: LayerStack,
        layers: LayerList,
        execute: Callable[[Recording], Tensor],
        gathering: Gathering | None = None,
    ) -> None:
        self.layers: list[nn.Module] = list(layers)
        self.calls: list[Call] = []
        self.done = False
        self.cache: Cache | None = None
        self.foreign_cache: Any = None
        """A value that is named like a cache and is no `Cache` of transformers, such as that of continuous batching."""
        self._stack = stack
        self._execute = execute
        self._gathering = gathering
        self._returns = stack.returns
        # What a recorder returns behind the stream, and the stream that the last recorder returned.
        self._side_outputs: tuple[Any, ...] = (None,) * ((stack.returns or 1) - 1)
        self._returned: Tensor | None = None

    stream: Tensor
    """The stream that entered the first layer, [batch, seq, hidden]."""

    def visit(self, index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Record the call of layer `index` and return what the loop gets from it.

        That is the untouched stream, and from the last layer the executed one; behind it come side outputs where the
        layers return tuples.
        """
        if self._gathering is not None:
            args, kwargs = self._gathering.received(args, kwargs, self._returned)
        if not args or index != len(self.calls) or (index and args[0] is not self._returned):
            raise SurgeryError(self._not_a_chain(index, args))
        if index == 0:
            self.stream = args[0]
            self._find_side_outputs(args, kwargs)
        self.calls.append(Call(args[1:], kwargs))
        # Every recorder returns a new view, which shows whether the loop passes it on or gives all layers one stream.
        hidden = self._returned = self.stream.view_as(self.stream)
        is_last = len(self.calls) == len(self.layers)
        if is_last:
            self._refuse_carried_state()
            self.cache = self._find_cache()
            hidden = self._execute(self)
            self.done = True
        outputs: tuple[Any, ...] = (hidden, *self._side_outputs)
        if self._gathering is not None:
            self._gathering.entered = self.stream
            outputs = self._gathering.handed(index, hidden, self._side_outputs, is_last)
        return outputs if self._returns else outputs[0]

    def filled(self, output: Any) -> Any:
        """Return the output of the owner's forward with what its loop gathers from the layers filled in."""
        if self._gathering is None:
            return output
        output = self._gathering.filled(output)
        self._gathering = None  # it holds what every execution gave
        return output

    def _find_side_outputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Run the first layer for its side outputs, where the loop needs them before the plan is executed.

        That is where all layers pass them on, and where the loop gathers attentions, whose number and shape it reads.
        """
        for_attentions = self._gathering is not None and self._gathering.attentions and self._returns is not None
        if self._stack.hands_on or for_attentions:
            slots = dict(zip(self._stack.cache_indices[0], self._stack.cache_slots[0], strict=True))
            with nullcontext() if self._stack.hands_on else torch.no_grad():
                self._side_outputs = side_outputs_of(self.layers[0], slots, args, kwargs)
            self._returns = len(self._side_outputs) + 1

    def _refuse_carried_state(self) -> None:
        """Raise SurgeryError if the layers pass a second stream from one to the next.

        Recorders return None behind the stream. So a tensor that the first layer was given, and in whose place the
        second layer was given None, is one that layers pass on.
        """
        if self._stack.hands_on or not self._side_outputs or len(self.calls) < 2:
            return
        (args, kwargs), (next_args, next_kwargs) = self.calls[:2]
        pairs = [
            *zip(args, next_args, strict=False),
            *((value, next_kwargs.get(name)) for name, value in kwargs.items()),
        ]
        handed_on = self._gathering is not None and self._gathering.hands_on_side_outputs
        if handed_on or any(isinstance(first, Tensor) and second is None for first, second in pairs):
            raise SurgeryError(
                f"{self._stack.name}: the layers at {self._stack.path} hand a state besides the stream on to the next: "
                "they run only in their own order"
            )

    def _find_cache(self) -> Cache | None:
        """Return the cache that the layers were given, and note a foreign one; raise SurgeryError for several."""
        cache: Cache | None = None
        for args, kwargs in self.calls:
            for value in (*args, *kwargs.values()):
                if isinstance(value, Cache):
                    if cache is not None and cache is not value:
                        raise SurgeryError(f"{self._stack.name} gives its layers several caches: not supported")
                    cache = value
                elif type(value).__name__.endswith("Cache"):
                    self.foreign_cache = value
        return cache

    def run(self, index: int, hidden: Tensor, half: Half | None = None, cache: Cache | None = None) -> Tensor:
        """Run a layer, or one half of it, with the arguments that the loop had for this layer.

        Args:
            index: The layer, from 0.
            hidden: The stream that enters it, [batch, seq, hidden].
            half: The half of the layer to run; None for the whole layer.
            cache: Replaces the cache that the loop gave the layer.

        Returns:
            The stream that leaves the layer, [batch, seq, hidden].

        Raises:
            SurgeryError: If the layer cannot run at this place in the plan, or returns something unexpected.
        """
        args, kwargs = self.calls[index]
        if self.cache is not None and cache is not self.cache:
            args = tuple(cache if value is self.cache else value for value in args)
            kwargs = {name: cache if value is self.cache else value for name, value in kwargs.items()}
        layer = self.layers[index]
        if half is not None:
            return self._run_half(layer, index, half, hidden, Call(args, kwargs))
        try:
            output = layer(hidden, *args, **kwargs)
        except (RuntimeError, ValueError, IndexError) as error:
            self._refuse_other_shape(index, hidden, error)
            raise
        returns = self._returns
        # The length is not compared: the loop already got a tuple as long as it reads.
        if isinstance(output, tuple | list) != (returns is not None):
            raise SurgeryError(
                f"{self._stack.name}: {type(layer).__name__} returns a {type(output).__name__}, and "
                f"{'a tensor' if returns is None else f'a tuple of {returns}'} was expected: it needs a row "
                "in painters.stack.SPECIAL"
            )
        result: Tensor = output if returns is None else output[0]
        if self._gathering is not None:
            self._gathering.note(index, (output,) if returns is None else output)
        return result

    def _run_half(self, layer: nn.Module, index: int, half: Half, hidden: Tensor, call: Call) -> Tensor:
        """Run one half of a layer, and note its attention if the loop gathers attentions."""
        halves = self._stack.halves
        assert halves is not None  # `Program` refuses the plan otherwise
        if self._gathering is None or half != "attn" or self._returns is None:
            return halves.run(layer, half, hidden, call.args, call.kwargs)
        outputs: list[Any] = []

        def note(module: nn.Module, args: Any, output: Any) -> None:
            outputs.extend(output if isinstance(output, tuple | list) else (output,))

        handle = getattr(layer, halves.attention).register_forward_hook(note)
        try:
            stream = halves.run(layer, half, hidden, call.args, call.kwargs)
        finally:
            handle.remove()
        self._gathering.note(index, outputs, is_whole=False)
        return stream

    def _refuse_other_shape(self, index: int, hidden: Tensor, error: Exception) -> None:
        """Raise SurgeryError from `error` if the intact model gives the layer a stream of another shape.

        Some layers of backbones shrink the picture and widen the stream. They run only in their own place.
        """
        stream, shapes = self.stream, []
        try:
            with torch.no_grad():
                for layer, (args, kwargs) in zip(self.layers, self.calls, strict=True):
                    shapes.append(tuple(stream.shape))
                    plain_args = [None if value is self.cache else value for value in args]
                    plain_kwargs = {name: None if value is self.cache else value for name, value in kwargs.items()}
                    output = layer(stream, *plain_args, **plain_kwargs)
                    stream = output if isinstance(output, Tensor) else output[0]
        except Exception:
            return  # the caller raises the layer's own error
        if shapes[index] != tuple(hidden.shape):
            raise SurgeryError(
                f"{self._stack.name}: the plan gives layer {index} at {self._stack.path} a stream of shape "
                f"{tuple(hidden.shape)}, and in the intact model it gets {shapes[index]}: some layers of this stack "
                "change the shape, and a plan must leave those where they are"
            ) from error

    def _not_a_chain(self, index: int, args: tuple[Any, ...]) -> str:
        """Return the message about a loop that does not call its layers one after the other on each other's output."""
        where = f"{self._stack.name}: the loop over {self._stack.path}"
        if not args:
            return f"{where} passes the stream to layer {index} by name: not supported"
        if self.done:
            why = "shared layers are" if not _compat.is_in_backward() else "a checkpoint around its calls is"
            return f"{where} runs layer {index} again after the last one: {why} not supported"
        if index != len(self.calls):
            return f"{where} came to layer {index} when {len(self.calls)} was due: it must keep the order"
        return (
            f"{where} does not hand layer {index} what layer {index - 1} returned: there is work between the "
            "layers, or they return tuples (and need a row in painters.stack.SPECIAL)"
        )


class _Recorder:
    """Replaces one layer in the model's loop.

    Its attributes are those of the layer: some loops read a layer's attention type.
    """

    def __init__(self, recording: Recording, index: int) -> None:
        self._recording = recording
        self._index = index

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._recording.visit(self._index, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recording.layers[self._index], name)


class _Forward:
    """A forward of the owner of the layers that is under way in one thread."""

    def __init__(self, hooks: _Hooks, stack: LayerStack, layers: LayerList, gathering: Gathering | None) -> None:
        self.hooks = hooks
        self.recording = Recording(stack, layers, self._execute, gathering)
        self.recorders = [_Recorder(self.recording, index) for index in range(len(layers))]
        self.is_executing = False
        """Whether the plan is being executed: hooks on the layers then meet the real list."""
        self.is_replaced = False
        """Whether an inner context executes its plan in this forward, in the place of this one."""

    def _execute(self, recording: Recording) -> Tensor:
        """Execute the plan."""
        self.is_executing = True
        try:
            return self.hooks.execute(recording)
        finally:
            self.is_executing = False


class _RecorderList(StandInList):
    """Replaces the list of layers while forwards are under way: iteration and indexing give the recorders.

    They do so in the threads that run these forwards; for all others it is the list. Its children are still the real
    layers under their own names, for those who walk the module tree meanwhile, to install hooks, say.
    """

    def __init__(self, original: LayerList) -> None:
        vars(self).update(vars(original), original=original, forwards={})

    forwards: dict[int, list[_Forward]]
    """The forwards under way in each thread, the innermost last."""

    def _layers(self) -> Any:
        """Return what this thread meets in place of the list."""
        forwards = self.forwards.get(_this_thread())
        return self.original if not forwards or forwards[-1].is_executing else forwards[-1].recorders

    def __iter__(self) -> Iterator[Any]:
        return iter(self._layers())

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the recorders one after the other, as the forward of an `nn.Sequential` runs its layers."""
        layers = self._layers()
        if layers is self.original:
            return self.original.forward(*args, **kwargs)
        (stream,) = args
        for recorder in layers:
            stream = recorder(stream)
        return stream

    @overload
    def __getitem__(self, index: slice) -> Any: ...
    @overload
    def __getitem__(self, index: SupportsIndex) -> Any: ...
    def __getitem__(self, index: slice | SupportsIndex) -> Any:
        return self._layers()[index]

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["original"], name)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return self.original.__reduce_ex__(protocol)


def _this_thread() -> int:
    """Return the number of this thread; 0 while torch compiles, since a trace belongs to no thread."""
    return 0 if torch.compiler.is_compiling() else threading.get_ident()


class _ContextState:
    """The state of one context: whether it holds, and whether the plan was executed in the current forward."""

    def __init__(self, stack: LayerStack, scope: Scope) -> None:
        self._executed: bool | None = None  # in a trace
        self._of_thread = threading.local()
        self._scope = scope
        self._stack = stack

    @property
    def executed(self) -> bool | None:
        """Whether the stack was executed since the model was last called; None in a forward that is none of ours.

        It is a flag that is written before it is read, because torch would compile callers anew for every value of a
        counter.
        """
        if torch.compiler.is_compiling():
            return self._executed
        return getattr(self._of_thread, "executed", None)

    @executed.setter
    def executed(self, value: bool | None) -> None:
        if torch.compiler.is_compiling():
            self._executed = value
        else:
            self._of_thread.executed = value

    def refuse_late_backward(self, grad: Tensor) -> None:
        """Raise SurgeryError if the context is over; a hook of a stream that a checkpoint computes again."""
        if not self._scope.is_open:
            raise SurgeryError(_RUN_AGAIN_AFTER.format(stack=self._stack))


class _Hooks:
    """The hooks of one context: they put recorders in the place of the layers for each forward.

    Two hooks are on the owner of the layers: before its forward the layers are replaced, after it they are restored.
    Both find the list of layers through the module that they are called with, so that a deep copy of the model runs its
    own layers. Two hooks are on the model: they see to it that every forward of the model executes the plan. In threads
    and tasks where the plan does not hold, all four do nothing.
    """

    def __init__(
        self, stack: LayerStack, execute: Callable[[Recording], Tensor], always: bool, scope: Scope, site: Site | None
    ) -> None:
        self.state = _ContextState(stack, scope)
        self._stack = stack
        self._execute = execute
        self._always = always
        self._scope = scope
        self._site = site
        """None for a copy of the model, which has the plan to itself."""
        self._handles: tuple[RemovableHandle, ...] = ()
        *holder, self._attribute = stack.inner_path.split(".")
        self._holder_path = ".".join(holder)
        self._config = getattr(stack.owner, "config", None)
        self._depth = getattr(self._config, "num_hidden_layers", None)

    _options: GatheringOptions

    def __deepcopy__(self, memo: Any) -> _Hooks:
        """Return the hooks of a copy of the model, which keeps the plan that holds where it is made."""
        scope = Scope("all")
        scope.is_open = self.holds_here()
        copied = _Hooks(self._stack, self._execute, self._always, scope, None)
        copied._options = self._options
        return copied

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise SurgeryError(
            f"{self._stack.name} cannot be pickled while it follows a plan, nor can a copy that was made then (by "
            "torch.save(model), or for another process): do so outside of the context, save the state_dict or use "
            "painters.export, and enter surgery anew where the model is loaded"
        )

    def register(self, model: nn.Module) -> None:
        """Register all hooks.

        The layers are restored before other hooks of the owner, which then meet the real list, and see its output with
        placeholders filled.
        """
        self._options, owner = GatheringOptions(model, self._stack), self._stack.owner
        self._handles = (
            owner.register_forward_pre_hook(self._replace_layers, with_kwargs=True),
            owner.register_forward_hook(self._restore_layers, always_call=True, prepend=True),
            model.register_forward_pre_hook(self._begin_forward),
            model.register_forward_hook(self._end_forward),
        )

    def are_registered(self) -> bool:
        """Return whether all hooks are still there."""
        return all(handle.id in (handle.hooks_dict_ref() or ()) for handle in self._handles)

    def close(self) -> None:
        """Remove the hooks, once no other thread is within a forward that it began under the plan.

        Such a forward goes on under the plan, and the hooks are removed at its end. What was broken off in this thread,
        or in one that is gone, is put right: torch runs no hooks after a KeyboardInterrupt.
        """
        threads = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}
        siblings = self._siblings(self._stack.owner)
        with LOCK:
            layers = siblings[self._attribute]
            if isinstance(layers, _RecorderList):
                for thread, forwards in layers.forwards.items():
                    layers.forwards[thread] = [
                        forward
                        for forward in forwards
                        if forward.hooks is not self or thread in threads or forward.is_executing
                    ]
                self._tidy(siblings, layers)
            if not self._is_in_use(layers):
                self._remove()

    def execute(self, recording: Recording) -> Tensor:
        """Execute the plan, and guard its result where a checkpoint will run the forward again in backward."""
        stream = self._execute(recording)
        if stream.requires_grad and _compat.is_in_checkpoint():
            stream.register_hook(self.state.refuse_late_backward)  # type: ignore[no-untyped-call]
        return stream

    def _remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _is_in_use(self, layers: nn.Module | None) -> bool:
        """Return whether a forward under this plan is under way in some thread."""
        forwards = layers.forwards.values() if isinstance(layers, _RecorderList) else ()
        return any(forward.hooks is self for some in forwards for forward in some)

    def holds_here(self) -> bool:
        """Return whether the plan holds here; raise SurgeryError if that is not clear."""
        if torch.compiler.is_compiling():
            return True  # the hooks of nested contexts all run, and the last of them has the last word
        if self._site is None:
            return self._scope.is_open
        if not self._scope.is_open:  # a forward in another thread, which is over now or was broken off, kept the hooks
            self.close()
            return False
        return self._site.scope_here(self._stack.name, self._stack.num_layers) is self._scope

    def _begin_forward(self, model: nn.Module, args: Any) -> None:
        """Note before a forward of the model that the plan was not executed yet."""
        self.state.executed = False if self.holds_here() else None
        if not torch.compiler.is_compiling():
            self._come_last()

    def _come_last(self) -> None:
        """Move behind the hooks that others have put on the owner since, which then meet the real list."""
        hooks, _ = _compat.forward_hooks(self._stack.owner)
        behind = [*hooks.items()]
        while behind and isinstance(getattr(behind[-1][1], "__self__", None), _Hooks):
            behind.pop()
        for key, hook in behind:
            if hook == self._replace_layers and isinstance(hooks, OrderedDict):
                hooks.move_to_end(key)

    def _end_forward(self, model: nn.Module, args: Any, output: Any) -> None:
        """Raise SurgeryError after a forward of the model that did not execute the plan."""
        if self._always and self.state.executed is False:
            raise SurgeryError(_NOT_EXECUTED.format(stack=self._stack, visited=0))

    def _replace_layers(self, owner: nn.Module, args: Any, kwargs: Any = None) -> None:
        """Put recorders in the place of the layers, before a forward of their owner.

        `kwargs` is None where another thread has removed this hook while torch was about to call it.
        """
        if kwargs is None or not self.holds_here():
            return
        gathering = self._options.gathering(args, kwargs)
        if torch.compiler.is_compiling():
            self._begin(self._siblings(owner), gathering)
        else:
            with LOCK:
                self._begin(self._siblings(owner), gathering)

    def _begin(self, siblings: dict[str, nn.Module | None], gathering: Gathering | None) -> None:
        """Begin a forward of this thread."""
        layers = siblings[self._attribute]
        if not isinstance(layers, _RecorderList):
            assert isinstance(layers, nn.ModuleList | nn.Sequential)
            layers = siblings[self._attribute] = _RecorderList(layers)
        thread = _this_thread()
        # Those that were broken off, by a KeyboardInterrupt, are still there.
        before = [f for f in layers.forwards.get(thread, ()) if f.is_executing or not f.recording.calls]
        for outer in before:
            outer.is_replaced = outer.is_replaced or not outer.is_executing
        layers.forwards[thread] = [*before, _Forward(self, self._stack, layers.original, gathering)]

    def _restore_layers(self, owner: nn.Module, args: Any, output: Any) -> Any:
        """Put the layers back after a forward of their owner, also one that raised; refuse one without the plan.

        Return the output with what the loop gathers from the layers filled in.
        """
        siblings = self._siblings(owner)
        layers = siblings[self._attribute]
        forwards = layers.forwards.get(_this_thread(), []) if isinstance(layers, _RecorderList) else []
        own = [forward for forward in forwards if forward.hooks is self and not forward.is_executing]
        if not own or not isinstance(layers, _RecorderList):
            return output
        forward = own[-1]
        if torch.compiler.is_compiling():
            self._end(siblings, layers, forward)
        else:
            with LOCK:
                self._end(siblings, layers, forward)
                # Where the forward raised (None), torch goes through the hooks themselves: nothing may be removed then.
                if not self._scope.is_open and output is not None and not self._is_in_use(layers):
                    self._remove()
        if forward.recording.done or forward.is_replaced:
            self.state.executed = True
        elif output is not None:  # None: the forward raised, and its error goes on to the caller
            self._refuse_unfinished(len(forward.recording.calls))
        return forward.recording.filled(output)

    def _end(self, siblings: dict[str, nn.Module | None], layers: _RecorderList, forward: _Forward) -> None:
        """End a forward of this thread."""
        thread = _this_thread()
        layers.forwards[thread] = [other for other in layers.forwards[thread] if other is not forward]
        self._tidy(siblings, layers)

    def _tidy(self, siblings: dict[str, nn.Module | None], layers: _RecorderList) -> None:
        """Put the real list back if no forward is under way."""
        for thread in [thread for thread, forwards in layers.forwards.items() if not forwards]:
            del layers.forwards[thread]
        if not layers.forwards:
            siblings[self._attribute] = layers.original

    def _refuse_unfinished(self, visited: int) -> NoReturn:
        """Raise SurgeryError for a forward whose loop met only the first `visited` layers."""
        config = self._config
        if config is not None and getattr(config, "num_hidden_layers", None) != self._depth:
            # assistant_early_exit sets this for one call, and does not set it back when the call fails
            config.num_hidden_layers = self._depth
            raise SurgeryError(_EARLY_EXIT.format(stack=self._stack, visited=visited))
        raise SurgeryError(_NOT_EXECUTED.format(stack=self._stack, visited=visited))

    def _siblings(self, owner: nn.Module) -> dict[str, nn.Module | None]:
        """Return the children among which `owner` keeps its list of layers, by name."""
        return _compat.children(owner.get_submodule(self._holder_path))


@contextmanager
def recorded(
    model: nn.Module,
    stack: LayerStack,
    execute: Callable[[Recording], Tensor],
    always: bool = True,
    threads: Threads = "own",
) -> Iterator[Callable[[], bool]]:
    """Run `execute` in place of the layers in every forward of `model` within the context.

    In nested contexts the inner one executes. A deep copy of the model that is made inside executes too.

    Args:
        model: The model, or a module of it, that holds the stack.
        stack: The stack of `model`.
        execute: Takes what was recorded of a forward and returns the stream that leaves the stack.
        always: Whether every forward of `model` must run the stack.
        threads: In which other threads that holds, as in `painters.surgery`.

    Yields:
        A function that returns whether this holds in the thread that calls it.

    Raises:
        SurgeryError: If a forward ended without `execute`, or if somebody removed the hooks within the context.
    """
    scope, site = Scope(threads), site_of(stack.layers)
    hooks = _Hooks(stack, execute, always, scope, site)
    try:
        site.enter(scope, stack.layers)
        hooks.register(model)
        yield hooks.holds_here
        present = hooks.are_registered()
    finally:
        site.leave(scope, stack.layers)
        hooks.close()
    if not present:
        raise SurgeryError(
            f"{stack.name}: another tool removed the hooks that make it follow the plan, so it ran without the plan: "
            "use that tool before or after, and not within the context"
        )


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
