"""Build what an export writes: the class, the tensors in their new places, and the proof that it is right."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel
from transformers.models.auto import modeling_auto

from painters import _export_code as coding
from painters._export_config import reordered
from painters._export_files import ExportError
from painters._export_proof import Answer, answer, difference, different_layer
from painters.models import bars
from painters.plan import Plan
from painters.stack import LayerStack

ADVICE = "Write it with its own code (--with-code, with_code=True)"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory: a model that shares its tensors with the source."""

    model: PreTrainedModel
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
    except (ValueError, TypeError, IndexError, KeyError) as error:
        raise _inexpressible(plan, source, f"transformers refuses the configuration for it: {error}") from error
    layers: Any = made.get_submodule(stack.path)
    if len(layers) != len(order):
        raise _inexpressible(plan, source, f"{type(model).__name__} makes {len(layers)} layers of its configuration")
    if (found := different_layer(list(layers), list(stack.layers), order, source)) is not None:
        raise _inexpressible(plan, source, found)
    try:
        return _filled(made, model, _rearranged(model, stack.path, order))
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
    return Checkpoint(made.model, made.generation, coding.modelling_code(model, stack, plan), names)


def prove(made: Checkpoint, model: PreTrainedModel, folder: Path, expected: Answer, what: str) -> None:
    """Nothing; ExportError where what lies in `folder` does not answer as the model under its plan did."""
    kind: Any = type(model)
    if made.code is not None:
        kind = getattr(coding.imported(folder), coding.class_names(model)[0])
    with bars(shown=False):
        again = kind.from_pretrained(
            folder, dtype=model.dtype, attn_implementation=model.config._attn_implementation, use_safetensors=True
        )
    if (found := difference(answer(again.to(model.device)), expected)) is not None:
        advice = ADVICE if made.code is None else "Run it with painters.surgery"
        raise ExportError(f"plan {what}: loaded again, {found}, so it is not written. {advice}")


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


def _filled(made: PreTrainedModel, model: PreTrainedModel, tensors: dict[str, Tensor]) -> Checkpoint:
    """The empty model `made` with these tensors, not copied; RuntimeError where they are not its own."""
    made.load_state_dict(tensors, assign=True)
    made.tie_weights()
    if hasattr(model, "_weight_conversions"):  # how the names in its file became those in memory
        made._weight_conversions = model._weight_conversions
    generation = copy.deepcopy(model.generation_config) if made.can_generate() else None
    if generation is not None:
        made.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    return Checkpoint(made, generation)


def _rearranged(model: PreTrainedModel, path: str, order: Sequence[int]) -> dict[str, Tensor]:
    """The model's tensors by their names in the export. Those of a repeated layer are copied: files share nothing."""
    found: dict[str, Tensor] = {}
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
            found[f"{path}.{place}.{inner}"] = tensor.clone() if again else tensor
    return found


def _inexpressible(plan: Plan, source: str, why: str) -> ExportError:
    return ExportError(f"plan {plan} of {source} cannot be a plain checkpoint: {why}. {ADVICE}")


def _told(error: Exception) -> str:
    """What torch says first of tensors that do not fit."""
    lines = [line.strip().rstrip(". ") for line in str(error).splitlines()[1:] if line.strip()]
    text = lines[0] if lines else str(error)
    return text if len(text) < 300 else text[:300] + " …"
