"""Fill in what a model's own loop gathers from its layers: their hidden states and attentions.

Most models leave that to hooks of transformers on the layers, which see every execution. Other models gather in their
own loop, which meets recorders in the place of the layers, and so would gather the stream that enters the plan again
and again. Where a forward is asked for such outputs, recorders therefore return placeholders. A placeholder has numbers
of the right shape, and remembers what the loop does with it, such as a transpose or a slice. After the forward, each
run of placeholders in the output is replaced by what the executions gave, after the same operations.
`painters/export/modeling.py` is a deliberate twin: a change to the outputs here belongs there too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, NoReturn
from weakref import WeakSet

import torch
from torch import Tensor, nn

from painters import _compat
from painters.stack import LayerStack, SurgeryError

NOT_FOLLOWED: Final[WeakSet[nn.Module]] = WeakSet()
"""Lists of layers whose loop gathers outputs that did not equal the plain forward's when they were compared."""

_STREAM: Final = 0
"""The place of the stream among what a layer returns."""


class Placeholder(Tensor):
    """What a recorder returns in the place of something that an execution will give.

    Attributes:
        numbers: A plain tensor of the right shape; every operation works on it.
        layer: The layer in whose place it was returned.
        place: Its place in the tuple that a layer returns, 0 for the stream.
        steps: The operations that the loop applied to it, in order.
        texts: The same operations in words, to compare them.
        parts: The placeholders and tensors that the first operation stacks or concatenates; None for one that stands
            for a single tensor.
    """

    numbers: Tensor
    layer: int
    place: int
    steps: tuple[Callable[[Any], Any], ...]
    texts: tuple[str, ...]
    parts: Sequence[Any] | None

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        held = list(_placeholders((args, kwargs)))
        result = func(*_replaced(args, _numbers), **_replaced(kwargs, _numbers))
        if not any(isinstance(value, Tensor) for value in _leaves(result)):
            return result
        source = held[0]
        if func in (torch.stack, torch.cat) and type(args[0]) in (tuple, list) and isinstance(result, Tensor):
            rest = args[1:]

            def join(parts: Any) -> Any:
                return func(parts, *rest, **kwargs)

            return _new(result, -1, _STREAM, (join,), parts=args[0])
        if len(held) > 1:
            raise SurgeryError(_COMPUTED.format(name="the model"))

        def step(value: Tensor) -> Any:
            return func(*_replaced(args, lambda _: value), **_replaced(kwargs, lambda _: value))

        text = _text(func, args, kwargs)
        if isinstance(result, Tensor):
            return _placeholder(result, source, step, text)
        if type(result) not in (tuple, list):
            raise SurgeryError(_COMPUTED.format(name="the model"))
        return type(result)(
            _placeholder(part, source, partial(_item_after, step, i), f"{text}[{i}]") for i, part in enumerate(result)
        )


def _item_after(step: Callable[[Any], Any], index: int, value: Any) -> Any:
    return step(value)[index]


def _text(func: Any, args: Any, kwargs: Any) -> str:
    """Return an operation on a placeholder in words; other tensors go by their identity."""
    words = [
        "it" if isinstance(leaf, Placeholder) else f"tensor {id(leaf)}" if isinstance(leaf, Tensor) else repr(leaf)
        for leaf in _leaves((args, kwargs))
    ]
    return f"{getattr(func, '__name__', func)}({', '.join(words)})"


def _placeholder(numbers: Tensor, source: Placeholder, step: Callable[[Tensor], Any], text: str) -> Placeholder:
    """Return the placeholder for what `step` makes of `source`."""
    return _new(numbers, source.layer, source.place, (*source.steps, step), (*source.texts, text), source.parts)


def _new(
    numbers: Tensor,
    layer: int,
    place: int,
    steps: tuple[Callable[[Any], Any], ...] = (),
    texts: tuple[str, ...] = (),
    parts: Sequence[Any] | None = None,
) -> Placeholder:
    held = numbers.detach().as_subclass(Placeholder)
    vars(held).update(numbers=numbers, layer=layer, place=place, steps=steps, texts=texts, parts=parts)
    return held


class Execution(NamedTuple):
    """What one execution gave, as far as it is gathered."""

    layer: int
    outputs: tuple[Any, ...]
    """What the layer returned, the stream first."""
    is_whole: bool
    """Whether the whole layer ran; of an attention half, the weights count among attentions."""


