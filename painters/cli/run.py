"""`painters run`: the intact model and one plan, scored side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from painters import variants
from painters.cli import _complete
from painters.cli._console import out, print_result, progress
from painters.cli._errors import UsageError
from painters.cli._loading import check_plan_before, load
from painters.cli._options import (
    DEFAULT_MODEL,
    DEFAULT_OUT,
    OUTPUT,
    PLAN,
    SCORE,
    ByOption,
    ChatTemplateOption,
    DataOption,
    DeviceMapOption,
    DeviceOption,
    Dtype,
    DtypeOption,
    ExactBatchingOption,
    JsonOption,
    Kv,
    LayerOption,
    LimitOption,
    LoopsOption,
    ModelOption,
    MultiturnOption,
    NameOption,
    PlanOption,
    QuietOption,
    RevisionOption,
    SampleOption,
    SampleSeedOption,
    SeedOption,
    StackOption,
    StartOption,
    SystemOption,
    TemplateNameOption,
    TrustOption,
    VariantOption,
    chat_fields,
    check_documents,
    drop_unset,
    plan_builder,
)
from painters.cli._progress import bar, status
from painters.cli._stop import stoppable
from painters.harness.task_names import check_names
from painters.models.naming import check_name, display_name
from painters.plan import Plan
from painters.ranks import launched
from painters.tasks import ScoringError

if TYPE_CHECKING:
    from painters.experiment import ScoringProtocol
    from painters.harness import Scorer
    from painters.results import Record


# long: one parameter for each option of the command
def run(  # noqa: PLR0913 - one parameter for each option of the command
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
    stack: StackOption = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated lm-eval or bundled tasks. Default: the bundled five, or all in --data.",
            autocompletion=_complete.task_names,
            rich_help_panel=SCORE,
        ),
    ] = None,
    data: DataOption = None,
    limit: LimitOption = None,
    sample: SampleOption = None,
    sample_seed: SampleSeedOption = None,
    shots: Annotated[
        int | None,
        typer.Option(min=0, help="Few-shot examples in a prompt. Default: the task's.", rich_help_panel=SCORE),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences in a batch.", rich_help_panel=SCORE)] = 32,
    exact_batching: ExactBatchingOption = False,
    apply_chat_template: ChatTemplateOption = False,
    chat_template: TemplateNameOption = None,
    system_instruction: SystemOption = None,
    fewshot_as_multiturn: MultiturnOption = None,
    to: Annotated[
        Path, typer.Option("--out", help="File that records are appended to.", rich_help_panel=OUTPUT)
    ] = DEFAULT_OUT,
    all_metrics: Annotated[
        bool,
        typer.Option("--all-metrics", help="Show every metric of a task, not only the first.", rich_help_panel=OUTPUT),
    ] = False,
    name: NameOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score the intact model and one plan side by side, and keep the records.

    painters run --variant parallel --loops 3
    """
    if device_map is not None and launched() > 1:
        raise UsageError(
            f"--device-map {device_map} in {launched()} processes: each would spread its model over all devices. "
            "Launch one process, or leave it out"
        )
    check_documents(limit, sample, sample_seed)
    chat = chat_fields(apply_chat_template, chat_template, system_instruction, fewshot_as_multiturn)
    options = drop_unset(start=start, layer=layer, loops=loops, seed=seed, by=by)
    build_plan = plan_builder(plan, variant, options)
    task_names = _names(tasks, data)
    check_names(task_names)
    variant_name = None if variant is None else variants.find(variant).name
    name = None if name is None else check_name(name)
    check_writable(to)
    console = progress(quiet, as_json)
    known_num_layers = check_plan_before(
        model,
        lambda count: build_plan(count).check(count, model),
        console,
        stack=stack,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    loaded = load(
        model,
        console,
        revision=revision,
        dtype=dtype,
        device=device,
        device_map=device_map,
        trust_remote_code=trust_remote_code,
        to_score=True,
    )
    from painters.cli.run_result import RunResult
    from painters.harness import Scorer
    from painters.harness.protocol import scoring_protocol

    scorer = Scorer(*loaded, stack)
    num_layers = scorer.num_layers
    built = build_plan(num_layers)
    documents: dict[str, Any] = {"limit": limit, "sample": sample, "sample_seed": sample_seed, "shots": shots}
    batching: dict[str, Any] = {"batch_size": batch_size, "exact_batching": exact_batching}
    records, failure = _score(
        scorer,
        built,
        task_names,
        scoring_protocol(kv=str(kv), chat=chat, **documents, **batching),
        variant=variant_name,
        params=_with_default_start(variant_name, num_layers, options) if variant_name else None,
        name=name,
        out_file=to,
        console=console,
        known_num_layers=known_num_layers,
    )
    if failure is not None and not any(record.plan == str(built) for record in records):
        raise failure
    result = RunResult(built, variant_name, name or display_name(model), num_layers, records, to, list(scorer.notes))
    if as_json:
        print_result(result.as_json())
    else:
        for section in (result.header(), "", result.table(all_metrics), "", result.footer(all_metrics)):
            out.print(section)
    if failure is not None:
        raise failure


def _score(  # noqa: PLR0913 - what a run was asked for
    scorer: Scorer,
    plan: Plan,
    tasks: Sequence[str],
    protocol: ScoringProtocol,
    *,
    variant: str | None,
    params: dict[str, int | str] | None,
    name: str | None,
    out_file: Path,
    console: Console | None,
    known_num_layers: int | None,
) -> tuple[list[Record], ScoringError | None]:
    """Score the intact model and `plan`, keep the records in `out_file`, and show progress on `console`.

    Return the records, and the error where a task could not be scored.

    `known_num_layers` is the number of layers that the plan was checked for before.
    """
    from painters.harness import score_beside_intact
    from painters.harness.tasks import prepare_with
    from painters.results.partial import PartialFiles

    scorer.check(plan, protocol, known_num_layers=known_num_layers)
    with status("Building the requests", console):
        prepared = prepare_with(tasks, protocol, scorer.tokenizer)

    def kept() -> str:
        has_some = bool(PartialFiles.beside(out_file).paths())
        return f"What is scored so far is kept beside {out_file}" if has_some else ""

    sizes = [(len(task.requests), task.documents) for task in prepared]
    with stoppable(kept) as stops, bar(console, sizes) as move_bar:
        on_progress = stops.watching(move_bar)
        records: list[Record] = []
        origin: dict[str, Any] = {"variant": variant, "params": params, "name": name}
        try:
            for record in score_beside_intact(
                scorer, plan, prepared, protocol, **origin, out=out_file, progress=on_progress
            ):
                records.append(record)
        except ScoringError as error:
            return records, error
        return records, None


def check_writable(path: Path) -> None:
    """Raise an error now, rather than after an hour, if records cannot be written to `path`."""
    if path.is_dir():
        raise UsageError(f"--out {path}: that is a directory; name a file in it, such as {path / DEFAULT_OUT.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    existed = path.exists()
    with path.open("ab"):
        pass
    if not existed:
        path.unlink()


def _with_default_start(variant: str, num_layers: int, options: dict[str, int | str]) -> dict[str, int | str]:
    """Return the options, with the default window if the variant takes one and none is given."""
    takes = variants.find(variant).parameters
    missing = "start" in takes and "start" not in options
    return {"start": variants.default_start(num_layers), **options} if missing else options


def _names(tasks: str | None, data: Path | None) -> list[str]:
    """Return the tasks of the option `--tasks`, or the default ones; with `--data` as paths in its folder."""
    from painters.tasks import available, bundled, check_folder, located

    if tasks is None:
        names = list(bundled()) if data is None else available(check_folder(data))
        if not names:
            raise UsageError(f"--data {data}: the folder has no task; put the documents of the task NAME into NAME/")
    else:
        names = [name.strip() for name in tasks.split(",") if name.strip()]
        if not names:
            raise UsageError(f"--tasks {tasks!r} names no task; `painters tasks` lists the bundled ones")
    return names if data is None else located(names, data)
