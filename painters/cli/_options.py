"""The options that several commands have in common, and what is read from them together."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from painters import variants
from painters.cli import _complete as _cli_complete
from painters.cli._errors import UsageError
from painters.plan import Plan

DEFAULT_MODEL = "nano-llama"
DEFAULT_OUT = Path("runs/records.jsonl")

Kv = StrEnum("Kv", ["exact", "averaged"])
By = StrEnum("By", ["block", "layer"])
Dtype = StrEnum("Dtype", ["auto", "float32", "bfloat16", "float16"])
Engine = StrEnum("Engine", ["local", "ray"])

PLAN, MODEL, SCORE, MEASURE, OUTPUT = "What runs", "Model", "Scoring", "Measuring", "Output"
PlanOption = Annotated[
    str | None, typer.Option("--plan", help="A plan, such as '0-2 {3-8}*3 9-11'.", rich_help_panel=PLAN)
]
VariantOption = Annotated[
    str | None,
    typer.Option(
        help=f"A named rule that builds the plan: {', '.join(variants.VARIANTS)}.",
        autocompletion=_cli_complete.variant_names,
        rich_help_panel=PLAN,
    ),
]
StartOption = Annotated[
    int | None,
    typer.Option(help="The paper's N: the window is layers N+1 to T-N-1 of T. Default: T // 4.", rich_help_panel=PLAN),
]
LayerOption = Annotated[int | None, typer.Option(help="The layer of skip-layer and swap.", rich_help_panel=PLAN)]
LoopsOption = Annotated[
    int | None, typer.Option(help="How often parallel and loop run the window.", rich_help_panel=PLAN)
]
SeedOption = Annotated[int | None, typer.Option(help="The seed of shuffle.", rich_help_panel=PLAN)]
ByOption = Annotated[
    By | None, typer.Option(help="loop repeats the whole window, or each layer.", rich_help_panel=PLAN)
]


def named_model(what: str) -> Any:
    """An option that names a model; `what` is its help."""
    return typer.Option(help=what, autocompletion=_cli_complete.model_names, rich_help_panel=MODEL)


ModelOption = Annotated[str, named_model("Bundled model, local folder or hub name.")]
RevisionOption = Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.", rich_help_panel=MODEL)]
DtypeOption = Annotated[Dtype, typer.Option(help="Number type of the weights.", rich_help_panel=MODEL)]
DeviceOption = Annotated[
    str | None,
    typer.Option(help="cpu, cuda, cuda:1, mps.", autocompletion=_cli_complete.devices, rich_help_panel=MODEL),
]
DeviceMapOption = Annotated[
    str | None,
    typer.Option(help="auto: spread over all GPUs.", autocompletion=lambda: ["auto"], rich_help_panel=MODEL),
]
TrustOption = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.", rich_help_panel=MODEL)
]
FileDtypeOption = Annotated[
    Dtype | None, typer.Option(help="Number type of the weights. Default: the file's.", rich_help_panel=MODEL)
]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="Only the first documents of each task.", rich_help_panel=SCORE)
]
ExactBatchingOption = Annotated[
    bool,
    typer.Option(
        "--exact-batching", help="lm-eval's own batches: its numbers to the last digit.", rich_help_panel=SCORE
    ),
]
EngineOption = Annotated[
    Engine,
    typer.Option(help="local: this process. ray: the GPUs of a cluster, or cores here.", rich_help_panel=SCORE),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(min=1, help="With --engine ray: how many models. Default: one a GPU, or core.", rich_help_panel=SCORE),
]
FailFastOption = Annotated[
    bool, typer.Option("--fail-fast", help="End at the first cell that fails.", rich_help_panel=SCORE)
]
NumbersArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FIGURE]...",
        help="Figures, such as 4 11 or fig4 fig11, or all.",
        autocompletion=_cli_complete.figure_numbers,
    ),
]
PlanOnlyOption = Annotated[
    bool,
    typer.Option("--plan-only", help="Say what is missing and what it would cost.", rich_help_panel=OUTPUT),
]
TflopsOption = Annotated[
    float | None,
    typer.Option(min=0.001, help="With --plan-only: the device's peak. Default: 312.", rich_help_panel=OUTPUT),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON alone.", rich_help_panel=OUTPUT)]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Print no progress and no hints.", rich_help_panel=OUTPUT)]


def check_workers(engine: Engine, workers: int | None) -> None:
    """Nothing; an error where there are no workers to count, or no Ray."""
    if workers is not None and engine == "local":
        raise UsageError("--workers belongs to --engine ray: the engine local is one process")
    if engine == "ray":
        from painters.sweep.ray import require

        require()


def given(**options: Any) -> dict[str, int | str]:
    """The options that were given, enumerations as text."""
    return {
        name: str(value) if isinstance(value, StrEnum) else value
        for name, value in options.items()
        if value is not None
    }


def wanted_plan(plan: str | None, variant: str | None, options: dict[str, int | str]) -> Callable[[int], Plan]:
    """What gives the plan that was asked for, for a model of so many layers."""
    if (plan is None) == (variant is None):
        raise UsageError("give either --plan or --variant; `painters variants` lists the variants")
    if plan is not None and options:
        raise UsageError(f"--{next(iter(options))} belongs to a --variant: a --plan says everything itself")
    if plan is not None:
        read = Plan.parse(plan)
        return lambda num_layers: read
    name = variants.find(variant or "").name
    return lambda num_layers: variants.build(name, num_layers, **options)