class Gathering:
    """One forward in which the model gathers outputs of single layers.

    Args:
        stack: The stack of the model.
        hidden_states: Whether the forward gathers hidden states.
        attentions: Whether it gathers attentions.
    """

    def __init__(self, stack: LayerStack, hidden_states: bool, attentions: bool) -> None:
        self.attentions = attentions
        """Whether the forward gathers attentions."""
        self.entered: Tensor | None = None
        """The stream that entered the plan."""
        self.hands_on_side_outputs = False
        """Whether a layer was given a side output of an earlier one."""
        self._returned: Tensor | None = None  # the plan's stream, from the last recorder
        self._hidden_states = hidden_states
        self._stack = stack
        self._executions: list[Execution] = []

    def received(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], returned: Tensor | None) -> tuple[Any, Any]:
        """Return what the loop gave a layer, with plain tensors in the place of placeholders.

        Args:
            args: What it gave by position.
            kwargs: What it gave by name.
            returned: The stream that the recorder before returned.

        Returns:
            Both without placeholders, and `returned` itself in the place of what is bitwise the same view of it.
        """

        def plain(held: Placeholder) -> Tensor:
            self.hands_on_side_outputs |= held.place != _STREAM
            if held.place == _STREAM and returned is not None and _is_same_view(held.numbers, returned):
                return returned
            return held.numbers

        return _replaced(args, plain), _replaced(dict(kwargs), plain)

    def handed(self, layer: int, stream: Tensor, side_outputs: Sequence[Any], is_last: bool) -> tuple[Any, ...]:
        """Return placeholders for the stream and the side outputs that a recorder returns.

        The last recorder returns the plan's stream, which is what the model goes on with.
        """
        if is_last:
            self._returned = stream
        hidden = stream if is_last or not self._hidden_states else _new(stream, layer, _STREAM)
        if not self.attentions:
            return hidden, *side_outputs
        sides = (
            _new(value, layer, place) if isinstance(value, Tensor) else value
            for place, value in enumerate(side_outputs, 1)
        )
        return hidden, *sides

    def note(self, layer: int, outputs: Sequence[Any], is_whole: bool = True) -> None:
        """Note what an execution gave, the stream first."""
        kept = (outputs[0] if self._hidden_states and is_whole else None, *(outputs[1:] if self.attentions else ()))
        self._executions.append(Execution(layer, kept, is_whole))

    def filled(self, output: Any) -> Any:
        """Return the output of the forward with what the executions gave in the place of placeholders.

        Args:
            output: The output; mappings in it are changed.

        Returns:
            The output: of hidden states all that the loop gathers before the first layer, one entry for each execution
            of a whole layer, and in the place of the last one what the model itself gathers after the plan; of
            attentions one entry for each execution.

        Raises:
            SurgeryError: If what the loop gathers cannot be told from the executions.
        """
        if isinstance(output, Placeholder):
            return self._single(output)
        if isinstance(output, MutableMapping):
            for key, value in list(output.items()):
                if (new := self.filled(value)) is not value:
                    output[key] = new
        elif isinstance(output, tuple | list):
            items = [self.filled(item) for item in self._runs_filled(output)]
            if len(items) != len(output) or any(new is not old for new, old in zip(items, output, strict=True)):
                # a named tuple takes its items one by one
                return type(output)(items) if type(output) in (tuple, list) else type(output)(*items)
        return output

    def _runs_filled(self, items: Sequence[Any]) -> Iterator[Any]:
        """Yield the items of a tuple or list, with what executions gave in the place of each run of placeholders."""
        num_layers = self._stack.num_layers
        if self.attentions and len(items) == num_layers and all(item is None for item in items):
            yield from [None] * len(self._executions)  # attentions that the layers do not give
            return
        whole = self._of(_STREAM) if self._hidden_states else []
        begin = 0
        while begin < len(items):
            end = _end_of_run(items, begin)
            if end == begin:
                # a loop may gather what leaves the last layer, and after it the result of a norm
                is_inner = items[begin] is self._returned and 0 < begin < len(items) - 1 and len(whole) > 0
                is_after_run = is_inner and isinstance(items[begin - 1], Placeholder)
                yield whole[-1].outputs[_STREAM] if is_after_run else items[begin]
                if num_layers == 1 and items[begin] is self.entered and begin + 1 < len(items):
                    yield from (execution.outputs[_STREAM] for execution in whole[:-1])
                begin += 1
                continue
            run = items[begin:end]
            if run[0].parts is not None or self._is_in_order(run[0].place):
                yield from (self._single(held) for held in run)
            else:
                yield from self._of_all(run)
            begin = end

    def _of(self, place: int) -> list[Execution]:
        """Return the executions that count for what is at `place` in the tuple that a layer returns."""
        return [execution for execution in self._executions if execution.is_whole or place != _STREAM]

    def _is_in_order(self, place: int) -> bool:
        """Return whether every layer ran once and in order, so that each placeholder has its execution."""
        return [execution.layer for execution in self._of(place)] == list(range(self._stack.num_layers))

    def _single(self, held: Placeholder) -> Any:
        """Return what the execution of the placeholder's own layer gave, or what is stacked of all executions."""
        if held.parts is not None:
            return _after_steps(self.filled(list(held.parts)), held)
        if not self._is_in_order(held.place):
            self._refuse()
        return _value(held, self._of(held.place)[held.layer])

    def _of_all(self, run: Sequence[Placeholder]) -> list[Any]:
        """Return what all executions gave, in the place of one placeholder for each layer."""
        first = run[0]
        executions = self._of(first.place)
        if first.place == _STREAM:
            executions = executions[:-1]  # the model itself puts what follows the last layer at the end
        elif len(run) == 1 and first.layer == self._stack.num_layers - 1 and executions:
            return [_value(first, executions[-1])]  # what the last layer gives
        due = self._stack.num_layers - (first.place == _STREAM)
        if first.layer != 0 or len(run) != due:
            self._refuse()
        return [_value(first, execution) for execution in executions]

    def _refuse(self) -> NoReturn:
        raise SurgeryError(_COMPUTED.format(name=self._stack.name))


