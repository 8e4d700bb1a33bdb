"""lm-eval's own command line runs plans: painters' numbers, plans kept apart in its cache, one message for errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lm_eval.tasks
import pytest
from typer.testing import CliRunner

from painters import Plan, harness, variants
from painters.cli import app
from painters.harness.lm import PaintersLM
from painters.harness.lm_eval_cli import CommandError, _add_folder_of_tasks, lm_eval_command, parse_arguments
from painters.plan import PlanError
from painters.variants import VariantError

TASKS = ("nano_arc", "nano_lambada")
LIMIT, BATCH = 10, 4
PLANS = ("0-11", "0-5 7-11", "0-2 8-3 9-11", "0-2 {3-8} 9-11", "0-3 {4-7}*3 8-11")


@pytest.fixture(autouse=True)
def only_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """lm-eval's thousands of tasks take half a minute to be listed."""

    class Few(lm_eval.tasks.TaskManager):  # type: ignore[misc]
        def __init__(self, verbosity: Any = None, include_path: Any = None, **options: Any) -> None:
            super().__init__(verbosity, include_path, include_defaults=False, **options)

    monkeypatch.setattr(lm_eval.tasks, "TaskManager", Few)
    monkeypatch.chdir(tmp_path)


def ran(folder: Path, model_args: list[str], *more: str, tasks: tuple[str, ...] = TASKS) -> dict[str, Any]:
    """What lm-eval wrote down."""
    lm_eval_command(
        [
            *("--model", "painters", "--model_args", *model_args, "--tasks", ",".join(tasks)),
            *("--limit", str(LIMIT), "--batch_size", str(BATCH), "--output_path", str(folder), *more),
        ]
    )
    (written,) = folder.glob("**/results_*.json")
    found: dict[str, Any] = json.loads(written.read_text())
    return found


def values(results: dict[str, Any]) -> dict[tuple[str, str], tuple[float, float]]:
    """(task, metric) -> its value and standard error."""
    return {
        (task, name.removesuffix(",none")): (value, metrics[name.replace(",none", "_stderr,none")])
        for task, metrics in results["results"].items()
        for name, value in metrics.items()
        if name.endswith(",none") and "_stderr" not in name
    }


@pytest.mark.slow
def test_numbers_are_painters(tmp_path: Path) -> None:
    """To the last digit: five plans on two tasks."""
    model, tokenizer = harness.load_model("nano-llama")
    for number, plan in enumerate(PLANS):
        found = ran(tmp_path / str(number), [f"pretrained=nano-llama,plan={plan}"])
        records = harness.score(model, tokenizer, plan, list(TASKS), limit=LIMIT, batch_size=BATCH)
        theirs = values(found)
        assert len(theirs) == len(records) == 4
        for record in records:
            value, error = theirs[record.task, record.metric]
            assert value == record.value
            if record.metric != "perplexity":  # its error is lm-eval's bootstrap there, ours the delta method
                assert error == pytest.approx(record.stderr, rel=1e-12)
        config = found["config"]
        assert (config["plan"], config["layer_runs"]) == (str(Plan.parse(plan)), Plan.parse(plan).layer_runs)


def test_a_cache_keeps_plans_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file for all, and what was asked of one plan is never answered by another."""
    asked: list[int] = []
    own = PaintersLM.loglikelihood

    def counted(self: Any, requests: Any, **options: Any) -> Any:
        asked.append(len(requests))
        return own(self, requests, **options)

    monkeypatch.setattr(PaintersLM, "loglikelihood", counted)
    cache = ("--use_cache", str(tmp_path / "cache" / "answers"))
    arguments = ["pretrained=nano-llama", "plan=0-5 7-11"]
    cold = values(ran(tmp_path / "a", arguments, *cache, tasks=TASKS[:1]))
    other = values(
        ran(tmp_path / "b", ["pretrained=nano-llama", "variant=reverse", "start=1"], *cache, tasks=TASKS[:1])
    )
    warm = values(ran(tmp_path / "c", arguments, *cache, tasks=TASKS[:1]))
    assert len(asked) == 2  # the third call asked the model nothing
    assert cold == warm
    assert cold != other
    model, tokenizer = harness.load_model("nano-llama")
    records = harness.score(model, tokenizer, "0-5 7-11", TASKS[0], limit=LIMIT, batch_size=BATCH)
    assert {metric: value for (_, metric), (value, _) in cold.items()} == {r.metric: r.value for r in records}
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_variants_and_plans_are_checked() -> None:
    lm = PaintersLM("nano-llama", variant="parallel", start=4, loops=2)
    assert lm.plan == variants.build("parallel", 12, start=4, loops=2)
    assert PaintersLM("nano-llama", plan=3).plan == Plan.of(3)
    for arguments, kind, message in (
        ({"plan": {4}}, PlanError, r"the plan was read as \{4\}: give model_args as JSON"),
        ({"plan": "0-3", "variant": "skip"}, VariantError, "plan=0-3 and variant=skip were both given"),
        ({"start": 3}, VariantError, "start belongs to a variant, and none is given"),
        ({"variant": "skpi"}, VariantError, "did you mean 'skip'"),
        ({"plan": "0-3", "kv": "best"}, VariantError, "kv is 'best'"),
        ({"plan": "0-99"}, PlanError, "12 layers|layer 12"),
    ):
        with pytest.raises(kind, match=message):
            PaintersLM("nano-llama", **arguments)  # type: ignore[arg-type]


def test_what_lm_eval_refuses_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"lm-eval: .*nano_ark"):
        ran(tmp_path, ["pretrained=nano-llama"], tasks=("nano_ark",))
    with pytest.raises(SystemExit) as stopped:
        lm_eval_command(["--model", "painters", "--no-such-flag"])
    assert stopped.value.code == 2


def test_help_is_lm_evals() -> None:
    result = CliRunner().invoke(app, ["lm-eval", "run", "--help"])
    assert result.exit_code == 0
    assert "--model_args" in result.output
    assert "--use_cache" in result.output


@pytest.mark.parametrize("command", [["--help"], ["run", "--help"], ["run"]])
def test_help_says_how_to_run_plans(command: list[str]) -> None:
    output = CliRunner().invoke(app, ["lm-eval", *command]).output
    for words in ("--model painters", "plan=PLAN", "variant=NAME", "kv=", "pretrained=nano-llama,plan=0-2 {3-8} 9-11"):
        assert words in output
    assert max(map(len, output.split("lm-eval's own help.", maxsplit=1)[0].splitlines()[1:])) <= 80


def test_folders_of_tasks_come_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bundled tasks and those of the user's folder, which go first, from the option or from a file of options."""
    (tmp_path / "mine.yaml").write_text("task: mine\ndataset_path: json\noutput_type: generate_until\n")
    lm_eval_command(["validate", "--tasks", "mine,nano_arc", "--include_path", str(tmp_path)])
    assert "All tasks found and valid" in capsys.readouterr().out
    (tmp_path / "options.yml").write_text(f"include_path: {tmp_path}\ntasks: [mine]\n")
    for arguments, folders in (
        (["--tasks", "mine", "--include_path", "here"], ["here"]),
        (["run", "--config", str(tmp_path / "options.yml")], [str(tmp_path)]),
        (["--tasks", "mine"], []),
    ):
        parsed = parse_arguments(arguments)
        _add_folder_of_tasks(parsed, "bundled")
        assert parsed.include_path == ["bundled", *folders]
