"""What the repository's host runs and asks for: workflows, forms, hooks before a commit."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def commands(workflow: Any) -> list[str]:
    """The lines that the steps of a workflow run."""
    return [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_targets_that_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    made = [re.match(r"make ([a-z-]+)", line) for line in commands(read(path))]
    assert made
    assert all(match is not None and match[1] in targets for match in made)
    assert read(path)["permissions"] == {"contents": "read"}


def test_every_part_of_make_test_and_more_runs_there() -> None:
    made = " ".join(line for path in WORKFLOWS for line in commands(read(path)))
    assert all(f"make {target}" in made for target in ("check", "pytest", "docs", "test-wheel"))


def test_the_tests_run_on_the_oldest_python_and_later_ones() -> None:
    versions = read(GITHUB / "workflows" / "ci.yml")["jobs"]["tests"]["strategy"]["matrix"]["python"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={versions[0]}"
    assert versions == ["3.11", "3.12", "3.13", "3.14"]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_a_form_asks_for_what_is_needed_to_repeat_it(path: Path) -> None:
    form = read(path)
    assert {"name", "description", "body"} <= form.keys()
    fields = {field["id"]: field for field in form["body"]}
    assert len(fields) == len(form["body"])
    assert "versions" in fields
    assert all(field["attributes"]["label"] for field in fields.values())
    assert sum(field.get("validations", {}).get("required", False) for field in fields.values()) >= 3


def test_the_hooks_before_a_commit_are_those_of_make_check() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (repository,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    entries = [hook["entry"].replace(" --force-exclude", "") for hook in repository["hooks"]]
    checked = re.findall(r"^\t\$\(BIN\)/((?:ruff|mypy).*)$", makefile, re.MULTILINE)
    assert entries == [f".venv/bin/{line.removesuffix(' .')}" for line in checked]


def test_updates_are_looked_for_in_every_kind_of_dependency() -> None:
    kinds = {update["package-ecosystem"] for update in read(GITHUB / "dependabot.yml")["updates"]}
    assert kinds == {"pip", "github-actions"}