def _value(held: Placeholder, execution: Execution) -> Any:
    """Return what an execution gave in the place of `held`, after the operations of the loop."""
    outputs = execution.outputs
    value = outputs[held.place] if held.place < len(outputs) else None
    return None if value is None else _after_steps(value, held)


def _after_steps(value: Any, held: Placeholder) -> Any:
    """Return `value` after the operations that the loop applied to the placeholder."""
    for step in held.steps:
        value = step(value)
    return value


def _end_of_run(items: Sequence[Any], begin: int) -> int:
    """Return the end of the run of placeholders that begins at `begin`: of layers that follow each other."""
    first = items[begin]
    end = begin
    if isinstance(first, Placeholder) and first.parts is not None:
        return begin + 1
    while end < len(items) and isinstance(item := items[end], Placeholder):
        if (item.layer, item.place, item.texts) != (first.layer + end - begin, first.place, first.texts):
            break
        end += 1
    return end


def _is_same_view(one: Tensor, other: Tensor) -> bool:
    """Return whether both are the same numbers in the same memory."""
    return one is other or (
        one.data_ptr() == other.data_ptr() and one.shape == other.shape and one.stride() == other.stride()
    )


def _numbers(held: Placeholder) -> Tensor:
    return held.numbers


def _replaced(value: Any, new: Callable[[Placeholder], Any]) -> Any:
    """Return `value` with `new(placeholder)` in the place of each placeholder in it."""
    if isinstance(value, Placeholder):
        return new(value)
    if type(value) in (tuple, list):
        return type(value)(_replaced(item, new) for item in value)
    if type(value) is dict:
        return {key: _replaced(item, new) for key, item in value.items()}
    return value


def _leaves(value: Any) -> Iterator[Any]:
    """Yield what is in nested tuples, lists and dictionaries."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _placeholders(value: Any) -> Iterator[Placeholder]:
    """Yield the placeholders in nested tuples, lists and dictionaries."""
    return (leaf for leaf in _leaves(value) if isinstance(leaf, Placeholder))


class GatheringOptions:
    """Finds out whether a forward gathers outputs of single layers in its own loop.

    Args:
        model: The model.
        stack: Its stack.
    """

    def __init__(self, model: nn.Module, stack: LayerStack) -> None:
        self._stack = stack
        self._config = getattr(stack.owner, "config", None)
        try:
            names = list(inspect.signature(stack.owner.forward).parameters)
        except (TypeError, ValueError):
            names = []
        self._positions: dict[str, int] = {name: names.index(name) for name in _OPTIONS if name in names}
        self.leaves_to_hooks = leaves_to_hooks(model, stack)
        """Whether hooks of transformers gather hidden states from the layers."""

    def gathering(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Gathering | None:
        """Return what a forward of the owner gathers, called with `args` and `kwargs`; None for nothing.

        Raises:
            SurgeryError: If what the loop gathers does not follow a plan.
        """
        hidden_states, attentions = (bool(self._value(name, args, kwargs)) for name in _OPTIONS)
        # detectors stack what each layer of their decoder gives, for a loss of each
        hidden_states |= self._stack.stacks_outputs or bool(getattr(self._config, "auxiliary_loss", False))
        if not hidden_states and not attentions:
            return None
        stack = self._stack
        if stack.layers in NOT_FOLLOWED:
            raise SurgeryError(_COMPUTED.format(name=stack.name))
        if torch.compiler.is_compiling():
            if self.leaves_to_hooks:
                return None
            raise SurgeryError(
                f"{stack.name} gathers hidden states and attentions in its own loop, which a function that is "
                "compiled cannot fill under a plan: call the model outside of torch.compile for them"
            )
        return Gathering(stack, hidden_states, attentions)

    def _value(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return the value of an option, which the configuration decides where the call does not."""
        value = kwargs.get(name)
        position = self._positions.get(name, len(args))
        if value is None and position < len(args):
            value = args[position]
        return getattr(self._config, name, None) if value is None else value


def options_taken(root: nn.Module) -> tuple[str, ...]:
    """Return the options by which a forward of `root` gathers outputs of single layers."""
    parameters = inspect.signature(root.forward).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return tuple(name for name in _OPTIONS if takes_any or name in parameters)


def leaves_to_hooks(model: nn.Module, stack: LayerStack) -> bool:
    """Return whether the hooks of transformers gather hidden states, of the owner or of a model around it."""
    around = [module for module in model.modules() if any(inner is stack.owner for inner in module.modules())]
    return any(_compat.recorded_hidden_states(type(module)) is not None for module in around)


_OPTIONS: Final = ("output_hidden_states", "output_attentions")
_COMPUTED: Final = (
    "{name} computes with the hidden states or attentions that its own loop gathers from its layers, so they mean "
    "nothing under a plan: leave out output_hidden_states and output_attentions, and use `observe` of `surgery` for "
    "the streams between the steps"
)
