"""Generate tables of the site from the code: variants, limits, modes, figures and experiments."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from painters import experiment, plan, variants
from painters.experiment import Encoder, Experiment, Grid, Model, Similarity
from painters.figures import FIGURES
from painters.models import bundled
from painters.similarity import MODES

MARK = re.compile(r"^<!-- table: ([\w-]+)(?: (\S+))? -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page with its tables; KeyError for a table that does not exist."""
    return MARK.sub(lambda mark: "\n".join(TABLES[mark[1]](*filter(None, [mark[2]]))), markdown)


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yield the lines of a table."""
    for cells in (header, ["---" for _ in header], *rows):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def variants_table() -> Iterator[str]:
    """Return a table of all variants, each with its plan for twelve layers."""
    rows = []
    for variant in variants.VARIANTS.values():
        arguments = {name: 4 for name, default in variant.parameters.items() if default is None and name == "layer"}
        example = variants.build(variant.name, 12, **arguments)
        options = [f"`--{n}`" if default is None else f"`--{n} {default}`" for n, default in variant.parameters.items()]
        rows.append([f"`{variant.name}`", variant.summary, ", ".join(options) or "–", variant.paper, f"`{example}`"])
    return table(["variant", "what it does", "options, and their defaults", "paper", "of 12 layers"], rows)


def windows_table(layers: str) -> Iterator[str]:
    """Return a table of the windows of a stack of so many layers."""
    rows = []
    for start in variants.windows(int(layers)):
        touched = variants.window(int(layers), start)
        span = f"{touched[0]}" if len(touched) == 1 else f"{touched[0]} to {touched[-1]}"
        default = " (default)" if start == variants.default_start(int(layers)) else ""
        rows.append([f"{start}{default}", span, str(len(touched))])
    return table(["`--start`, the paper's N", f"layers touched, of {layers}", "M, how many"], rows)


def limits_table() -> Iterator[str]:
    """Return a table of the limits of plans."""
    rows = [
        ("number of a layer", f"0 to {plan.MAX_LAYERS - 1:,}"),
        ("layer runs, every repeat counted", f"{plan.MAX_LAYER_RUNS:,}"),
        ("parallel groups inside one another", f"{plan.MAX_NESTING}"),
        ("characters of a text", f"{plan.MAX_TEXT:,}"),
    ]
    return table(["what", "at most"], rows)


def modes_table() -> Iterator[str]:
    """Return a table of the modes of similarity."""
    return table(["mode", "what it is"], [(f"`{name}`", meaning) for name, meaning in MODES.items()])


def figures_table() -> Iterator[str]:
    """Return a table of the figures and the records that they need."""
    rows = [(f"[{figure.number}](#figure-{figure.number})", figure.title, figure.needs) for figure in FIGURES.values()]
    return table(["figure", "shows", "needs records of"], rows)


def protocol_table(name: str) -> Iterator[str]:
    """Return a table of the settings of a figure's experiment, for the bundled models and for the paper's."""
    experiments = {
        "the bundled models": experiment.load(name),
        "the paper's": experiment.load(f"paper/{name}"),
    }
    columns = {column: settings(loaded) for column, loaded in experiments.items()}
    names = dict.fromkeys(name for fields in columns.values() for name in fields)
    rows = [[name, *(fields.get(name, "–") for fields in columns.values())] for name in names]
    return table(["", *columns], rows)


def settings(loaded: Experiment) -> dict[str, str]:
    """Return the settings of an experiment, by name."""
    fields: dict[str, str] = {}
    if loaded.include:
        fields["cells of"] = ", ".join(f"`{name}`" for name in loaded.include)
    for part in () if loaded.include else loaded.parts:
        prefix = "encoder: " if isinstance(part, Encoder) else ""
        fields |= {prefix + name: value for name, value in grid_settings(part).items()}
    for similarity in loaded.similarities:
        fields |= similarity_settings(similarity)
    if loaded.parts:
        fields["cells in all, with the intact model"] = f"{len(experiment.cells(loaded, layers_of)):,}"
    return fields


def grid_settings(part: Grid) -> dict[str, str]:
    """Return the settings of one grid, by name."""
    protocol = part.protocol
    shots = {task.name: protocol.shots if task.shots is None else task.shots for task in part.tasks}
    fields = {
        "model": models(part.models),
        "plans": "; ".join(map(rule, part.variants)),
        **widths(part),
        "tasks": ", ".join(
            f"`{name}`" + ("" if count is None else f" ({count} shots)") for name, count in shots.items()
        ),
        "documents of a task": "all" if protocol.limit is None else f"the first {protocol.limit}",
        "scored in batches of": str(protocol.batch_size),
        "weights as": number_type(protocol.dtype, part.models),
    }
    if isinstance(part, Encoder):
        fields["fine-tuning"] = "; ".join(
            f"`{tuning.protocol}`: {tuning.epochs} epochs, rate {tuning.rate:g}, warm-up {tuning.warmup:g}, batches of "
            f"{tuning.batch_size}, at most {tuning.max_length} tokens"
            for tuning in part.tuning
        )
        fields["seed of the fine-tuning"] = str(protocol.seed)
    else:
        fields["seed of few-shot prompts"] = str(protocol.seed)
        if part.kvs != ("exact",):
            fields["caches"] = ", ".join(part.kvs)
    return fields


def number_type(dtype: str, of_models: Iterable[Model]) -> str:
    """Return the number type of the weights in words.

    "auto" is float32 for bundled models (`painters.models.load_model`).
    """
    if dtype != "auto":
        return dtype
    return "float32" if all(model.name in bundled.models() for model in of_models) else "the checkpoint has them"


def widths(part: Grid) -> dict[str, str]:
    """Return the widths of a grid's windows as a row; no row where its plans have no windows."""
    sizes = {layers_of(model) for model in part.models}
    touched = {len(variants.window(size, start)) for size in sizes for start in variants.windows(size)}
    has_windows = any("start" in variant.params for variant in part.variants)
    return {"widths M of the window": ", ".join(map(str, sorted(touched)))} if has_windows else {}


