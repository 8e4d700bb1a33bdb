"""The documentation as `make docs` builds it: complete, without a network, and in a real browser."""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import browser
from support.browser import Page

ROOT = Path(__file__).parents[2]
API = ROOT / "docs" / "api"
INSIDE = {"cli", "memory", "nano", "progress"}
"""Modules without a page: what they do is described where it is used."""
COMMAND = browser.find()

needs_mkdocs = pytest.mark.skipif(not importlib.util.find_spec("mkdocs"), reason="needs pip install -e '.[docs]'")

needs_browser = pytest.mark.skipif(COMMAND is None, reason=browser.MISSING)


def modules() -> set[str]:
    """The modules that the pages of the API are made of."""
    text = "".join(path.read_text() for path in sorted(API.glob("*.md")))
    return set(re.findall(r"^::: painters\.([\w.]+)$", text, re.MULTILINE))


def test_the_api_has_every_module() -> None:
    top = (ROOT / "painters").glob("[!_]*")
    public = {path.stem for path in top if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert {name for name in modules() if "." not in name} == public - INSIDE


def test_the_api_has_every_public_name() -> None:
    import painters

    page = (API / "painters.md").read_text()
    named = set(re.findall(r"^\| \[`(\w+)`\]", page, re.MULTILINE))
    assert named == set(painters.__all__) - {"__version__"}


def test_the_tables_and_the_commands_are_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    from painters.cli import app
    from painters.variants import VARIANTS

    monkeypatch.syspath_prepend(str(ROOT / "docs" / "hooks"))
    tables, commands = importlib.import_module("tables"), importlib.import_module("commands")
    for path in (ROOT / "docs").glob("*.md"):
        made = commands.on_page_markdown(tables.on_page_markdown(path.read_text()))
        assert "<!-- table" not in made
        assert commands.MARK not in made
    assert all(f"| `{name}` |" in "\n".join(tables.variants_table()) for name in VARIANTS)
    names = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    reference = "\n".join(commands.reference())
    assert names
    assert all(f"## painters {name}\n" in reference for name in names)
    assert "`--install-completion`" not in reference  # of the group, which the page describes in words
    assert "`--variant <str>`" in reference


def test_a_link_to_what_the_site_lacks_is_left_to_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "hooks"))
    repository = importlib.import_module("repository")
    here = {ROOT / "results" / "README.md": "results/README.md"}
    text = "[r](../results/README.md#state) [n](../nothing.md)\n\n```sh\n[r](../results/README.md)\n```\n"
    assert repository.expanded(text, ROOT / "docs" / "api" / ".." / "page.md", "page.md", here) == (
        "[r](results/README.md#state) [n](../nothing.md)\n\n```sh\n[r](../results/README.md)\n```\n"
    )
    assert "make run" in repository.section(ROOT / "README.md", "install")
    with pytest.raises(KeyError, match="no heading #three-commands"):
        repository.section(ROOT / "README.md", "three-commands")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built into a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.mark.slow
@needs_mkdocs
def test_every_name_of_every_module_is_in_the_site(site: Path) -> None:
    text = "".join(path.read_text() for path in (site / "api").glob("*.html"))
    anchors = set(re.findall(r'id="(painters\.[\w.]+)"', text))
    for module in modules():
        exported = getattr(importlib.import_module(f"painters.{module}"), "__all__", ())
        assert not [name for name in exported if f"painters.{module}.{name}" not in anchors], module
    assert {"painters.engine.surgery", "painters.harness.evaluate", "painters.plan.Plan.parse"} <= anchors


@pytest.mark.slow
@needs_mkdocs
def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        loads = re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(https?:[^"]+)', path.read_text())
        assert not loads, f"{path}: {loads}"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Page]:
    assert COMMAND is not None
    with browser.running(COMMAND) as page:
        yield page


@pytest.mark.slow
@needs_mkdocs
@needs_browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1400, 400])
def test_the_pages_open_from_the_disk(chromium: Page, site: Path, width: int, dark: bool) -> None:
    for path in sorted(set(site.rglob("*.html")) - {site / "404.html"}):  # which is a server's
        chromium.show(width, dark=dark)
        chromium.open(path)
        assert chromium.errors == [], path
        assert not [address for address in chromium.requests if not address.startswith(("file:", "data:"))], path
        assert chromium.evaluate("document.documentElement.scrollWidth") <= width, path


@pytest.mark.slow
@needs_mkdocs
@needs_browser
def test_the_search_works_from_the_disk(chromium: Page, site: Path) -> None:
    chromium.show(1400)
    chromium.open(site / "index.html")
    chromium.evaluate("document.querySelector('[data-md-component=search-query]').focus()")
    chromium.wait("document.querySelector('.md-search-result__meta').textContent.includes('Type to start')")
    chromium.call("Input.insertText", text="middle-repeat")
    chromium.press("Shift", 16)  # insertText presses no key, and the page listens to keys
    chromium.wait("!!document.querySelector('.md-search-result__item')")
    found = chromium.evaluate("document.querySelector('.md-search-result__list').textContent")
    assert "middle" in found
    assert chromium.errors == []
