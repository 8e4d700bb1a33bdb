"""Imports go down only, the light parts stay light, and no file knows the machine it was written on."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "painters"

# Floor of each module, lowest first: a module imports modules of lower floors, and of its own floor where
# OWN_FLOOR says so. A package stands for all its modules, and `_plan_text`, say, for a part of `plan`.
FLOORS = {
    "__init__": 0,
    "errors": 0,
    "plan": 0,
    "progress": 0,
    "bundled": 1,
    "ranks": 1,
    "drawing": 1,
    "experiment": 1,
    "hub": 1,
    "memory": 1,
    "scoring": 1,
    "token_trees": 1,
    "trie": 1,
    "tuning": 0,
    "variants": 1,
    "results": 1,
    "stack": 2,
    "tree_attention": 2,
    "cache_slots": 3,
    "engine": 3,
    "generation": 4,
    "sharing": 4,
    "models": 4,
    "tasks": 5,
    "harness": 5,
    "export": 5,
    "glue": 5,
    "similarity": 5,
    "nano": 5,
    "sweep": 6,
    "figures": 6,
    "report": 6,
    "doctor": 6,
    "cli": 7,
    "__main__": 7,
}
OWN_FLOOR = {
    "__init__": {"errors", "export", "plan", "report", "similarity", "variants"},  # the public names that need no torch
    "plan": {"drawing", "errors"},  # drawn only when a notebook shows it
    "experiment": {"variants"},
    "results": {"experiment", "scoring", "variants"},
    "engine": {"cache_slots"},
    "glue": {"tasks"},
    "harness": {"tasks"},
    "nano": {"glue", "harness", "tasks"},
    "report": {"figures"},
    "similarity": {"harness", "tasks"},
    "__main__": {"cli"},
}
# Private modules whose prefix is not the name of the module that they are a part of.
PARTS = {"draw": "drawing", "figure": "figures"}
# Modules that must not reach for a heavy library when they are imported: those below torch, lists and texts.
LIGHT = {name for name, floor in FLOORS.items() if floor <= 1} | {
    "tasks",
    "figures",
    "report",
    "doctor",
    "cli",
    "__main__",
}
HEAVY = {"torch", "transformers", "lm_eval", "datasets", "accelerate", "matplotlib"}
# Third parties that appear in one place only. `nano` is left out: how the models were made is its own affair.
ONE_PLACE = {"lm_eval": {"harness"}, "typer": {"cli"}}


def modules() -> list[Path]:
    """Every Python file of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def row(module: str) -> str:
    """The row of FLOORS for a module or package directly under painters: `plan` for `_plan_text`."""
    if module.startswith("_") and not module.startswith("__"):
        prefix = module.split("_")[1]
        return PARTS.get(prefix, prefix)
    return module


def name_of(path: Path) -> str:
    """The row of FLOORS that `path` belongs to."""
    return row(path.relative_to(PACKAGE).parts[0].removesuffix(".py"))


