"""`painters similarity`: how alike the states between layers are."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from painters import variants
from painters.cli import _complete as _cli_complete
from painters.cli._console import out, print_result, progress
from painters.cli._errors import UsageError
from painters.cli._loading import load
from painters.cli._options import (
    DEFAULT_MODEL,
    DEFAULT_OUT,
    MEASURE,
    OUTPUT,
    ByOption,
    DeviceMapOption,
    DeviceOption,
    Dtype,
    DtypeOption,
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
)
from painters.cli._progress import bar
from painters.cli._stop import stoppable
from painters.models import bundled
from painters.plan import Plan
from painters.similarity import MODES, SimilarityError

if TYPE_CHECKING:
    import pandas as pd

    from painters.results.similarity_record import SimilarityRecord


def similarity(
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
            autocompletion=_cli_complete.input_names,
            rich_help_panel=MEASURE,
        ),
    ] = "nano_lambada",
    mode: Annotated[
        str,
        typer.Option(
            help=f"{', '.join(MODES)}, or all; flat is the paper's.",
            autocompletion=_cli_complete.modes,
            rich_help_panel=MEASURE,
        ),
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
    if plan is not None and variant is not None:
        raise UsageError("give --plan or --variant, or neither for the intact model")
    options = given(start=start, layer=layer, loops=loops, seed=seed, by=by)
    if variant is None and options:
        raise UsageError(f"--{next(iter(options))} belongs to a --variant, and none is given")
    read = Plan.parse(plan) if plan is not None else None
    name = None if variant is None else variants.find(variant).name

    def wanted(num_layers: int) -> Plan:
        asked = read or (variants.build(name, num_layers, **options) if name else Plan.identity(num_layers))
        asked.check(num_layers, model)
        check_block(block, asked)
        return asked

    # What can be wrong is found before minutes of loading.
    count = bundled.num_layers(model)
    if count is not None:
        wanted(count)
    modes_of(mode)
    check_inputs(inputs)
    check_out(to)
    console = progress(quiet, as_json)
    loaded, tokenizer = load(
        model,
        console,
        revision=revision,
        dtype=dtype,
        device=device,
        device_map=device_map,
        trust_remote_code=trust_remote_code,
        to_score=False,
    )
    from painters.stack import LayerStack

    result = measured(
        loaded,
        tokenizer,
        wanted(LayerStack.find(loaded).num_layers),
        inputs=inputs,
        mode=mode,
        limit=limit,
        batch_size=batch_size,
        block=block,
        out=to,
        console=console,
    )
    if as_json:
        print_result(result.as_json())
    else:
        for part in (result.header(), "", result.table(), "", result.footer()):
            out.print(part)


_SHORT: Final = MappingProxyType({"first-excluded": "no1st", "centred": "cent."})


@dataclass(frozen=True, slots=True)
class Result:
    """The records of one measurement, one for each mode, and the tables made of them."""

    records: Sequence[SimilarityRecord]
    files: Sequence[Path]
    block: int
    """Steps that an angle is taken over."""

    @property
    def angles(self) -> pd.Series[float]:
        return self.records[0].angle(self.block)

    @property
    def least_influential(self) -> list[str]:
        """The steps, the one that turns the stream least first."""
        influence = self.records[0].table()["influence"]
        return list(influence.iloc[1:].dropna().sort_values(kind="stable").index)

    @property
    def least_turned(self) -> tuple[str, float] | None:
        """The block of the smallest angle, as a plan, and the angle; None where none is finite."""
        known = self.angles.dropna()
        if known.empty:
            return None
        first = list(self.angles.index).index(known.idxmin())
        steps = Plan.parse(self.records[0].plan).steps[first : first + self.block]
        return str(Plan(steps)), float(known.min())

    def as_json(self) -> dict[str, Any]:
        """Everything in the tables, whole matrices too, numbers unrounded; what could not be had is null."""
        first = self.records[0].model_dump(mode="json")
        shared = ("model", "plan", "num_layers", "inputs", "documents", "tokens", "batch_size", "labels", "profile")
        least = self.least_turned
        return {name: first[name] for name in shared} | {
            "angle_over": self.block,
            "angle": {str(step): value if value == value else None for step, value in self.angles.items()},
            "least_influential_first": self.least_influential,
            "least_turned": None if least is None else {"steps": least[0], "angle": least[1]},
            "cosines": {record.mode: record.model_dump(mode="json")["cosines"] for record in self.records},
            "records": [str(file) for file in self.files],
        }

    def header(self) -> RenderableType:
        """What was measured on what."""
        one = self.records[0]
        intact = one.plan == str(Plan.identity(one.num_layers))
        under = f"{one.model}, intact" if intact else f"{one.model} under {one.plan}"
        return Text(f"{under}: {one.documents} documents of {one.inputs}, {one.tokens} tokens", style="bold")

    def table(self) -> RenderableType:
        """One line per state: its size, how far the step turned it, its cosine with the state before in each mode."""
        table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold", collapse_padding=True)
        table.add_column("after\nstep", min_width=5, overflow="fold", vertical="bottom")
        for name in ("\nnorm", "first\ntoken", "\nlargest", "influ-\nence"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column(f"angle\n{f'over {self.block}' if self.block > 1 else ''}", justify="right", no_wrap=True)
        for number, record in enumerate(self.records):
            name = f"{'' if number else 'cos'}\n{_SHORT.get(record.mode, record.mode)}"
            table.add_column(name, justify="right", no_wrap=True)
        profile, labels = self.records[0].table(), self.records[0].labels
        angles = [None] * self.block + self.angles.to_list()
        for i, label in enumerate(labels):
            row = profile.iloc[i]
            table.add_row(
                label,
                *(_size(row[name]) for name in ("norm", "first_token", "largest")),
                _part(row["influence"]),
                _part(angles[i]),
                *(_part(record.cosines[i - 1][i] if i else None) for record in self.records),
                style="bold" if label in self.least_influential[:3] else None,
            )
        return table

    def footer(self) -> RenderableType:
        """What to take away, how to read the table, where the records are."""
        order = self.least_influential
        lines = [f"Least influential first: {', '.join(order[:9])}{', …' if len(order) > 9 else ''}"]
        if (least := self.least_turned) is not None and self.block > 1:
            lines.append(f"Least turned block of {self.block} steps: {least[0]} (angle {least[1]:.3f})")
        over = "before" if self.block == 1 else f"{self.block} steps before"
        note = (
            "norm, first token, largest: the mean norm, that of the first token, and the\n"
            "  largest number in any token, which shows massive activations.\n"
            "influence: 1 - cosine with the state before, per token (ShortGPT).\n"
            f"angle: with the state {over}, at the last token; 0.5 is a right angle.\n"
            "cos: with the state before, by mode. The record has it for every two states."
        )
        folder = Text(f"Records: {self.files[0].parent}", style="dim")
        return Group(*map(Text, lines), Text(note, style="dim"), folder)


def modes_of(mode: str) -> list[str]:
    """The modes that the option `mode` asks for; SimilarityError where it is none."""
    if mode not in (*MODES, "all"):
        raise SimilarityError(f"--mode {mode!r}: choose one of {', '.join(MODES)} or all")
    return list(MODES) if mode == "all" else [mode]


def check_block(block: int, plan: Plan) -> None:
    """Nothing; SimilarityError now rather than after the model ran where `plan` has fewer steps than `block`."""
    if block > len(plan.steps):
        raise SimilarityError(f"--block {block}: the plan {plan} has {len(plan.steps)} steps; give 1 to that many")


def check_inputs(inputs: str) -> None:
    """Nothing; SimilarityError now rather than after the model is loaded where `inputs` is a file without texts."""
    from painters.similarity.inputs import read_inputs

    if inputs.endswith(".txt"):
        read_inputs(inputs, 1)


def check_out(out: Path) -> None:
    """Nothing; an error now rather than after the model ran where records cannot be kept in `out`."""
    from painters.results.similarity_record import folder_of

    folder = folder_of(out)
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
    for place in made:
        place.rmdir()


def measured(
    model: Any,
    tokenizer: Any,
    plan: Plan,
    *,
    inputs: str,
    mode: str,
    limit: int,
    batch_size: int,
    block: int,
    out: Path,
    console: Console | None,
) -> Result:
    """Measured and kept."""
    from painters.results import command
    from painters.results.similarity_record import keep
    from painters.similarity import measure

    with stoppable("A measurement is kept when it is whole: nothing was written") as stops, bar(console) as moved:
        watched = stops.watching(moved)
        records = measure(
            model,
            inputs,
            plan,
            modes=modes_of(mode),
            tokenizer=tokenizer,
            limit=limit,
            batch_size=batch_size,
            progress=lambda done, total: watched(done, total, f"states on {inputs}"),
        )
    records = [record.model_copy(update={"command": command()}) for record in records]
    return Result(records, keep(out, records), block)


def _part(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.3f}"


def _size(value: float) -> str:
    """A number to about three digits: 0.53, 12.4, 1877."""
    if value != value:
        return "–"
    if abs(value) >= 1e6:
        return f"{value:.1e}"
    return f"{value:.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f}"
