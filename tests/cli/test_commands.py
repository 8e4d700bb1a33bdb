"""What every command has: --json, --quiet, no escape codes where none are wanted, exit codes, completion."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.table import Table
from rich.text import Text
from support.outcome import Outcome
from support.terminal import shown

from painters import cli, figures, tasks, variants
from painters.cli import _complete
from painters.cli._errors import EXIT_CODES
from painters.cli._terminal import Terminal
from painters.similarity import MODES

ROOT = Path(__file__).parents[2]

DOCS = ROOT / "docs" / "command-line.md"
EXPERIMENT = """\
title: small
models: [nano-llama]
tasks: [nano_winogrande]
variants: [{name: skip, start: [3]}]
protocol: {limit: 2}
"""
# Arguments with which each command does something in a moment.
COMMANDS = {
    "run": ("--plan", "0-10", "--tasks", "nano_winogrande", "--limit", "2", "--out", "out/records.jsonl"),
    "show": ("0-3 {4-8}*3 9-11", "--layers", "12"),
    "similarity": ("--limit", "2", "--out", "out"),
    "sweep": ("small.yaml", "--out", "out"),
    "plot": ("1", "--from", "records.jsonl", "--to", "out"),
    "report": ("records.jsonl", "--no-figures", "--out", "out.html"),
    "reproduce": ("1", "--out", "out"),
    "export": ("--plan", "0-10", "--to", "out"),
    "doctor": ("records.jsonl",),
    "variants": (),
    "models": (),
    "tasks": (),
}
OTHERS = {"lm-eval"}  # lm-eval's own command line, which has neither option
LOADS = {"run", "similarity", "sweep", "report", "export"}  # tell of progress


def names() -> list[str]:
    return list(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]


def arguments(command: str) -> tuple[str, ...]:
    assert command in COMMANDS, f"give arguments for `painters {command}` in COMMANDS in tests/cli/test_commands.py"
    return (command, *(f"{command}-{word}" if word.startswith("out") else word for word in COMMANDS[command]))


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A few records of nano-llama."""
    from painters import results

    committed = ROOT / "results" / "nano-llama.jsonl"
    wanted = [record for record in results.read(committed) if record.task == "nano_arc"][:3]
    path = tmp_path_factory.mktemp("records") / "records.jsonl"
    results.append(path, wanted)
    return path.read_text()


@pytest.fixture
def here(tmp_path: Path, records: str) -> Path:
    (tmp_path / "small.yaml").write_text(EXPERIMENT)
    (tmp_path / "records.jsonl").write_text(records)
    return tmp_path


commands = pytest.mark.parametrize("command", [name for name in names() if name not in OTHERS])


