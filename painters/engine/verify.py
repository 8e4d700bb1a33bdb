"""Before a model is first operated, compare it on a tiny batch with the plain forward, bit for bit.

The chain that recorders see can be whole and the number wrong all the same. So the identity plan has to give what the
plain forward gives, every layer has to run as often as the loop comes by, what follows the layers has to come out the
same when it is given nothing but the last stream, and no layer may care what other layers have run on.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import Context
from functools import partial
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from painters.engine.recording import Recording, recorded
from painters.engine.side_outputs import unhooked
from painters.stack import LayerStack, SurgeryError
from painters.stack.search import LayerList, text_config, unwrapped

ROWS, TOKENS = 2, 8
"""The size of the batch of token ids."""
SIDE: Final = (
    *("hidden_states", "attentions", "cache", "past_key_values", "cache_params"),
    *("router_logits", "aux_loss", "z_loss"),
)
"""Endings of the names of outputs that are not compared: caches, and what is reported of single layers."""
LIBRARIES: Final = frozenset({"accelerate", "bitsandbytes", "peft", "torch", "transformers"})
"""Whose hooks belong to the model: they move its inputs, gather its weights or collect what its own head reads."""
SLACK, SMALL = 8, 0.02
"""On devices where two equal forwards differ: how many times as far apart others may be, and how far in all, as a share
of the largest number."""

# Which lists of layers were found right in which models. Nothing is written to the models, and the entries go with
# them: a list that is replaced, or a copy of a model, is checked again.
_CHECKED: WeakKeyDictionary[nn.Module, WeakSet[nn.Module]] = WeakKeyDictionary()


@contextmanager
def self_check(model: nn.Module, stack: LayerStack, identity: Callable[[Recording], Tensor]) -> Iterator[None]:
    """Nothing; within the context the model has been compared with itself under the plan that `identity` executes: at
    once on a batch of token ids, or else on the first row of the first forward that runs the stack.

    Raises SurgeryError with what was seen where they differ. What cannot be compared, because the plain forward fails
    on such a batch, is compared at the next forward. Models, generators of random numbers, hooks and
    caches are left as they were found.
    """
    if stack.layers in _CHECKED.get(model, ()):
        yield
        return
    ids = token_ids(model)
    if ids is not None and _compare(model, stack, identity, (), ids, False):
        _CHECKED.setdefault(model, WeakSet()).add(stack.layers)
        yield
        return

    def look(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # A deep copy has this hook too, and a compiler that meets it must not trace two more forwards.
        if module not in (model, stack.owner) or torch.compiler.is_compiling():
            return
        for some_args, some_kwargs in (first_row((args, kwargs)), (args, without_caches(kwargs))):
            # In a context of its own, so that an outer forward collects no states of this one.
            done = Context().run(partial(_compare, module, stack, identity, some_args, some_kwargs, True))
            if done is not None:
                break
        if done:
            _CHECKED.setdefault(model, WeakSet()).add(stack.layers)
            for handle in handles:
                handle.remove()

    roots = dict.fromkeys((model, stack.owner))
    handles = [root.register_forward_pre_hook(look, with_kwargs=True, prepend=True) for root in roots]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _compare(
    root: nn.Module,
    stack: LayerStack,
    identity: Callable[[Recording], Tensor],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    final: bool,
) -> bool | None:
    """Whether the identity plan was executed and gave what the plain forward gives; None where that fails itself.

    Raises SurgeryError where they differ. Unless `final`, a forward that could not be recorded counts as one that
    fails: with other inputs the loop may be a chain.
    """
    recordings: list[Recording] = []
    streams: list[Tensor] = []
    runs: Counter[int] = Counter()

    def execute(recording: Recording) -> Tensor:
        recordings.append(recording)
        stream = identity(recording)
        streams.append(stream.clone())
        return stream

    def call() -> dict[str, Tensor]:
        torch.manual_seed(0)
        return dict(tensors(root(*args, **kwargs)))

    with undisturbed(root):
        try:
            # Torch's compiler would not see the hooks that count, or keep them.
            with nullcontext() if any(map(is_compiled, stack.layers)) else counted(stack.layers, runs):
                plain = call()
        except Exception:
            return None
        if any(value.is_meta for value in plain.values()):
            return None
        try:
            with recorded(root, stack, execute, always=False):
                found = call()
        except SurgeryError:
            if final:
                raise
            return None
        except Exception as error:
            raise SurgeryError(_refusal(stack, f"the identity raises {type(error).__name__}: {error}")) from error
        if not recordings and any(runs.values()):
            raise SurgeryError(
                f"{stack.name} runs the layers at {stack.path}, but not in a loop of their "
                f"{type(stack.owner).__name__}: a plan would be ignored without a word, so give another path"
            )
        if not recordings:
            return False
        seen = difference(found, plain)
        if seen is not None and not is_noise(seen, difference(call(), plain), plain):
            raise SurgeryError(_refusal(stack, f"under the identity {seen[0]}"))
        for index, times in sorted(runs.items()):
            due = len(recordings) * sum(layer is stack.layers[index] for layer in stack.layers)
            if times != due:
                raise SurgeryError(_refusal(stack, f"layer {index} runs {times} times where {due} are due"))
        remaining = iter(streams)
        try:
            with recorded(root, stack, lambda _: next(remaining), always=False):
                seen = difference(call(), plain)
        except Exception as error:
            seen = f"{type(error).__name__}: {error}", float("inf")
        if seen is not None and not is_noise(seen, difference(call(), plain), plain):
            raise SurgeryError(_refusal(stack, f"given the last stream alone, what follows differs ({seen[0]})"))
        if (read := reads_what_others_left(recordings[-1])) is not None:
            raise SurgeryError(_refusal(stack, read))
    return True


def reads_what_others_left(recording: Recording) -> str | None:
    """What was seen of a layer whose output depends on what other layers last ran on; None where there is none.

    The identity cannot show it, because it runs the layers in their order.
    """
    streams, outputs = [], []
    stream = recording.stream
    try:
        for index in range(len(recording.layers)):
            streams.append(stream)
            stream = recording.run(index, stream)
            outputs.append(stream)
        for index, stream in enumerate(streams):
            recording.run(index, -stream)
    except Exception:
        return None  # layers that do not run without a cache
    for index in reversed(range(len(streams))):
        try:
            again = recording.run(index, streams[index])
        except Exception as error:
            return f"layer {index} fails out of its order with {type(error).__name__}: {error}"
        before = {"it": outputs[index]}
        if (seen := difference({"it": again}, before)) is None:
            continue
        if not is_noise(seen, difference({"it": recording.run(index, streams[index])}, {"it": again}), before):
            return f"layer {index} gives something else on the same stream once other layers have run on another one"
    return None


@contextmanager
def counted(layers: LayerList, runs: Counter[int]) -> Iterator[None]:
    """Nothing; meanwhile `runs` counts how often each layer is called."""
    handles = []
    for index, layer in enumerate(layers):
        runs[index] = 0
        handles.append(layer.register_forward_pre_hook(lambda _, args, index=index: runs.update((index,))))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def is_compiled(layer: nn.Module) -> bool:
    return unwrapped(layer) is not layer or getattr(layer, "_compiled_call_impl", None) is not None


def _refusal(stack: LayerStack, seen: str) -> str:
    return (
        f"{stack.name}: a plan over {stack.path} was compared with the plain forward on a tiny batch: {seen}. The "
        "layers share more than the stream (a state handed on, keys of another layer, a layer that runs again, outputs "
        "kept one by one), so that no plan would mean anything: give the path of another list of layers"
    )


def token_ids(model: nn.Module) -> dict[str, Any] | None:
    """A tiny batch for a model that needs only token ids; None where the model says that it needs something else."""
    taken = inspect.signature(model.forward).parameters
    config = getattr(model, "config", None)
    size = getattr(text_config(model), "vocab_size", None)
    if "input_ids" not in taken or not isinstance(size, int):
        return None
    places = (parameter.device for parameter in model.parameters() if not parameter.is_meta)
    # Ids from 3 on, where that can be: the first ones mostly stand for padding and ends.
    ids = (3 + torch.arange(ROWS * TOKENS).reshape(ROWS, TOKENS) % max(1, size - 3)).clamp(max=size - 1)
    given: dict[str, Any] = {"input_ids": ids.to(next(places, "cpu"))}
    if "decoder_input_ids" in taken and getattr(config, "is_encoder_decoder", False):
        given["decoder_input_ids"] = given["input_ids"]
    if "use_cache" in taken:
        given["use_cache"] = False  # with one, layers that share a slot are wrong in the plain forward
    return given


def first_row(given: Any) -> Any:
    """The same inputs with the first row of the batch only, and without caches."""
    rows = next((value.shape[0] for value in _leaves(given) if isinstance(value, Tensor) and value.ndim), 0)

    def cut(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value[:1] if value.ndim and value.shape[0] == rows else value
        if isinstance(value, Mapping):
            return _like(value, {key: cut(item) for key, item in value.items()})
        if type(value) in (tuple, list):
            return type(value)(cut(item) for item in value)
        return None if isinstance(value, Cache) else value

    return cut(given)


def without_caches(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(value, Cache) else value for name, value in kwargs.items()}


def _like(value: Mapping[str, Any], items: dict[str, Any]) -> Any:
    return items if type(value) is dict else type(value)(**items)


def _leaves(value: Any) -> Iterator[Any]:
    for item in value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple | list) else ():
        yield from _leaves(item)
    if not isinstance(value, Mapping | tuple | list):
        yield value


def tensors(output: Any, name: str = "output") -> Iterator[tuple[str, Tensor]]:
    """The tensors of numbers in what a forward returned, by name."""
    if isinstance(output, Tensor) and (output.is_floating_point() or output.is_complex()):
        yield name, output
    items = (
        output.items() if isinstance(output, Mapping) else enumerate(output) if type(output) in (tuple, list) else ()
    )
    for key, value in items:
        if not str(key).endswith(SIDE):
            yield from tensors(value, str(key) if name == "output" else f"{name}.{key}")


def difference(found: dict[str, Tensor], plain: dict[str, Tensor]) -> tuple[str, float] | None:
    """What differs and by how much; None where all is bitwise the same."""
    if found.keys() != plain.keys():
        return f"it returns {', '.join(found) or 'nothing'} instead of {', '.join(plain) or 'nothing'}", float("inf")
    for name, value in plain.items():
        other = found[name]
        if other.shape != value.shape:
            return f"{name} is of shape {tuple(other.shape)} instead of {tuple(value.shape)}", float("inf")
        if not bool(((other == value) | ((other != other) & (value != value))).all()):
            off = float((other - value).abs().nan_to_num(nan=float("inf")).max())
            return f"{name} is off by {off:.1e}", off
    return None


def is_noise(seen: tuple[str, float], own: tuple[str, float] | None, values: dict[str, Tensor]) -> bool:
    """Whether what was seen to differ is no more than what differs from run to run."""
    scale = max((float(value.abs().nan_to_num().max()) for value in values.values()), default=0.0)
    return own is not None and seen[1] <= min(SLACK * own[1], SMALL * scale)


@contextmanager
def undisturbed(root: nn.Module) -> Iterator[None]:
    """Nothing; meanwhile `root` is in evaluation mode and computes no gradients, and afterwards its modes, its buffers
    and the random numbers are what they were. Hooks that the user added do not run."""
    training = [module for module in root.modules() if module.training]
    buffers = [
        (module, name, buffer, buffer.clone() if buffer.numel() <= 1 << 16 and not buffer.is_meta else None)
        for module in root.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    with torch.random.fork_rng(range(torch.cuda.device_count())), torch.no_grad(), unhooked(root, LIBRARIES):
        try:
            for module in training:
                module.training = False
            yield
        finally:
            for module in training:
                module.training = True
            for module, name, buffer, values in buffers:
                module._buffers[name] = buffer
                if values is not None and not torch.equal(buffer, values):
                    buffer.copy_(values)
