"""Functions that one can hold: none is longer than a screen without a reason beside it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "painters"
LONGEST = 60  # lines, the docstring not counted


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_functions_fit_on_a_screen(path: Path) -> None:
    lines = path.read_text().splitlines()
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            docstring = (first.end_lineno or 0) - first.lineno + 1 if is_text else 0
            length = (node.end_lineno or 0) - node.lineno + 1 - docstring
            reason = any("# long: " in line for line in lines[node.lineno - 2 : node.body[0].lineno])
            assert length <= LONGEST or reason, (
                f"{path.name}:{node.lineno} {node.name} has {length} lines: take it apart, or say why after '# long: '"
            )
