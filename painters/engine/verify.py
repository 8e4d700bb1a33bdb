"""Before a model is first operated, compare it with its own plain forward on a tiny batch, bit for bit.

Recorders can see a whole chain of layers, and the result can be wrong all the same. So four things are checked:

1. The identity plan gives what the plain forward gives.
2. Every layer runs as often as the model's loop calls it.
3. What follows the layers gives the same when it gets only the last stream.
4. No layer depends on what other layers have run on.

Where a model's own loop gathers hidden states or attentions, the identity plan must give those of the plain forward
too. Otherwise plans are run, and only forwards that ask for such outputs are refused.
"""

from __future__ import annotations

import inspect
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import Context
from functools import partial
from types import MappingProxyType
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from painters import _compat
from painters.engine.gathering import NOT_FOLLOWED, leaves_to_hooks, options_taken
from painters.engine.recording import Recording, recorded
from painters.engine.scopes import site_of
from painters.engine.side_outputs import unhooked
from painters.stack import LayerStack, SurgeryError
from painters.stack.search import LayerList, text_config

ROWS, TOKENS = 2, 8
"""The size of the batch of token ids."""
_CACHES: Final = ("cache", "past_key_values", "cache_params")
NOT_COMPARED: Final = (*_CACHES, "hidden_states", "attentions", "router_logits", "aux_loss", "z_loss")
"""Endings of the names of outputs that are not compared: caches, and what is reported of single layers."""
LIBRARIES: Final = frozenset({"accelerate", "bitsandbytes", "peft", "torch", "transformers"})
"""Packages whose hooks belong to the model: they move its inputs, gather its weights or collect what its head reads."""
NOISE_FACTOR, NOISE_SHARE = 8, 0.02
"""The limits of noise on devices where two equal forwards differ: a multiple of that difference, and a share of the
largest number."""

_CHECKED: WeakKeyDictionary[nn.Module, WeakSet[nn.Module]] = WeakKeyDictionary()
"""Model -> its lists of layers that passed.

Nothing is written to the models, and the entries go with them. A list that is replaced, and a copy of a model, is
checked again.
"""

_CHECKING: Final = threading.RLock()
"""Held during a check, which sets the state of the random numbers of the whole process."""
_REMOVED: Final[Mapping[str, Any]] = MappingProxyType({})
"""In place of the arguments by name of a hook that another thread removed while torch was about to call it."""


