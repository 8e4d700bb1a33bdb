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
from lm_eval.utils import setup_logging

from painters import _compat, tasks
from painters.errors import PaintersError
from painters.harness.lm import PaintersLM  # its import makes `--model painters` known to lm-eval

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

_DATASETS = """from painters.tasks import bundled, config

globals().update({name: config(path)["custom_dataset"] for name, path in bundled().items()})
"""


class CommandError(PaintersError):
    """lm-eval's command line refused its arguments or failed."""

    exit_code = 1


def lm_eval_command(arguments: Sequence[str]) -> None:
    """Run lm-eval's own command line with these arguments.

    `--model painters` runs a plan, and the bundled tasks are known by their names.

    Args:
        arguments: What follows `lm-eval` on a command line.

    Raises:
        CommandError: lm-eval raised an error of its own.
        SystemExit: The arguments cannot be parsed, or ask for help.
    """
    with tempfile.TemporaryDirectory(prefix="painters-tasks-") as folder:
        _write_tasks(Path(folder))
        try:
            setup_logging()
            parsed = parse_arguments(arguments)
            _add_folder_of_tasks(parsed, folder)
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


def _write_tasks(folder: Path) -> None:
    """Write the bundled tasks to `folder`; their documents are read as `painters.tasks.config` does."""
    (folder / "bundled_documents.py").write_text(_DATASETS, encoding="utf-8")
    for name, path in tasks.bundled().items():
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        del config["dataset_kwargs"]
        text = yaml.safe_dump(config, sort_keys=False)
        function = f"custom_dataset: !function bundled_documents.{name}\n"
        (folder / path.name).write_text(text + function, encoding="utf-8")


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
