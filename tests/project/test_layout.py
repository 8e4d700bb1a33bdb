"""Packages import downwards only and keep their private modules, the light parts stay light, and no file knows the
machine it was written on."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "painters"

LAYERS = (
    {"_compat", "_lazy", "errors"},
    {"documents", "memory", "plan", "progress", "ranks", "tasks", "threads"},
    {"drawing", "generation", "stack", "variants"},
    {"engine", "experiment", "models"},
    {"results", "sharing"},
    {"export", "glue", "harness"},
    {"nano", "similarity"},
    {"figures", "sweep"},
    {"report", "reproduction"},
    {"cli"},
    {"__main__"},
)
"""The packages and single modules of painters, lowest first: each imports those of lower layers only, also lazily.

`painters` itself, the file with the public names, imports any of them and is imported for `__version__` alone.
"""
UPWARDS = {("plan", "drawing")}  # a plan draws itself in a notebook, and only there brings the drawing in
LARGEST = {"": 12, "cli": 25}  # modules directly in a folder, by its path below painters
MOST = 20

# Importing these, as `import painters` and `painters --help` do, must bring no heavy library.
LIGHT = (
    *(
        "plan",
        "variants",
        "drawing",
        "tasks",
        "ranks",
        "threads",
        "memory",
        "progress",
        "experiment",
        "results",
        "results.doctor",
    ),
    *("models.bundled", "models.hub", "sharing.trie", "sharing.token_trees", "harness", "similarity", "sweep"),
    *("figures", "report", "reproduction", "export", "cli"),
)
HEAVY = {"torch", "transformers", "lm_eval", "datasets", "accelerate", "matplotlib"}
# Third parties that appear in one package only, but for `_compat`, which holds private interfaces, and `nano`, which
# made the bundled models.
ONE_PLACE = {"lm_eval": "harness", "typer": "cli"}


def modules(package: Path) -> list[Path]:
    """The Python files of the package."""
    return sorted(package.rglob("*.py"))


def unit(path: Path, package: Path) -> str:
    """The package or single module directly under `package` that `path` belongs to."""
    return path.relative_to(package).parts[0].removesuffix(".py")


def imports(path: Path, package: Path) -> Iterator[tuple[int, str, str]]:
    """The line of each import in `path`, lazy ones too, with the module and the name in it that is imported, or ""."""
    here = [package.name, *path.relative_to(package).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            base = [*here[: len(here) - node.level + 1]] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, module, alias.name
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in {
            "import_module",
            "__import__",
        }:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield node.lineno, name.value, ""


def is_module(dotted: str, package: Path) -> bool:
    path = package.parent.joinpath(*dotted.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


def objections(package: Path) -> list[str]:
    """What is wrong with the imports of the package, a line each."""
    floors = {name: floor for floor, names in enumerate(LAYERS) for name in names}
    found = []
    for path in modules(package):
        own, place = unit(path, package), path.relative_to(package.parent)
        if own == "__init__":
            continue
        if own not in floors:
            found.append(f"{place}: {own!r} is in no layer: add it to LAYERS in tests/project/test_layout.py")
            continue
        for line, module, name in imports(path, package):
            if module.split(".")[0] != package.name:
                continue
            full = f"{module}.{name}" if name and is_module(f"{module}.{name}", package) else module
            parts = full.split(".")[1:]
            where = f"{place}:{line} imports {module}{'.' if name else ''}{name}"
            private = [i for i, part in enumerate(parts) if re.match("_(?!_)", part)]
            holder = [package.name, *parts[: private[0]]] if private else []
            if holder != [package.name, *path.relative_to(package).parts[:-1]][: len(holder)]:
                found.append(f"{where}: that module is private to {'.'.join(holder)}")
            if not parts:
                if name != "__version__":
                    found.append(f"{where}: import it from the package that defines it")
                continue
            if parts[0] == own:
                continue
            if re.match("_(?!_)", name) and not private:
                found.append(f"{where}: that name is private to {package.name}.{parts[0]}")
            if floors.get(parts[0], len(LAYERS)) >= floors[own] and (own, parts[0]) not in UPWARDS:
                found.append(f"{where}: imports go down, and {parts[0]} is in no lower layer than {own}")
    return found


def private_attributes(path: Path, package: Path) -> Iterator[str]:
    """Private names that code takes from a module of another package as attributes: `models._name`."""
    tree, own, modules = ast.parse(path.read_text()), unit(path, package), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package.name:
            inside = (node.module or "").split(".")[1:]
            modules |= {
                alias.asname or alias.name
                for alias in node.names
                if is_module(f"{node.module}.{alias.name}", package) and [*inside, alias.name][0] != own
            }
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Attribute) and re.match("_(?!_)", node.attr)):
            continue
        if isinstance(node.value, ast.Name) and node.value.id in modules:
            yield f"{path.relative_to(package.parent)}:{node.lineno} takes {node.value.id}.{node.attr}: it is private"


def test_no_private_name_is_taken_from_another_package() -> None:
    assert [line for path in modules(PACKAGE) for line in private_attributes(path, PACKAGE)] == []


def test_imports_go_down_and_private_modules_stay_private() -> None:
    assert objections(PACKAGE) == []


@pytest.mark.parametrize(
    ("file", "code", "objection"),
    [
        ("plan/steps.py", "from painters.engine import surgery\n", "imports go down"),
        ("plan/steps.py", "def f():\n    from painters.engine import surgery\n", "imports go down"),
        ("plan/steps.py", "def f():\n    import painters.report.page\n", "imports go down"),
        ("plan/steps.py", "def f():\n    from .. import cli\n", "imports go down"),
        ("plan/steps.py", "def f():\n    import_module('painters.cli')\n", "imports go down"),
        ("plan/steps.py", "from painters import Plan\n", "import it from the package that defines it"),
        ("stack/search.py", "from painters import variants\n", "imports go down"),
        ("figures/data.py", "from painters.results._hidden import f\n", "private to painters.results"),
        ("figures/data.py", "def f():\n    import painters.results._hidden\n", "private to painters.results"),
        ("figures/data.py", "def f():\n    from painters.results import _hidden\n", "private to painters.results"),
        ("figures/data.py", "from painters.results.files import _name\n", "private to painters.results"),
        ("novel/__init__.py", "", "in no layer"),
        ("results/doctor/mend.py", "from painters.results._hidden import f\n", None),
        ("cli/run.py", "from painters.cli._options import MODEL\nfrom painters import __version__\n", None),
    ],
)
def test_a_planted_import_is_found(tmp_path: Path, file: str, code: str, objection: str | None) -> None:
    package = tmp_path / "painters"
    for name in (file, "results/_hidden.py", "engine/__init__.py", "cli/__init__.py", "cli/_options.py", "variants.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("")
    (package / file).write_text(code)
    found = objections(package)
    assert [objection in line for line in found] == [True] if objection else not found


def test_folders_hold_what_one_can_look_through() -> None:
    for folder in {path.parent for path in modules(PACKAGE)}:
        name, count = folder.relative_to(PACKAGE).as_posix().strip("."), len(list(folder.glob("*.py")))
        assert count <= LARGEST.get(name, MOST), f"painters/{name} holds {count} modules: make packages of them"


def test_every_package_is_installed() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    there = {
        ".".join(("painters", *path.parent.relative_to(PACKAGE).parts))
        for path in modules(PACKAGE)
        if path.name == "__init__.py"
    }
    assert listed - {"painters.experiments", "painters.experiments.paper"} == there


@pytest.mark.parametrize("library", ONE_PLACE)
def test_one_place_for_each_library(library: str) -> None:
    users = {
        unit(path, PACKAGE)
        for path in modules(PACKAGE)
        if library in {module.split(".")[0] for _, module, _ in imports(path, PACKAGE)}
    }
    assert users - {"nano", "_compat"} == {ONE_PLACE[library]}


def test_light_packages_load_nothing_heavy() -> None:
    code = f"""
import importlib, json, sys
loaded = {{}}
for name in {LIGHT!r}:
    importlib.import_module("painters." + name)
    loaded[name] = sorted({HEAVY!r} & set(sys.modules))
print(json.dumps(loaded))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    heavy = {name: libraries for name, libraries in json.loads(done.stdout).items() if libraries}
    assert not heavy, f"{next(iter(heavy.items()))}: import the library inside the function that needs it"


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


def test_help_is_light() -> None:
    runs = [loaded_by("--help") for _ in range(3)]
    assert not runs[0][0] & (HEAVY | {"pandas", "pydantic"})
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