@contextmanager
def self_check(model: nn.Module, stack: LayerStack, identity: Callable[[Recording], Tensor]) -> Iterator[None]:
    """Compare `model` with itself under the identity plan, unless it passed before.

    A model that needs only token ids is compared at once, on a batch of them. Other models are compared within the
    context, on the first row of the first forward that runs the stack. Where the plain forward fails on such a batch,
    the next forward is tried. Models, generators of random numbers, hooks and caches are left as they were.

    Args:
        model: The model that is about to be operated.
        stack: The stack of `model`.
        identity: Executes the identity plan on a recorded forward.

    Yields:
        Nothing.

    Raises:
        SurgeryError: If a check fails; the message says what was seen. It may come from a forward in the context.
    """
    if stack.layers in _CHECKED.get(model, ()):
        yield
        return
    batch = token_ids(model)
    with _CHECKING:  # another thread may have checked the model meanwhile
        passed = stack.layers in _CHECKED.get(model, ())
        if not passed and batch is not None and _compare(model, stack, identity, (), batch, False):
            _CHECKED.setdefault(model, WeakSet()).add(stack.layers)
            passed = True
    if passed:
        yield
        return

    def check_forward(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] = _REMOVED) -> None:
        # A deep copy has this hook too, and a compiler that meets it must not trace two more forwards.
        if module not in (model, stack.owner) or torch.compiler.is_compiling() or kwargs is _REMOVED:
            return
        if not site_of(stack.layers).scope_here(stack.name, stack.num_layers):
            return  # this thread runs the intact model
        with _CHECKING:
            if stack.layers in _CHECKED.get(model, ()) or _passes(module, stack, identity, args, kwargs):
                _CHECKED.setdefault(model, WeakSet()).add(stack.layers)
                for handle in handles:
                    handle.remove()

    roots = dict.fromkeys((model, stack.owner))
    handles = [root.register_forward_pre_hook(check_forward, with_kwargs=True, prepend=True) for root in roots]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _passes(
    root: nn.Module,
    stack: LayerStack,
    identity: Callable[[Recording], Tensor],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> bool:
    """Run all checks of `root` on the first row of what its forward is given; if that fails, on all of it."""
    for some_args, some_kwargs in (first_row((args, dict(kwargs))), (args, without_caches(kwargs))):
        # In a context of its own, so that an outer forward collects no states of this one.
        passed = Context().run(partial(_compare, root, stack, identity, some_args, some_kwargs, True))
        if passed is not None:
            return passed
    return False


def _compare(
    root: nn.Module,
    stack: LayerStack,
    identity: Callable[[Recording], Tensor],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    final: bool,
) -> bool | None:
    """Run all checks of `root` on one batch.

    Args:
        root: The model, or the module of it that owns the stack.
        stack: The stack of the model.
        identity: Executes the identity plan on a recorded forward.
        args: What the forward of `root` is given by position.
        kwargs: What it is given by name.
        final: Whether a forward that cannot be recorded is refused. Otherwise it counts as one that fails, since with
            other inputs the loop may be a chain.

    Returns:
        True if all checks passed, False if the forward does not run the stack, None if the plain forward itself fails.

    Raises:
        SurgeryError: If a check fails.
    """
    comparison = _Comparison(root, stack, args, kwargs)
    with undisturbed(root):
        if not comparison.run_plain():
            return None
        outputs = comparison.run_identity(identity, final)
        if outputs is None:
            return None
        if not comparison.recordings:
            comparison.check_layers_did_not_run()
            return False
        comparison.check_outputs(outputs)
        comparison.check_layer_runs()
        comparison.check_what_follows()
        comparison.check_independence()
        comparison.compare_gathered(identity)
    return True


class _Comparison:
    """One batch for a model, with what its plain forward and the identity plan gave on it.

    Call `run_plain`, then `run_identity`, then the checks, each of which raises SurgeryError if it fails.
    """

    def __init__(self, root: nn.Module, stack: LayerStack, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.recordings: list[Recording] = []
        """A recording for each time that the identity plan was executed."""
        self._root = root
        self._stack = stack
        self._args = args
        self._kwargs = kwargs | {name: False for name in options_taken(root) if _is_set(root, kwargs, name)}
        self._layer_runs: Counter[int] = Counter()  # in the plain forward, by the index of the layer
        self._plain: dict[str, Tensor] = {}
        self._last_streams: list[Tensor] = []

    def run_plain(self) -> bool:
        """Run the plain forward and count its layer runs; return whether it works and gives numbers."""
        layers = self._stack.layers
        try:
            # Torch's compiler would not see the hooks that count, or keep them.
            with nullcontext() if any(map(is_compiled, layers)) else counted(layers, self._layer_runs):
                self._plain = self._call()
        except Exception:
            return False
        return not any(value.is_meta for value in self._plain.values())

    def run_identity(self, identity: Callable[[Recording], Tensor], final: bool) -> dict[str, Tensor] | None:
        """Return the outputs under the identity plan; None for a forward that cannot be recorded, unless `final`."""

        def execute(recording: Recording) -> Tensor:
            self.recordings.append(recording)
            stream = identity(recording)
            self._last_streams.append(stream.clone())
            return stream

        try:
            with recorded(self._root, self._stack, execute, always=False):
                return self._call()
        except SurgeryError:
            if final:
                raise
            return None
        except Exception as error:
            raise self._refusal(f"the identity raises {type(error).__name__}: {error}") from error

    def check_layers_did_not_run(self) -> None:
        """Refuse layers that run although no loop of their owner was recorded."""
        if any(self._layer_runs.values()):
            raise SurgeryError(
                f"{self._stack.name} runs the layers at {self._stack.path}, but not in a loop of their "
                f"{type(self._stack.owner).__name__}: a plan would be ignored without a word, so give another path"
            )

    def check_outputs(self, outputs: dict[str, Tensor]) -> None:
        """Refuse a model whose `outputs` under the identity plan differ from the plain ones."""
        seen = difference(outputs, self._plain)
        if seen is not None and not self._is_noise(seen):
            raise self._refusal(f"under the identity {seen[0]}")

    def check_layer_runs(self) -> None:
        """Refuse layers that run more or less often than their places in the list say."""
        layers = self._stack.layers
        for index, runs in sorted(self._layer_runs.items()):
            due = len(self.recordings) * sum(layer is layers[index] for layer in layers)
            if runs != due:
                raise self._refusal(f"layer {index} runs {runs} times where {due} are due")

    def check_what_follows(self) -> None:
        """Refuse a model whose outputs depend on more than the last stream: no layer runs in this forward."""
        streams = iter(self._last_streams)
        try:
            with recorded(self._root, self._stack, lambda _: next(streams), always=False):
                seen = difference(self._call(), self._plain)
        except Exception as error:
            seen = f"{type(error).__name__}: {error}", float("inf")
        if seen is not None and not self._is_noise(seen):
            raise self._refusal(f"given the last stream alone, what follows differs ({seen[0]})")

    def check_independence(self) -> None:
        """Refuse layers whose output depends on what other layers last ran on."""
        seen = dependence(self.recordings[-1])
        if seen is not None:
            raise self._refusal(seen)

    def compare_gathered(self, identity: Callable[[Recording], Tensor]) -> None:
        """Compare what the model's own loop gathers from its layers, and note a stack where it does not follow plans.

        Hooks of transformers see every execution, so models that leave it to them are not compared.
        """
        if leaves_to_hooks(self._root, self._stack):
            return
        implementation = _compat.attention_implementation(getattr(self._stack.owner, "config", None))
        # Other kinds of attention give no weights, and warn of it.
        options = {
            name: True
            for name in options_taken(self._root)
            if name == "output_hidden_states" or implementation == "eager"
        }
        if not options:
            return
        try:
            plain = self._call(not_compared=_CACHES, **options)
        except Exception:
            return  # the model itself does not give them on this batch
        try:
            with recorded(self._root, self._stack, identity, always=False):
                seen = difference(self._call(not_compared=_CACHES, **options), plain)
        except SurgeryError as error:
            seen = str(error), float("inf")
        if seen is not None and not self._is_noise(seen):
            NOT_FOLLOWED.add(self._stack.layers)

    def _call(self, *, not_compared: tuple[str, ...] = NOT_COMPARED, **options: Any) -> dict[str, Tensor]:
        torch.manual_seed(0)
        output = self._root(*self._args, **self._kwargs | options)
        return dict(tensors(output, not_compared=not_compared))

    def _is_noise(self, seen: tuple[str, float]) -> bool:
        """Return whether two plain forwards differ by about as much as was `seen`."""
        return is_noise(seen, difference(self._call(), self._plain), self._plain)

    def _refusal(self, seen: str) -> SurgeryError:
        return SurgeryError(
            f"{self._stack.name}: a plan over {self._stack.path} was compared with the plain forward on a tiny batch: "
            f"{seen}. The layers share more than the stream (a state handed on, keys of another layer, a layer that "
            "runs again, outputs kept one by one), so that no plan would mean anything: give the path of another list "
            "of layers"
        )


def dependence(recording: Recording) -> str | None:
    """Describe a layer whose output depends on what other layers last ran on; return None for none.

    The identity plan cannot show it, because it runs the layers in their order. So they run in order, then on other
    streams, and then once more on their own streams in reverse order.
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
    """Count in `runs` how often each layer is called within the context, by its index."""
    handles, thread = [], threading.get_ident()

    def count(index: int) -> None:
        if threading.get_ident() == thread:
            runs.update((index,))

    for index, layer in enumerate(layers):
        runs[index] = 0
        handles.append(layer.register_forward_pre_hook(lambda _, args, index=index: count(index)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def is_compiled(layer: nn.Module) -> bool:
    """Return whether torch compiles the layer, by `torch.compile(layer)` or by `layer.compile()`."""
    return _compat.is_compiled(layer)


def token_ids(model: nn.Module) -> dict[str, Any] | None:
    """Return a tiny batch for a model that needs only token ids; None if it says that it needs something else."""
    parameters = inspect.signature(model.forward).parameters
    config = getattr(model, "config", None)
    size = getattr(text_config(model), "vocab_size", None)
    if "input_ids" not in parameters or not isinstance(size, int):
        return None
    devices = (parameter.device for parameter in model.parameters() if not parameter.is_meta)
    # From 3 on where the vocabulary allows it: the first ids mostly stand for padding and ends.
    ids = (3 + torch.arange(ROWS * TOKENS).reshape(ROWS, TOKENS) % max(1, size - 3)).clamp(max=size - 1)
    batch: dict[str, Any] = {"input_ids": ids.to(next(devices, "cpu"))}
    if "decoder_input_ids" in parameters and getattr(config, "is_encoder_decoder", False):
        batch["decoder_input_ids"] = batch["input_ids"]
    if "use_cache" in parameters:
        batch["use_cache"] = False  # with a cache, layers that share a slot are wrong in the plain forward
    return batch


def first_row(inputs: Any) -> Any:
    """Return the inputs of a forward with the first row of the batch only, and None in place of caches."""
    rows = next((value.shape[0] for value in _leaves(inputs) if isinstance(value, Tensor) and value.ndim), 0)

    def cut(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value[:1] if value.ndim and value.shape[0] == rows else value
        if isinstance(value, Mapping):
            return _like(value, {key: cut(item) for key, item in value.items()})
        if type(value) in (tuple, list):
            return type(value)(cut(item) for item in value)
        return None if isinstance(value, Cache) else value

    return cut(inputs)


def without_caches(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return `kwargs` with None in place of caches."""
    return {name: None if isinstance(value, Cache) else value for name, value in kwargs.items()}


def _like(value: Mapping[str, Any], items: dict[str, Any]) -> Any:
    """Return `items` as a mapping of the same class as `value`."""
    return items if type(value) is dict else type(value)(**items)


def _leaves(value: Any) -> Iterator[Any]:
    """Yield whatever is in nested mappings, tuples and lists, and is none itself."""
    for item in value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple | list) else ():
        yield from _leaves(item)
    if not isinstance(value, Mapping | tuple | list):
        yield value


def _is_set(root: nn.Module, kwargs: dict[str, Any], name: str) -> bool:
    """Return whether a forward of `root` is asked for an output by its arguments, or by the configuration."""
    return bool(kwargs.get(name) or getattr(getattr(root, "config", None), name, False))


def tensors(
    output: Any, name: str = "output", not_compared: tuple[str, ...] = NOT_COMPARED
) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of floating-point or complex numbers in a forward's output, each with its name.

    What has a name that ends in one of `not_compared` is left out.
    """
    if isinstance(output, Tensor) and (output.is_floating_point() or output.is_complex()):
        yield name, output
    items = (
        output.items() if isinstance(output, Mapping) else enumerate(output) if type(output) in (tuple, list) else ()
    )
    for key, value in items:
        if not str(key).endswith(not_compared):
            yield from tensors(value, str(key) if name == "output" else f"{name}.{key}", not_compared)


def difference(outputs: dict[str, Tensor], plain: dict[str, Tensor]) -> tuple[str, float] | None:
    """Return what differs, in words, and by how much; None if all is bitwise the same."""
    if outputs.keys() != plain.keys():
        return f"it returns {', '.join(outputs) or 'nothing'} instead of {', '.join(plain) or 'nothing'}", float("inf")
    for name, value in plain.items():
        other = outputs[name]
        if other.shape != value.shape:
            return f"{name} is of shape {tuple(other.shape)} instead of {tuple(value.shape)}", float("inf")
        if not bool(((other == value) | ((other != other) & (value != value))).all()):
            off = float((other - value).abs().nan_to_num(nan=float("inf")).max())
            return f"{name} is off by {off:.1e}", off
    return None


def is_noise(seen: tuple[str, float], own: tuple[str, float] | None, values: dict[str, Tensor]) -> bool:
    """Return whether the difference `seen` is noise: about as large as that of two equal forwards, `own`.

    `values` are the outputs, whose largest number is the scale; `own` is None where equal forwards do not differ.
    """
    scale = max((float(value.abs().nan_to_num().max()) for value in values.values()), default=0.0)
    return own is not None and seen[1] <= min(NOISE_FACTOR * own[1], NOISE_SHARE * scale)


@contextmanager
def undisturbed(root: nn.Module) -> Iterator[None]:
    """Let `root` run in evaluation mode, without gradients and the user's hooks, and leave no trace.

    After the context its modes, its buffers and the state of the random numbers are what they were.
    """
    training = [module for module in root.modules() if module.training]
    buffers = [
        (module, name, buffer, buffer.clone() if buffer.numel() <= 1 << 16 and not buffer.is_meta else None)
        for module in root.modules()
        for name, buffer in _compat.buffers(module).items()
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
                _compat.buffers(module)[name] = buffer
                if values is not None and not torch.equal(buffer, values):
                    buffer.copy_(values)
