"""Every public function and class says what it takes, returns and raises, and shows an example that runs."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "painters"

# The packages and single modules whose `__all__` is public, in the words of the API pages.
PUBLIC = (
    *("drawing", "engine", "errors", "experiment", "export", "figures", "generation", "glue", "harness", "memory"),
    *(
        "models",
        "models.bundled",
        "plan",
        "progress",
        "ranks",
        "report",
        "results",
        "results.doctor",
        "results.scoring",
    ),
    *("sharing", "sharing.trie", "similarity", "stack", "sweep", "tasks", "variants"),
)
SECTIONS = r"^(Args|Returns|Yields|Raises|Attributes|Example|Examples|Note|Notes|References):$"
NOUNS = re.compile(r"^(Nothing|Whether|What|The|A|An|Every|One|All|How|Where)\b")


def public() -> Iterator[tuple[str, Any]]:
    """Dotted name -> function or class, for every public one that painters defines; each once."""
    seen: set[int] = set()
    for module in PUBLIC:
        for name in importlib.import_module(f"painters.{module}").__all__:
            value = getattr(importlib.import_module(f"painters.{module}"), name)
            is_own = (getattr(value, "__module__", None) or "").startswith("painters")
            if is_own and (inspect.isfunction(value) or inspect.isclass(value)) and id(value) not in seen:
                seen.add(id(value))
                yield f"{module}.{name}", value


OBJECTS = dict(public())


def sections(docstring: str) -> set[str]:
    return set(re.findall(SECTIONS, docstring, re.MULTILINE))


def is_error(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, (Exception, Warning))


def is_protocol_or_alias(value: Any) -> bool:
    return inspect.isclass(value) and getattr(value, "_is_protocol", False)


@pytest.mark.parametrize("name", OBJECTS)
def test_a_public_docstring_is_whole(name: str) -> None:
    value, text = OBJECTS[name], inspect.getdoc(OBJECTS[name]) or ""
    assert text, f"{name} has no docstring"
    assert len(text.splitlines()[0]) <= 100, "the first line is a summary"
    if is_error(value) or is_protocol_or_alias(value):
        return
    found = sections(text)
    if inspect.isfunction(value):
        parameters = [p for p in inspect.signature(value).parameters if p not in {"self", "cls"}]
        source = ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]
        returns = getattr(source, "returns", None)
        if parameters:
            assert "Args" in found, f"{name} takes {', '.join(parameters)} and has no Args"
            args = text.split("\nArgs:\n")[1]
            missing = [p for p in parameters if not re.search(rf"^ +\*{{0,2}}{p}(?: \([^)]*\))?:", args, re.MULTILINE)]
            assert not missing, f"{name}: Args lacks {missing}"
        if returns is not None and ast.unparse(returns) != "None":
            assert found & {"Returns", "Yields"}, f"{name} returns {ast.unparse(returns)} and has no Returns"
        raises = [n for n in ast.walk(source) if isinstance(n, ast.Raise) and n.exc is not None]
        assert not raises or "Raises" in found, f"{name} raises, and has no Raises"
        assert not NOUNS.match(text), f"{name}: begin with a verb, as in 'Return ...'"
    examples = doctest.DocTestParser().get_examples(text)
    assert any(example.want for example in examples), f"{name} has no example that shows a result"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_docstring_is_a_riddle(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            text = ast.get_docstring(node) or ""
            assert not text.startswith("Nothing"), f"{path.name}: {getattr(node, 'name', 'module')}: {text[:60]}"
