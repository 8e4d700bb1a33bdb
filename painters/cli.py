"""The command line: arguments in, one call, tables out.

Exit codes: 0 done, 1 failure, 2 wrong usage, 130 stopped by Ctrl-C. A mistake gets one message and no traceback.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from painters import __version__, bundled, variants
from painters._cli_options import (
    MEASURE,
    MODEL,
    OUTPUT,
    PLAN,
    SCORE,
    ByOption,
    DeviceMapOption,
    DeviceOption,
    Dtype,
    DtypeOption,
    Engine,
    EngineOption,
    ExactBatchingOption,
    FileDtypeOption,
    JsonOption,
    Kv,
    LayerOption,
    LimitOption,
    LoopsOption,
    ModelOption,
    PlanOnlyOption,
    PlanOption,
    QuietOption,
    RevisionOption,
    SeedOption,
    StartOption,
    TflopsOption,
    TrustOption,
    VariantOption,
    WorkersOption,
)
from painters._cli_terminal import Commands, Terminal
from painters.errors import printable
from painters.plan import Plan
from painters.similarity import MODES

FAILURE = 1
DEFAULT_MODEL = "nano-llama"
DEFAULT_OUT = Path("runs/records.jsonl")

TOGETHER = {"run", "sweep", "lm-eval"}
"""Commands that the processes of `accelerate launch` do together; others are the main one's alone."""

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Operate on the layers of frozen transformers, and score what it costs.",
)
out = Terminal()
err = Terminal(stderr=True)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"painters {__version__}")
        raise typer.Exit
    rank = int(os.environ.get("RANK", "0"))
    if context.invoked_subcommand not in TOGETHER:
        os.environ.pop("WORLD_SIZE", None)
        if rank:
            raise typer.Exit
    elif rank:  # the main process says it all
        err.quiet = True
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (until the process ends)


