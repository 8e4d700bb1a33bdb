"""Build what an export writes: the class, the tensors in their new places, and the proof that it is right."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel
from transformers.models.auto import modeling_auto

from painters.errors import PaintersError
from painters.export import code as coding
from painters.export.config import reordered
from painters.export.files import ExportError
from painters.export.verify import Answer, answer, difference, different_layer
from painters.models import bars
from painters.plan import Plan
from painters.stack import LayerStack

ADVICE = "Write it with its own code (--with-code, with_code=True)"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory: a model that shares its tensors with the source."""

    model: PreTrainedModel
    tensors: Mapping[str, Tensor]
    """The source's own tensors by their names in it; those of a repeated layer come again."""
    generation: GenerationConfig | None
    code: str | None = None
    """The text of its modelling file, if it has one."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """What its configuration says besides that of the model."""

    @property
    def size(self) -> int:
        """Bytes of its weights, shared ones counted once."""
        return sum(t.nbytes for t in {t.data_ptr(): t for t in self.model.state_dict().values()}.values())

    def write(self, folder: Path, max_shard_size: int | str) -> None:
        """Nothing; configuration, weights and code are in `folder`."""
        with bars(shown=False):
            self.model.save_pretrained(folder, max_shard_size=max_shard_size, save_original_format=self.code is None)
        if self.generation is not None:
            # not its save_pretrained, which refuses settings that the source was loaded with
            self.generation.to_json_file(folder / "generation_config.json")
        if self.code is not None:
            (folder / f"{coding.MODULE}.py").write_text(self.code)
            path = folder / "config.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | dict(self.config), indent=2) + "\n")


def plain(model: PreTrainedModel, stack: LayerStack, plan: Plan, source: str) -> Checkpoint:
    """The checkpoint that holds the layers in the plan's order; ExportError where its configuration cannot say so."""
    order = [run.index for run in plan.walk()]
    try:
        made = _empty(model, reordered(model.config, order))
    except (ValueError, TypeError, LookupError, AssertionError, NotImplementedError) as error:
        raise _inexpressible(plan, source, f"transformers refuses the configuration for it: {error}") from error
    layers: Any = made.get_submodule(stack.path)
    if len(layers) != len(order):
        raise _inexpressible(plan, source, f"{type(model).__name__} makes {len(layers)} layers of its configuration")
    if (found := different_layer(list(layers), list(stack.layers), order, source)) is not None:
        raise _inexpressible(plan, source, found)
    try:
        return _filled(made, model, *_rearranged(model, stack.path, order))
    except RuntimeError as error:
        raise _inexpressible(plan, source, f"its configuration makes other tensors: {_told(error)}") from error


def with_code(model: PreTrainedModel, stack: LayerStack, plan: Plan, source: str) -> Checkpoint:
    """The checkpoint that holds the source's layers as they are, and the code that runs the plan."""
    if not type(model).__module__.startswith("transformers.models."):
        raise ExportError(
            f"{source} is a {type(model).__name__}, not of transformers itself: it can have no code of ours"
        )
    if not isinstance(stack.layers, nn.ModuleList):
        raise ExportError(f"{source} runs its layers in a {type(stack.layers).__name__}: it can have no code of ours")
    cls, config, model_type = coding.class_names(model)
    if not (auto := auto_class(model)).startswith("AutoModel"):
        raise ExportError(f"{source} is a {auto}, which no auto class loads: load it as another class")
    made = _filled(_empty(model, copy.deepcopy(model.config)), model, model.state_dict())
    names = {
        "architectures": [cls],
        "auto_map": {"AutoConfig": f"{coding.MODULE}.{config}", auto: f"{coding.MODULE}.{cls}"},
        "model_type": model_type,  # not the source's, or it would load as the source where code is not trusted
    }
    return Checkpoint(made.model, made.tensors, made.generation, coding.modelling_code(model, stack, plan), names)


def prove(made: Checkpoint, model: PreTrainedModel, folder: Path, expected: Answer, what: str) -> None:
    """Nothing; ExportError where what lies in `folder` does not answer as the model under its plan did."""
    kind: Any = type(model)
    if made.code is not None:
        kind = getattr(coding.imported(folder), coding.class_names(model)[0])
    with bars(shown=False):
        again = kind.from_pretrained(
            folder, dtype=model.dtype, attn_implementation=model.config._attn_implementation, use_safetensors=True
        )
    again.load_state_dict(_same_tensors(again, made.tensors, what), assign=True)
    found = difference(answered(again.to(model.device), None, f"plan {what}, loaded again,"), expected)
    if found is not None:
        advice = _cast(model, again) or (ADVICE if made.code is None else "Run it with painters.surgery")
        raise ExportError(f"plan {what}: loaded again, {found}, so it is not written. {advice}")


