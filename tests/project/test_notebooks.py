"""The notebooks run from top to bottom, say nothing on stderr, leave nothing behind, and show what they compute."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode
from support import notebook_runs
from support.notebook_runs import NOTEBOOKS, ROOT

FLOAT = re.compile(r"-?\d+\.\d+(?:e[-+]?\d+)?")
# Of two documents in twenty: another CPU rounds differently, and a document may tip over. Words, whole numbers and the
# shape of tables must be the same.
TOLERANCE = 0.1
DIGEST = re.compile(r"\(digest ([0-9a-f]{12})\)")

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code(book: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in book.cells if cell.cell_type == "code"]


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


def shown(output: NotebookNode) -> str:
    """The text of an output; of a picture that it is one."""
    if output.output_type == "stream":
        return str(output.text)
    return "\n".join(output.data.get(kind, "") for kind in ("text/plain", "text/markdown")) + str(sorted(output.data))


@functools.cache
def committed_digests() -> frozenset[str]:
    """The digests of records in the captions of the committed figures."""
    captions = (ROOT / "results" / "figures").glob("*.md")
    return frozenset(digest for path in captions for digest in DIGEST.findall(path.read_text(encoding="utf-8")))


def words(text: str) -> list[str]:
    """The text without the numbers that have a point; a table's columns may be wider for a sign.

    Also without the digests of records that a notebook scores itself: those hold the versions of the libraries that
    scored them. Digests of committed records stay.
    """
    known = committed_digests()
    text = DIGEST.sub(lambda found: found[0] if found[1] in known else "(digest ~)", text)
    return FLOAT.sub("~", text).split()


def assert_same(committed: NotebookNode, executed: NotebookNode) -> None:
    for was, now in zip(code(committed), code(executed), strict=True):
        told = f"{was.id} shows something else than it computes: run `make notebooks`, look at it, and commit it"
        before, after = ("\n".join(map(shown, cell.outputs)) for cell in (was, now))
        assert words(before) == words(after), told
        numbers = [[float(found) for found in FLOAT.findall(text)] for text in (before, after)]
        assert numbers[0] == pytest.approx(numbers[1], abs=TOLERANCE), told


@each
def test_runs_from_top_to_bottom(path: Path, tmp_path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if "../results" in text and not notebook_runs.records():
        pytest.skip(f"{path.name} reads records, and results/ holds none yet")
    if "nano-bert" in text and not (ROOT / "painters/nano/bert/model.safetensors").exists():
        pytest.skip(f"{path.name} fine-tunes nano-bert, whose weights are not here yet")
    copy = notebook_runs.workplace(tmp_path) / path.name
    scratch = tmp_path / "scratch"
    before = files(tmp_path)
    executed = notebook_runs.execute(copy, scratch)

    said = [output.text for cell in code(executed) for output in cell.outputs if output.get("name") == "stderr"]
    assert not said, f"{path.name} says on stderr: {said}"
    assert files(tmp_path) - before == {scratch.relative_to(tmp_path)}, f"{path.name} leaves files behind"
    committed = notebook_runs.read(path)
    if any(cell.outputs for cell in code(committed)):
        assert_same(committed, executed)


@each
def test_uses_public_names_only(path: Path) -> None:
    for cell in code(notebook_runs.read(path)):
        for node in ast.walk(ast.parse(TransformerManager().transform_cell(cell.source))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Attribute):
                names = [node.attr]
            private = [name for name in names if any(part.startswith("_") for part in name.split("."))]
            assert not private, f"{path.name}, {cell.id}: {private} is not a public name"


@each
def test_file_is_as_make_notebooks_writes_it(path: Path) -> None:
    """No cell run out of order or left out, and no trace of the run: no times, no ids of its own, no versions."""
    book = notebook_runs.read(path)
    text = path.read_text(encoding="utf-8")
    assert text == notebook_runs.text(book), "written by another editor: run `make notebooks`"
    cells = code(book)
    counts = [cell.execution_count for cell in cells]
    assert counts in ([None] * len(cells), list(range(1, len(cells) + 1)))
    assert len(text) < 400_000, "outputs of more than 400 kB load slowly: show fewer pictures, or SVG"


@each
def test_readme_lists_it(path: Path) -> None:
    assert f"({path.name})" in (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")


def test_comparison_forgives_rounding_and_nothing_else() -> None:
    def book(text: str) -> NotebookNode:
        output = NotebookNode(output_type="stream", name="stdout", text=text)
        return NotebookNode(cells=[NotebookNode(cell_type="code", id="cell-00", outputs=[output])])

    assert_same(book("skip  0.85 -0.150"), book("skip 0.80 -0.200"))
    scored, kept = "24 records (digest 06684ce98ead)", f"24 records (digest {min(committed_digests())})"
    assert_same(book(scored), book("24 records (digest 0123456789ab)"))
    for other in ("25 records (digest 06684ce98ead)", "24 records (digest ~~)", kept):
        with pytest.raises(AssertionError):
            assert_same(book(scored), book(other))
    for other in ("skip 0.55 -0.150", "swap 0.85 -0.150", "skip 0.85", "skip 0.85 -0.150 7"):
        with pytest.raises(AssertionError, match="cell-00 shows something else"):
            assert_same(book("skip 0.85 -0.150"), book(other))
