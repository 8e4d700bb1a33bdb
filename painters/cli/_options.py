"""The options that several commands share, and the functions that read several of them together."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from painters import variants
from painters.cli import _complete
from painters.cli._errors import UsageError
from painters.documents import checked_limit
from painters.models import bundled
from painters.plan import Plan

DEFAULT_MODEL = "nano-llama"
DEFAULT_OUT = Path("runs/records.jsonl")
"""Where commands write records by default, and read those of its folder."""

Kv = StrEnum("Kv", ["exact", "averaged"])
By = StrEnum("By", ["block", "layer"])
Dtype = StrEnum("Dtype", ["auto", "float32", "bfloat16", "float16"])
YesNo = StrEnum("YesNo", ["true", "false"])
Engine = StrEnum("Engine", ["local", "ray"])

PLAN, MODEL, SCORE, MEASURE, OUTPUT = "What runs", "Model", "Scoring", "Measuring", "Output"
PROMPT = "Prompts"
PlanOption = Annotated[
    str | None, typer.Option("--plan", help="A plan, such as '0-2 {3-8}*3 9-11'.", rich_help_panel=PLAN)
]
VariantOption = Annotated[
    str | None,
    typer.Option(
        help=f"A named rule that builds the plan: {', '.join(variants.VARIANTS)}.",
        autocompletion=_complete.variant_names,
        rich_help_panel=PLAN,
    ),
]
StartOption = Annotated[
    int | None,
    typer.Option(
        help="The window is layers N+1 to T-N-1 of T; this is the paper's N. Default: T // 4.", rich_help_panel=PLAN
    ),
]
LayerOption = Annotated[
    int | None,
    typer.Option(help="The layer that skip-layer skips, or that swap swaps with the next.", rich_help_panel=PLAN),
]
LoopsOption = Annotated[
    int | None, typer.Option(help="How many times parallel and loop run the window.", rich_help_panel=PLAN)
]
SeedOption = Annotated[int | None, typer.Option(help="Random seed of shuffle.", rich_help_panel=PLAN)]
ByOption = Annotated[
    By | None, typer.Option(help="What loop repeats: the window as a whole, or each layer of it.", rich_help_panel=PLAN)
]


def named_model(description: str, *, is_loaded: bool = True) -> Any:
    """Return an option that names a model, with `description` as its help.

    A name that is surely no model's is refused at once, unless the name is only looked for in records.
    """
    return typer.Option(
        help=description,
        autocompletion=_complete.model_names,
        callback=check_model if is_loaded else None,
        rich_help_panel=MODEL,
    )


def check_model(name: str | None) -> str | None:
    """Return the name of a model as it is; raise an error where it is surely no model's."""
    if name is not None:
        bundled.check_name(name)
    return name


ModelOption = Annotated[str, named_model("Bundled model, local folder or hub name.")]
RevisionOption = Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.", rich_help_panel=MODEL)]
DtypeOption = Annotated[Dtype, typer.Option(help="Number type of the weights.", rich_help_panel=MODEL)]
DeviceOption = Annotated[
    str | None,
    typer.Option(help="Device: cpu, cuda, cuda:1 or mps.", autocompletion=_complete.devices, rich_help_panel=MODEL),
]
DeviceMapOption = Annotated[
    str | None,
    typer.Option(help="auto spreads the model over all GPUs.", autocompletion=lambda: ["auto"], rich_help_panel=MODEL),
]
StackOption = Annotated[
    str | None,
    typer.Option(
        help="Which layers the plan runs where a model has several stacks: encoder, decoder or a path.",
        autocompletion=_complete.stacks,
        rich_help_panel=MODEL,
    ),
]
TrustOption = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.", rich_help_panel=MODEL)
]
FileDtypeOption = Annotated[
    Dtype | None, typer.Option(help="Number type of the weights. Default: the file's.", rich_help_panel=MODEL)
]


def parse_limit(text: str) -> int | float:
    """Return the number of documents, or the share of them, that the option `--limit` gives."""
    try:
        limit = int(text) if text.strip().lstrip("+-").isdigit() else float(text)
        checked_limit(limit)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is neither a whole number of documents, 1 or more, nor a share of them between 0 and 1, such as "
            "0.1"
        ) from error
    return limit


