"""Make a Hugging Face model follow a plan: record how its loop calls the layers, then execute the plan.

The model's weights, names and hooks stay as they are, and outside the context it is bitwise what it was.
`painters/export/modeling.py` is a deliberate twin: a change to the numbers here belongs there too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import MethodType
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_args

from torch import Tensor, nn

from painters.engine.cache_slots import CacheSlots, Place, SlotTable
from painters.engine.merges import MERGES
from painters.engine.recording import Recording, recorded
from painters.engine.verify import self_check
from painters.plan import Half, Layer, Parallel, Plan, Step
from painters.stack import HALVES, LayerStack, SurgeryError
from painters.stack.search import descendants

__all__ = ["KV", "LayerStack", "Program", "SurgeryError", "operate", "surgery"]

KV: TypeAlias = Literal["exact", "averaged"]
"""The kinds of cache of a parallel group."""
KINDS_OF_KV: Final[tuple[str, ...]] = get_args(KV)

Observer: TypeAlias = Callable[[int, Tensor], None]
Model = TypeVar("Model", bound=nn.Module)


@contextmanager
def surgery(
    model: Model,
    plan: Plan | str,
    kv: KV = "exact",
    *,
    stack: str | None = None,
    path: str | None = None,
    observe: Observer | None = None,
    check: bool = True,
) -> Iterator[Model]:
    """The model, which within the context runs `plan` in place of its layers.

    Forward, `generate` (greedy, sampled, beams, left padding), training and `model(ids).logits` with the
    default cache all follow the plan. Nested contexts: the inner plan holds. The model's own
    `output_hidden_states` lists the embeddings and then every execution of a whole layer in order, members of
    a parallel group one by one.

    `kv="averaged"` keeps one cache slot per parallel group and averages the members' keys and values in it,
    as the paper's released code does (only decoding with a cache differs from "exact"). `stack` says which list
    of layers is meant where there are several or none is found: "encoder", "decoder", "vision" or a path, which
    `path` takes too. `observe(i, stream)` is called with the stream
    [batch, seq, hidden] that enters the plan (i = 0) and that leaves its i-th step, groups counted as one
    step.

    The first time that a model is operated, the identity plan is compared bitwise with the plain forward on a tiny
    batch: two short forwards, which `check=False` leaves out.

    Raises PlanError for a plan that does not fit, SurgeryError for a model or cache that cannot follow it.
    """
    if kv not in KINDS_OF_KV:
        raise ValueError(f"kv is {kv!r}: it must be one of {', '.join(map(repr, KINDS_OF_KV))}")
    if isinstance(plan, str):
        plan = Plan.parse(plan)
    if stack is not None and path is not None:
        raise ValueError(f"stack={stack!r} and path={path!r}: both say which list of layers is meant, so give one")
    list_path = path if stack is None else stack
    layer_stack = LayerStack.find(model, list_path)
    # A stack that was named may be one that not every forward runs, such as that of a vision tower.
    with operate(model, layer_stack, Program(plan, layer_stack, kv, observe), check=check, always=list_path is None):
        yield model


@contextmanager
def operate(
    model: Model, stack: LayerStack, program: Program, *, check: bool = True, always: bool = True
) -> Iterator[Model]:
    """Run `program` in place of the layers of `model` within the context: `surgery` without finding and checking.

    Use it to enter the same plan, or several plans of one model, more than once: find the stack once, make one
    `Program` for each plan, and enter them as often as needed.

    Args:
        model: The model, whose list of layers is still the one in `stack`.
        stack: The stack of `model`, from `LayerStack.find`.
        program: A plan that was checked against this very stack.
        check: Whether the model is compared with itself under the identity plan before its first use.
        always: Whether every forward of `model` must run the stack. False where some forwards do not run it, such as
            those of a vision tower without a picture.

    Yields:
        The same `model`.

    Raises:
        ValueError: If `program` was made for another stack.
        SurgeryError: If the model or a cache cannot follow the plan.
    """
    if program.stack is not stack:
        raise ValueError(f"the program was made for another stack than this one of {stack.name}: make one for it")
    with (
        self_check(model, stack, identity(stack)) if check else nullcontext(),
        _uncompiled(model),
        recorded(model, stack, program.execute, always=always),
    ):
        yield model


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of a layer or of a half of it, and where it keeps keys and values (None: nowhere)."""

    layer: int
    half: Half | None
    place: Place | None


@dataclass(frozen=True, slots=True)
class Group:
    """Branches that run on the same stream; `averaged` is the slot that they share, if they share one."""

    branches: tuple[tuple[Operation, ...], ...]
    merge: Callable[[Tensor, Iterator[Tensor]], Tensor]
    averaged: Place | None


Operation: TypeAlias = Run | Group


