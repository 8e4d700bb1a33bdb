"""What the pages under docs/ say is so."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import pages
from support.pages import PAGES, ROOT, Block, Reader, blocks

from painters.stack import HALVES

DOCS = Path(__file__).parents[2] / "docs"


def between(page: str, marks: str) -> str:
    found = re.search(rf"<!-- {marks} -->\n(.*?)\n<!-- /{marks} -->", (DOCS / page).read_text(), re.DOTALL)
    assert found is not None
    return found.group(1)


def test_the_classes_whose_halves_are_known() -> None:
    expected = textwrap.fill(", ".join(sorted(HALVES)) + ".", 150)
    assert between("halves.md", "classes") == expected, f"docs/halves.md has to list:\n{expected}"


# ------------------------------------------------------------------------------------------------------ blocks of code

NOT_RUN = {"clusters.md": 2, "figures.md": 1, "models.md": 1, "tutorial.md": 2}
"""How many blocks of a page are not run, for the reasons that it gives."""
EVERY = [pytest.param(name, block, id=f"{name}:{block.line}") for name, block in pages.every_block()]


def read(page: str, reader: Reader, folder: Path, *, slow: bool) -> None:
    """Run the blocks of the page, with the committed records at hand; the slow ones only if `slow`."""
    shutil.copytree(ROOT / "results", folder / "results")
    for block in blocks(PAGES[page]):
        if block.not_run is None and (slow or not block.slow):
            reader.read(block)


@pytest.fixture
def reader(request: pytest.FixtureRequest, painters: Callable[..., Any], capfd: pytest.CaptureFixture[str]) -> Reader:
    return Reader(request.node.name, painters, lambda: capfd.readouterr().out)


@pytest.mark.parametrize("page", [name for name, path in PAGES.items() if any(not b.slow for b in blocks(path))])
def test_the_code_of_a_page_runs(page: str, reader: Reader, tmp_path: Path) -> None:
    read(page, reader, tmp_path, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", [name for name, path in PAGES.items() if any(b.slow for b in blocks(path))])
def test_the_slow_code_of_a_page_runs(page: str, reader: Reader, tmp_path: Path) -> None:
    read(page, reader, tmp_path, slow=True)


@pytest.mark.parametrize(("page", "block"), EVERY)
def test_every_command_line_is_understood(page: str, block: Block) -> None:
    for words in block.commands if block.language == "sh" else []:
        pages.check(words)


def test_what_is_not_run() -> None:
    left = [(page, block.not_run) for page, block in pages.every_block() if block.not_run is not None]
    assert Counter(page for page, _ in left) == NOT_RUN
    assert all(reason.startswith("needs ") for _, reason in left)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_shell_completes_commands_options_and_variants(tmp_path: Path) -> None:
    """docs/command-line.md says so; what `--install-completion` leaves in a home folder is sourced by a bash."""
    code = f"#!{sys.executable}\nimport sys\nfrom painters.cli import main\nsys.argv[0] = 'painters'\nmain()\n"
    (tmp_path / "painters").write_text(code)
    (tmp_path / "painters").chmod(0o755)
    script = """
        painters --install-completion bash >&2
        source "$HOME/.bash_completions/painters.sh"
        completed() { COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _painters_completion painters; echo "${COMPREPLY[@]}"; }
        completed painters sim
        completed painters run --lo
        completed painters run --variant skip
    """
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-ec", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["similarity", "--loops", "skip skip-layer"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks for it
def test_healing(capsys: pytest.CaptureFixture[str]) -> None:
    """The page's recipe gives about the numbers that it shows, and makes up for most of what the skip cost."""
    pytest.importorskip("peft", reason="needs pip install -e '.[dev]'")
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "training.md").read_text(), re.DOTALL)
    exec(compile(code, "training.md", "exec"), {"__name__": "page"})
    found, shown = (
        [float(number) for number in re.findall(r"\d\.\d{3}", text)]
        for text in (capsys.readouterr().out, between("training.md", "healed"))
    )
    assert found == pytest.approx(shown, abs=0.02)
    intact, skipped, healed = found
    assert healed - intact < 0.25 * (skipped - intact)


# ----------------------------------------------------------------------------------------------------------- the prose

PROSE = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "results/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


@pytest.mark.parametrize("path", PROSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_prose_is_wrapped(path: Path) -> None:
    """At 120 characters, but for tables and code."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^    .*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"<!-- (classes|rows) -->.*?<!-- /\1 -->", "", text, flags=re.DOTALL)  # made from the code
    assert not [line for line in text.splitlines() if len(line) > 120 and not line.startswith("|")]


def test_the_first_page_is_short() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) <= 950
    assert text[: text.index("```python")].count("\n") < 40
    assert len((ROOT / "CONTRIBUTING.md").read_text().split()) <= 500


# Pages that are tables made from the code, or lists of them.
WITHOUT_CONCEPTS = {"architectures.md", "compat.md", "concepts.md", "halves.md", "testing.md"}


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_a_page_links_to_the_words_that_it_uses(path: Path) -> None:
    if path.name not in WITHOUT_CONCEPTS:
        assert "](concepts.md)" in path.read_text()
    assert "](docs/concepts.md)" in (ROOT / "README.md").read_text()
