"""The field's words: no identifier of a private vocabulary, and none of its phrases in code or docs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = sorted(path for folder in ("painters", "benchmarks", "docs/hooks") for path in (ROOT / folder).rglob("*.py"))
PROSE = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "results").glob("*.md")),
    *sorted((ROOT / "experiments").glob("*.md")),
    ROOT / "benchmarks" / "README.md",
]

# As a word of an identifier, in any case: `_told`, `Teller`, `tell_all`.
WORDS = {"tell", "tells", "told", "teller", "telling", "tellings", "proof", "proven", "aside"}
NAMES = {name for one in ("bench", "board", "choose", "pace") for name in (one, f"_{one}", one.title())} | {"Place"}
PHRASES = re.compile(
    r"\bkin\b|whom to tell|asked of what|what is to be had|(?:the )?dearest|for the light, the dark|\bto be had\b", re.I
)


def identifiers(path: Path) -> Iterator[tuple[int, str]]:
    """Names that the module defines: functions, classes, parameters, variables, fields, modules."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield 0, node.asname
    yield 0, path.stem


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_identifiers_are_plain(path: Path) -> None:
    found = [
        f"{path.name}:{line} {name}"
        for line, name in identifiers(path)
        if name in NAMES or WORDS & {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}
    ]
    assert not found


@pytest.mark.parametrize("path", [*CODE, *PROSE], ids=lambda path: str(path.relative_to(ROOT)))
def test_phrases_are_plain(path: Path) -> None:
    found = [f"{n}: {line.strip()}" for n, line in enumerate(path.read_text().splitlines(), 1) if PHRASES.search(line)]
    assert not found