NameOption = Annotated[
    str | None,
    typer.Option(
        "--name", help="What figures and reports call the model. Default: made from its path.", rich_help_panel=OUTPUT
    ),
]
NamesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--name",
        help="What figures and reports call a model: NAME, for the decoder, or MODEL=NAME. Can be repeated.",
        rich_help_panel=OUTPUT,
    ),
]
LimitOption = Annotated[
    Any,
    typer.Option(
        parser=parse_limit,
        metavar="NUMBER",
        help="Score only the first N documents of each task; below 1: that share of them, as 0.1.",
        rich_help_panel=SCORE,
    ),
]
SampleOption = Annotated[
    int | None,
    typer.Option(min=1, help="Score N documents of each task, drawn at random.", rich_help_panel=SCORE),
]
SampleSeedOption = Annotated[
    int | None, typer.Option(min=0, help="Seed of --sample. Default: 0.", rich_help_panel=SCORE)
]
ChatTemplateOption = Annotated[
    bool,
    typer.Option(
        "--apply-chat-template", help="Put prompts into the tokenizer's chat template.", rich_help_panel=PROMPT
    ),
]
TemplateNameOption = Annotated[
    str | None,
    typer.Option(
        "--chat-template", help="The same, with the template of this name, of several.", rich_help_panel=PROMPT
    ),
]
SystemOption = Annotated[
    str | None,
    typer.Option(
        "--system-instruction", help="Text that prompts begin with: the system's turn.", rich_help_panel=PROMPT
    ),
]
MultiturnOption = Annotated[
    YesNo | None,  # one name, because two would be cut in 80 columns; lm-eval takes these words too
    typer.Option(
        "--fewshot-as-multiturn",
        help="In a chat template: false puts examples into the user's one turn.",
        rich_help_panel=PROMPT,
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Folder of your own documents: NAME/ holds those of the task NAME, a .jsonl for each split.",
        rich_help_panel=SCORE,
    ),
]
ExactBatchingOption = Annotated[
    bool,
    typer.Option(
        "--exact-batching", help="Batch as lm-eval does, for its numbers to the last digit.", rich_help_panel=SCORE
    ),
]
EngineOption = Annotated[
    Engine,
    typer.Option(help="local runs in this process; ray on a cluster's GPUs, or on cores here.", rich_help_panel=SCORE),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="With --engine ray: number of workers. Default: one per GPU or core.", rich_help_panel=SCORE
    ),
]
FailFastOption = Annotated[
    bool, typer.Option("--fail-fast", help="Stop at the first cell that fails.", rich_help_panel=SCORE)
]
NumbersArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FIGURE",
        help="Figures, such as 4 11 or fig4 fig11, or all.",
        autocompletion=_complete.figure_numbers,
    ),
]
PlanOnlyOption = Annotated[
    bool,
    typer.Option(
        "--plan-only", help="Only say what is missing and what scoring it would cost.", rich_help_panel=OUTPUT
    ),
]
TflopsOption = Annotated[
    float | None,
    typer.Option(min=0.001, help="With --plan-only: the device's peak TFLOP/s. Default: 312.", rich_help_panel=OUTPUT),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON and nothing else.", rich_help_panel=OUTPUT)
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Print no progress and no hints.", rich_help_panel=OUTPUT)]


def check_documents(limit: int | float | None, sample: int | None, sample_seed: int | None) -> None:
    """Raise UsageError for options of documents that exclude one another, or of which one needs another."""
    if limit is not None and sample is not None:
        raise UsageError("--limit takes the first documents and --sample draws some at random: give one of the two")
    if sample_seed is not None and sample is None:
        raise UsageError("--sample-seed is the seed of --sample: give --sample too")


def chat_fields(apply: bool, template: str | None, system: str | None, multiturn: YesNo | None) -> dict[str, Any]:
    """Return the fields of `painters.experiment.Chat` that these options set.

    Raises UsageError where examples are to be turns, and no template makes turns.
    """
    if multiturn is not None and not (apply or template):
        raise UsageError("--fewshot-as-multiturn is for a chat template: give --apply-chat-template too")
    fields = {
        "apply_chat_template": template or apply or None,
        "system_instruction": system,
        "fewshot_as_multiturn": None if multiturn is None else multiturn is YesNo.true,
    }
    return {name: value for name, value in fields.items() if value is not None}


def check_tflops(tflops: float | None, plan_only: bool) -> None:
    """Raise UsageError for a speed where nothing is forecast."""
    if tflops is not None and not plan_only:
        raise UsageError("--tflops is for --plan-only: a sweep measures its own time")


def check_workers(engine: Engine, workers: int | None) -> None:
    """Raise an error for `--workers` without Ray, and where Ray is not installed."""
    if workers is not None and engine == "local":
        raise UsageError("--workers belongs to --engine ray: the engine local is one process")
    if engine == "ray":
        from painters.sweep.ray import require

        require()


def drop_unset(**options: Any) -> dict[str, int | str]:
    """Return the options that the user set, those that are not None, with enumerations as text."""
    return {
        name: str(value) if isinstance(value, StrEnum) else value
        for name, value in options.items()
        if value is not None
    }


def plan_builder(plan: str | None, variant: str | None, options: dict[str, int | str]) -> Callable[[int], Plan]:
    """Return a function that builds the plan the options ask for, for a model of so many layers.

    Args:
        plan: The option `--plan`.
        variant: The option `--variant`.
        options: The options of a variant that the user set.

    Raises:
        UsageError: Both or neither of `--plan` and `--variant`, or an option of a variant beside `--plan`.
        PlanError, VariantError: The text is not a plan, or there is no such variant.
    """
    if plan is not None and variant is not None:
        raise UsageError(f"--plan {plan!r:.60} and --variant {variant}: each says what runs; give one of the two")
    if plan is None and variant is None:
        raise UsageError("nothing to run: give --plan or --variant; `painters variants` lists the variants")
    if plan is not None and options:
        raise UsageError(f"--{next(iter(options))} belongs to a --variant: a --plan says everything itself")
    if plan is not None:
        parsed = Plan.parse(plan)
        return lambda num_layers: parsed
    name = variants.find(variant or "").name
    return lambda num_layers: variants.build(name, num_layers, **options)
