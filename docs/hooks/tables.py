"""Tables that pages of the site take from the code: variants, limits of plans, modes, and what experiments ask."""

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
    """The page with its tables; KeyError for one that does not exist."""
    return MARK.sub(lambda found: "\n".join(TABLES[found[1]](*filter(None, [found[2]]))), markdown)


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """The lines of a table."""
    for cells in (header, ["---" for _ in header], *rows):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def variants_table() -> Iterator[str]:
    """A row for each rule, with its plan for twelve layers."""
    rows = []
    for variant in variants.VARIANTS.values():
        given = {name: 4 for name, default in variant.parameters.items() if default is None and name == "layer"}
        shown = variants.build(variant.name, 12, **given)
        options = [f"`--{n}`" if default is None else f"`--{n} {default}`" for n, default in variant.parameters.items()]
        rows.append([f"`{variant.name}`", variant.summary, ", ".join(options) or "–", variant.paper, f"`{shown}`"])
    return table(["variant", "what it does", "options, and their defaults", "paper", "of 12 layers"], rows)


def windows_table(layers: str) -> Iterator[str]:
    """A row for each window of a stack of so many layers."""
    rows = []
    for start in variants.windows(int(layers)):
        touched = variants.window(int(layers), start)
        span = f"{touched[0]}" if len(touched) == 1 else f"{touched[0]} to {touched[-1]}"
        default = " (default)" if start == variants.default_start(int(layers)) else ""
        rows.append([f"{start}{default}", span, str(len(touched))])
    return table(["`--start`, the paper's N", f"layers touched, of {layers}", "M, how many"], rows)


def limits_table() -> Iterator[str]:
    """A row for each limit of a plan."""
    rows = [
        ("number of a layer", f"0 to {plan.MAX_LAYERS - 1:,}"),
        ("layer runs, every repeat counted", f"{plan.MAX_LAYER_RUNS:,}"),
        ("parallel groups inside one another", f"{plan.MAX_NESTING}"),
        ("characters of a text", f"{plan.MAX_TEXT:,}"),
    ]
    return table(["what", "at most"], rows)


def modes_table() -> Iterator[str]:
    """A row for each mode of similarity."""
    return table(["mode", "what it is"], [(f"`{name}`", told) for name, told in MODES.items()])


def figures_table() -> Iterator[str]:
    """A row for each figure: the records that it needs."""
    rows = [(f"[{one.number}](#figure-{one.number})", one.title, one.needs) for one in FIGURES.values()]
    return table(["figure", "shows", "needs records of"], rows)


def protocol_table(name: str) -> Iterator[str]:
    """What the experiment of a figure asks, of the bundled models and of the paper's."""
    both = {
        "the bundled models": experiment.load(name),
        "the paper's": experiment.load(f"paper/{name}"),
    }
    told = {where: asked(one) for where, one in both.items()}
    names = dict.fromkeys(name for fields in told.values() for name in fields)
    rows = [[name, *(fields.get(name, "–") for fields in told.values())] for name in names]
    return table(["", *told], rows)


def asked(one: Experiment) -> dict[str, str]:
    """What an experiment asks, by name."""
    fields: dict[str, str] = {}
    if one.include:
        fields["cells of"] = ", ".join(f"`{name}`" for name in one.include)
    for part in () if one.include else one.parts:
        prefix = "encoder: " if isinstance(part, Encoder) else ""
        fields |= {prefix + name: value for name, value in grid(part).items()}
    for measured in one.similarities:
        fields |= similarities(measured)
    if one.parts:
        fields["cells in all, with the intact model"] = f"{len(experiment.cells(one, layers_of)):,}"
    return fields


def grid(part: Grid) -> dict[str, str]:
    """What one grid asks, by name."""
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
            f"`{one.protocol}`: {one.epochs} epochs, rate {one.rate:g}, warm-up {one.warmup:g}, batches of "
            f"{one.batch_size}, at most {one.max_length} tokens"
            for one in part.tuning
        )
        fields["seed of the fine-tuning"] = str(protocol.seed)
    else:
        fields["seed of few-shot prompts"] = str(protocol.seed)
        if part.kvs != ("exact",):
            fields["caches"] = ", ".join(part.kvs)
    return fields


def number_type(asked: str, given: Iterable[Model]) -> str:
    """The number type of the weights, in words: "auto" is float32 for bundled models (`painters.models.load_model`)."""
    if asked != "auto":
        return asked
    return "float32" if all(one.name in bundled.models() for one in given) else "the checkpoint has them"


def widths(part: Grid) -> dict[str, str]:
    """The layers that the windows of a grid touch, where its plans have windows, by name."""
    sizes = {layers_of(model) for model in part.models}
    touched = {len(variants.window(size, start)) for size in sizes for start in variants.windows(size)}
    has_windows = any("start" in variant.params for variant in part.variants)
    return {"widths M of the window": ", ".join(map(str, sorted(touched)))} if has_windows else {}


def similarities(one: Similarity) -> dict[str, str]:
    """What is measured of the states, by name."""
    return {
        "models": models((*one.models, *one.encoders)),
        "inputs": f"the first {one.limit} documents of `{one.inputs}`",
        "modes": ", ".join(f"`{mode}`" for mode in one.modes),
        "in batches of": str(one.batch_size),
    }


def models(given: Iterable[Model]) -> str:
    """The models with their sizes."""
    return ", ".join(f"{one.name} ({layers_of(one)} layers)" for one in given)


def layers_of(model: Model) -> int:
    """The layers of a bundled model, or as many as the experiment states."""
    return model.num_layers or bundled.num_layers(model.name) or 0


def rule(variant: Any) -> str:
    """A variant with the values that are asked of it."""
    asked = [f"{name} {span(values)}" for name, values in variant.params.items()]
    return f"{variant.name or variant.plan}" + (f" ({', '.join(asked)})" if asked else "")


def span(value: Any) -> str:
    """The values in words: all, 0 to 9, or one by one."""
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
