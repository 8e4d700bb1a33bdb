"""Build an export: the class, the tensors under their new names, and the check that it runs as its source does."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel

from painters import _compat
from painters.errors import PaintersError
from painters.export.code import MODULE, class_names, import_from, modelling_code
from painters.export.config import reordered
from painters.export.files import ExportError
from painters.export.verify import ProbeOutputs, difference, different_layer, probe
from painters.models import bars
from painters.plan import Plan
from painters.stack import LayerStack

ADVICE = "Write it with its own code (--with-code, with_code=True)"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory: a model that shares its tensors with the source."""

    model: PreTrainedModel
    tensors: Mapping[str, Tensor]
    """The source's own tensors by their names in `model`; those of a repeated layer occur under several names."""
    generation: GenerationConfig | None
    code: str | None = None
    """The text of the modelling file, if there is one."""
    dtype: torch.dtype | None = None
    """The number type to load it with; None for that of the model."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Fields of config.json besides those of the model's configuration."""

    @property
    def size(self) -> int:
        """Bytes of the weights, shared ones counted once."""
        return sum(t.nbytes for t in {t.data_ptr(): t for t in self.model.state_dict().values()}.values())

    def write(self, folder: Path, max_shard_size: int | str) -> None:
        """Write configuration, weights and code to `folder`."""
        with bars(shown=False):
            self.model.save_pretrained(folder, max_shard_size=max_shard_size, save_original_format=self.code is None)
        if self.generation is not None:
            # Its own save_pretrained refuses settings that the source was loaded with.
            self.generation.to_json_file(folder / "generation_config.json")
        if self.code is not None:
            (folder / f"{MODULE}.py").write_text(self.code, encoding="utf-8")
            path = folder / "config.json"
            path.write_text(
                json.dumps(json.loads(path.read_text(encoding="utf-8")) | dict(self.config), indent=2) + "\n",
                encoding="utf-8",
            )


def plain_checkpoint(model: PreTrainedModel, stack: LayerStack, plan: Plan, source: str) -> Checkpoint:
    """Return a checkpoint with the layers in the plan's order.

    ExportError where the model's configuration cannot express the order.
    """
    order = [run.index for run in plan.walk()]
    try:
        empty = _empty(model, reordered(model.config, order))
    except (ValueError, TypeError, LookupError, AssertionError, NotImplementedError) as error:
        raise _inexpressible(plan, source, f"transformers refuses the configuration for it: {error}") from error
    layers: Any = empty.get_submodule(stack.path)
    if len(layers) != len(order):
        raise _inexpressible(plan, source, f"{type(model).__name__} makes {len(layers)} layers of its configuration")
    if (reason := different_layer(list(layers), list(stack.layers), order, source)) is not None:
        raise _inexpressible(plan, source, reason)
    try:
        return _filled(empty, model, *_rearranged(model, stack.path, order))
    except RuntimeError as error:
        raise _inexpressible(
            plan, source, f"its configuration makes other tensors: {_first_mismatch(error)}"
        ) from error


def checkpoint_with_code(model: PreTrainedModel, stack: LayerStack, plan: Plan, source: str) -> Checkpoint:
    """Return a checkpoint with the source's layers as they are, and the code that runs the plan."""
    if not type(model).__module__.startswith("transformers.models."):
        raise ExportError(
            f"{source} is a {type(model).__name__}, which is not a class of transformers itself: no modelling file can "
            "be written for it"
        )
    if not isinstance(stack.layers, nn.ModuleList):
        raise ExportError(
            f"{source} keeps its layers in a {type(stack.layers).__name__}, not in a ModuleList: no modelling file can "
            "be written for it"
        )
    cls, config, model_type = class_names(model)
    if not (autos := auto_classes(model)):
        raise ExportError(f"{source} is a {type(model).__name__}, which no auto class loads: load it as another class")
    filled = _filled(_empty(model, copy.deepcopy(model.config)), model, model.state_dict())
    dtype, kept = number_types(model)
    names = {
        "architectures": [cls],
        "dtype": _name(dtype),
        "auto_map": {"AutoConfig": f"{MODULE}.{config}", **dict.fromkeys(autos, f"{MODULE}.{cls}")},
        "model_type": model_type,  # not the source's, or it would load as the source where code is not trusted
    }
    code = modelling_code(model, stack, plan, kept)
    return Checkpoint(filled.model, filled.tensors, filled.generation, code, dtype, names)


