"""Write a model under a plan as a checkpoint that transformers loads by itself.

A plan that is a sequence of whole layers becomes a plain checkpoint: the layers are stored in the plan's order, with a
configuration to match. Any other plan needs a modelling file. Before the folder appears, what was written is loaded
again, and its outputs must equal those of the model under its plan, bit for bit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from painters import _compat
from painters.export.files import ExportError, ExportRequestError, check_space, check_target, readable, written_whole
from painters.models import bundled
from painters.models.adapters import find_adapter
from painters.plan import Plan, PlanLike, as_plan

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from painters.export.build import Checkpoint
    from painters.stack import LayerStack

__all__ = ["MAX_SHARD_SIZE", "ExportError", "Exported", "check", "export", "readable", "stored_dtype"]

MAX_SHARD_SIZE = "5GB"
"""The default of the largest size of one file of weights."""


@dataclass(frozen=True, slots=True)
class Exported:
    """An export that was written and checked.

    Attributes:
        folder: Where it was written.
        plan: The text of the plan.
        source: Name of the source model.
        auto_class: Name of the class of transformers that loads it.
        with_code: Whether a modelling file runs the plan.
        trust_remote_code: Whether it must be loaded with `trust_remote_code=True`.
        num_layers: Number of layers in the checkpoint.
        weights: Bytes of weights.
        covers: What was compared before it was written, and was equal bit for bit.
        files: Names of the files in the folder.

    Examples:
        >>> import torch
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> import painters
        >>> _ = torch.manual_seed(0)
        >>> sizes = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
        >>> model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=3, **sizes)).eval()
        >>> exported = painters.export(model, "0 {1 2}", "parallel", source="tiny", with_code=True)
        >>> exported.trust_remote_code
        True
        >>> exported.files
        ('README.md', 'config.json', 'generation_config.json', 'model.safetensors', 'modeling_planned.py')
        >>> exported.as_json()["num_layers"]
        3
    """

    folder: str
    plan: str
    source: str
    auto_class: str
    with_code: bool
    trust_remote_code: bool
    num_layers: int
    weights: int
    covers: str
    files: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """The options of an export that are the same for all models; `export` explains them."""

    with_code: bool = False
    mergekit: bool = False
    max_shard_size: int | str = MAX_SHARD_SIZE
    force: bool = False

    def check(self, plan: Plan, to: Path) -> None:
        """Raise ExportError where `plan` cannot be written to the folder `to` in this way, whatever the model is."""
        unlike_sequence = None if plan.is_sequence else "runs layers side by side"
        if plan.has_halves:
            unlike_sequence = "runs halves of layers"
        if unlike_sequence is not None and not self.with_code:
            raise ExportRequestError(
                f"plan {plan} {unlike_sequence}, and a plain checkpoint is a sequence of whole layers: write it with "
                "its own code (--with-code, with_code=True), or run it with painters.surgery"
            )
        if unlike_sequence is not None and self.mergekit:
            raise ExportRequestError(
                f"plan {plan} {unlike_sequence}, and mergekit puts whole layers one after the other: leave out "
                "--mergekit (mergekit=True)"
            )
        if not self._has_size():
            raise ExportRequestError(
                f"max_shard_size {self.max_shard_size!r}: give a number of bytes, or one such as 500MB or 5GB"
            )
        check_target(to, force=self.force)

    def _has_size(self) -> bool:
        """Return whether `max_shard_size` is a number of bytes above 0, or a text such as 5GB."""
        if isinstance(self.max_shard_size, int):
            return self.max_shard_size > 0
        return re.fullmatch("0*[1-9][0-9]*[KMG]B", self.max_shard_size) is not None


@dataclass(frozen=True, slots=True)
class _Source:
    """The model that is exported, its tokenizer (None: none is written) and the plan."""

    model: PreTrainedModel
    name: str
    tokenizer: Any
    stack: LayerStack
    plan: Plan

    def __str__(self) -> str:
        return f"{self.plan} of {self.name}"


def export(  # noqa: PLR0913 - one keyword for each option of the command line
    model: str | PreTrainedModel,
    plan: PlanLike,
    to: str | Path,
    *,
    tokenizer: Any = None,
    with_code: bool = False,
    mergekit: bool = False,
    max_shard_size: int | str = MAX_SHARD_SIZE,
    force: bool = False,
    source: str | None = None,
    stack: str | None = None,
) -> Exported:
    """Write `model` under `plan` as a checkpoint, with a model card.

    The folder appears only when it is complete and was checked: it is loaded again and must give the same outputs as
    the model under its plan, bit for bit. Meanwhile the model is in memory twice.

    Args:
        model: A loaded model of transformers, or a name for `painters.models.load_model`, which brings its tokenizer.
        plan: What the exported model runs: a plan, its text, or its layers in order.
        to: The folder to write, new or empty.
        tokenizer: Written along with a loaded model; a processor too. With a tokenizer, the files of the processor
            that the source has beside it are copied.
        with_code: Add a modelling file that runs the plan. Such a checkpoint is loaded with `trust_remote_code=True`.
            Needed for parallel groups, for halves of layers, and for orders of layers that the model's configuration
            cannot express.
        mergekit: Add a recipe with which mergekit builds the same weights.
        max_shard_size: Largest size of one file of weights: a number of bytes, or a text such as "500MB".
        force: Replace a checkpoint that is in the folder already.
        source: Name of the source in the model card; by default the model's own name.
        stack: The stack of layers that the plan runs, where the model has several; a path such as `model.layers`.

    Returns:
        What was written and what was compared.

    Raises:
        PlanError: The plan does not fit the model.
        SurgeryError: The model cannot follow a plan.
        ExportError: The plan cannot be exported so, or the folder cannot be written. Then nothing was written.

    Examples:
        >>> import torch
        >>> from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
        >>> import painters
        >>> _ = torch.manual_seed(0)
        >>> sizes = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
        >>> model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=4, **sizes)).eval()
        >>> exported = painters.export(model, "0 2 1", "shorter", source="tiny")
        >>> exported.num_layers
        3
        >>> shorter = AutoModelForCausalLM.from_pretrained("shorter")
        >>> ids = torch.tensor([[1, 2, 3]])
        >>> with torch.no_grad(), painters.surgery(model, "0 2 1"):
        ...     torch.equal(shorter(ids).logits, model(ids).logits)
        True
    """
    plan = as_plan(plan)
    to = Path(to)
    options = ExportOptions(with_code, mergekit, max_shard_size, force)
    options.check(plan, to)
    return _export(_loaded(model, source, tokenizer, plan, to, options, stack), to, options)


def check(
    plan: Plan,
    to: Path,
    *,
    with_code: bool = False,
    mergekit: bool = False,
    max_shard_size: int | str = MAX_SHARD_SIZE,
    force: bool = False,
) -> None:
    """Check what does not depend on the model, before minutes are spent on loading it.

    Args:
        plan: The plan to export.
        to: The folder to write.
        with_code: Whether a modelling file is written.
        mergekit: Whether a recipe for mergekit is written.
        max_shard_size: Largest size of one file of weights.
        force: Whether a checkpoint that is in the folder may be replaced.

    Raises:
        ExportError: The export would be refused. The message says why.

    Examples:
        >>> from pathlib import Path
        >>> from painters import Plan
        >>> from painters.export import check
        >>> check(Plan.parse("0-3 5-11"), Path("shorter"))
        >>> check(Plan.parse("0 {1-3} 4"), Path("parallel"))
        Traceback (most recent call last):
        ...
        painters.export.files.ExportRequestError: plan 0 {1-3} 4 runs layers side by side, and a plain checkpoint is a
        sequence of whole layers: write it with its own code (--with-code, with_code=True), or run it with
        painters.surgery
    """
    ExportOptions(with_code, mergekit, max_shard_size, force).check(plan, to)


def stored_dtype(name: str) -> str:
    """Return the `dtype` with which a model is loaded so that its weights stay as they are in its file.

    Args:
        name: Name of a bundled model, a name on the hub, or a folder.

    Returns:
        The dtype by name; "auto" for all but bundled models, which load in float32 by default.

    Examples:
        >>> from painters.export import stored_dtype
        >>> stored_dtype("nano-llama")
        'bfloat16'
        >>> stored_dtype("org/model")
        'auto'
    """
    adapter = find_adapter(name)
    folder = bundled.models().get(name if adapter is None else adapter.base)
    return "auto" if folder is None else str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["dtype"])


def _loaded(
    model: str | PreTrainedModel,
    name: str | None,
    tokenizer: Any,
    plan: Plan,
    to: Path,
    options: ExportOptions,
    path: str | None,
) -> _Source:
    """Load the model where it is given by name; raise ExportError or PlanError where it cannot be exported."""
    from painters import models
    from painters.stack import LayerStack

    if isinstance(model, str):
        if tokenizer is not None:
            raise ExportError(
                f"model {model!r} by name with a tokenizer: a name brings its own, so leave the tokenizer out, or load "
                "both yourself"
            )
        name = name or model
        loaded, tokenizer = models.load_model(model, dtype=stored_dtype(model), encoders=True, merge_adapters=True)
    else:
        loaded, name = model, name or models.describe(model)[0]
    _refuse_model(loaded, name)
    _refuse_folder(loaded, name, to, options.mergekit)
    stack = LayerStack.find(loaded, path)
    plan.check(stack.num_layers, name)
    return _Source(loaded, name, tokenizer, stack, plan)


def _export(source: _Source, to: Path, options: ExportOptions) -> Exported:
    """Build the checkpoint, write it, check it, and describe it."""
    from painters.export import build
    from painters.export.processor import write_processor

    make: Callable[..., Checkpoint] = build.checkpoint_with_code if options.with_code else build.plain_checkpoint
    checkpoint = make(source.model, source.stack, source.plan, source.name)
    check_space(to, checkpoint.size)
    expected = build.probed(source.model, source.plan, source.name)
    with written_whole(to) as folder:
        checkpoint.write(folder, options.max_shard_size)
        if source.tokenizer is not None:
            write_processor(source.model, source.tokenizer, folder, source.name)
        build.verify(checkpoint, source.model, folder, expected, str(source))
        exported = _exported(source, checkpoint, to, options, expected.covers, {path.name for path in folder.iterdir()})
        _describe(folder, exported, source)
    return exported


def _exported(
    source: _Source, checkpoint: Checkpoint, to: Path, options: ExportOptions, covers: str, files: set[str]
) -> Exported:
    """Return the result; `files` are the names of the files besides the model card and the recipe."""
    from painters.export.build import auto_class
    from painters.export.card import MERGEKIT

    return Exported(
        folder=str(to),
        plan=str(source.plan),
        source=source.name,
        auto_class=auto_class(source.model),
        with_code=options.with_code,
        trust_remote_code=options.with_code or source.model.is_remote_code(),
        num_layers=source.stack.num_layers if options.with_code else source.plan.layer_runs,
        weights=checkpoint.size,
        covers=covers,
        files=tuple(sorted(["README.md", *[MERGEKIT] * options.mergekit, *files])),
    )


def _describe(folder: Path, exported: Exported, source: _Source) -> None:
    """Write the model card to `folder`, and the recipe for mergekit where `exported` lists one."""
    from painters.export.card import MERGEKIT, ModelCard, recipe
    from painters.models import describe

    model = source.model
    dtype, revision = str(model.dtype).removeprefix("torch."), describe(model)[1]
    if MERGEKIT in exported.files:
        name = str(model.name_or_path) + (f"@{revision}" if revision else "")
        (folder / MERGEKIT).write_text(recipe(name, [run.index for run in source.plan.walk()], dtype), encoding="utf-8")
    types = sorted({str(p.dtype).removeprefix("torch.") for p in model.parameters() if p.is_floating_point()})
    card = ModelCard(
        title=Path(exported.folder).resolve().name,
        source=exported.source,
        revision=revision,
        plan=source.plan,
        num_layers=source.stack.num_layers,
        dtype=" and ".join(types) or dtype,
        auto_class=exported.auto_class,
        with_code=exported.with_code,
        trust_remote_code=exported.trust_remote_code,
        covers=exported.covers,
    )
    (folder / "README.md").write_text(card.text(), encoding="utf-8")


def _refuse_model(model: Any, source: str) -> None:
    """Raise ExportError for a model that cannot be exported under any plan."""
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel):
        raise ExportError(
            f"{source} is a {type(model).__name__}: only models of transformers can be exported. Where it wraps one, "
            "as PEFT does, merge it first"
        )
    if _compat.has_adapters(model) or getattr(model, "peft_config", None):
        raise ExportError(
            f"{source} has adapters on it: merge them into its weights first (merge_and_unload of peft), or export it "
            "by the name of the adapters' folder, which merges them"
        )
    if getattr(model, "hf_quantizer", None) is not None:
        raise ExportError(f"{source} is quantised, and exports keep weights as they are: load it without quantisation")
    if model.config.is_encoder_decoder:
        raise ExportError(
            f"{source} is an encoder-decoder ({type(model).__name__}), and only models with one stack of layers can be "
            'exported: run the plan with painters.surgery(model, plan, stack="decoder"), or score it with --stack'
        )
    if model.main_input_name != "input_ids":
        raise ExportError(
            f"{source} is a {type(model).__name__}: only models that read tokens and have one stack of layers can be "
            "exported"
        )
    devices = {str(parameter.device) for parameter in model.parameters()}
    if len(devices) > 1 or "meta" in devices:
        raise ExportError(f"{source} lies on {', '.join(sorted(devices))}: load it on one device, such as cpu")


def _refuse_folder(model: PreTrainedModel, source: str, to: Path, mergekit: bool) -> None:
    """Raise ExportError where the export would replace its source, or mergekit could not find the source."""
    name = str(model.name_or_path or "")
    own = Path(name).resolve()
    is_local = bool(name) and own.is_dir()
    if is_local and to.resolve() in (own, *own.parents):
        raise ExportError(f"export to {to}: {source} itself lies there; name another folder")
    if mergekit and not is_local and "/" not in name:
        raise ExportError(
            f"a recipe for {source}: mergekit reads models from a folder or the hub; save the model and load it from "
            "there"
        )
