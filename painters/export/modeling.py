"""Run the layers of a model by a plan, with nothing but torch and transformers: the engine's twin for exports.

The text of this file, without this docstring, goes into the checkpoints that `painters export --with-code` writes. It
must not import painters. So it repeats, in a short form, what `painters.engine` does: `Execution` and `StandIn` are
`engine/recording.py`, `Program` is `engine/program.py` with `engine/cache_slots.py`, `_mean` and `_sum` are
`engine/merges.py`, and `_gathered` is a short `engine/gathering.py`. Both must compute the same numbers: a change to
one belongs in the other. A test compares their logits and hidden states bit for bit (tests/export/test_twin.py).

The model's own loop over the layers meets stand-ins. Each notes the arguments for its layer; the last one runs the plan
and gives every layer the arguments that were meant for it.
"""

from __future__ import annotations

import copy
import inspect
import operator
import threading
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, StaticCache


class LayerRun(NamedTuple):
    """One execution of a layer or of a half of it.

    `slots` maps each index at which the layer asks a cache for keys and values to the slot that it gets: None for the
    slot of that index, or the number of an additional one.
    """

    layer: int
    half: str | None
    slots: dict[int, int | None]


class ParallelGroup(NamedTuple):
    """Branches that run on the same hidden states, merged by "mean" or "sum"."""

    merge: str
    branches: tuple[tuple[Any, ...], ...]


class Program:
    """A plan compiled for a model: every execution of a layer has cache slots of its own.

    A plan is a tuple of steps: a layer, such as 3; half of one, such as (3, "attn"); or branches side by side, such
    as {"mean": ((4,), (5, 6))}. `returns` is the length of the tuple that a layer returns, None where it returns a
    tensor. `halves` maps "attn" and "mlp" to the names of the layer's norm, module and what comes after it (or None).
    """

    def __init__(
        self, plan: tuple[Any, ...], layers: Iterable[nn.Module], returns: int | None, halves: Mapping[str, Any]
    ) -> None:
        self.plan, self.returns, self.halves = plan, returns, halves
        self.indices = [_cache_indices(layer) for layer in layers]
        self.width = max((index + 1 for indices in self.indices for index in indices), default=0)
        self.used: set[int] = set()
        self.copied: list[int] = []
        self.operations = tuple(map(self._compiled, plan))

    def _compiled(self, step: Any) -> LayerRun | ParallelGroup:
        """Return the operation of one step, with its cache slots."""
        if isinstance(step, dict):
            ((merge, branches),) = step.items()
            return ParallelGroup(merge, tuple(tuple(map(self._compiled, branch)) for branch in branches))
        layer, half = step if isinstance(step, tuple) else (step, None)
        slots: dict[int, int | None] = {}
        for index in () if half == "mlp" else self.indices[layer]:
            slots[index] = len(self.copied) if index in self.used else None
            if index in self.used:
                self.copied.append(index)
            self.used.add(index)
        return LayerRun(layer, half, slots)

    def open(self, cache: Cache) -> None:
        """Give an empty cache a slot for every execution; leave one that this plan has filled as it is."""
        owner = vars(cache).get("planned")
        if owner is not None and owner == self.plan:
            return
        if type(cache) not in (DynamicCache, StaticCache) or cache.offloading:
            raise ValueError(f"this model decodes with a DynamicCache or a StaticCache, not a {type(cache).__name__}")
        if owner is not None or any(map(_is_filled, cache.layers)):
            raise ValueError("this cache was filled by another model: start with a new one")
        if cache.layer_class_to_replicate is not None:
            while len(cache.layers) < self.width:
                cache.layers.append(cache.layer_class_to_replicate())
        cache.layers.extend([copy.deepcopy(cache.layers[index]) for index in self.copied])
        vars(cache)["planned"] = self.plan

    def view(self, cache: Cache, slots: Mapping[int, int | None]) -> Cache:
        """Return the cache with the slots of one execution in the places where its layer looks for them."""
        if all(extra is None for extra in slots.values()):
            return cache
        layers, first = list(cache.layers), len(cache.layers) - len(self.copied)
        for index, extra in slots.items():
            if extra is not None:
                layers[index] = cache.layers[first + extra]
        view: Cache = object.__new__(type(cache))
        vars(view).update(vars(cache), layers=layers)
        return view

    def fill_idle(self, cache: Cache, stream: Tensor) -> None:
        """Write zeros to slots that no execution uses, because transformers reads lengths from the first slots."""
        for index, slot in enumerate(cache.layers[: len(cache.layers) - len(self.copied)]):
            if index not in self.used and isinstance(slot, CacheLayerMixin):
                shape = (1, 1)
                if slot.keys is not None and slot.keys.ndim == 4:
                    shape = slot.keys.shape[1], slot.keys.shape[3]
                blank = stream.new_zeros(stream.shape[0], shape[0], stream.shape[1], shape[1])
                slot.update(blank, blank)