def verify(checkpoint: Checkpoint, model: PreTrainedModel, folder: Path, expected: ProbeOutputs, exported: str) -> None:
    """Load the checkpoint in `folder`; raise ExportError unless its tensors and outputs are those expected.

    `model` is the source, and `exported` names the plan and the source for messages.
    """
    kind: Any = type(model)
    if checkpoint.code is not None:
        kind = getattr(import_from(folder), class_names(model)[0])
    with bars(shown=False):
        loaded = kind.from_pretrained(
            folder,
            dtype=checkpoint.dtype or model.dtype,
            attn_implementation=_compat.attention_implementation(model.config),
            use_safetensors=True,
        )
    _check_same_tensors(loaded, checkpoint, exported)
    # Run it with the source's own tensors: at other addresses in memory, some products of matrices round differently.
    loaded.load_state_dict(checkpoint.tensors, assign=True)
    outputs = probed(loaded.to(model.device), None, f"plan {exported}, loaded again,")
    reason = difference(outputs, expected)
    if reason is not None:
        advice = _cast_advice(model, loaded) or (ADVICE if checkpoint.code is None else "Run it with painters.surgery")
        raise ExportError(f"plan {exported}: loaded again, {reason}, so it is not written. {advice}")


def number_types(model: PreTrainedModel) -> tuple[torch.dtype, tuple[str, ...]]:
    """Return the number type to load the model with, and the names of the tensors that stay in float32 nevertheless.

    Without them transformers loads a model in one type.
    """
    tensors = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    narrow = {tensor.dtype for tensor in tensors.values()} & {torch.bfloat16, torch.float16}
    if len(narrow) != 1:
        return model.dtype, ()
    (dtype,) = narrow
    return dtype, tuple(name for name, tensor in tensors.items() if tensor.dtype == torch.float32)


def _name(dtype: torch.dtype) -> str:
    """Return the name of a number type, such as "bfloat16"."""
    return str(dtype).removeprefix("torch.")


def _check_same_tensors(loaded: PreTrainedModel, checkpoint: Checkpoint, exported: str) -> None:
    """Raise ExportError unless the model has exactly the tensors of the checkpoint."""
    tensors, expected = loaded.state_dict(), checkpoint.tensors
    for name in sorted(tensors.keys() | expected.keys()):
        ours, theirs = tensors.get(name), expected.get(name)
        if ours is not None and theirs is not None and ours.dtype != theirs.dtype:
            with_code = f"{ADVICE}, or cast" if checkpoint.code is None else "Cast"
            raise ExportError(
                f"plan {exported}: {name} is in {_name(theirs.dtype)} and other tensors are in {_name(ours.dtype)}, "
                f"but transformers loads a checkpoint in one number type, so it is not written. {with_code} the source "
                f"to one type, such as model.to(torch.{_name(ours.dtype)})"
            )
        if ours is None or theirs is None or not torch.equal(ours.to(theirs.device), theirs):
            raise ExportError(
                f"plan {exported}: loaded again, its tensor {name} is not that of the source, so it is not written"
            )


def probed(model: PreTrainedModel, plan: Plan | None, source: str) -> ProbeOutputs:
    """Return the outputs for the probe under `plan`, or of the model as it is; ExportError where the probe fails."""
    try:
        return probe(model, plan)
    except PaintersError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        types = sorted({_name(parameter.dtype) for parameter in model.parameters()})
        cast = f". Its weights are in {' and '.join(types)}: cast it to one type, such as model.to(torch.{types[0]})"
        mixed = cast if len(types) > 1 else ""
        raise ExportError(
            f"{source} ({type(model).__name__}) fails on a plain batch of tokens, so an export of it cannot be "
            f"checked: {type(error).__name__}: {error}{mixed}"
        ) from error


def auto_class(model: Any) -> str:
    """Return the name of the auto class that loads the class of `model`, or of that class where there is none."""
    return next(iter(auto_classes(model)), type(model).__name__)


def auto_classes(model: Any) -> list[str]:
    """Return the names of the auto classes that load the class of `model`, the one to recommend first."""
    kind, makes = type(model).__name__, _compat.auto_classes(model.config.model_type)
    names = sorted(makes, key=lambda name: (name != "AutoModelForCausalLM", name != "AutoModelForMaskedLM", name))
    return [name for name in names if kind in makes[name]]


