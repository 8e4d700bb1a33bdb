"""lm-eval's own command line, with plans as a model and the bundled tasks among its own."""

from __future__ import annotations

import json
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from lm_eval.config.evaluate_config import EvaluatorConfig
from lm_eval.tasks import TaskManager
from lm_eval.utils import setup_logging

from painters import _compat, tasks
from painters.errors import PaintersError
from painters.harness.lm import PaintersLM  # its import makes `--model painters` known to lm-eval
from painters.harness.task_loading import documents_config
from painters.tasks import TaskError

__all__ = ["CommandError", "PaintersLM", "lm_eval_command", "parse_arguments"]

HELP = """\
painters lm-eval: lm-eval's own command line, with plans and the bundled tasks

  --model painters   lm-eval's hf under a plan, which takes in --model_args too:
    plan=PLAN          such as 0-14 {15-17}*3 18-31; none is the model as it is
    variant=NAME       what builds the plan, with start=, layer=, loops=, by=,
                       seed= (`painters variants` lists them)
    kv=exact|averaged  the cache of parallel groups, or the paper's averaged one
  --tasks nano_arc   bundled tasks by name (`painters tasks` lists them)

  painters lm-eval --model painters --tasks nano_arc --limit 20 \\
      --model_args "pretrained=nano-llama,plan=0-2 {3-8} 9-11"
  painters lm-eval --model painters --tasks hellaswag --model_args \\
      pretrained=meta-llama/Llama-2-7b-hf,variant=parallel,start=14,loops=3

What follows is lm-eval's own help."""
"""What the help of `painters lm-eval` says of painters."""


class CommandError(PaintersError):
    """lm-eval's command line refused its arguments or failed."""

    exit_code = 1


def lm_eval_command(arguments: Sequence[str]) -> None:
    """Run lm-eval's own command line with these arguments.

    `--model painters` runs a plan, and the bundled tasks are known by their names. `--data DIR`, which is painters',
    takes documents of one's own: DIR/NAME/ holds those of the task NAME.

    Args:
        arguments: What follows `lm-eval` on a command line.

    Raises:
        CommandError: lm-eval raised an error of its own.
        TaskError: The folder of documents does not have one of the tasks.
        SystemExit: The arguments cannot be parsed, or ask for help.
    """
    arguments, data = _without_data(arguments)
    with tempfile.TemporaryDirectory(prefix="painters-tasks-") as folder:
        try:
            setup_logging()
            parsed = parse_arguments(arguments)
            _add_folder_of_tasks(parsed, str(tasks.FOR_LM_EVAL))
            if data is not None:
                _write_tasks(Path(folder), _requested(parsed, data), data)
                parsed.include_path = [*parsed.include_path, folder]  # the last overrides all others
            parsed.func(parsed)
        except (ValueError, KeyError, FileNotFoundError) as error:
            if getattr(error, "exit_code", None) is not None:
                raise
            raise CommandError(f"lm-eval: {error}") from error


def parse_arguments(arguments: Sequence[str]) -> Namespace:
    """Parse the arguments as `lm-eval` does; `func` of the result runs the command with the result."""
    return _compat.lm_eval_arguments(_readable(arguments), HELP)


def _add_folder_of_tasks(parsed: Namespace, folder: str) -> None:
    """Let lm-eval find the tasks in `folder`, unless the user's folder has one of the same name."""
    if not hasattr(parsed, "include_path"):
        return
    include_path = parsed.include_path
    if include_path is None and getattr(parsed, "config", None):
        include_path = EvaluatorConfig.load_yaml_config(parsed.config).get("include_path")
    paths = include_path if isinstance(include_path, list | tuple) else [include_path]
    parsed.include_path = [folder, *(path for path in paths if path)]  # later folders override earlier ones


def _without_data(arguments: Sequence[str]) -> tuple[list[str], Path | None]:
    """Return the arguments without `--data DIR`, and that folder."""
    kept: list[str] = []
    data: str | None = None
    rest = iter(arguments)
    for argument in rest:
        option, equals, value = argument.partition("=")
        if option != "--data":
            kept.append(argument)
            continue
        data = value if equals else next(rest, "")
        if not data:
            raise TaskError("--data: give the folder of your documents behind it")
    return kept, None if data is None else tasks.check_folder(data)


def _requested(parsed: Namespace, data: Path) -> list[str]:
    """Return the names of the tasks that lm-eval is asked for, but for those of the user's folders of tasks."""
    if not hasattr(parsed, "include_path"):
        raise TaskError("--data: this command of lm-eval reads no documents; leave it out")
    names = getattr(parsed, "tasks", None)
    if names is None and getattr(parsed, "config", None):
        names = EvaluatorConfig.load_yaml_config(parsed.config).get("tasks")
    several = names if isinstance(names, list | tuple) else [names or ""]
    split = [name.strip() for text in several for name in str(text).split(",") if name.strip()]
    own = TaskManager(include_defaults=False, include_path=parsed.include_path).all_tasks
    return [name for name in split if name not in own or tasks.in_folder(data, name) is not None]


def _write_tasks(folder: Path, names: Sequence[str], data: Path) -> None:
    """Write to `folder` a YAML for each task that `data` has documents of, and the functions that read them."""
    places = [Path(place) for name, place in zip(names, tasks.located(names, data), strict=True) if place != name]
    lines = ["from painters.harness.task_loading import documents_of"]
    for number, place in enumerate(places):
        config = documents_config(place)
        config["custom_dataset"] = f"!function documents.task_{number}"
        lines.append(f"task_{number} = documents_of({str(place)!r})")
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        (folder / f"task_{number}.yaml").write_text(
            text.replace(f"'!function documents.task_{number}'", f"!function documents.task_{number}"), encoding="utf-8"
        )
    (folder / "documents.py").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _readable(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with a plan in `--model_args` written as JSON where it contains braces.

    lm-eval takes "pretrained=...,plan=0-3 {4-7} 8-11" for broken JSON.
    """
    readable = list(arguments)
    for position, option in enumerate(arguments[:-1], 1):
        text = arguments[position]
        if option in ("--model_args", "-a") and "{" in text and not text.lstrip().startswith("{"):
            pairs = [pair.partition("=") for pair in _compat.lm_eval_pairs(text)]
            if all(equals for _, equals, _ in pairs):
                values = {name.strip(): _value(name.strip(), value) for name, _, value in pairs}
                readable[position] = json.dumps(values, default=str)
    return readable


def _value(name: str, text: str) -> Any:
    """Return a value as lm-eval reads it; a plan stays a text, whatever it looks like."""
    return text if name == "plan" else _compat.lm_eval_value(text)
