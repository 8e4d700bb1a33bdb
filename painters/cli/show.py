"""`painters show`: draw a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from painters import variants
from painters.cli._console import out, print_result
from painters.cli._errors import UsageError
from painters.cli._options import (
    DEFAULT_MODEL,
    MODEL,
    OUTPUT,
    ByOption,
    JsonOption,
    LayerOption,
    LoopsOption,
    QuietOption,
    SeedOption,
    StartOption,
    VariantOption,
    drop_unset,
    named_model,
)
from painters.cli.list import layers_of
from painters.errors import printable
from painters.plan import Plan


def show(  # noqa: PLR0913 - one parameter for each option
    plan: Annotated[str | None, typer.Argument(help="A plan, such as '0-2 {3-8}*3 9-11'.")] = None,
    variant: VariantOption = None,
    start: StartOption = None,
    layer: LayerOption = None,
    loops: LoopsOption = None,
    seed: SeedOption = None,
    by: ByOption = None,
    layers: Annotated[
        int | None, typer.Option(min=1, help="Number of layers of the model.", rich_help_panel=MODEL)
    ] = None,
    model: Annotated[str | None, named_model("Take the number of layers from this model.")] = None,
    to: Annotated[
        Path | None,
        typer.Option("--out", help="Also write the drawing: .svg or .png.", rich_help_panel=OUTPUT),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Draw a plan and say what it costs, in the terminal or as a picture. No model is loaded.

    painters show --variant parallel --loops 3 --layers 32 --out plan.svg
    """
    from painters.drawing import plan_text, save_plan

    if plan is not None and variant is not None:
        raise UsageError(f"the plan {plan!r:.60} and --variant {variant}: each says what is drawn; give one of the two")
    if plan is None and variant is None:
        raise UsageError("nothing to draw: give a plan or --variant; `painters variants` lists the variants")
    if layers is not None and model is not None:
        raise UsageError("give --layers or --model, not both")
    options = drop_unset(start=start, layer=layer, loops=loops, seed=seed, by=by)
    if plan is not None and options:
        raise UsageError(f"--{next(iter(options))} belongs to a --variant: a plan says everything itself")
    count = layers
    if count is None and (model is not None or variant is not None):
        count = layers_of(model or DEFAULT_MODEL)
    drawn = Plan.parse(plan) if plan is not None else variants.build(variant or "", count or 0, **options)
    if count is not None:
        drawn.check(count, model or ("the model" if layers is not None or plan is not None else DEFAULT_MODEL))
    written = None if to is None else save_plan(drawn, to, count)
    cost = {"layer_runs": drawn.layer_runs, "depth": drawn.depth, "distinct_layers": len(drawn.layers)}
    if as_json:
        print_result(
            {"plan": str(drawn), "num_layers": count, **cost, "file": None if written is None else str(written)}
        )
    else:
        ascii_only = not (out.encoding or "").lower().startswith("utf")
        typer.echo(f"{drawn}\n")
        typer.echo(plan_text(drawn, count, width=out.width, ascii_only=ascii_only, dim=out.is_terminal))
        typer.echo(
            f"\n{drawn.layer_runs} layer runs, depth {drawn.depth} (longest chain), {len(drawn.layers)} distinct layers"
            + (f" of {count}" if count else "")
        )
        if written is not None and not quiet:
            typer.echo(printable(f"Drawn to {written}"))
