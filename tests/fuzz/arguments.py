"""Arguments of the command line, from its own tables of options, with values sound and hostile.

Each ends with a code of 0, 1 or 2, and with a message and no traceback where it is not 0. Only commands that load no
weights.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import typer

from fuzz.plan_texts import CORPUS, hostile
from fuzz.running import Part, Watch, Wrong
from painters import cli
from painters.variants import VARIANTS

FOLDER = tempfile.TemporaryDirectory(prefix="painters-fuzz-")
COMMANDS = ("show", "variants", "models", "tasks", "plot", "report", "sweep", "reproduce")
NUMBERS = ("0", "1", "2", "3", "11", "12", "32", "-1", "10000", "99999999999", "9" * 5000, "1.5", "x", "", "\u0663")
WORDS = (
    "", " ", "-", "--", "-h", "x", "..", "../..", "/", "/nowhere", "nowhere.yaml", "fig4", "paper/fig4", "fig99", "all",
    "nano-llama", "nano-bert", "nano_arc", "broken.yaml", "good.yaml", "records.jsonl", "folder", "a\nb", "\x1b[2J",
    "[red]x", "[/]", "{x}", "%s", "\udcff", "x" * 3000, "=1+1", "block", "layer", "ray", "local", "auto", "float16",
)  # fmt: skip
STEERING = ("\x1b]", "\x1b[2J", "\x9b")


@cache
def options() -> dict[str, list[tuple[list[str], bool, bool]]]:
    """Command -> its parameters: their names (none for an argument), whether they are flags and whether numbers."""
    group: Any = typer.main.get_command(cli.app)
    found = {}
    for name in COMMANDS:
        found[name] = [
            (
                [one for one in parameter.opts if one.startswith("-")],
                bool(getattr(parameter, "is_flag", False)),
                str(getattr(getattr(parameter, "type", None), "name", "")).startswith(("integer", "float")),
            )
            for parameter in group.commands[name].params
        ]
    return found


def arguments(random: Random) -> list[str]:
    """A command with some of its options and arguments, and now and then something else."""
    command = random.choice(COMMANDS)
    given = [command]
    for names, is_flag, is_number in options()[command]:
        if random.random() > (0.6 if not names else 0.15):
            continue
        if names:
            given.append(random.choice(names))
        if not is_flag:
            given.append(value(random, command, names, is_number))
    if random.random() < 0.1:
        given.insert(random.randrange(len(given) + 1), random.choice((*WORDS, "--nothing", "--out", "-x")))
    if command in ("sweep", "reproduce"):
        given.append("--plan-only")
    return given


def value(random: Random, command: str, names: list[str], is_number: bool) -> str:
    if is_number or random.random() < 0.05:
        return random.choice(NUMBERS)
    if command == "show" and not names:
        return random.choice(CORPUS) if random.random() < 0.7 else hostile(random)[:5000]
    if "--variant" in names and random.random() < 0.8:
        return random.choice(list(VARIANTS))
    return random.choice(WORDS)


def check(given: list[str], watch: Watch) -> str:
    """The exit code in words."""
    prepare()
    out, err = io.StringIO(), io.StringIO()
    before, environment, arguments = Path.cwd(), dict(os.environ), sys.argv
    os.chdir(FOLDER.name)
    sys.argv = ["painters", *given]
    code: Any = None
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), watch:
            cli.main()
    except SystemExit as stopped:
        code = stopped.code or 0
    finally:
        os.chdir(before)
        sys.argv = arguments
        os.environ.clear()
        os.environ.update(environment)
    told = err.getvalue()
    if code not in (0, 1, 2):
        raise Wrong(f"ended with {code!r}")
    if code and not (told + out.getvalue()).strip():
        raise Wrong(f"ended with {code} and without a message")
    if "Traceback" in told or any(steering in told + out.getvalue() for steering in STEERING):
        raise Wrong(f"told {told[-600:]!r}")
    return ("done", "failed", "refused")[code]


@cache
def prepare() -> None:
    """Write a sound experiment, a broken one, broken records and a folder into the folder."""
    folder = Path(FOLDER.name)
    sound = "title: x\nmodels: nano-llama\ntasks: nano_arc\nvariants: [skip]\n"
    (folder / "good.yaml").write_text(sound, encoding="utf-8")
    (folder / "broken.yaml").write_text("title: [", encoding="utf-8")
    (folder / "records.jsonl").write_text('{"plan": "\x1b[2J"}\n{}\n', encoding="utf-8")
    (folder / "folder").mkdir()


ARGUMENTS = Part("arguments", "command lines", 3_000, arguments, check, seconds=None)