def _empty(model: PreTrainedModel, config: Any) -> PreTrainedModel:
    """Return a model of the same class with this configuration and without weights."""
    kind: Any = type(model)
    with torch.device("meta"):
        empty: PreTrainedModel = _compat.model_from_config(
            kind, config, dtype=model.dtype, attn_implementation=_compat.attention_implementation(model.config)
        )
    empty.eval()  # type: ignore[no-untyped-call]
    return empty


def _filled(
    empty: PreTrainedModel, model: PreTrainedModel, tensors: dict[str, Tensor], copied: Collection[str] = ()
) -> Checkpoint:
    """Fill the empty model with `tensors`; RuntimeError where its own have other names or shapes.

    Only tensors whose names are in `copied`, which are the repeated layers', and those that share memory otherwise are
    copied: in a file no two tensors share memory, but for those that the configuration ties.
    """
    tied = empty.all_tied_weights_keys
    copied = {*copied, *_overlapping({n: t for n, t in tensors.items() if n not in tied and n not in copied})}
    empty.load_state_dict({n: t.clone() if n in copied else t for n, t in tensors.items()}, assign=True)
    empty.tie_weights()
    generation = copy.deepcopy(model.generation_config) if empty.can_generate() else None
    if generation is not None:
        empty.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    return Checkpoint(empty, tensors, generation)


def _overlapping(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield the names of tensors that share memory with another one, but for the first of those that share it."""
    spans = []
    for position, (name, tensor) in enumerate(tensors.items()):
        if tensor.numel():
            last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
            begin = tensor.data_ptr()
            spans.append((str(tensor.device), begin, position, begin + (last + 1) * tensor.itemsize, name))
    device_before, end_before = "", 0
    for device, begin, _, end, name in sorted(spans):
        if device == device_before and begin < end_before:
            yield name
            end_before = max(end_before, end)
        else:
            device_before, end_before = device, end


def _rearranged(model: PreTrainedModel, path: str, order: Sequence[int]) -> tuple[dict[str, Tensor], set[str]]:
    """Return the model's tensors by their names in the export, and the names that belong to repeated layers.

    `path` is that of the list of layers, and `order` the layer of the source at each position of the export.
    """
    tensors: dict[str, Tensor] = {}
    repeated: set[str] = set()
    layers: dict[int, dict[str, Tensor]] = {}
    for name, tensor in model.state_dict().items():
        if name.startswith(f"{path}."):
            index, _, inner = name.removeprefix(f"{path}.").partition(".")
            layers.setdefault(int(index), {})[inner] = tensor
        else:
            tensors[name] = tensor
    for position, layer in enumerate(order):
        is_repeated = layer in order[:position]
        for inner, tensor in layers.get(layer, {}).items():
            name = f"{path}.{position}.{inner}"
            tensors[name] = tensor
            if is_repeated:
                repeated.add(name)
    return tensors, repeated


def _cast_advice(model: PreTrainedModel, loaded: PreTrainedModel) -> str | None:
    """Return advice where the source was cast after loading, so that a buffer has another dtype; None elsewhere."""
    buffers = dict(loaded.named_buffers())
    for name, tensor in model.named_buffers():
        if name in buffers and buffers[name].dtype != tensor.dtype:
            ours, theirs = (str(dtype).removeprefix("torch.") for dtype in (tensor.dtype, buffers[name].dtype))
            return (
                f"The source has {name} in {ours}, but transformers loads it in {theirs}, so the source was cast after "
                f"loading: load the source in {ours} (dtype={ours!r}) instead"
            )
    return None


def _inexpressible(plan: Plan, source: str, reason: str) -> ExportError:
    """Return the error for a plan that no configuration of the model can express."""
    return ExportError(f"plan {plan} of {source} cannot be a plain checkpoint: {reason}. {ADVICE}")


def _first_mismatch(error: Exception) -> str:
    """Return the first of torch's lines on tensors that do not fit, shortened."""
    lines = [line.strip().rstrip(". ") for line in str(error).splitlines()[1:] if line.strip()]
    text = lines[0] if lines else str(error)
    return text if len(text) < 300 else text[:300] + " …"