@commands
def test_json_is_all_that_is_printed(painters: Callable[..., Outcome], here: Path, command: str) -> None:
    found = painters(*arguments(command), "--json")
    assert (found.code, found.err) == (0, "")
    told = json.loads(found.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert documented()[command] == keys(told), f"docs/command-line.md has to say what `{command} --json` prints"


@pytest.mark.parametrize("command", ["models --inspect", "sweep --plan-only"])
def test_json_of_what_else_there_is(painters: Callable[..., Outcome], here: Path, command: str) -> None:
    more = {"models --inspect": "nano-llama", "sweep --plan-only": "small.yaml"}[command]
    told = json.loads(painters(*command.split(), more, "--json").out)
    assert documented()[command] == keys(told)


def keys(told: Any) -> tuple[str, ...]:
    """The names of an object, or of the objects in a list."""
    return ("[]", *told[0]) if isinstance(told, list) else tuple(told)


def documented() -> dict[str, tuple[str, ...]]:
    """command -> the names in its JSON."""
    rows = re.findall(r"^\| `(.+?)` \| (.*?) \|", DOCS.read_text(), re.MULTILINE)
    found = {}
    for command, told in rows:
        listed = ("[]",) if told.startswith("a list of ") else ()
        found[command] = (*listed, *re.findall(r"`(\w+)`", told))
    return found


@commands
def test_quiet_is_the_result_alone(painters: Callable[..., Outcome], here: Path, command: str) -> None:
    quiet = painters(*arguments(command), "--quiet")
    assert (quiet.code, quiet.err) == (0, "")
    assert quiet.out.strip()
    for written in here.glob(f"{command}-*"):  # so that it is done again
        written.rename(here / f"before-{written.name}")
    loud = painters(*arguments(command))
    assert loud.code == 0
    assert bool(loud.err) == (command in LOADS)
    assert "\x1b" not in loud.out + loud.err  # neither is a terminal
    assert len(quiet.out.splitlines()) <= len(loud.out.splitlines())


@pytest.mark.slow
def test_quiet_hides_the_bars_of_libraries_too(here: Path) -> None:
    """In a terminal transformers shows how a model loads."""
    shutil.copytree(ROOT / "painters" / "nano" / "llama", here / "copy")
    asked = ("similarity", "--model", "copy", "--limit", "1", "--out", "out")
    assert "Loading weights" in shown([asked], here).text
    assert shown([(*asked, "--quiet")], here).text.startswith("\x1b[1mcopy, intact: 1 documents")


def test_no_escape_codes_where_none_are_wanted(here: Path) -> None:
    """Every command, its help, and a mistake: in a terminal of 60 columns, where nothing is lost either."""
    ran = [arguments(name) for name in names() if name not in OTHERS]
    helped = [(name, "--help") for name in names() if name not in OTHERS]
    found = shown([*ran, ("--help",), *helped, ("run", "--limit", "no")], here, columns=60, NO_COLOR="1")
    assert found.codes == [0] * (len(ran) + 1 + len(helped)) + [2]
    assert "\x1b" not in found.text
    told = found.text[: found.text.index("Usage:")]
    assert "…" not in re.sub(r"first: .*, …|\d … \d|─ … ─", "", told), "letters or digits are lost"


def test_a_dumb_terminal_gets_none_and_others_do(here: Path) -> None:
    light = [("variants",), ("models",), ("tasks",), arguments("show"), ("--help",), ("run", "--limit", "no")]
    assert "\x1b" not in shown(light, here, TERM="dumb").text
    assert "\x1b" in shown(light[:1], here).text
    assert "\x1b" in shown(light[-2:-1], here).text


# ------------------------------------------------------------------------------------------------------------ encodings


def test_every_command_where_the_encoding_is_ascii(here: Path) -> None:
    """A machine without UTF-8, as in a container without a locale: files are UTF-8 there too."""
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ran = [arguments(name) for name in names() if name not in OTHERS]
    found = shown([*ran, ("--help",), ("run", "--help"), ("run", "--limit", "no")], here, **locale)
    assert found.codes == [0] * (len(ran) + 2) + [2]
    assert found.text.isascii()
    assert "+/-" in found.text
    assert "| revision | – |" in (here / "export-out" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("encoding", "lines"),
    [
        ("utf-8", ["99.0 ± 1.0", "    x ± 10", "– 日"]),
        ("cp932", ["99.0 ± 1.0", "    x ± 10", "- 日"]),
        ("cp1252", ["99.0 ± 1.0", "    x ± 10", "– \\u65e5"]),
        ("latin-1", ["99.0 ± 1.0", "    x ± 10", "- \\u65e5"]),
        ("ascii", ["99.0 +/- 1.0", "    x +/- 10", "- \\u65e5"]),
    ],
)
def test_characters_that_an_encoding_lacks(encoding: str, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """They are replaced before the columns of a table are measured."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding, newline=""))
    table = Table(box=None, show_header=False, padding=0)
    table.add_column(justify="right")
    for row in ("99.0 ± 1.0", "x ± 10"):
        table.add_row(row)
    console = Terminal()
    console.print(table)
    console.print(Text("– 日"))
    sys.stdout.flush()
    assert written.getvalue().decode(encoding).splitlines() == lines


# ----------------------------------------------------------------------------------------------------------- exit codes


def test_exit_codes_are_written_down(painters: Callable[..., Outcome]) -> None:
    told = " ".join(painters("--help").out.split())
    for code, meaning in EXIT_CODES.items():
        assert f"{code} {meaning}" in told
    rows = dict(re.findall(r"^\| (\d+) \| (.*?) \|$", DOCS.read_text(), re.MULTILINE))
    assert {int(code): meaning for code, meaning in rows.items()} == EXIT_CODES


def test_exit_codes_are_what_they_say(painters: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    assert painters("variants").code == 0
    assert painters("run", "--plan", "0-10", "--device", "cuda:99").code == 1
    assert painters("run", "--plan", "0-12").code == 2

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("painters.cli.list.tasks_table", interrupted)
    found = painters("tasks")
    assert (found.code, found.err) == (130, "painters: stopped. To run it again:\n  painters tasks\n")


def test_no_command_is_help(painters: Callable[..., Outcome]) -> None:
    found = painters()
    assert found.code == 2
    assert all(name in found.out for name in names())


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    code = "import sys; from painters.cli import main; sys.argv = ['painters', 'variants', '--layers', '2000']; main()"
    piped = subprocess.run(
        ["bash", "-c", f'{sys.executable} -c "{code}" | head -1'], capture_output=True, text=True, check=False
    )
    assert piped.stdout.startswith("variant")
    assert piped.stderr == ""


# ----------------------------------------------------------------------------------------------------------- completion


def completed(words: str, monkeypatch: pytest.MonkeyPatch, painters: Callable[..., Outcome]) -> list[str]:
    """What bash offers for the last of the words."""
    monkeypatch.setenv(_complete.VARIABLE, "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    return painters().out.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("painters run --variant par", ["parallel"]),
        ("painters show --variant ", list(variants.VARIANTS)),
        ("painters run --model nano-l", ["nano-llama"]),
        ("painters run --tasks nano_arc,nano_h", ["nano_arc,nano_hellaswag"]),
        ("painters run --tasks ", list(tasks.bundled())),
        ("painters run --dtype b", ["bfloat16"]),
        ("painters similarity --mode ", [*MODES, "all"]),
        ("painters similarity --inputs nano_l", ["nano_lambada"]),
        ("painters sweep paper/fig1", [f"paper/fig1{number}" for number in range(5)]),
        ("painters plot ", ["all", *map(str, figures.FIGURES)]),
        ("painters models --stack d", ["decoder"]),
        ("painters run --device-map a", ["auto"]),
        ("painters run --device m", ["mps"]),
        ("painters repr", ["reproduce"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_values_are_completed(
    words: str, offered: list[str], monkeypatch: pytest.MonkeyPatch, painters: Callable[..., Outcome]
) -> None:
    assert completed(words, monkeypatch, painters) == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_get_their_script(painters: Callable[..., Outcome], shell: str) -> None:
    found = painters("--show-completion", shell)
    assert found.code == 0
    assert f"{_complete.VARIABLE}=complete_{shell}" in found.out
    assert painters("--show-completion", "tcsh").code == 2


def test_completion_is_set_up_where_the_shell_looks(
    painters: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    found = painters("--install-completion", "bash")
    assert found.code == 0
    (script,) = (tmp_path / ".bash_completions").iterdir()
    assert str(script) in (tmp_path / ".bashrc").read_text()
    offered = 'COMP_WORDS=(painters run --variant par); COMP_CWORD=3; _painters_completion painters; echo "$COMPREPLY"'
    (tmp_path / "painters").write_text(f"#!/bin/sh\nexec {sys.executable} -m painters\n")
    (tmp_path / "painters").chmod(0o755)
    root = str(ROOT)
    done = subprocess.run(
        ["bash", "-c", f"source {script}; {offered}"],
        capture_output=True, text=True, check=False,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": root},
    )  # fmt: skip
    assert done.stdout == "parallel\n", done.stderr


@pytest.mark.parametrize("words", ["painters run --variant par", "painters sweep f", "painters plot 1"])
def test_completion_loads_nothing_heavy(words: str) -> None:
    code = (
        "import os, sys, atexit\n"
        "os.environ['_PAINTERS_COMPLETE'] = 'complete_bash'\n"
        f"os.environ |= {{'COMP_WORDS': {words!r}, 'COMP_CWORD': '{words.count(' ')}'}}\n"
        "atexit.register(lambda: print(sorted({'torch', 'transformers', 'pandas', 'matplotlib'} & set(sys.modules)),"
        " sum(os.times()[:2]), file=sys.stderr))\n"
        "from painters.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, seconds = done.stderr.rsplit(" ", 1)
    assert loaded == "[]"
    assert done.stdout
    assert float(seconds) < 1


def test_paths_are_not_broken_at_80_columns(here: Path) -> None:
    """So that they can be copied; what is longer than the terminal is its own to wrap."""
    long = here / "-".join(["a folder with a long name"] * 4)
    long.mkdir()
    report = ("report", "records.jsonl", "--no-figures", "--out", str(long / "page.html"))
    run = ("run", "--plan", "0-10", "--tasks", "nano_winogrande", "--limit", "2", "--out", str(long / "records.jsonl"))
    found = shown([report, run], here)
    assert found.codes == [0, 0]
    assert f"The report is {long / 'page.html'}: open" in found.text
    assert f"Records: {long / 'records.jsonl'}" in found.text
