"""The blocks of code on a page, run as a reader would run them: in order, in one folder, with one Python.

In front of a block a comment may say otherwise: `<!-- slow -->` for one that takes minutes, `<!-- not run: needs … -->`
for one that a test cannot run. Of both the command lines must at least parse. A `text` block right behind one that runs
is what that prints, to the letter; behind `<!-- numbers vary -->` the numbers in it may be others.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": ROOT / "README.md",
    # training.md has one block, and a test of its own
    **{path.name: path for path in sorted((ROOT / "docs").glob("*.md")) if path.name != "training.md"},
    "api/painters.md": ROOT / "docs" / "api" / "painters.md",
}
BLOCK = re.compile(
    r"^((?:<!-- [^>]+ -->\n)*)(?P<indent> *)```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
RUN = {"python", "sh"}
NUMBER = re.compile(r"[-+]?\d[\d.,]*")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code; `output` is the text that it must print, if the page shows any."""

    language: str
    code: str
    line: int
    title: str | None = None
    slow: bool = False
    not_run: str | None = None
    output: str | None = None
    numbers_vary: bool = False

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command line of a shell block."""
        lines = self.code.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks(path: Path) -> list[Block]:
    """The blocks of a page that run, or that are files to write."""
    text, made = path.read_text(encoding="utf-8"), []
    end = 0
    for found in BLOCK.finditer(text):
        notes, _, language, title, code = found.groups()
        code = re.sub(rf"^{found['indent']}", "", code, flags=re.MULTILINE)
        told = re.search(r"<!-- not run: (.+?) -->", notes)
        if language == "text" and made and not re.sub(r"<!-- [^>]+ -->", "", text[end : found.start()]).strip():
            before = made.pop()
            made.append(
                Block(
                    before.language,
                    before.code,
                    before.line,
                    before.title,
                    before.slow,
                    before.not_run,
                    output=code,
                    numbers_vary="<!-- numbers vary -->" in notes,
                )
            )
        elif language in RUN or title:
            line = text.count("\n", 0, found.start()) + 1 + notes.count("\n")
            made.append(Block(language, code, line, title, "<!-- slow -->" in notes, told and told[1]))
        end = found.end()
    return made


class Reader:
    """Runs blocks in the current folder; `painters` calls the command line, `printed` tells what was printed since."""

    def __init__(self, page: str, painters: Callable[..., Any], printed: Callable[[], str]) -> None:
        self.page = page
        self._painters, self._printed = painters, printed
        self._names: dict[str, Any] = {"__name__": "page"}

    def read(self, block: Block) -> None:
        """Run the block; AssertionError where it fails or prints something else than the page shows."""
        where = f"{self.page}, line {block.line}"
        if block.title:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(block.code, encoding="utf-8")
            return
        self._printed()
        if block.language == "python":
            lines = "\n" * block.line + block.code  # so that tracebacks name the page's lines
            exec(compile(lines, self.page, "exec"), self._names)
            out = self._printed()
        else:
            out = "".join(self._run(words, where) for words in block.commands)
        if block.output is not None:
            compare(out, block.output, where, exact=not block.numbers_vary)

    def _run(self, words: list[str], where: str) -> str:
        if words[0] == "painters":
            found = self._painters(*words[1:])
            assert found.code == 0, f"{where}: {shlex.join(words)} ended with {found.code}: {found.err}"
            return str(found.out)
        arguments = [str(Path(sys.executable).with_name(words[0])), *words[1:]]
        if words[0] == "make":
            if not Path("Makefile").exists():
                installed(Path.cwd())
            arguments = [*words, *["--dry-run"] * (words[1] == "test")]  # that is what runs this
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{where}: {shlex.join(words)} ended with {done.returncode}: {done.stderr}"
        return done.stdout


def installed(folder: Path) -> None:
    """Put the Makefile into the folder, with this Python as its environment, in which everything is installed."""
    venv = folder / ".venv"
    (venv / "bin").mkdir(parents=True)
    for name in ("python", "painters"):
        (venv / "bin" / name).symlink_to(Path(sys.executable).with_name(name))
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    for stamp in (".installed", ".installed-dev"):
        (venv / stamp).touch()


def compare(found: str, shown: str, where: str, *, exact: bool) -> None:
    """Raise AssertionError where they differ: in a letter, or with numbers left out of account."""

    def lines(text: str) -> list[str]:
        kept = [line.rstrip() for line in text.strip("\n").splitlines()]
        return kept if exact else [re.sub(r"[\s─-]+", " ", NUMBER.sub("0", line)).strip() for line in kept]

    assert lines(found) == lines(shown), f"{where}: the page shows\n{shown}\nand it prints\n{found}"


def check(words: list[str]) -> None:
    """Raise AssertionError where a command line would not be understood."""
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    if words[:2] == ["accelerate", "launch"]:
        assert "-m" in words, words
        words = words[words.index("-m") + 1 :]
    assert words, "no command"
    assert words[0] in CHECKS, f"{words[0]}: tests/support/pages.py does not know how to check its command line"
    CHECKS[words[0]](words[1:])


def check_painters(words: list[str]) -> None:
    """Raise AssertionError where painters would refuse the options."""
    from typer._click.exceptions import ClickException
    from typer.main import get_command

    from painters.cli import app

    group: Any = get_command(app)
    name, *arguments = words
    if name.startswith("--"):
        assert name in {option for one in group.params for option in one.opts}, name
        return
    assert name in group.commands, f"painters has no command {name}"
    try:
        group.commands[name].make_context(f"painters {name}", list(arguments))
    except ClickException as error:
        raise AssertionError(f"painters {shlex.join(words)}: {error.format_message()}") from None
    if name == "lm-eval":
        check_lm_eval(arguments)


def check_lm_eval(words: list[str]) -> None:
    """Raise AssertionError where lm-eval would refuse the options."""
    from painters.harness.lm_eval_cli import parse_arguments

    try:
        parse_arguments(["run", *words])
    except SystemExit:
        raise AssertionError(f"lm-eval {shlex.join(words)}") from None


def check_make(words: list[str]) -> None:
    """Raise AssertionError where the Makefile has no such target."""
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(words) <= targets, f"make {shlex.join(words)}: the Makefile has no such target"


def check_pip(words: list[str]) -> None:
    """Raise AssertionError where painters has no extra of this name."""
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    asked = {name for word in words for found in re.findall(r"\[([\w,]+)\]", word) for name in found.split(",")}
    assert words[0] == "install", words
    assert asked <= extras, f"pip {shlex.join(words)}: painters has no such extra"


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "make": check_make,
    "painters": check_painters,
    "pip": check_pip,
}


def every_block() -> Iterator[tuple[str, Block]]:
    """Each block of each page."""
    for name, path in PAGES.items():
        for block in blocks(path):
            yield name, block
