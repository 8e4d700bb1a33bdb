"""Files are read and written as UTF-8, whatever the machine's own encoding is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("painters", "benchmarks", "docs/hooks")
TEXT = {"read_text": 0, "write_text": 1}
"""Methods that read or write a text -> the position of their argument `encoding`."""
OPENERS = {"open", "fdopen", "TemporaryFile", "NamedTemporaryFile", "SpooledTemporaryFile"}
"""Functions and methods that open a text file unless their mode says "b"."""
BINARY = {"TemporaryFile", "NamedTemporaryFile", "SpooledTemporaryFile"}
"""Those that open a binary file unless their mode says otherwise."""


def unencoded(source: str) -> Iterator[int]:
    """Yield the lines that open a text file, or read or write one, without naming the encoding."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(keyword.arg in ("encoding", None) for keyword in node.keywords):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in TEXT and len(node.args) <= TEXT[name]:
            yield node.lineno
        elif name in OPENERS:
            values = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "mode")]
            modes = [v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)]
            modes = [mode for mode in modes if mode and set(mode) <= set("rwxabt+")]
            is_method = name == "open" and isinstance(node.func, ast.Attribute)
            if is_method and node.args and not modes:  # `os.open`, and methods of other kinds
                continue
            if not any("b" in mode for mode in modes) and (modes or name not in BINARY):
                yield node.lineno


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_text_file_names_its_encoding(folder: str) -> None:
    faults = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line in unencoded(path.read_text(encoding="utf-8"))
    ]
    assert not faults, f"say encoding='utf-8': Windows has another default: {', '.join(faults)}"


@pytest.mark.parametrize(
    ("source", "is_fault"),
    [
        ("path.read_text()", True),
        ("path.write_text(text)", True),
        ("path.open()", True),
        ("open(path)", True),
        ("open(path, 'w')", True),
        ("path.open('a')", True),
        ("os.fdopen(handle, 'w')", True),
        ("tempfile.NamedTemporaryFile('w')", True),
        ("path.read_text(encoding='utf-8')", False),
        ("path.write_text(text, 'utf-8')", False),
        ("path.open('rb')", False),
        ("open(path, mode='wb')", False),
        ("tempfile.NamedTemporaryFile()", False),
        ("os.open(path, flags)", False),
    ],
)
def test_what_counts_as_unencoded(source: str, is_fault: bool) -> None:
    assert bool(list(unencoded(source))) is is_fault
