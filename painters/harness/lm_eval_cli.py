"""lm-eval's own command line, with plans as a model and the bundled tasks among its own."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import lm_eval.tasks
import yaml
from lm_eval.__main__ import cli_evaluate
from lm_eval._cli.utils import handle_cli_value_string, split_top_level

from painters import tasks
from painters.errors import PaintersError

_DATASETS = """from painters.tasks import bundled, config

globals().update({name: config(path)["custom_dataset"] for name, path in bundled().items()})
"""


class CommandError(PaintersError):
    """Something that lm-eval's command line refused."""

    exit_code = 1


def lm_eval_command(arguments: Sequence[str]) -> None:
    """What `lm-eval` does with these arguments; `--model painters` is ours, and the bundled tasks go by their names.

    Raises CommandError where lm-eval raises an error of its own.
    """
    with tempfile.TemporaryDirectory(prefix="painters-tasks-") as folder:
        _write_tasks(Path(folder))

        class Manager(lm_eval.tasks.TaskManager):  # type: ignore[misc]
            """lm-eval's, which finds the bundled tasks too; a task of the same name in the user's folder goes first."""

            def __init__(self, verbosity: Any = None, include_path: Any = None, *args: Any, **kwargs: Any) -> None:
                given = include_path if isinstance(include_path, (list, tuple)) else [include_path]
                super().__init__(verbosity, [folder, *(path for path in given if path)], *args, **kwargs)

        with (
            mock.patch.object(lm_eval.tasks, "TaskManager", Manager),
            mock.patch.object(sys, "argv", ["lm-eval", *_readable(arguments)]),
        ):
            try:
                cli_evaluate()
            except (ValueError, KeyError, FileNotFoundError) as error:
                if getattr(error, "exit_code", None) is not None:
                    raise
                raise CommandError(f"lm-eval: {error}") from error


def _write_tasks(folder: Path) -> None:
    """Nothing; `folder` has the bundled tasks, which read their documents as `painters.tasks.config` says."""
    (folder / "bundled_documents.py").write_text(_DATASETS, encoding="utf-8")
    for name, path in tasks.bundled().items():
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
        del read["dataset_kwargs"]
        text = yaml.safe_dump(read, sort_keys=False)
        function = f"custom_dataset: !function bundled_documents.{name}\n"
        (folder / path.name).write_text(text + function, encoding="utf-8")


def _readable(arguments: Sequence[str]) -> list[str]:
    """The arguments, a plan in `--model_args` in the JSON that lm-eval wants where there are braces.

    It takes "pretrained=...,plan=0-3 {4-7} 8-11" for broken JSON.
    """
    found = list(arguments)
    for place, before in enumerate(arguments[:-1], 1):
        text = arguments[place]
        if before in ("--model_args", "-a") and "{" in text and not text.lstrip().startswith("{"):
            pairs = [part.partition("=") for part in split_top_level(text)]
            if all(equals for _, equals, _ in pairs):
                read = {name.strip(): _value(name.strip(), value) for name, _, value in pairs}
                found[place] = json.dumps(read, default=str)
    return found


def _value(name: str, text: str) -> Any:
    """A value as lm-eval reads it; a plan is a text whatever it looks like."""
    return text if name == "plan" else handle_cli_value_string(text)