def imported(tree: ast.AST, package: str) -> set[str]:
    """Absolute dotted names that the code under `tree` imports: `a.b` for `from a import b`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([node.module] if node.module else [])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def package_of(path: Path) -> str:
    return ".".join(("painters", *path.relative_to(PACKAGE).parts[:-1]))


def own_modules(names: set[str]) -> set[str]:
    """The rows of FLOORS that these dotted names reach; `from painters import Plan` reaches `__init__`."""
    found = set()
    for name in names:
        parts = name.split(".")
        if parts[0] == "painters":
            known = len(parts) > 1 and ((PACKAGE / f"{parts[1]}.py").exists() or (PACKAGE / parts[1]).is_dir())
            found.add(row(parts[1]) if known else "__init__")
    return found


def module_level(path: Path) -> ast.Module:
    """The code that runs when `path` is imported: without functions and without `if TYPE_CHECKING`."""

    class Pruned(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]

        def visit_If(self, node: ast.If) -> ast.AST:
            if "TYPE_CHECKING" in ast.unparse(node.test):
                return ast.Module(body=node.orelse, type_ignores=[])
            return self.generic_visit(node)

    return Pruned().visit(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    name = name_of(path)
    assert name in FLOORS, (
        f"painters/{path.relative_to(PACKAGE)} is not in the table of modules: add {name!r} with its floor "
        f"to FLOORS in tests/test_layout.py (0 is the standard library alone, 2 and above may use torch)"
    )
    for other in own_modules(imported(ast.parse(path.read_text()), package_of(path))) - {name}:
        assert other in FLOORS, f"{name} imports painters.{other}, which is not in FLOORS: add it"
        if name == "__init__" and other not in OWN_FLOOR["__init__"]:
            pytest.fail(f"painters/__init__.py imports {other}: bring it in through _LAZY")
        if other == "__init__" and FLOORS[name] > 1:
            continue  # the light public names: Plan, __version__
        allowed = FLOORS[other] < FLOORS[name] or other in OWN_FLOOR.get(name, set())
        assert allowed, (
            f"painters.{name} (floor {FLOORS[name]}) imports painters.{other} (floor {FLOORS[other]}): "
            f"imports go down. Move the code, or allow the pair in OWN_FLOOR in tests/test_layout.py"
        )


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_light_modules_import_nothing_heavy(path: Path) -> None:
    name = name_of(path)
    if name in LIGHT:
        heavy = {other.split(".")[0] for other in imported(module_level(path), package_of(path))} & HEAVY
        assert not heavy, f"painters.{name} imports {sorted(heavy)} at module level: import inside the function"


@pytest.mark.parametrize("library", ONE_PLACE)
def test_one_place_for_each_library(library: str) -> None:
    users = {
        name_of(path)
        for path in modules()
        if library in {name.split(".")[0] for name in imported(ast.parse(path.read_text()), package_of(path))}
    }
    assert users - {"nano"} <= ONE_PLACE[library], f"{library} belongs in {sorted(ONE_PLACE[library])}"


def loaded_by(*arguments: str) -> tuple[set[str], float]:
    """The top-level modules that `python ...` has loaded when it ends, and its processor seconds."""
    run = f"sys.argv = {['painters', *arguments]!r}; runpy.run_module('painters', run_name='__main__')"
    code = f"""
import atexit, json, runpy, sys
atexit.register(lambda: print("\\n" + json.dumps(sorted(sys.modules)), file=sys.stderr))
{run if arguments else "import painters"}
"""
    # Processor time, because a test on a busy machine must not fail for it.
    begin = os.times()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    end = os.times()
    seconds = end.children_user + end.children_system - begin.children_user - begin.children_system
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in json.loads(done.stderr.splitlines()[-1])}, seconds


def test_import_painters_is_light() -> None:
    runs = [loaded_by() for _ in range(3)]
    assert not runs[0][0] & HEAVY
    assert min(seconds for _, seconds in runs) < 0.5


@pytest.mark.skipif(not (PACKAGE / "cli.py").exists(), reason="there is no command line yet")
def test_help_is_light() -> None:
    runs = [loaded_by("--help") for _ in range(3)]
    assert not runs[0][0] & (HEAVY | {"pandas"})
    assert min(seconds for _, seconds in runs) < 0.5


# Home folders, scratch folders and drives: what a path looks like on the machine that wrote it.
MACHINE = re.compile(r"(?<![\w.:/~-])(/(?:(?:home|Users|work|tmp|opt|mnt)/\w|root/)|[A-Z]:\\\\?Users)")


def tracked() -> list[Path]:
    """The files that git tracks, or none where this is not a checkout."""
    done = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, cwd=ROOT, check=False)
    return [ROOT / name for name in done.stdout.split("\0") if name]


def test_tracked_files_name_no_machine() -> None:
    for path in tracked():
        content = path.read_bytes() if path.is_file() and path != Path(__file__) else b""
        if b"\0" in content[:8192]:
            continue  # weights and pictures
        for number, line in enumerate(content.decode(errors="replace").splitlines(), 1):
            found = MACHINE.search(line)
            assert not found, f"{path.relative_to(ROOT)}:{number} names a machine's folder: {line.strip()[:100]}"