def similarity_settings(similarity: Similarity) -> dict[str, str]:
    """Return the settings of a measurement of similarity, by name."""
    return {
        "models": models((*similarity.models, *similarity.encoders)),
        "inputs": f"the first {similarity.limit} documents of `{similarity.inputs}`",
        "modes": ", ".join(f"`{mode}`" for mode in similarity.modes),
        "in batches of": str(similarity.batch_size),
    }


def models(listed: Iterable[Model]) -> str:
    """Return the models with their sizes, as text."""
    return ", ".join(f"{model.name} ({layers_of(model)} layers)" for model in listed)


def layers_of(model: Model) -> int:
    """Return the number of layers: the experiment's, or that of the bundled model."""
    return model.num_layers or bundled.num_layers(model.name) or 0


def rule(variant: Any) -> str:
    """Return a variant with the values of its parameters, as text."""
    parameters = [f"{name} {span(values)}" for name, values in variant.params.items()]
    return f"{variant.name or variant.plan}" + (f" ({', '.join(parameters)})" if parameters else "")


def span(value: Any) -> str:
    """Return the values in words: "all", "0 to 9", or one by one."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        return str(value)
    numbers = list(value)
    whole = numbers == list(range(numbers[0], numbers[-1] + 1)) and len(numbers) > 2
    return f"{numbers[0]} to {numbers[-1]}" if whole else ", ".join(map(str, numbers))


TABLES: Mapping[str, Callable[..., Iterator[str]]] = {
    "variants": variants_table,
    "windows": windows_table,
    "limits": limits_table,
    "modes": modes_table,
    "figures": figures_table,
    "protocol": protocol_table,
}
