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
from typing import Any, Final, Literal, NoReturn, TypeAlias, TypeVar, get_args

from torch import Tensor, nn

from painters.engine.cache_slots import CacheSlots, SlotAssignment, SlotTable
from painters.engine.merges import MERGES
from painters.engine.recording import Recording, recorded
from painters.engine.routers import without_router_losses
from painters.engine.verify import self_check
from painters.plan import Half, Layer, Parallel, Plan, Step
from painters.stack import HALVES, LayerStack, SurgeryError
from painters.stack.search import descendants

__all__ = ["KV", "LayerStack", "Program", "SurgeryError", "operate", "surgery"]

KV: TypeAlias = Literal["exact", "averaged"]
"""The kinds of cache of a parallel group."""
KINDS_OF_KV: Final[tuple[str, ...]] = get_args(KV)
"""The names of the kinds of cache."""
Observer: TypeAlias = Callable[[int, Tensor], None]
"""Called with i and the stream [batch, seq, hidden] that enters the plan (i = 0) or leaves its i-th step."""
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
    """Run `plan` in place of the layers of `model` within the context.

    Forward, `generate` (greedy, sampled, beams, left padding), training and `model(ids).logits` with the default cache
    all follow the plan. In nested contexts the inner plan holds. The model's own `output_hidden_states` lists the
    embeddings and then every execution of a whole layer in order, members of a parallel group one by one; its
    `output_attentions` has an entry for every execution that attends.

    Args:
        model: Any Hugging Face model with a list of layers that its own loop runs.
        plan: The plan, or its text.
        kv: "exact" keeps the keys and values of every execution. "averaged" keeps one cache slot per parallel group
            and averages the members' keys and values in it, as the paper's released code does; only decoding with a
            cache differs.
        stack: Which list of layers is meant where there are several or none is found: "encoder", "decoder", "vision"
            or a path such as `vision_tower.encoder.layers`.
        path: The same as `stack`; give one of them.
        observe: Called as `observe(i, stream)` with the stream [batch, seq, hidden] that enters the plan (i = 0) and
            that leaves its i-th step, a group counted as one step.
        check: Whether the model is compared with itself before its first use: the identity plan must give bitwise what
            the plain forward gives, and no layer may depend on what other layers ran on. That costs about five
            forwards of a batch of 2 x 8 tokens, once for each model: three calls of the model, and five runs of each
            layer. Models whose own loops list hidden states take two calls more, in which the lists are compared. A
            model that needs more than token ids is compared on its first real input instead.

    Yields:
        The same `model`.

    Raises:
        PlanError: If the plan's text is wrong, or the plan does not fit the model.
        SurgeryError: If the model or a cache cannot follow the plan. Forwards within the context raise it too.
        ValueError: If `kv` is unknown, or both `stack` and `path` are given.

    Examples:
        >>> import torch
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from painters import surgery
        >>> _ = torch.manual_seed(0)
        >>> sizes = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "vocab_size": 32}
        >>> config = LlamaConfig(num_hidden_layers=4, **sizes)
        >>> model, ids = LlamaForCausalLM(config).eval(), torch.tensor([[5, 6, 7]])
        >>> plain = model(ids).logits
        >>> with surgery(model, "0 {1 2} 3"):  # layers 1 and 2 side by side
        ...     print(torch.equal(model(ids).logits, plain), model.generate(ids, max_new_tokens=2).shape)
        False torch.Size([1, 5])
        >>> torch.equal(model(ids).logits, plain)  # outside, the model is what it was
        True
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
    """Run `program` in place of the layers of `model` within the context.

    It does what `surgery` does, without finding the stack or checking the plan again. Use it to enter plans more than
    once: find the stack once, make a `Program` of each plan once, and enter the programs as often as needed.

    Args:
        model: The model, whose list of layers is still the one in `stack`.
        stack: The stack of `model`, from `LayerStack.find`.
        program: A program that was made for this very `stack`.
        check: Whether the model is compared with itself before its first use, as in `surgery`.
        always: Whether every forward of `model` must run the stack. Pass False where some forwards do not run it, such
            as the stack of a vision tower in a forward without a picture.

    Yields:
        The same `model`.

    Raises:
        SurgeryError: If the model or a cache cannot follow the plan. Forwards within the context raise it too.
        ValueError: If `program` was made for another stack.

    Examples:
        >>> import torch
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from painters import Plan
        >>> from painters.engine import LayerStack, Program, operate
        >>> _ = torch.manual_seed(0)
        >>> sizes = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "vocab_size": 32}
        >>> config = LlamaConfig(num_hidden_layers=4, **sizes)
        >>> model, ids = LlamaForCausalLM(config).eval(), torch.tensor([[5, 6, 7]])
        >>> stack = LayerStack.find(model)
        >>> programs = {text: Program(Plan.parse(text), stack) for text in ("0-3", "3-0")}
        >>> for text, program in programs.items():
        ...     with operate(model, stack, program):
        ...         changed = model(ids).logits
        ...     print(text, torch.equal(changed, model(ids).logits))
        0-3 True
        3-0 False
    """
    if program.stack is not stack:
        raise ValueError(f"the program was made for another stack than this one of {stack.name}: make one for it")
    with (
        self_check(model, stack, identity(stack)) if check else nullcontext(),
        _uncompiled(model),
        without_router_losses(model, stack, program.plan),
        recorded(model, stack, program.execute, always=always),
    ):
        yield model


@dataclass(frozen=True, slots=True)
class LayerExecution:
    """One execution of a layer or of a half of it, and the cache slots for its keys and values."""

    layer: int
    half: Half | None
    slots: SlotAssignment | None
    """None where the execution itself keeps nothing: an MLP, or a member of a group with one slot for all."""


@dataclass(frozen=True, slots=True)
class GroupExecution:
    """One execution of a parallel group: branches that run on the same stream, and how they are merged."""

    branches: tuple[tuple[Operation, ...], ...]
    merge: Callable[[Tensor, Iterator[Tensor]], Tensor]
    averaged: SlotAssignment | None
    """The slot that the members share with kv="averaged"."""


Operation: TypeAlias = LayerExecution | GroupExecution


class Program:
    """A plan that was checked against a stack and made ready: each execution has its cache slots.

    A program keeps no state between forwards, so it can be used any number of times with `operate`.

    Args:
        plan: The plan.
        stack: The stack that will follow it.
        kv: The kind of cache, as in `surgery`.
        observe: Called with the streams between the steps, as in `surgery`.
        fits: The plan was checked before against as many layers as the stack has; that is not done again.

    Raises:
        PlanError: If the plan names a layer that the stack does not have.
        SurgeryError: If the plan runs halves of layers whose halves are not known, or `kv` does not fit the plan.

    Examples:
        >>> from transformers import LlamaConfig, LlamaModel
        >>> from painters import Plan
        >>> from painters.engine import LayerStack, Program
        >>> sizes = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "vocab_size": 32}
        >>> config = LlamaConfig(num_hidden_layers=4, **sizes)
        >>> stack = LayerStack.find(LlamaModel(config))
        >>> len(Program(Plan.parse("0 {1 2}*3 3"), stack).operations)  # each of the three loops is one
        5
    """

    def __init__(
        self, plan: Plan, stack: LayerStack, kv: KV = "exact", observe: Observer | None = None, *, fits: bool = False
    ) -> None:
        if not fits:
            plan.check(stack.num_layers, stack.name)
        if plan.has_halves and stack.halves is None:
            _refuse_halves(plan, stack)
        self.stack = stack
        """The stack that the plan was checked against."""
        self.plan = plan
        """The plan."""
        self._kv = kv
        self._observe = observe
        self._table = SlotTable(stack.cache_indices)
        self.operations = self._compile(plan.steps)
        """The steps of the plan, repeats written out."""
        runs = [layer.index for layer in plan.walk() if layer.half != "mlp"]
        self._repeats = len(runs) > len(set(runs))
        # The identity plan fills a cache as the intact model does, so each may continue the other's cache. That does
        # not hold where layers share a slot, because the identity plan gives each of them a slot of its own.
        is_identity = plan == Plan.identity(stack.num_layers) and not self._table.copied
        self._owner: Hashable = None if is_identity else (plan, kv)
        self._text = "the intact model" if is_identity else f'the plan "{plan}" (kv={kv!r})'

    def execute(self, recording: Recording) -> Tensor:
        """Execute the plan on a recorded forward.

        Args:
            recording: The stream that entered the stack and the arguments of its layers.

        Returns:
            The stream that leaves the plan, [batch, seq, hidden].

        Raises:
            SurgeryError: If the cache of this forward cannot hold what the plan needs, or a layer cannot run at its
                place in the plan.
        """
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
        """Run one operation.

        Args:
            operation: The layer or group to run.
            stream: What enters it, [batch, seq, hidden].
            recording: The recorded forward, with the arguments of the layers.
            slots: The cache of the forward; None if there is none.

        Returns:
            The stream that leaves it, [batch, seq, hidden].
        """
        if isinstance(operation, GroupExecution):
            return self._run_group(operation, stream, recording, slots)
        if slots is None or operation.slots is None:
            return recording.run(operation.layer, stream, operation.half)
        stream = recording.run(operation.layer, stream, operation.half, slots.view(operation.slots))
        slots.leave(operation.slots)
        return stream

    def _run_group(
        self, group: GroupExecution, stream: Tensor, recording: Recording, slots: CacheSlots | None
    ) -> Tensor:
        if slots is None or group.averaged is None:
            return group.merge(stream, (self._run_all(branch, stream, recording, slots) for branch in group.branches))
        shared = slots.averaged(group.averaged, stream)
        members = [member.layer for (member,) in group.branches if isinstance(member, LayerExecution)]
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
        return tuple(self._layer(step) if isinstance(step, Layer) else self._group(step) for step in steps)

    def _layer(self, step: Layer) -> LayerExecution:
        # An MLP keeps no keys and values, so it takes no slot, and the attention of its layer keeps the layer's own.
        slots = None if step.half == "mlp" else self._table.assign(step.index)
        return LayerExecution(step.index, step.half, slots)

    def _group(self, step: Parallel) -> GroupExecution:
        if self._kv == "exact":
            return GroupExecution(tuple(map(self._compile, step.branches)), MERGES[step.merge], None)
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
        branches = tuple((LayerExecution(layer, None, None),) for layer in layers)
        return GroupExecution(branches, MERGES[step.merge], self._table.assign(layers[0]))


def identity(stack: LayerStack) -> Callable[[Recording], Tensor]:
    """Return a function that executes the identity plan, to compare it with the plain forward.

    The plan is made and checked at the first call, and only then.

    Args:
        stack: The stack whose layers the plan runs, each once and in order.

    Returns:
        A function of a recorded forward; it returns the stream that leaves the plan, [batch, seq, hidden].

    Examples:
        >>> import torch
        >>> from transformers import LlamaConfig, LlamaModel
        >>> from painters.engine import LayerStack, identity
        >>> from painters.engine.recording import recorded
        >>> sizes = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "vocab_size": 32}
        >>> config = LlamaConfig(num_hidden_layers=4, **sizes)
        >>> model, ids = LlamaModel(config).eval(), torch.tensor([[5, 6, 7]])
        >>> stack = LayerStack.find(model)
        >>> with recorded(model, stack, identity(stack)):
        ...     stream = model(ids).last_hidden_state
        >>> torch.equal(stream, model(ids).last_hidden_state)
        True
    """
    program: Program | None = None

    def execute(recording: Recording) -> Tensor:
        nonlocal program
        if program is None:
            program = Program(Plan.identity(stack.num_layers), stack, fits=True)
        return program.execute(recording)

    return execute


def _refuse_halves(plan: Plan, stack: LayerStack) -> NoReturn:
    """Raise SurgeryError for a plan with halves on a stack whose halves are not known."""
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
    """Keep `generate` from compiling the model, and any model that `model` wraps, within the context.

    With a static cache on an accelerator it would compile, and for every plan anew.
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