class Program:
    """A plan made ready for a stack: every execution with its cache slot, nothing left to decide in a
    forward."""

    def __init__(self, plan: Plan, stack: LayerStack, kv: KV = "exact", observe: Observer | None = None) -> None:
        plan.check(stack.num_layers, stack.name)
        if plan.has_halves and stack.halves is None:
            _refuse_halves(plan, stack)
        self.stack = stack
        self._kv = kv
        self._observe = observe
        self._table = SlotTable(stack.cache_indices)
        self.operations = self._compile(plan.steps)
        runs = [layer.index for layer in plan.walk() if layer.half != "mlp"]
        self._repeats = len(runs) > len(set(runs))
        # The identity fills a cache as the intact model does, so either may continue what the other began.
        # Where layers share a slot it does not: there even the identity has one for each.
        is_identity = plan == Plan.identity(stack.num_layers) and not self._table.copied
        self._owner: Hashable = None if is_identity else (plan, kv)
        self._text = "the intact model" if is_identity else f'the plan "{plan}" (kv={kv!r})'

    def execute(self, recording: Recording) -> Tensor:
        """The stream that leaves the plan, from the one that entered the recorded stack."""
        cache = recording.cache
        if recording.foreign_cache is not None and (self._repeats or self._kv == "averaged"):
            raise SurgeryError(
                f"the model was given a {type(recording.foreign_cache).__name__}, in which {self._text} cannot place "
                "slots, as it has to where a layer runs more than once or kv='averaged': use `generate` with a "
                "DynamicCache, or use_cache=False"
            )
        if cache is not None and self._repeats and self.stack.own_state:
            raise SurgeryError(
                f"{self.stack.name} keeps a state in its {self.stack.layer_class}, which the executions of a layer "
                f"would share where {self._text} runs it more than once: pass use_cache=False"
            )
        slots = None if cache is None else CacheSlots(self._table, cache, self._owner, self._text)
        stream = recording.stream
        if self._observe is not None:
            self._observe(0, stream)
        for i, operation in enumerate(self.operations, 1):
            stream = self.run(operation, stream, recording, slots)
            if self._observe is not None:
                self._observe(i, stream)
        if slots is not None:
            slots.fill_idle(recording.stream)
        return stream

    def run(self, operation: Operation, stream: Tensor, recording: Recording, slots: CacheSlots | None) -> Tensor:
        """The stream after one operation on `stream`."""
        if isinstance(operation, Group):
            return self._run_group(operation, stream, recording, slots)
        if slots is None or operation.place is None:
            return recording.run(operation.layer, stream, operation.half)
        stream = recording.run(operation.layer, stream, operation.half, slots.view(operation.place))
        slots.leave(operation.place)
        return stream

    def _run_group(self, group: Group, stream: Tensor, recording: Recording, slots: CacheSlots | None) -> Tensor:
        if slots is None or group.averaged is None:
            return group.merge(stream, (self._run_all(branch, stream, recording, slots) for branch in group.branches))
        shared = slots.averaged(group.averaged, stream)
        members = [run.layer for (run,) in group.branches if isinstance(run, Run)]
        merged = group.merge(stream, (recording.run(i, stream, None, shared.member()) for i in members))
        shared.store()
        return merged

    def _run_all(
        self, operations: Sequence[Operation], stream: Tensor, recording: Recording, slots: CacheSlots | None
    ) -> Tensor:
        for operation in operations:
            stream = self.run(operation, stream, recording, slots)
        return stream

    def _compile(self, steps: Sequence[Step]) -> tuple[Operation, ...]:
        return tuple(self._run(step) if isinstance(step, Layer) else self._group(step) for step in steps)

    def _run(self, step: Layer) -> Run:
        # The MLP keeps nothing, so it takes no slot and no second slot for its layer.
        return Run(step.index, step.half, None if step.half == "mlp" else self._table.take(step.index))

    def _group(self, step: Parallel) -> Group:
        if self._kv == "exact":
            return Group(tuple(map(self._compile, step.branches)), MERGES[step.merge], None)
        members = [branch[0] for branch in step.branches if len(branch) == 1]
        layers = [member.index for member in members if isinstance(member, Layer) and member.half is None]
        if len(layers) < len(step.branches):
            text = Plan((step,))
            raise SurgeryError(
                f"kv='averaged' averages the keys and values of single whole layers, but {text} has other "
                "branches: use kv='exact'"
            )
        if any(len(self.stack.cache_indices[layer]) != 1 for layer in layers):
            raise SurgeryError(f"kv='averaged' needs layers with one attention each, unlike {self.stack.layer_class}")
        runs = tuple((Run(layer, None, None),) for layer in layers)
        return Group(runs, MERGES[step.merge], self._table.take(layers[0]))


def identity(stack: LayerStack) -> Callable[[Recording], Tensor]:
    """Return what executes the identity plan; its program is made at the first use, and then kept."""
    program: Program | None = None

    def execute(recording: Recording) -> Tensor:
        nonlocal program
        if program is None:
            program = Program(Plan.identity(stack.num_layers), stack)
        return program.execute(recording)

    return execute


def _refuse_halves(plan: Plan, stack: LayerStack) -> None:
    half = next(layer for layer in plan.walk() if layer.half is not None)
    known = ", ".join(
        re.sub("(Text)?(Decoder|Encoder|Transformer)?(Layer|Block)$", "", name) or name for name in HALVES
    )
    raise SurgeryError(
        f"plan runs {Plan((half,))} of {stack.name}, but the halves of its {stack.layer_class} are not known (known: "
        f"{known}): run whole layers"
    )


@contextmanager
def _uncompiled(model: nn.Module) -> Iterator[None]:
    """Nothing; meanwhile `generate` does not compile the model, nor one that `model` wraps.

    With a static cache on an accelerator it would, and that anew for every plan.
    """
    name = "get_compiled_call"
    before = [(module, vars(module).get(name)) for module in descendants(model) if hasattr(type(module), name)]
    for module, _ in before:
        vars(module)[name] = MethodType(_plain_call, module)
    try:
        yield
    finally:
        for module, own in before:
            if own is not None:
                vars(module)[name] = own
            else:
                vars(module).pop(name, None)


def _plain_call(model: nn.Module, compile_config: Any) -> Callable[..., Any]:
    return model.__call__
