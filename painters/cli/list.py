"""`painters variants`, `models` and `tasks`. None of them loads torch, except `models --inspect`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from painters import tasks, variants
from painters.cli import _complete
from painters.cli._console import err, out, print_result
from painters.cli._errors import UsageError
from painters.cli._options import JsonOption, QuietOption
from painters.cli._progress import status
from painters.models import bundled, fetched


def list_variants(
    layers: Annotated[
        int | None, typer.Option(min=2, help="Also list the windows of a model with this many layers.")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """List the variants, which are named rules that build plans."""
    if as_json:
        print_result(variants_json(layers))
        return
    first, *more = variants_tables(layers)
    out.print(first)
    for table in more:
        out.print("", table, sep="\n")


def list_models(
    inspect: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR",
            help="Show where this model keeps its layers. Reads its configuration alone.",
            autocompletion=_complete.model_names,
        ),
    ] = None,
    stack: Annotated[
        str | None,
        typer.Option(
            help="With --inspect: the stack of layers: encoder, decoder, vision or a path.",
            autocompletion=_complete.stacks,
        ),
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="With --inspect: run code that comes with the model.")
    ] = False,
    fetch: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Get this model's file from the package index, check it and keep it in the user's cache.",
            autocompletion=lambda: list(fetched.MODELS),
        ),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """List models, get one that is not bundled (--fetch), or show where one keeps its layers (--inspect)."""
    if fetch is not None:
        if inspect is not None or stack is not None:
            raise UsageError("--fetch gets a model's file: give it without --inspect and --stack")
        fetch_model(fetch, as_json, quiet)
        return
    if inspect is not None:
        inspection = inspected_json(inspect, stack, trust_remote_code=trust_remote_code)
        if stack is not None and inspection["stack"] is None:
            paths = ", ".join(layers["path"] for layers in inspection["lists"]) or "none"
            raise UsageError(f"--stack {stack}: {inspection['refused']}. The lists of {inspect} are {paths}")
        if as_json:
            print_result(inspection)
        else:
            about, lists = inspected_tables(inspection)
            out.print(about, "", lists, sep="\n")
        return
    if stack is not None:
        raise UsageError("--stack chooses among the lists of layers of one model: give --inspect NAME too")
    if as_json:
        print_result(models_json())
        return
    out.print(models_table())
    if not quiet:
        for model in fetched.MODELS.values():
            if not model.is_fetched:
                out.print(f"\n{model.title} is a real pretrained model:\npainters models --fetch {model.name}")
        out.print(
            "\nAny causal language model of the hub, a folder or a GGUF file works too:\n"
            "--model meta-llama/Llama-2-7b-hf"
        )


def fetch_model(name: str, as_json: bool, quiet: bool) -> None:
    """Get the file of the model `name`, and say where it is and how to use it."""
    if name not in fetched.MODELS:
        raise UsageError(
            f"--fetch {name}: painters can fetch {', '.join(fetched.MODELS)}. Other models are given to --model by "
            "folder, GGUF file or hub name"
        )
    model = fetched.MODELS[name]
    was_there = model.is_fetched
    console = None if quiet or as_json else err
    with status(f"Getting {model.title} ({model.size / 1e6:.0f} MB, {model.license})", console):
        path = fetched.fetch(model)
    if as_json:
        print_result({"name": name, "path": str(path), "sha256": model.file_sha256, "license": model.license})
        return
    out.print(f"{model.title} {'was here already' if was_there else 'is here now'}, and its SHA-256 is right:")
    out.print(str(path), soft_wrap=True, highlight=False)
    if not quiet:
        out.print(f"Licence: {model.license}. Use it with --model {name}")


def list_tasks(
    path: Annotated[
        bool,
        typer.Option(
            "--path", help="Print the folder that lm-eval's own command takes: lm_eval --include_path FOLDER."
        ),
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """List the bundled tasks, or print the folder where lm-eval finds them (--path)."""
    if path:
        folder = str(tasks.FOR_LM_EVAL)
        typer.echo(json.dumps({"path": folder}) if as_json else folder)  # whole, however narrow the terminal
        return
    if as_json:
        print_result(tasks_json())
        return
    out.print(tasks_table())
    if not quiet:
        out.print("\nEvery task of lm-eval works too (`lm_eval ls tasks` lists them):\n--tasks arc_challenge,hellaswag")


def layers_of(model: str) -> int:
    """Return the number of layers of a model, bundled, in a folder or on the hub, without loading it."""
    count = bundled.num_layers(model)
    if count is not None:
        return count
    from painters.models import num_layers

    return num_layers(model)


def variants_json(layers: int | None) -> list[dict[str, Any]]:
    """Return the variants with their parameters; with `layers`, also the starts of their windows."""
    return [
        {
            "name": variant.name,
            "parameters": {name: _default(value) for name, value in variant.parameters.items()},
            "summary": variant.summary,
            "paper": variant.paper,
        }
        | ({"starts": _starts(variant.name, layers)} if layers else {})
        for variant in variants.VARIANTS.values()
    ]


def variants_tables(layers: int | None) -> list[Table]:
    """Return the table of variants; with `layers`, also the table of windows."""
    table = _table("variant", "options", "what it does", "paper")
    for variant in variants.VARIANTS.values():
        options = [_option(name, value) for name, value in variant.parameters.items()]
        table.add_row(variant.name, "\n".join(options), variant.summary, variant.paper)
    if layers is None:
        return [table]
    windows = _table("--start", f"layers touched of {layers}", "how many")
    for start in variants.windows(layers):
        touched = list(variants.window(layers, start))
        span = str(touched[0]) if len(touched) == 1 else f"{touched[0]}-{touched[-1]}"
        default = " (default)" if start == variants.default_start(layers) else ""
        windows.add_row(f"{start}{default}", span, str(len(touched)))
    return [table, windows]


def models_json() -> list[dict[str, Any]]:
    """Return the models with a name: architecture, sizes, bytes of weights, model card, and whether they are here."""
    rows = []
    for name, folder in bundled.models().items():
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        weights = folder / "model.safetensors"
        rows.append(
            {
                "name": name,
                "architecture": config["architectures"][0],
                "layers": config["num_hidden_layers"],
                "hidden_size": config["hidden_size"],
                "parameters": _parameters(weights),
                "bytes": weights.stat().st_size,
                "card": str(folder / "README.md"),
                "state": "bundled",
            }
        )
    return rows + [_fetched_json(model) for model in fetched.MODELS.values()]


def _fetched_json(model: fetched.FetchedModel) -> dict[str, Any]:
    """Return the row of a model that can be fetched."""
    return {
        "name": model.name,
        "architecture": model.architecture,
        "layers": model.num_layers,
        "hidden_size": model.hidden_size,
        "parameters": model.parameters,
        "bytes": model.size,
        "card": None,
        "state": "fetched" if model.is_fetched else "not fetched",
    }


def models_table() -> Table:
    """Return the table of the models with a name."""
    table = _table("model", "architecture", "layers", "hidden", "parameters", "weights", "")
    for model in models_json():
        table.add_row(
            model["name"],
            model["architecture"],
            str(model["layers"]),
            str(model["hidden_size"]),
            f"{model['parameters'] / 1e6:.2f} M",
            f"{model['bytes'] / 1e6:.2f} MB",
            model["state"],
        )
    return table


def inspected_json(model: str, stack: str | None, **options: Any) -> dict[str, Any]:
    """Return where `model` keeps its layers, from its configuration alone, or why it is refused."""
    bundled.check_name(model)  # before libraries are loaded
    from painters.models import skeleton
    from painters.stack import inspect_stack

    return {"model": model, **inspect_stack(skeleton(model, **options), stack)}


def inspected_tables(inspection: dict[str, Any]) -> list[Table]:
    """Return two tables: the stack of a model or its refusal, and its lists of layers."""
    about = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    about.add_row("model", f"{inspection['model']} ({inspection['class']})")
    if inspection["stack"] is None:
        about.add_row("refused", inspection["refused"])
    else:
        cached = sorted({index for indices in inspection["cache_indices"] for index in indices})
        about.add_row("stack", inspection["stack"])
        about.add_row("layers", f"{inspection['layers']} of {' and '.join(inspection['layer_classes'])}")
        about.add_row("a layer returns", inspection["returns"])
        about.add_row(
            "halves", "known: 3.attn and 3.mlp work" if inspection["halves"] else "not known: whole layers only"
        )
        about.add_row("cache slots", f"{cached[0]} to {cached[-1]}" if cached else "none: its layers name no slot")
    lists = _table("lists of layers", "stack=", "layers", "classes", "parameters")
    for layers in inspection["lists"]:
        lists.add_row(
            layers["path"],
            layers["stack"] or "",
            str(layers["layers"]),
            " and ".join(layers["layer_classes"]),
            f"{layers['parameters'] / 1e6:.2f} M",
        )
    return [about, lists]


def tasks_json() -> list[dict[str, Any]]:
    """Return the bundled tasks: name, documents, kind of answer, metrics, what is asked."""
    return [{"name": name, **tasks.describe(path)} for name, path in tasks.bundled().items()]


def tasks_table() -> Table:
    """Return the table of bundled tasks."""
    table = _table("task", "documents", "metrics", "what it asks")
    for task in tasks_json():
        table.add_row(task["name"], str(task["documents"]), ", ".join(task["metrics"]), task["about"])
    return table


def _table(*columns: str) -> Table:
    """Return a table that breaks words rather than lose letters, except in the first column."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold underline")
    for number, name in enumerate(columns):
        table.add_column(name, no_wrap=not number, overflow="fold")
    return table


def _parameters(weights: Path) -> int:
    """Return how many parameters a safetensors file holds, from its header alone."""
    with weights.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def _starts(name: str, layers: int) -> list[int]:
    """Return the starts that the variant `name` can have; none where it has no window."""
    return list(variants.windows(layers)) if "start" in variants.find(name).parameters else []


def _option(name: str, value: Any) -> str:
    """Return how an option of a variant is written, with its default where it has one."""
    default = _default(value)
    return f"--{name}" if default is None else f"--{name} {default}"


def _default(value: Any) -> int | str | None:
    """Return a default that can be written on the command line; None for any other."""
    return value if isinstance(value, int | str) else None