class Execution:
    """One forward: record what the model's loop gives each layer, then run the plan."""

    stream: Tensor

    def __init__(self, program: Program, layers: list[nn.Module], gathers: bool = False) -> None:
        self.program, self.layers = program, layers
        self.streams: list[Tensor] | None = [] if gathers else None
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.cache: Cache | None = None
        self.done = False

    def visit(self, index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what the loop gets from layer `index`: the hidden states unchanged, from the last layer the plan's."""
        if not args or index != len(self.calls) or (index and args[0] is not self.stream):
            raise RuntimeError("this release of transformers loops over the layers in another way: use an older one")
        self.stream = hidden = args[0]
        self.calls.append((args[1:], kwargs))
        if len(self.calls) == len(self.layers):
            caches = (v for args, kwargs in self.calls for v in (*args, *kwargs.values()) if isinstance(v, Cache))
            self.cache = next(caches, None)
            if self.cache is not None:
                self.program.open(self.cache)
            hidden = self._run_all(self.program.operations, hidden)
            if self.cache is not None:
                self.program.fill_idle(self.cache, self.stream)
            self.done = True
        returns = self.program.returns
        return hidden if returns is None else (hidden, *(None,) * (returns - 1))

    def _run_all(self, operations: Iterable[LayerRun | ParallelGroup], hidden: Tensor) -> Tensor:
        """Return the hidden states after the operations."""
        for operation in operations:
            if isinstance(operation, LayerRun):
                hidden = self._run(operation, hidden)
            else:
                outputs = [self._run_all(branch, hidden) for branch in operation.branches]
                hidden = _mean(outputs) if operation.merge == "mean" else _sum(hidden, outputs)
        return hidden

    def _run(self, run: LayerRun, hidden: Tensor) -> Tensor:
        """Return the hidden states after one execution, which gets the arguments meant for its layer."""
        args, kwargs = self.calls[run.layer]
        if self.cache is not None:
            view = self.program.view(self.cache, run.slots)
            args = tuple(view if value is self.cache else value for value in args)
            kwargs = {name: view if value is self.cache else value for name, value in kwargs.items()}
        layer = self.layers[run.layer]
        if run.half is None:
            output = layer(hidden, *args, **kwargs)
            stream: Tensor = output if isinstance(output, Tensor) else output[0]
            if self.streams is not None:
                self.streams.append(stream)
            return stream
        before, inner, after = self.program.halves[run.half]
        change: Tensor
        change = getattr(layer, before)(hidden)
        if run.half == "attn":
            change, _ = getattr(layer, inner)(hidden_states=change, **kwargs)
        else:
            change = getattr(layer, inner)(change)
        if after is not None:
            change = getattr(layer, after)(change)
        return hidden + change


class StandIn:
    """A stand-in for one layer in the model's loop; it has the layer's attributes."""

    def __init__(self, execution: Execution, index: int) -> None:
        self._execution, self._index = execution, index

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Record the call; the last layer's runs the plan."""
        return self._execution.visit(self._index, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._execution.layers[self._index], name)


class PlannedLayers(nn.ModuleList):
    """The list of layers. During a forward, iterating and indexing give stand-ins in the thread that runs it."""

    program: Program
    executions: dict[int, Execution]

    def __iter__(self) -> Iterator[Any]:
        execution = self.executions.get(_thread())
        return super().__iter__() if execution is None else iter(self._stand_ins(execution))

    def __getitem__(self, index: Any) -> Any:
        execution = self.executions.get(_thread())
        return super().__getitem__(index) if execution is None else self._stand_ins(execution)[index]

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Return what a copy is made of: no forwards that are under way."""
        parts: Any = super().__reduce_ex__(protocol)
        function, arguments, state, *more = parts
        return function, arguments, {**state, "executions": {}}, *more

    def _stand_ins(self, execution: Execution) -> list[StandIn]:
        """Return a stand-in for every layer."""
        return [StandIn(execution, index) for index in range(len(self))]


def follow(
    model: PreTrainedModel, path: str, plan: tuple[Any, ...], returns: int | None, halves: Mapping[str, Any]
) -> None:
    """Let every forward of `model` run `plan` in place of the layers at `path`, from now on."""
    layers = model.get_submodule(path)
    assert isinstance(layers, nn.ModuleList)
    program = Program(plan, layers, returns, halves)
    layers.__class__ = PlannedLayers
    vars(layers).update(program=program, executions={})
    owner_path = path.rpartition(".")[0]
    while owner_path and isinstance(model.get_submodule(owner_path), nn.ModuleDict | nn.ModuleList):
        owner_path = owner_path.rpartition(".")[0]
    inner = path.removeprefix(owner_path).removeprefix(".")

    def begin(owner: nn.Module, args: Any, kwargs: Any) -> None:
        planned: Any = owner.get_submodule(inner)
        given = inspect.signature(owner.forward).bind_partial(*args, **kwargs).arguments | kwargs
        gathers, attends = (_is_asked(owner, given, f"output_{name}") for name in ("hidden_states", "attentions"))
        if attends and returns is not None:
            raise ValueError("this model gives no attentions, which its own loop gathers: leave out output_attentions")
        planned.executions[_thread()] = Execution(planned.program, list(planned._modules.values()), gathers)

    def end(owner: nn.Module, args: Any, output: Any) -> Any:
        planned: Any = owner.get_submodule(inner)
        execution = planned.executions.pop(_thread(), None)
        if execution is None or output is None:
            return output
        if not execution.done:
            raise RuntimeError("the model's forward ended without its plan: use an older release of transformers")
        return output if execution.streams is None else _gathered(output, execution)

    owner = model.get_submodule(owner_path)
    owner.register_forward_pre_hook(begin, with_kwargs=True)
    owner.register_forward_hook(end, always_call=True, prepend=True)


def _is_asked(owner: nn.Module, given: Mapping[str, Any], name: str) -> bool:
    """Return whether a forward of `owner` is asked for an output, by its arguments or by the configuration."""
    value = given.get(name)
    return bool(getattr(getattr(owner, "config", None), name, False) if value is None else value)


def _gathered(output: Any, execution: Execution) -> Any:
    """Return the output with an entry for every execution where the model's own loop gathered hidden states.

    Such a loop met the stream that enters the plan in the place of what the layers give.
    """
    if isinstance(output, MutableMapping):
        for key, value in list(output.items()):
            if (new := _gathered(value, execution)) is not value:
                output[key] = new
        return output
    if type(output) not in (tuple, list):
        return output
    met = [i for i, item in enumerate(output) if isinstance(item, Tensor) and _is_stream(item, execution.stream)]
    first = len(met) - (len(execution.layers) - 1)  # 1 where it gathers the stream that enters the first layer too
    if not met or first not in (0, 1) or len(met) == 1:
        items = [_gathered(item, execution) for item in output]
        return output if all(map(operator.is_, items, output)) else type(output)(items)
    if any(output[i] is not execution.stream for i in met) or met != list(range(met[0], met[0] + len(met))):
        raise ValueError("this model computes with hidden states of its own loop: leave out output_hidden_states")
    streams, after = list(execution.streams or ()), met[-1] + 1
    kept = streams if after + 1 < len(output) else streams[:-1]
    rest = output[after + 1 :] if after + 1 < len(output) else output[after:]
    return type(output)((*output[: met[0] + first], *kept, *rest))


def _is_stream(item: Tensor, stream: Tensor) -> bool:
    """Return whether both are the same numbers, or one is a part of the other."""
    return item is stream or (item.data_ptr() == stream.data_ptr() and item.numel() > 0)


def _thread() -> int:
    """Return the number of this thread; 0 while torch compiles, since a trace belongs to no thread."""
    return 0 if torch.compiler.is_compiling() else threading.get_ident()


def _cache_indices(layer: nn.Module) -> tuple[int, ...]:
    """Return the indices of the cache slots that the modules of `layer` use."""
    indices = (vars(module).get("layer_idx", vars(module).get("layer_id")) for module in layer.modules())
    return tuple(sorted({index for index in indices if isinstance(index, int)}))


def _is_filled(slot: Any) -> bool:
    """Return whether a cache slot holds tokens or a state."""
    if isinstance(slot, CacheLayerMixin) and int(slot.get_seq_length()):
        return True
    return any(getattr(slot, "has_previous_state", {}).values())


def _mean(outputs: list[Tensor]) -> Tensor:
    """Return the mean, in the type of the outputs; in half precision, add up in float32."""
    first, *rest = outputs
    if first.dtype not in (torch.bfloat16, torch.float16):
        return torch.stack(outputs).mean(0)
    total = first.to(torch.float32)
    for output in rest:
        total = total + output
    return (total / len(outputs)).to(_kind(outputs))


def _sum(stream: Tensor, outputs: list[Tensor]) -> Tensor:
    """Return the stream plus the changes, in the type of the outputs; in half precision, add up in float32."""
    x = _wide(stream)
    total = _wide(outputs[0]) - x
    for output in outputs[1:]:
        total = total + (_wide(output) - x)
    return (x + total).to(_kind(outputs))


def _wide(tensor: Tensor) -> Tensor:
    """Return the tensor, in float32 if it is in half precision."""
    return tensor.to(torch.float32) if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def _kind(outputs: list[Tensor]) -> torch.dtype:
    """Return the type of the outputs, the wider one if there are several."""
    kind = outputs[0].dtype
    for output in outputs[1:]:
        kind = torch.promote_types(kind, output.dtype)
    return kind
