"""How many of the errors that mutmut plants in the core the tests find: `make mutants`.

Every group of modules is tried with the few quick tests that are about it, in a copy of its own under
build/mutation, where `survivors.diff` then holds what no test noticed. `tests/mutants.md` explains what was left at
the last count.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "mutation"
# What tests read besides the package.
BESIDE = ("experiments", "docs", "results", "README.md", "CHANGELOG.md", "conftest.py", "pyproject.toml")
# Tests that measure seconds, of which a busy machine has few.
TIMED = "not at_once and not in_time and not is_fast"
# Long tests of the engine, and architectures, that others stand for.
LONG = "plain_loop under_every_plan trainer adamw dropout"
KIN = "mistral qwen phi3 gpt_neox roberta electra distilbert modernbert"
# What mutmut prints while it works.
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


@dataclass(frozen=True)
class Group:
    """Modules that belong together, as patterns in `painters`, and the test files that are about them."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]
    chosen: str = TIMED
    """Which tests in these files, as an expression for pytest's -k."""


GROUPS = {
    "plan": Group(
        ("plan/*.py",),
        ("plan/test_plan.py", "plan/test_errors.py", "drawing/test_drawing.py", "drawing/test_notebook_display.py"),
        f"{TIMED} and not a_kernel",  # whose process does not find mutmut's settings
    ),
    "variants": Group(("variants.py",), ("test_variants.py",)),
    "trie": Group(
        ("sharing/trie.py", "sharing/token_trees.py"), ("sharing/test_trie.py", "sharing/test_token_trees.py")
    ),
    "sharing": Group(
        ("sharing/sharing.py",),
        ("sharing/test_sharing.py",),
        "not every_head and (not every_plan_answers or llama or gemma2 or bert)",
    ),
    "engine": Group(
        ("engine/program.py", "engine/recording.py", "engine/side_outputs.py", "engine/merges.py"),
        (
            "engine/test_averaged.py",
            "engine/test_cache.py",
            "engine/test_engine.py",
            "engine/test_errors.py",
            "engine/test_position_bias.py",
            "engine/test_trace.py",
            "engine/test_verify.py",
            "engine/test_peft.py",
            "engine/test_placement.py",
            "engine/test_training.py",
        ),
        " and ".join(f"not {word}" for word in f"{LONG} {KIN}".split()),
    ),
    "verify": Group(("engine/verify.py",), ("engine/test_verify.py",)),
    "results": Group(
        ("results/*.py",),
        (
            "results/test_damage.py",
            "results/test_doctor.py",
            "project/test_faults.py",
            "drawing/test_notebook_display.py",
            "results/test_results.py",
            "results/test_command.py",
            "results/test_store.py",
        ),
        "not four_writers and not full_disk and not have_their_command and not shows_its_bar",
    ),
}


def undecorated(source: str) -> str:
    """The module with its decorators applied below the functions, since mutmut passes over decorated ones."""
    lines = source.splitlines()
    tree = ast.parse(source)
    bodies = [tree.body, *(node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef))]
    functions = [node for body in bodies for node in body if isinstance(node, ast.FunctionDef)]
    for node in sorted(functions, key=lambda node: node.lineno, reverse=True):
        named = [ast.unparse(decorator) for decorator in node.decorator_list]
        if not named or {"overload", "staticmethod", "classmethod", f"{node.name}.setter"} & set(named):
            continue
        applied = node.name
        for decorator in reversed(named):
            applied = f"{decorator}({applied})"
        lines.insert(node.end_lineno or 0, f"{' ' * node.col_offset}{node.name} = {applied}")
        del lines[node.decorator_list[0].lineno - 1 : node.lineno - 1]
    return "\n".join(lines) + "\n"


def prepare(name: str) -> Path:
    """A copy of the package and its tests, with mutmut's settings for this group."""
    group, folder = GROUPS[name], BUILD / name
    folder.mkdir(parents=True, exist_ok=True)
    for copied in ("painters", "tests", *BESIDE, "mutants"):
        if (folder / copied).is_dir():
            shutil.rmtree(folder / copied)
    for copied in ("painters", "tests", *BESIDE):
        if (ROOT / copied).is_dir():
            shutil.copytree(ROOT / copied, folder / copied, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / copied, folder / copied)
    for path in mutated(name):
        path.write_text(undecorated(path.read_text()))
    settings = {
        "source_paths": ["painters"],
        "only_mutate": [f"painters/{pattern}" for pattern in group.modules],
        "also_copy": list(BESIDE),
        "pytest_add_cli_args": ["-p", "tests.mutation_order", "-p", "no:cacheprovider", "-k", group.chosen],
        "pytest_add_cli_args_test_selection": [f"tests/{test}" for test in group.tests],
        "process_isolation": "forkserver",  # torch's threads do not outlive a fork
        "timeout_multiplier": 4.0,
        "use_git_change_detection": False,
    }
    rows = [f"{key} = {str(value).lower() if isinstance(value, bool) else value!r}" for key, value in settings.items()]
    with (folder / "pyproject.toml").open("a") as file:
        file.write("\n".join(["", "[tool.mutmut]", *rows, ""]))
    return folder


