"""`painters export`: write a model under a plan as a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from painters.cli._console import print_result, progress
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
    StackOption,
    StartOption,
    TrustOption,
    VariantOption,
    drop_unset,
    plan_builder,
)
from painters.cli._progress import status
from painters.errors import printable
from painters.models import bundled
from painters.models.adapters import find_adapter
from painters.plan import Plan

if TYPE_CHECKING:
    from painters.export import Exported


def export(  # noqa: PLR0913 - one parameter for each option
    to: Annotated[Path, typer.Option("--to", help="Folder to write, new or empty.", rich_help_panel=OUTPUT)],
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
    stack: StackOption = None,
    with_code: Annotated[
        bool,
        typer.Option(
            "--with-code",
            help="Add a modelling file that runs the plan; parallel groups need it.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    mergekit: Annotated[
        bool, typer.Option("--mergekit", help="Add a configuration for mergekit.", rich_help_panel=OUTPUT)
    ] = False,
    max_shard_size: Annotated[
        str, typer.Option(help="Largest file of weights, such as 500MB.", rich_help_panel=OUTPUT)
    ] = "5GB",
    force: Annotated[
        bool, typer.Option("--force", help="Replace a checkpoint that is in the folder.", rich_help_panel=OUTPUT)
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a model under a plan as a checkpoint that transformers loads without painters.

    painters export --model nano-llama --plan "0-3 5-11" --to no-layer-4
    """
    request = ExportRequest(
        build_plan=plan_builder(plan, variant, drop_unset(start=start, layer=layer, loops=loops, seed=seed, by=by)),
        model=model,
        revision=revision,
        dtype=None if dtype is None else str(dtype),
        device=device,
        trust_remote_code=trust_remote_code,
        to=to,
        stack=stack,
        options={"with_code": with_code, "mergekit": mergekit, "max_shard_size": max_shard_size, "force": force},
    )
    request.check()
    with status(f"Loading {model}, writing and checking", progress(quiet, as_json)):
        exported = request.export()
    if as_json:
        print_result(exported.as_json())
    else:
        typer.echo(printable(_text(exported)))


@dataclass(frozen=True)
class ExportRequest:
    """An export as the options ask for it."""

    build_plan: Callable[[int], Plan]
    """Builds the plan for a model of so many layers."""
    model: str
    revision: str | None
    dtype: str | None
    device: str | None
    trust_remote_code: bool
    to: Path
    stack: str | None
    """Which stack of layers the plan runs, where there are several."""
    options: dict[str, Any]
    """Options of `painters.export`."""

    def check(self) -> None:
        """Raise an error for what can be seen to be wrong before the model, which takes minutes, is loaded."""
        count = bundled.num_layers(self.model) if self.stack is None else None
        if count is None:
            from painters.models import num_layers

            count = num_layers(
                self.model, revision=self.revision, trust_remote_code=self.trust_remote_code, stack=self.stack
            )
        plan = self.build_plan(count)
        plan.check(count, self.model)
        from painters.export import check

        check(plan, self.to, **self.options)

    def export(self) -> Exported:
        """Load the model and write the checkpoint."""
        from painters.export import export, stored_dtype
        from painters.models import load_model
        from painters.stack import LayerStack

        model, tokenizer = load_model(
            self.model,
            revision=self.revision,
            dtype=self.dtype or stored_dtype(self.model),
            device=self.device,
            trust_remote_code=self.trust_remote_code,
            encoders=True,
            merge_adapters=True,
        )
        plan = self.build_plan(LayerStack.find(model, self.stack).num_layers)
        adapter = find_adapter(self.model)
        source = self.model if adapter is None else f"{self.model} (an adapter merged into {adapter.base})"
        return export(model, plan, self.to, tokenizer=tokenizer, source=source, stack=self.stack, **self.options)


def _text(exported: Exported) -> str:
    """Return what was written and checked, and how to load it."""
    from painters.export import readable

    files = ", ".join(exported.files)
    trust = ", trust_remote_code=True" if exported.trust_remote_code else ""
    weights = readable(exported.weights)
    return (
        f"{exported.source} under {exported.plan}: {exported.num_layers} layers, {weights} of weights\n"
        f"Written to {exported.folder}: {files}\n"
        f"Loaded again, {exported.covers} are those of the source under the plan, bit for bit.\n\n"
        f'{exported.auto_class}.from_pretrained("{exported.folder}"{trust})\n\n'
        "The model is not healed: no weight was trained for the new order. Measure it before you use it."
    )
