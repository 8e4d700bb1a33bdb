"""`painters similarity`: measure how alike the hidden states between layers are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from painters.cli import _complete
from painters.cli._console import out, print_result, progress, unbroken
from painters.cli._errors import UsageError
from painters.cli._loading import check_plan_before, load
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
    NameOption,
    PlanOption,
    QuietOption,
    RevisionOption,
    SeedOption,
    StackOption,
    StartOption,
    TrustOption,
    VariantOption,
    check_documents,
    drop_unset,
    parse_limit,
    plan_builder,
)
from painters.cli._progress import bar
from painters.cli._stop import stoppable
from painters.documents import DocumentSelection
from painters.models.naming import check_name, display_name
from painters.plan import Plan
from painters.similarity import MODES, SimilarityError
from painters.similarity.folder import check_folder
from painters.similarity.ranking import least_influential, least_turned
from painters.tasks import located, task_name

if TYPE_CHECKING:
    import pandas as pd

    from painters.results.similarity_record import SimilarityRecord


# long: one parameter for each option
def similarity(  # noqa: PLR0913 - one parameter for each option
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
    stack: StackOption = None,
    inputs: Annotated[
        str,
        typer.Option(
            help="Task, bundled or of lm-eval, or a .txt file with a document on each line.",
            autocompletion=_complete.input_names,
            rich_help_panel=MEASURE,
        ),
    ] = "nano_lambada",
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Folder of your own documents: NAME/ holds those of the task NAME, a .jsonl for each split.",
            rich_help_panel=MEASURE,
        ),
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            help=f"Mode: {', '.join(MODES)} (flat is the paper's), or all.",
            autocompletion=_complete.modes,
            rich_help_panel=MEASURE,
        ),
    ] = "token",
    block: Annotated[
        int, typer.Option(min=1, help="Measure angles over blocks of this many steps.", rich_help_panel=MEASURE)
    ] = 1,
    limit: Annotated[
        Any,
        typer.Option(
            parser=parse_limit,
            metavar="NUMBER",
            help="Read only the first N documents; below 1: that share of them. Default: 100.",
            rich_help_panel=MEASURE,
        ),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Read N documents, drawn at random.", rich_help_panel=MEASURE)
    ] = None,
    sample_seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of --sample. Default: 0.", rich_help_panel=MEASURE)
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Documents per batch.", rich_help_panel=MEASURE)] = 8,
    to: Annotated[
        Path, typer.Option("--out", help="Folder of records; these go to similarity/ in it.", rich_help_panel=OUTPUT)
    ] = DEFAULT_OUT.parent,
    name: NameOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure how alike the hidden states between layers are, in the intact model or under a plan.

    painters similarity --mode all
    """
    check_documents(limit, sample, sample_seed)
    selection = DocumentSelection.checked(100 if limit is None and sample is None else limit, sample, sample_seed)
    build_plan = _plan_builder(
        plan, variant, drop_unset(start=start, layer=layer, loops=loops, seed=seed, by=by), model=model, block=block
    )
    # Find mistakes before the model is loaded, which can take minutes.
    if data is not None:
        (inputs,) = located([inputs], data)
    request = SimilarityRequest(
        inputs,
        _modes(mode),
        selection=selection,
        batch_size=batch_size,
        block=block,
        out=to,
        stack=stack,
        name=None if name is None else check_name(name),
    )
    request.check()
    console = progress(quiet, as_json)
    check_plan_before(model, build_plan, console, stack=stack, revision=revision, trust_remote_code=trust_remote_code)
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

    result = request.measure(loaded, tokenizer, build_plan(LayerStack.find(loaded, stack).num_layers), console)
    if as_json:
        print_result(result.as_json())
    else:
        for part in (result.header(), "", result.table(), "", result.footer()):
            out.print(part)