def mutated(name: str) -> list[Path]:
    """The group's modules in its copy."""
    return sorted(path for pattern in GROUPS[name].modules for path in (BUILD / name / "painters").glob(pattern))


def mutants(name: str) -> list[str]:
    """mutmut's names of all mutants of the group."""
    from mutmut.configuration import reset_config
    from mutmut.mutation.file_mutation import mutate_file_contents

    with contextlib.chdir(BUILD / name):
        reset_config()  # mutmut's settings are those of the folder that it is in
        return [
            f"{module_of(path, BUILD / name)}.{mutant}"
            for path in mutated(name)
            for mutant in mutate_file_contents(str(path), path.read_text()).mutant_names
        ]


def module_of(path: Path, folder: Path) -> str:
    """The dotted name of a module of the copy in `folder`."""
    return ".".join(path.relative_to(folder).with_suffix("").parts)


def mutmut(folder: Path, *arguments: str) -> str:
    """What mutmut prints."""
    command = [sys.executable, "-m", "mutmut", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    environment.pop("PYTHONPATH", None)  # the copy is the one to import
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stdout.splitlines() if line.strip() and line[0] not in SPINNER]
        raise SystemExit("\n".join([*said[-40:], f"mutmut {arguments[0]} failed in {folder}"]))
    return done.stdout


def run(name: str, chosen: list[str], processes: int) -> dict[str, str]:
    """What became of every chosen mutant of the group: "killed", "survived", "timeout", "no tests"..."""
    folder = BUILD / name
    mutmut(folder, "run", "--max-children", str(processes), *chosen)
    found = dict(re.findall(r"^ +(\S+): (.+)$", mutmut(folder, "results", "--all", "true"), re.MULTILINE))
    became = {mutant: found[mutant] for mutant in chosen}
    left = [mutant for mutant, state in became.items() if state not in ("killed", "timeout")]
    (folder / "survivors.diff").write_text("\n".join(mutmut(folder, "show", mutant) for mutant in left))
    return became


def row(title: str, states: Iterable[str]) -> str:
    """A row of the table; a mutant that ran out of time is found too."""
    counts = Counter(states)
    found = counts["killed"] + counts["timeout"]
    rest = counts.total() - found - counts["survived"]
    share = 100 * found / max(1, counts.total())
    columns = (counts.total(), counts["killed"], counts["timeout"], counts["survived"], rest)
    return f"{title:<28}" + "".join(f"{column:>10}" for column in columns) + f"{share:>9.1f}%"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", help=f"of {', '.join(GROUPS)}; all by default")
    parser.add_argument("--sample", type=int, help="try this many mutants of each group, drawn with --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="try the mutants whose names match this regular expression")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    unknown = set(options.groups) - set(GROUPS)
    if unknown:
        parser.error(f"no such group: {', '.join(sorted(unknown))}; the groups are {', '.join(GROUPS)}")
    head = f"{'module':<28}{'mutants':>10}{'killed':>10}{'timeout':>10}{'survived':>10}{'other':>10}{'found':>10}"
    print(head, flush=True)
    for name in options.groups or GROUPS:
        prepare(name)
        everything = [mutant for mutant in mutants(name) if re.search(options.only, mutant)]
        chosen = everything
        if options.sample and options.sample < len(everything):
            chosen = sorted(random.Random(options.seed).sample(everything, options.sample))
        states = run(name, chosen, options.processes)
        for module in dict.fromkeys(mutant.rpartition(".")[0] for mutant in chosen):
            print(row(module, [state for mutant, state in states.items() if mutant.rpartition(".")[0] == module]))
        of = "" if len(chosen) == len(everything) else f" (of {len(everything)})"
        print(row(f"= {name}{of}", states.values()), flush=True)


if __name__ == "__main__":
    main()
