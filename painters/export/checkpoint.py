"""Write a plan down as a checkpoint that transformers loads by itself.

A plan that is a sequence of whole layers becomes a plain checkpoint, with the layers stored in the plan's order and
a configuration to match. Any other takes a modelling file along. What was written is loaded again and must answer a
probe as the model under its plan does, bit for bit, before it takes its place. The module is callable as its function
`export` is, because `painters.export` is the name of both.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from painters.export.files import ExportError, ExportRequestError, check_space, check_target, readable, written_whole
from painters.models import bundled
from painters.plan import Plan

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["MAX_SHARD_SIZE", "ExportError", "Exported", "check", "export", "readable", "stored_dtype"]

MAX_SHARD_SIZE = "5GB"
"""The most bytes in a file of weights by default."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, and what was compared before: `covers` was equal bit for bit."""

    folder: str
    plan: str
    source: str
    auto_class: str
    with_code: bool
    trust_remote_code: bool
    """Whether it must be loaded so."""
    num_layers: int
    weights: int
    """Bytes of weights."""
    covers: str
    files: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


def export(
    model: str | PreTrainedModel,
    plan: str | Plan,
    to: str | Path,
    *,
    tokenizer: Any = None,
    with_code: bool = False,
    mergekit: bool = False,
    max_shard_size: int | str = MAX_SHARD_SIZE,
    force: bool = False,
    source: str | None = None,
) -> Exported:
    """What was written to the folder `to`: a checkpoint of `model` under `plan`, with a model card.

    `model` by name brings its tokenizer; a loaded one is written with `tokenizer`, if given, and as `source` in the
    card (by its own name otherwise). `with_code` adds a modelling file that runs the plan, and is loaded with
    trust_remote_code=True: for parallel groups, halves, and orders that the configuration cannot tell. `mergekit`
    adds a recipe for it. `force` replaces a checkpoint that is there. While it is checked, the model is in memory
    twice.

    Raises PlanError, SurgeryError, or ExportError with the reason; then nothing was written.
    """
    plan = Plan.parse(plan) if isinstance(plan, str) else plan
    to = Path(to)
    check(plan, to, with_code=with_code, mergekit=mergekit, max_shard_size=max_shard_size, force=force)
    from painters import models
    from painters.export import build as building
    from painters.export.card import MERGEKIT
    from painters.stack import LayerStack

    if isinstance(model, str):
        if tokenizer is not None:
            raise ExportError(f"model {model!r} by name with a tokenizer: load both yourself, or leave that out")
        source = source or model
        loaded, tokenizer = models.load_model(model, dtype=stored_dtype(model), encoders=True)
    else:
        loaded, source = model, source or models.describe(model)[0]
    _refuse_model(loaded, source)
    _refuse_place(loaded, source, to, mergekit)
    stack = LayerStack.find(loaded)
    plan.check(stack.num_layers, source)
    build = building.with_code if with_code else building.plain
    made = build(loaded, stack, plan, source)
    check_space(to, made.size)
    expected = building.answered(loaded, plan, source)
    with written_whole(to) as folder:
        made.write(folder, max_shard_size)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        building.prove(made, loaded, folder, expected, f"{plan} of {source}")
        told = Exported(
            folder=str(to),
            plan=str(plan),
            source=source,
            auto_class=building.auto_class(loaded),
            with_code=with_code,
            trust_remote_code=with_code or loaded.is_remote_code(),
            num_layers=stack.num_layers if with_code else plan.layer_runs,
            weights=made.size,
            covers=expected.covers,
            files=tuple(sorted(["README.md", *[MERGEKIT] * mergekit, *(entry.name for entry in folder.iterdir())])),
        )
        _describe(folder, told, plan, loaded, stack.num_layers)
    return told


def check(
    plan: Plan,
    to: Path,
    *,
    with_code: bool = False,
    mergekit: bool = False,
    max_shard_size: int | str = MAX_SHARD_SIZE,
    force: bool = False,
) -> None:
    """Nothing; ExportError for what is wrong with a request whatever the model is."""
    what = None if plan.is_sequence else "runs layers side by side"
    if plan.has_halves:
        what = "runs halves of layers"
    if what is not None and not with_code:
        raise ExportRequestError(
            f"plan {plan} {what}, and a plain checkpoint is a sequence of whole layers: write it with its own code "
            "(--with-code, with_code=True), or run it with painters.surgery"
        )
    if what is not None and mergekit:
        raise ExportRequestError(
            f"plan {plan} {what}, and mergekit puts whole layers one after the other: leave it out"
        )
    is_size = (
        max_shard_size > 0 if isinstance(max_shard_size, int) else re.fullmatch("0*[1-9][0-9]*[KMG]B", max_shard_size)
    )
    if not is_size:
        raise ExportRequestError(
            f"max_shard_size {max_shard_size!r}: give a number of bytes, or one such as 500MB or 5GB"
        )
    check_target(to, force=force)


def stored_dtype(name: str) -> str:
    """The dtype to load the model `name` in so that its weights stay as they are in its file."""
    folder = bundled.models().get(name)
    # bundled models come up in float32 by themselves
    return "auto" if folder is None else str(json.loads((folder / "config.json").read_text())["dtype"])


def _describe(folder: Path, told: Exported, plan: Plan, model: Any, num_layers: int) -> None:
    """Nothing; the model card is in `folder`, and the recipe if there is to be one."""
    from painters.export.card import MERGEKIT, card, recipe
    from painters.models import describe

    dtype, revision = str(model.dtype).removeprefix("torch."), describe(model)[1]
    if MERGEKIT in told.files:
        place = model.name_or_path + (f"@{revision}" if revision else "")
        (folder / MERGEKIT).write_text(recipe(place, [run.index for run in plan.walk()], dtype))
    (folder / "README.md").write_text(
        card(
            title=Path(told.folder).resolve().name,
            source=told.source,
            revision=revision,
            plan=plan,
            num_layers=num_layers,
            dtype=dtype,
            auto=told.auto_class,
            with_code=told.with_code,
            trust=told.trust_remote_code,
            covers=told.covers,
        )
    )


def _refuse_model(model: Any, source: str) -> None:
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel):
        raise ExportError(
            f"{source} is a {type(model).__name__}: exports are of transformers' own models. Where it wraps one, as "
            "PEFT does, merge it first"
        )
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ExportError(f"{source} has adapters on it: merge them into its weights first")
    if getattr(model, "hf_quantizer", None) is not None:
        raise ExportError(f"{source} is quantised, and exports keep weights as they are: load it without quantisation")
    if model.config.is_encoder_decoder or model.main_input_name != "input_ids":
        raise ExportError(
            f"{source} is a {type(model).__name__}: exports are of models with one stack that read tokens"
        )
    places = {str(parameter.device) for parameter in model.parameters()}
    if len(places) > 1 or "meta" in places:
        raise ExportError(f"{source} lies on {', '.join(sorted(places))}: load it on one device, such as cpu")


def _refuse_place(model: PreTrainedModel, source: str, to: Path, mergekit: bool) -> None:
    name = str(model.name_or_path or "")
    own = Path(name).resolve()
    is_local = bool(name) and own.is_dir()
    if is_local and to.resolve() in (own, *own.parents):
        raise ExportError(f"export to {to}: {source} itself lies there; name another folder")
    if mergekit and not is_local and "/" not in name:
        raise ExportError(
            f"a recipe for {source}: mergekit reads models from a folder or the hub; save it, load it again"
        )