def _same_tensors(again: PreTrainedModel, tensors: Mapping[str, Tensor], what: str) -> Mapping[str, Tensor]:
    """The source's tensors, once those that were loaded prove to be equal; ExportError where one is not.

    What they lie at differs, and with it the last digit of some products of matrices.
    """
    loaded = again.state_dict()
    for name in sorted(loaded.keys() | tensors.keys()):
        one, two = loaded.get(name), tensors.get(name)
        if one is None or two is None or one.dtype != two.dtype or not torch.equal(one.to(two.device), two):
            raise ExportError(f"plan {what}: loaded again, its tensor {name} is not that of the source: not written")
    return tensors


def answered(model: PreTrainedModel, plan: Plan | None, source: str) -> Answer:
    """What the model says to the probe under `plan`, or as it is; ExportError where the probe does not suit it."""
    try:
        return answer(model, plan)
    except PaintersError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise ExportError(
            f"{source} ({type(model).__name__}) does not answer to a plain batch of tokens, so no export of it could "
            f"be checked: {type(error).__name__}: {error}"
        ) from error


def auto_class(model: Any) -> str:
    """The name of the auto class that loads the class of `model`; of that class itself where there is none."""
    kind, model_type = type(model).__name__, model.config.model_type
    known = [name for name in vars(modeling_auto) if name.startswith("AutoModel")]
    for name in sorted(known, key=lambda name: (name != "AutoModelForCausalLM", name != "AutoModelForMaskedLM", name)):
        mapping = getattr(getattr(modeling_auto, name), "_model_mapping", None)
        names = getattr(mapping, "_model_mapping", {}).get(model_type, ())
        if kind in ([names] if isinstance(names, str) else names):
            return name
    return kind


def _empty(model: PreTrainedModel, config: Any) -> PreTrainedModel:
    """A model of the same class without weights."""
    kind: Any = type(model)
    with torch.device("meta"):
        made: PreTrainedModel = kind._from_config(
            config, dtype=model.dtype, attn_implementation=model.config._attn_implementation
        )
    made.eval()  # type: ignore[no-untyped-call]
    return made


def _filled(
    made: PreTrainedModel, model: PreTrainedModel, tensors: dict[str, Tensor], copied: Collection[str] = ()
) -> Checkpoint:
    """The empty model `made` with these tensors; RuntimeError where they are not its own.

    None is copied but those of `copied`, the repeated layers', for files share nothing.
    """
    made.load_state_dict({n: t.clone() if n in copied else t for n, t in tensors.items()}, assign=True)
    made.tie_weights()
    generation = copy.deepcopy(model.generation_config) if made.can_generate() else None
    if generation is not None:
        made.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    return Checkpoint(made, tensors, generation)


def _rearranged(model: PreTrainedModel, path: str, order: Sequence[int]) -> tuple[dict[str, Tensor], set[str]]:
    """The model's tensors by their names in the export, and which of these names are those of repeated layers."""
    found: dict[str, Tensor] = {}
    repeated: set[str] = set()
    layers: dict[int, dict[str, Tensor]] = {}
    for name, tensor in model.state_dict().items():
        if name.startswith(f"{path}."):
            index, _, inner = name.removeprefix(f"{path}.").partition(".")
            layers.setdefault(int(index), {})[inner] = tensor
        else:
            found[name] = tensor
    for place, layer in enumerate(order):
        again = layer in order[:place]
        for inner, tensor in layers.get(layer, {}).items():
            name = f"{path}.{place}.{inner}"
            found[name] = tensor
            if again:
                repeated.add(name)
    return found, repeated


def _cast(model: PreTrainedModel, again: PreTrainedModel) -> str | None:
    """Advice where the model's dtype was changed after loading, buffers and all; None where it was not."""
    loaded = dict(again.named_buffers())
    for name, tensor in model.named_buffers():
        if name in loaded and loaded[name].dtype != tensor.dtype:
            mine, theirs = (str(dtype).removeprefix("torch.") for dtype in (tensor.dtype, loaded[name].dtype))
            return (
                f"The source has {name} in {mine}, and {theirs} is what transformers loads it in, so it was cast "
                f"after loading: load the source in {mine} (dtype={mine!r}) instead"
            )
    return None


def _inexpressible(plan: Plan, source: str, why: str) -> ExportError:
    return ExportError(f"plan {plan} of {source} cannot be a plain checkpoint: {why}. {ADVICE}")


def _told(error: Exception) -> str:
    """What torch says first of tensors that do not fit."""
    lines = [line.strip().rstrip(". ") for line in str(error).splitlines()[1:] if line.strip()]
    text = lines[0] if lines else str(error)
    return text if len(text) < 300 else text[:300] + " …"