def _plan_builder(
    plan: str | None, variant: str | None, options: dict[str, int | str], *, model: str, block: int
) -> Callable[[int], Plan]:
    """Return a function that builds and checks the plan, and `--block`, for a number of layers.

    Without `--plan` and `--variant` it is the identity.
    """
    if plan is None and variant is None:
        if options:
            raise UsageError(f"--{next(iter(options))} belongs to a --variant, and none is given")
        build: Callable[[int], Plan] = Plan.identity
    elif plan is not None and variant is not None:
        raise UsageError(
            f"--plan {plan!r:.60} and --variant {variant}: give --plan or --variant, or neither for the intact model"
        )
    else:
        build = plan_builder(plan, variant, options)

    def build_and_check(num_layers: int) -> Plan:
        built = build(num_layers)
        built.check(num_layers, model)
        if block > len(built.steps):
            raise SimilarityError(
                f"--block {block}: the plan {built} has {len(built.steps)} steps; give 1 to that many"
            )
        return built

    return build_and_check


def _modes(mode: str) -> list[str]:
    """Return the modes that `--mode` asks for."""
    if mode not in (*MODES, "all"):
        raise SimilarityError(f"--mode {mode!r}: choose one of {', '.join(MODES)} or all")
    return list(MODES) if mode == "all" else [mode]


@dataclass(frozen=True, slots=True)
class SimilarityRequest:
    """A measurement as the options ask for it."""

    inputs: str
    modes: Sequence[str]
    selection: DocumentSelection
    batch_size: int
    block: int
    """How many steps an angle is taken over."""
    out: Path
    """The folder of records."""
    stack: str | None = None
    """Which stack of layers the plan runs, where there are several."""
    name: str | None = None
    """What figures and reports call the model; None for a name made from its path."""

    def check(self) -> None:
        """Raise an error for inputs without texts, and for a folder that records cannot be written to."""
        if self.inputs.endswith(".txt"):
            from painters.similarity.inputs import read_inputs

            read_inputs(self.inputs, DocumentSelection(limit=1))
        else:
            from painters.glue import TASKS
            from painters.harness.task_names import check_names

            check_names([self.inputs] if self.inputs not in TASKS else [])
        check_folder(self.out)

    def measure(self, model: Any, tokenizer: Any, plan: Plan, console: Console | None) -> SimilarityResult:
        """Measure the states of `model` under `plan`, and keep the records."""
        from painters.results import command
        from painters.results.similarity_record import keep
        from painters.similarity import measure

        with stoppable("A measurement is kept when it is whole: nothing was written") as stops, bar(console) as shown:
            on_progress = stops.watching(shown)
            records = measure(
                model,
                self.inputs,
                plan,
                modes=self.modes,
                tokenizer=tokenizer,
                limit=self.selection.limit,
                sample=self.selection.sample,
                sample_seed=self.selection.seed,
                batch_size=self.batch_size,
                path=self.stack,
                progress=lambda done, total: on_progress(done, total, f"states on {task_name(Path(self.inputs))}"),
            )
        records = [record.model_copy(update={"command": command(), "name": self.name}) for record in records]
        return SimilarityResult(records, keep(self.out, records), self.block)


_SHORT_MODES: Final = MappingProxyType({"first-excluded": "no1st", "centred": "cent."})
"""Names of modes that would be too wide for the head of a column."""


