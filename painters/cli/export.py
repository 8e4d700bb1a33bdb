"""`painters export`: a plan as a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from painters.cli._console import print_result, progress
from painters.cli._loading import spare_cores
from painters.cli._options import (
    DEFAULT_MODEL,
    OUTPUT,
    ByOption,
    DeviceOption,
    FileDtypeOption,
    JsonOption,
    LayerOption,
    LoopsOption,
    ModelOption,
    PlanOption,
    QuietOption,
    RevisionOption,
    SeedOption,
    StartOption,
    TrustOption,
    VariantOption,
    given,
    wanted_plan,
)
from painters.cli._progress import status
from painters.errors import printable
from painters.models import bundled
from painters.plan import Plan

if TYPE_CHECKING:
    from painters.export import Exported


def export(
    to: Annotated[Path, typer.Option("--to", help="Folder to write; a new or empty one.", rich_help_panel=OUTPUT)],
    plan: PlanOption = None,
    variant: VariantOption = None,
    start: StartOption = None,
    layer: LayerOption = None,
    loops: LoopsOption = None,
    seed: SeedOption = None,
    by: ByOption = None,
    model: ModelOption = DEFAULT_MODEL,
    revision: RevisionOption = None,
    dtype: FileDtypeOption = None,
    device: DeviceOption = "cpu",
    trust_remote_code: TrustOption = False,
    with_code: Annotated[
        bool,
        typer.Option("--with-code", help="Add a modelling file that runs the plan.", rich_help_panel=OUTPUT),
    ] = False,
    mergekit: Annotated[
        bool, typer.Option("--mergekit", help="Add a recipe for mergekit.", rich_help_panel=OUTPUT)
    ] = False,
    max_shard_size: Annotated[
        str, typer.Option(help="Most bytes in a file of weights, such as 500MB.", rich_help_panel=OUTPUT)
    ] = "5GB",
    force: Annotated[
        bool, typer.Option("--force", help="Replace the checkpoint that lies there.", rich_help_panel=OUTPUT)
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a model under a plan as a checkpoint that transformers loads without painters.

    painters export --model nano-llama --plan "0-3 5-11" --to no-layer-4
    """
    options = given(start=start, layer=layer, loops=loops, seed=seed, by=by)
    wanted = wanted_plan(plan, variant, options)
    asked = Request(
        wanted=wanted,
        model=model,
        revision=revision,
        dtype=None if dtype is None else str(dtype),
        device=device,
        trust_remote_code=trust_remote_code,
        to=to,
        options={"with_code": with_code, "mergekit": mergekit, "max_shard_size": max_shard_size, "force": force},
    )
    asked.check()
    spare_cores()
    with status(f"Loading {model}, writing and checking", progress(quiet, as_json)):
        done = written(asked)
    if as_json:
        print_result(done.as_json())
    else:
        typer.echo(printable(told(done)))


@dataclass(frozen=True)
class Request:
    """An export as it was asked for; `options` are those of `painters.export`."""

    wanted: Callable[[int], Plan]
    """The plan for a model of so many layers."""
    model: str
    revision: str | None
    dtype: str | None
    device: str | None
    trust_remote_code: bool
    to: Path
    options: dict[str, Any]

    def check(self) -> None:
        """Nothing; raises where something is wrong that shows before the minutes of loading."""
        count = bundled.num_layers(self.model)
        if count is None:
            from painters.models import num_layers

            count = num_layers(self.model, revision=self.revision, trust_remote_code=self.trust_remote_code)
        plan = self.wanted(count)
        plan.check(count, self.model)
        from painters.export import check

        check(plan, self.to, **self.options)


def written(request: Request) -> Exported:
    """What was written."""
    from painters.export import export, stored_dtype
    from painters.models import load_model
    from painters.stack import LayerStack

    model, tokenizer = load_model(
        request.model,
        revision=request.revision,
        dtype=request.dtype or stored_dtype(request.model),
        device=request.device,
        trust_remote_code=request.trust_remote_code,
        encoders=True,
    )
    plan = request.wanted(LayerStack.find(model).num_layers)
    return export(model, plan, request.to, tokenizer=tokenizer, source=request.model, **request.options)


def told(done: Exported) -> str:
    """The lines that say so."""
    from painters.export import readable

    files = ", ".join(done.files)
    trust = ", trust_remote_code=True" if done.trust_remote_code else ""
    return (
        f"{done.source} under {done.plan}: {done.num_layers} layers, {readable(done.weights)} of weights\n"
        f"Written to {done.folder}: {files}\n"
        f"Loaded again, {done.covers} are those of the source under the plan, bit for bit.\n\n"
        f'{done.auto_class}.from_pretrained("{done.folder}"{trust})\n\n'
        "The model is not healed: no weight was trained for the new order. Measure it before you use it."
    )
