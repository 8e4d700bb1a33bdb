"""Make a Hugging Face model follow a plan: record how its loop calls the layers, then execute the plan.

The model's weights, names and hooks stay as they are, and outside the context it is bitwise what it was.
`painters/export/modeling.py` is a deliberate twin: a change to the numbers here belongs there too.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import MethodType
from typing import Any, Final, Literal, NoReturn, TypeAlias, TypeVar, get_args
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from transformers import PreTrainedModel

from painters.engine.cache_slots import CacheSlots, SlotAssignment, SlotTable
from painters.engine.merges import MERGES
from painters.engine.recording import Recording, recorded
from painters.engine.routers import without_router_losses
from painters.engine.scopes import KINDS_OF_THREADS, LOCK, Threads
from painters.engine.verify import self_check
from painters.errors import PaintersWarning
from painters.plan import Half, Layer, Parallel, Plan, PlanLike, Step, as_plan
from painters.stack import HALVES, LayerStack, SurgeryError
from painters.stack.search import descendants
from painters.threads import warn_of_spinning

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
    plan: PlanLike,
    kv: KV = "exact",
    *,
    stack: str | None = None,
    path: str | None = None,
    observe: Observer | None = None,
    check: bool = True,
    threads: Threads = "auto",
) -> Iterator[Model]:
    """Run `plan` in place of the layers of `model` within the context.

    Forward, `generate` (greedy, sampled, beams, left padding), training and `model(ids).logits` with the default cache
    all follow the plan. In nested contexts the inner plan holds. The model's own `output_hidden_states` lists the
    embeddings and then every execution of a whole layer in order, members of a parallel group one by one; its
    `output_attentions` has an entry for every execution that attends.

    What is saved within the context, by `save_pretrained` or as a checkpoint of a Trainer, is the intact model: load it
    and run it under the plan again, or write a model that follows the plan with `painters.export`.

    Args:
        model: Any Hugging Face model with a list of layers that its own loop runs.
        plan: The plan, its text, or its layers in order, such as [0, 1, 3].
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
        threads: In which other threads the plan holds, those aside that have entered a plan themselves. "own": in none,
            they run the intact model. "all": in all. "auto": entered by the main thread, it holds in those that begin
            within the context; entered by another thread, it does not hold in those that were there before; elsewhere
            the call is refused. In every case it holds where the context is handed on, as by `asyncio.to_thread`.

    Yields:
        The same `model`.

    Raises:
        PlanError: If the plan's text is wrong, or the plan does not fit the model.
        SurgeryError: If the model or a cache cannot follow the plan. Forwards within the context raise it too.
        ValueError: If `kv` or `threads` is unknown, or both `stack` and `path` are given.

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
    if threads not in KINDS_OF_THREADS:
        raise ValueError(f"threads is {threads!r}: it must be one of {', '.join(map(repr, KINDS_OF_THREADS))}")
    plan = as_plan(plan)
    if stack is not None and path is not None:
        raise ValueError(f"stack={stack!r} and path={path!r}: both say which list of layers is meant, so give one")
    list_path = path if stack is None else stack
    layer_stack = LayerStack.find(model, list_path)
    # A stack that was named may be one that not every forward runs, such as that of a vision tower.
    program, always = Program(plan, layer_stack, kv, observe), list_path is None
    with operate(model, layer_stack, program, check=check, always=always, threads=threads):
        yield model