@dataclass(frozen=True, slots=True)
class SimilarityResult:
    """The records of one measurement, one for each mode, as JSON and as a table."""

    records: Sequence[SimilarityRecord]
    files: Sequence[Path]
    block: int
    """How many steps an angle is taken over."""

    @property
    def angles(self) -> pd.Series[float]:
        """The angle over each block, indexed by its first step."""
        return self.records[0].angle(self.block)

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints: the table unrounded and whole matrices; None for what is not finite."""
        first = self.records[0].model_dump(mode="json")
        first |= {"stack": self.records[0].stack, "sample_seed": self.records[0].sample_seed}
        shared = (
            *("model", "plan", "num_layers", "stack", "inputs", "documents", "sample_seed"),
            *("tokens", "batch_size", "labels", "profile"),
        )
        turned = least_turned(self.records[0], self.block)
        return {name: first[name] for name in shared} | {
            "angle_over": self.block,
            "angle": {str(step): value if value == value else None for step, value in self.angles.items()},
            "least_influential_first": least_influential(self.records[0]),
            "least_turned": None if turned is None else {"steps": str(turned[0]), "angle": turned[1]},
            "cosines": {record.mode: record.model_dump(mode="json")["cosines"] for record in self.records},
            "records": [str(file) for file in self.files],
        }

    def header(self) -> RenderableType:
        """Return a line with the model, the plan and the documents."""
        record = self.records[0]
        intact = record.plan == str(Plan.identity(record.num_layers))
        shown = record.name or display_name(record.model)
        name = f"{shown}, {record.stack}" if record.stack else shown
        model = f"{name}, intact" if intact else f"{name} under {record.plan}"
        drawn = "documents" if record.sample_seed is None else f"drawn documents (seed {record.sample_seed})"
        documents = f"{record.documents} {drawn} of {record.inputs}, {record.tokens} tokens"
        return Text(f"{model}: {documents}", style="bold")

    def table(self) -> RenderableType:
        """Return a table with a row per state: its size, and how far the step before has turned it."""
        table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold", collapse_padding=True)
        table.add_column("after\nstep", min_width=5, overflow="fold", vertical="bottom")
        for name in ("\nnorm", "first\ntoken", "\nlargest", "influ-\nence"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column(f"angle\n{f'over {self.block}' if self.block > 1 else ''}", justify="right", no_wrap=True)
        for number, record in enumerate(self.records):
            name = f"{'' if number else 'cos'}\n{_SHORT_MODES.get(record.mode, record.mode)}"
            table.add_column(name, justify="right", no_wrap=True)
        profile, labels = self.records[0].table(), self.records[0].labels
        angles = [None] * self.block + self.angles.to_list()
        highlighted = least_influential(self.records[0])[:3]
        for i, label in enumerate(labels):
            row = profile.iloc[i]
            table.add_row(
                label,
                *(_size(row[name]) for name in ("norm", "first_token", "largest")),
                _decimals(row["influence"]),
                _decimals(angles[i]),
                *(_decimals(record.cosines[i - 1][i] if i else None) for record in self.records),
                style="bold" if label in highlighted else None,
            )
        return table

    def footer(self) -> RenderableType:
        """Return the least influential steps, how to read the table, and where the records are."""
        order = least_influential(self.records[0])
        lines = [f"Least influential first: {', '.join(order[:9])}{', …' if len(order) > 9 else ''}"]
        turned = least_turned(self.records[0], self.block)
        if turned is not None and self.block > 1:
            lines.append(f"Least turned block of {self.block} steps: {turned[0]} (angle {turned[1]:.3f})")
        over = "before" if self.block == 1 else f"{self.block} steps before"
        note = (
            "norm, first token, largest: the mean norm, that of the first token, and the\n"
            "  largest number in any token, which shows massive activations.\n"
            "influence: 1 - cosine with the state before, per token (ShortGPT).\n"
            f"angle: with the state {over}, at the last token; 0.5 is a right angle.\n"
            "cos: with the state before, by mode. The record has it for every two states."
        )
        folder = unbroken(f"Records: {self.files[0].parent}", style="dim")
        return Group(*map(Text, lines), Text(note, style="dim"), folder)


def _decimals(value: float | None) -> str:
    """Return a cosine, an influence or an angle to three decimals; a dash for none."""
    return "–" if value is None or value != value else f"{value:.3f}"


def _size(value: float) -> str:
    """Return a norm to about three digits, such as 0.53, 12.4 or 1877; a dash for NaN."""
    if value != value:
        return "–"
    if abs(value) >= 1e6:
        return f"{value:.1e}"
    return f"{value:.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f}"