@app.command()
def run(
    plan: PlanOption = None,
    variant: VariantOption = None,
    start: StartOption = None,
    layer: LayerOption = None,
    loops: LoopsOption = None,
    seed: SeedOption = None,
    by: ByOption = None,
    kv: Annotated[
        Kv,
        typer.Option(help="Cache of parallel groups: exact, or the paper's averaged.", rich_help_panel=PLAN),
    ] = Kv.exact,
    model: ModelOption = DEFAULT_MODEL,
    revision: RevisionOption = None,
    dtype: DtypeOption = Dtype.auto,
    device: DeviceOption = None,
    device_map: DeviceMapOption = None,
    trust_remote_code: TrustOption = False,
    tasks: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated lm-eval or bundled tasks. Default: the bundled five.",
            rich_help_panel=SCORE,
        ),
    ] = None,
    limit: LimitOption = None,
    shots: Annotated[
        int | None,
        typer.Option(min=0, help="Examples in the prompt. Default: the task's.", rich_help_panel=SCORE),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows in a batch.", rich_help_panel=SCORE)] = 32,
    exact_batching: ExactBatchingOption = False,
    to: Annotated[
        Path, typer.Option("--out", help="File of records, appended to.", rich_help_panel=OUTPUT)
    ] = DEFAULT_OUT,
    all_metrics: Annotated[
        bool, typer.Option("--all-metrics", help="Not only each task's first metric.", rich_help_panel=OUTPUT)
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score the intact model and one plan side by side, and keep the records.

    painters run --variant parallel --loops 3
    """
    from painters import _cli_run as running

    options = _given(start=start, layer=layer, loops=loops, seed=seed, by=by)
    wanted = _wanted(plan, variant, options)
    name = None if variant is None else variants.find(variant).name
    # What can be wrong is found before minutes of loading.
    count = bundled.num_layers(model)
    if count is not None:
        wanted(count).check(count, model)
    running.check_writable(to)
    show = not quiet and not as_json
    # On a machine with other work, threads that spin while they wait cost more than they win (small models: tenfold).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with running.status("Loading torch, transformers and lm-eval", err, show):
        from painters.harness import load_model
        from painters.ranks import ranks
        from painters.stack import LayerStack
    with running.status(f"Loading {model}", err, show):
        loaded, tokenizer = load_model(
            model,
            revision=revision,
            dtype=dtype,
            device=device or (ranks().device if device_map is None else None),
            device_map=device_map,
            trust_remote_code=trust_remote_code,
        )
    num_layers = LayerStack.find(loaded).num_layers
    result = running.score_beside_intact(
        loaded,
        tokenizer,
        wanted(num_layers),
        variant=name,
        params=_with_default_start(name, num_layers, options) if name else None,
        num_layers=num_layers,
        name=model,
        tasks=_names(tasks),
        kv=str(kv),
        limit=limit,
        shots=shots,
        batch_size=batch_size,
        exact_batching=exact_batching,
        out=to,
        console=err if show else None,
    )
    if as_json:
        typer.echo(json.dumps(result.as_json(), indent=2))
    else:
        for part in (result.header(), "", result.table(all_metrics), "", result.footer()):
            out.print(part)


@app.command()
def show(
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
    model: Annotated[
        str | None, typer.Option(help="Take the number of layers from this model.", rich_help_panel=MODEL)
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--out", help="Also write the drawing: .svg or .png.", rich_help_panel=OUTPUT),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw a plan, in the terminal or as a picture, with what it costs. Loads no weights.

    painters show --variant parallel --loops 3 --layers 32 --out plan.svg
    """
    from painters.drawing import plan_text, save_plan

    if (plan is None) == (variant is None):
        raise typer.BadParameter("give either a plan or --variant; `painters variants` lists the variants")
    if layers is not None and model is not None:
        raise typer.BadParameter("give --layers or --model, not both")
    options = _given(start=start, layer=layer, loops=loops, seed=seed, by=by)
    if plan is not None and options:
        raise typer.BadParameter(f"--{next(iter(options))} belongs to a --variant: a plan says everything itself")
    count = layers
    if count is None and (model is not None or variant is not None):
        from painters._cli_list import layers_of

        count = layers_of(model or DEFAULT_MODEL)
    made = Plan.parse(plan) if plan is not None else variants.build(variant or "", count or 0, **options)
    if count is not None:
        made.check(count, model or ("the model" if layers is not None or plan is not None else DEFAULT_MODEL))
    written = None if to is None else save_plan(made, to, count)
    cost = {"layer_runs": made.layer_runs, "depth": made.depth, "distinct_layers": len(made.layers)}
    if as_json:
        typer.echo(json.dumps({"plan": str(made), "num_layers": count, **cost}, indent=2))
    else:
        terminal = out.is_terminal and not out.no_color
        plain = not (out.encoding or "").lower().startswith("utf")
        typer.echo(f"{made}\n")
        typer.echo(plan_text(made, count, width=out.width, ascii_only=plain, dim=terminal))
        typer.echo(
            f"\n{made.layer_runs} layer runs, depth {made.depth} (longest chain), {len(made.layers)} distinct layers"
            + (f" of {count}" if count else "")
        )
        if written is not None:
            typer.echo(printable(f"Drawn to {written}"))


@app.command(name="similarity")
def measure_similarity(
    plan: PlanOption = None,
    variant: VariantOption = None,
    start: StartOption = None,
    layer: LayerOption = None,
    loops: LoopsOption = None,
    seed: SeedOption = None,
    by: ByOption = None,
    model: ModelOption = DEFAULT_MODEL,
    revision: RevisionOption = None,
    dtype: DtypeOption = Dtype.auto,
    device: DeviceOption = None,
    device_map: DeviceMapOption = None,
    trust_remote_code: TrustOption = False,
    inputs: Annotated[
        str,
        typer.Option(
            help="A task of lm-eval or bundled, an encoder's too, or a .txt file with a document on each line.",
            rich_help_panel=MEASURE,
        ),
    ] = "nano_lambada",
    mode: Annotated[
        str,
        typer.Option(help=f"{', '.join(MODES)}, or all; flat is the paper's.", rich_help_panel=MEASURE),
    ] = "token",
    block: Annotated[
        int, typer.Option(min=1, help="Take the angle over this many steps in a row.", rich_help_panel=MEASURE)
    ] = 1,
    limit: Annotated[int, typer.Option(min=1, help="Only the first documents.", rich_help_panel=MEASURE)] = 100,
    batch_size: Annotated[int, typer.Option(min=1, help="Documents in a batch.", rich_help_panel=MEASURE)] = 8,
    to: Annotated[
        Path, typer.Option("--out", help="Folder of records; they go to similarity/ in it.", rich_help_panel=OUTPUT)
    ] = DEFAULT_OUT.parent,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure how alike the states between layers are, of the intact model or under a plan.

    painters similarity --mode all
    """
    from painters import _cli_run as running
    from painters import _cli_similarity as measuring

    if plan is not None and variant is not None:
        raise typer.BadParameter("give --plan or --variant, or neither for the intact model")
    options = _given(start=start, layer=layer, loops=loops, seed=seed, by=by)
    if variant is None and options:
        raise typer.BadParameter(f"--{next(iter(options))} belongs to a --variant, and none is given")
    read = Plan.parse(plan) if plan is not None else None
    name = None if variant is None else variants.find(variant).name

    def wanted(num_layers: int) -> Plan:
        asked = read or (variants.build(name, num_layers, **options) if name else Plan.identity(num_layers))
        asked.check(num_layers, model)
        measuring.check_block(block, asked)
        return asked

    # What can be wrong is found before minutes of loading.
    count = bundled.num_layers(model)
    if count is not None:
        wanted(count)
    measuring.modes_of(mode)
    measuring.check_inputs(inputs)
    measuring.check_out(to)
    show = not quiet and not as_json
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with running.status("Loading torch and transformers", err, show):
        from painters.models import load_model
        from painters.stack import LayerStack
    with running.status(f"Loading {model}", err, show):
        loaded, tokenizer = load_model(
            model,
            revision=revision,
            dtype=dtype,
            device=device,
            device_map=device_map,
            trust_remote_code=trust_remote_code,
            encoders=True,
        )
    result = measuring.measured(
        loaded,
        tokenizer,
        wanted(LayerStack.find(loaded).num_layers),
        inputs=inputs,
        mode=mode,
        limit=limit,
        batch_size=batch_size,
        block=block,
        out=to,
        console=err if show else None,
    )
    if as_json:
        typer.echo(json.dumps(result.as_json(), indent=2))
    else:
        for part in (result.header(), "", result.table(), "", result.footer()):
            out.print(part)


@app.command()
def sweep(
    experiments: Annotated[
        list[str],
        typer.Argument(metavar="EXPERIMENT", help="Names such as fig4 or paper/fig4, or paths of YAML files."),
    ],
    to: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of records. Default: runs/EXPERIMENT.", rich_help_panel=OUTPUT),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Ask this decoder instead of the experiment's.", rich_help_panel=MODEL)
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Ask this encoder instead of the experiment's.", rich_help_panel=MODEL)
    ] = None,
    no_encoder: Annotated[
        bool, typer.Option("--no-encoder", help="Leave the encoders out.", rich_help_panel=MODEL)
    ] = False,
    dtype: FileDtypeOption = None,
    device: DeviceOption = None,
    exact_batching: ExactBatchingOption = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="The smaller grid that the file states.", rich_help_panel=SCORE)
    ] = False,
    limit: LimitOption = None,
    engine: EngineOption = Engine.local,
    workers: WorkersOption = None,
    plan_only: PlanOnlyOption = False,
    tflops: TflopsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score the cells of experiments whose records are missing. Run it again after any interruption.

    painters sweep fig4 --quick
    """
    from painters import _cli_sweep as sweeping
    from painters import sweep as sweeps
    from painters.results import Store

    _check_workers(engine, workers)
    if encoder is not None and no_encoder:
        raise typer.BadParameter("--encoder and --no-encoder: give one of the two")
    if tflops is not None and not plan_only:
        raise typer.BadParameter("--tflops belongs to --plan-only: a sweep measures what it takes")
    asked = sweeping.experiments(
        experiments,
        model=model,
        encoder=encoder,
        encoders=not no_encoder,
        quick=quick,
        limit=limit,
        dtype=None if dtype is None else str(dtype),
        exact_batching=exact_batching,
    )
    store = Store(to or sweeping.folder(experiments))
    if plan_only:
        forecast = sweeps.plan(asked, store, tflops=tflops or sweeps.TFLOPS)
        _tell(sweeping.forecast_json(forecast) if as_json else sweeping.forecast_table(forecast))
        return
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in `run`
    with sweeping.stoppable(store.folder), sweeping.showing(None if quiet or as_json else err) as progress:
        summary = sweeps.run(asked, store, device=device, engine=engine, workers=workers, progress=progress)
    _tell(sweeping.summary_json(summary) if as_json else sweeping.summary_table(summary, asked))
    if summary.failures:
        if os.environ.get("PAINTERS_TRACEBACK"):
            raise summary.failures[0].error
        raise typer.Exit(FAILURE)


@app.command()
def plot(
    figures: Annotated[list[str] | None, typer.Argument(help="Numbers, such as 4 11, or all.")] = None,
    sources: Annotated[
        list[Path] | None,
        typer.Option("--from", help="Folder or file of records; may be given again.", rich_help_panel=OUTPUT),
    ] = None,
    to: Annotated[Path, typer.Option("--to", help="Folder for the files.", rich_help_panel=OUTPUT)] = Path("figures"),
    model: Annotated[str | None, typer.Option(help="The decoder, of several.", rich_help_panel=MODEL)] = None,
    encoder: Annotated[str | None, typer.Option(help="The encoder, of several.", rich_help_panel=MODEL)] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw figures from records: each as SVG and PNG, with its numbers (CSV) and its caption. Loads no torch.

    painters plot 4 11 --from runs --to figures
    """
    from painters._cli_plot import plot as draw

    result = draw(figures or [], sources or [DEFAULT_OUT.parent], to, model=model, encoder=encoder)
    if as_json:
        typer.echo(json.dumps(result.as_json(), indent=2))
    else:
        out.print(result.table())
        if any(figure.files for figure in result.drawn):
            out.print(f"\nThe files are in {to}", soft_wrap=True)
    if result.failed:
        raise typer.Exit(FAILURE)


@app.command()
def report(
    sources: Annotated[
        list[Path] | None, typer.Argument(metavar="RESULTS", help="Folders or files of records. Default: runs.")
    ] = None,
    to: Annotated[Path, typer.Option("--out", help="The page.", rich_help_panel=OUTPUT)] = Path("report.html"),
    title: Annotated[str | None, typer.Option(help="Its heading.", rich_help_panel=OUTPUT)] = None,
    no_figures: Annotated[
        bool, typer.Option("--no-figures", help="Only tables, plans and comparisons.", rich_help_panel=OUTPUT)
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write one page that holds figures, records, plans and paired comparisons, and loads nothing. No torch.

    painters report results --out report.html
    """
    from painters._cli_report import write

    show = not quiet and not as_json
    written = write(
        sources or [DEFAULT_OUT.parent],
        to,
        with_figures=not no_figures,
        title=title,
        console=err if show else None,
    )
    _tell(written.as_json() if as_json else written.text())


@app.command()
def reproduce(
    numbers: Annotated[list[str] | None, typer.Argument(help="Numbers, such as 4 11, or all.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer documents, windows and seeds.", rich_help_panel=SCORE)
    ] = False,
    limit: LimitOption = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with documents of one's own: for the task NAME in NAME/, a .jsonl for each split.",
            rich_help_panel=SCORE,
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Compare records with today's weights and tasks.", rich_help_panel=SCORE),
    ] = False,
    paper: Annotated[
        bool, typer.Option("--paper", help="The paper's own models and tasks.", rich_help_panel=MODEL)
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="Another decoder; the paper's tasks unless bundled.", rich_help_panel=MODEL)
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Another encoder; the paper's tasks unless bundled.", rich_help_panel=MODEL)
    ] = None,
    dtype: FileDtypeOption = None,
    device: DeviceOption = None,
    exact_batching: ExactBatchingOption = False,
    engine: EngineOption = Engine.local,
    workers: WorkersOption = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder of records; figures go to figures/ in it. Default: results, runs/quick, or runs/MODEL.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    plan_only: PlanOnlyOption = False,
    tflops: TflopsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Draw the paper's figures, and score first what their records lack. Run it again after any interruption.

    painters reproduce all --quick
    """
    from painters import _cli_reproduce as reproducing
    from painters import _cli_sweep as sweeping
    from painters import sweep as sweeps

    _check_workers(engine, workers)
    if tflops is not None and not plan_only:
        raise typer.BadParameter("--tflops belongs to --plan-only: a sweep measures what it takes")
    if data is not None and not data.is_dir():
        raise typer.BadParameter(f"--data {data}: there is no such folder")
    asked = reproducing.request(
        numbers or [],
        paper=paper,
        model=model,
        encoder=encoder,
        quick=quick,
        limit=limit,
        dtype=None if dtype is None else str(dtype),
        exact_batching=exact_batching,
        data=data,
        out=to,
    )
    if plan_only:
        forecast, left = reproducing.forecast(asked, tflops or sweeps.TFLOPS)
        similarities = f"Similarities to measure: {len(left)}, each one pass over 100 documents or so."
        if as_json:
            _tell({**sweeping.forecast_json(forecast), "similarities": len(left)})
        else:
            _tell(sweeping.forecast_table(forecast))
            _tell(similarities)
        return
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in `run`
    console = None if quiet or as_json else err
    result = reproducing.reproduce(asked, device=device, engine=engine, workers=workers, check=check, console=console)
    _tell(result.as_json() if as_json else result.table())
    if result.failed:
        raise typer.Exit(FAILURE)


@app.command(
    name="lm-eval",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False},
)
def lm_eval(context: typer.Context) -> None:
    """lm-eval's own command line, where `--model painters` runs a plan and the bundled tasks are known.

    painters lm-eval --model painters --model_args "pretrained=nano-llama,plan=0-2 {3-8} 9-11" --tasks nano_arc
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from painters._harness_command import lm_eval_command

    lm_eval_command(context.args)


@app.command()
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
    from painters import _cli_export as exporting
    from painters import _cli_run as running

    options = _given(start=start, layer=layer, loops=loops, seed=seed, by=by)
    wanted = _wanted(plan, variant, options)
    asked = exporting.Request(
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
    show = not quiet and not as_json
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in `run`
    with running.status(f"Loading {model}, writing and checking", err, show):
        done = exporting.written(asked)
    typer.echo(json.dumps(done.as_json(), indent=2) if as_json else printable(exporting.told(done)))


@app.command(name="variants")
def list_variants(
    layers: Annotated[
        int | None, typer.Option(min=2, help="Also list the windows of a model of this many layers.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the named rules that build plans."""
    from painters._cli_list import variants_json, variants_tables

    if as_json:
        typer.echo(json.dumps(variants_json(layers), indent=2))
        return
    first, *more = variants_tables(layers)
    out.print(first)
    for table in more:
        out.print("", table, sep="\n")


@app.command(name="models")
def list_models(
    inspect: Annotated[
        str | None,
        typer.Option(metavar="NAME|DIR", help="Say where this model keeps its layers, from its configuration alone."),
    ] = None,
    stack: Annotated[str | None, typer.Option(help='With --inspect: "encoder", "decoder", "vision" or a path.')] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="With --inspect: run the code that the model brings.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the bundled models, and say how to use others; or look into one."""
    from painters._cli_list import inspected_json, inspected_tables, models_json, models_table

    if inspect is not None:
        told = inspected_json(inspect, stack, trust_remote_code=trust_remote_code)
        if as_json:
            typer.echo(json.dumps(told, indent=2))
        else:
            about, lists = inspected_tables(told)
            out.print(about, "", lists, sep="\n")
        return
    if stack is not None:
        raise typer.BadParameter("--stack chooses among the lists of layers of one model: give --inspect NAME too")
    if as_json:
        typer.echo(json.dumps(models_json(), indent=2))
        return
    out.print(models_table())
    out.print("\nAny causal language model of the hub or a local folder works too:\n--model meta-llama/Llama-2-7b-hf")


@app.command(name="tasks")
def list_tasks(as_json: JsonOption = False) -> None:
    """List the bundled tasks, and say how to use lm-eval's."""
    from painters._cli_list import tasks_json, tasks_table

    if as_json:
        typer.echo(json.dumps(tasks_json(), indent=2))
        return
    out.print(tasks_table())
    out.print("\nEvery task of lm-eval works too (`lm_eval ls tasks` lists them):\n--tasks arc_challenge,hellaswag")


def _tell(what: Any) -> None:
    """Nothing; a dictionary is printed as JSON, anything else as rich prints it."""
    if isinstance(what, dict):
        typer.echo(json.dumps(what, indent=2))
    else:
        out.print(what)


def _check_workers(engine: Engine, workers: int | None) -> None:
    if workers is not None and engine == "local":
        raise typer.BadParameter("--workers belongs to --engine ray: the engine local is one process")


def _given(**options: Any) -> dict[str, int | str]:
    """The options that were given, enumerations as text."""
    return {
        name: str(value) if isinstance(value, StrEnum) else value
        for name, value in options.items()
        if value is not None
    }


def _wanted(plan: str | None, variant: str | None, options: dict[str, int | str]) -> Callable[[int], Plan]:
    """What gives the plan that was asked for, for a model of so many layers."""
    if (plan is None) == (variant is None):
        raise typer.BadParameter("give either --plan or --variant; `painters variants` lists the variants")
    if plan is not None and options:
        raise typer.BadParameter(f"--{next(iter(options))} belongs to a --variant: a --plan says everything itself")
    if plan is not None:
        read = Plan.parse(plan)
        return lambda num_layers: read
    name = variants.find(variant or "").name
    return lambda num_layers: variants.build(name, num_layers, **options)


def _with_default_start(variant: str, num_layers: int, options: dict[str, int | str]) -> dict[str, int | str]:
    """The options, with the default window where the variant has one and none was asked for."""
    takes = variants.find(variant).parameters
    missing = "start" in takes and "start" not in options
    return {"start": variants.default_start(num_layers), **options} if missing else options


def _names(tasks: str | None) -> list[str]:
    if tasks is None:
        from painters.tasks import bundled

        return list(bundled())
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    if not names:
        raise typer.BadParameter(f"--tasks {tasks!r} names no task; `painters tasks` lists the bundled ones")
    return names


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    try:
        app()
    except Exception as error:
        code = _code(error)
        if code is None or os.environ.get("PAINTERS_TRACEBACK"):
            raise
        _stop(_text(error), code)
    sys.exit(0)


def _code(error: Exception) -> int | None:
    """The exit code of an error that a user can cause; None for what must be a fault of painters."""
    code = getattr(error, "exit_code", None)
    if isinstance(code, int):
        return code
    return FAILURE if isinstance(error, OSError) else None


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{where}. Nothing that was recorded before is lost."
    return str(error)


def _stop(message: str, code: int) -> NoReturn:
    # Not through rich: a caret must stay under its place, and brackets are no markup here.
    sys.stderr.write(f"painters: {printable(message)}\n")
    sys.exit(code)