@contextmanager
def operate(
    model: Model,
    stack: LayerStack,
    program: Program,
    *,
    check: bool = True,
    always: bool = True,
    threads: Threads = "auto",
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
        threads: In which other threads the program is run, as in `surgery`.

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
    warn_of_spinning()
    with (
        self_check(model, stack, identity(stack)) if check else nullcontext(),
        _adapted(model, program),
        recorded(model, stack, program.execute, always=always, threads=threads) as holds_here,
        without_router_losses(model, stack, program.plan, holds_here),
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
        self,
        plan: PlanLike,
        stack: LayerStack,
        kv: KV = "exact",
        observe: Observer | None = None,
        *,
        fits: bool = False,
    ) -> None:
        plan = as_plan(plan)
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
        self._table = SlotTable(stack.cache_indices, stack.cache_slots)
        self.operations = self._compile(plan.steps)
        """The steps of the plan, repeats written out."""
        runs = [layer.index for layer in plan.walk() if layer.half != "mlp"]
        self._repeats = len(runs) > len(set(runs))
        self.is_identity = plan == Plan.identity(stack.num_layers)
        """Whether the plan runs all layers of the stack once, in their order."""
        # The identity plan fills a cache as the intact model does, so each may continue the other's cache. That does
        # not hold where layers share a slot or ask for one that is not there: the identity plan gives each its own.
        as_intact = self.is_identity and not self._table.copied and stack.cache_slots == stack.cache_indices
        self._owner: Hashable = None if as_intact else (plan, kv)
        self.text = "the intact model" if as_intact else f'the plan "{plan}" (kv={kv!r})'
        """What messages call the plan."""

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
                f"the model was given a {type(recording.foreign_cache).__name__}, in which {self.text} cannot place "
                "slots, as it has to where a layer runs more than once or kv='averaged': use `generate` with a "
                "DynamicCache, or use_cache=False"
            )
        if cache is not None and self._repeats and self.stack.own_state:
            raise SurgeryError(
                f"{self.stack.name} keeps a state in its {self.stack.layer_class}, which the executions of a layer "
                f"would share where {self.text} runs it more than once: pass use_cache=False"
            )
        slots = None if cache is None else CacheSlots(self._table, cache, self._owner, self.text)
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


_REPLACED: WeakKeyDictionary[nn.Module, dict[str, list[Any]]] = WeakKeyDictionary()
"""Module -> name of a method -> the module's own attribute of this name, or None, and those of the open contexts."""


@contextmanager
def _replaced(modules: Iterable[nn.Module], name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Give each of the modules `function` as its method `name` within the context, in any number of threads."""
    methods = [(module, MethodType(function, module)) for module in modules if hasattr(type(module), name)]
    with LOCK:
        for module, method in methods:
            _REPLACED.setdefault(module, {}).setdefault(name, [vars(module).get(name)]).append(method)
            vars(module)[name] = method
    try:
        yield
    finally:
        with LOCK:
            for module, method in methods:
                entries = _REPLACED[module][name] = [entry for entry in _REPLACED[module][name] if entry is not method]
                if entries[-1] is not None:
                    vars(module)[name] = entries[-1]
                else:
                    vars(module).pop(name, None)
                if len(entries) == 1:
                    del _REPLACED[module][name]


@contextmanager
def _adapted(model: nn.Module, program: Program) -> Iterator[None]:
    """Keep `generate` from compiling the model, and warn when it is saved, and any model within it.

    With a static cache on an accelerator it would compile, and for every plan anew.
    """
    warned: list[str] = []

    def save_pretrained(module: Any, *args: Any, **kwargs: Any) -> Any:
        """Save the model as transformers does, and say once in a context that the file knows no plan."""
        if not warned and not program.is_identity:
            warned.append(program.text)
            warnings.warn(
                f"save_pretrained under {program.text} writes the intact model, with all its layers in their order: "
                "run it under the same plan again, or write a model that follows the plan with painters.export",
                PaintersWarning,
                stacklevel=2,
            )
        return type(module).save_pretrained(module, *args, **kwargs)

    modules = descendants(model)
    models = [module for module in modules if isinstance(module, PreTrainedModel)]
    with _replaced(modules, "get_compiled_call", _plain_call), _replaced(models, "save_pretrained", save_pretrained):
        yield


def _plain_call(model: nn.Module, compile_config: Any) -> Callable[..., Any]:
    return model.__call__
