"""Fixtures of the tests: the tiny models' tokenizer and tasks, and the command line in this process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads are slow beside other work

import pytest
from support.outcome import Outcome


@pytest.fixture(scope="module")
def words() -> Any:
    """The tokenizer of the tiny models."""
    from support.nano_samples import tokenizer

    return tokenizer()


@pytest.fixture(scope="module")
def yamls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Tasks for them: name -> YAML file."""
    from support.nano_samples import write_tasks

    return write_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.fixture
def painters(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Outcome]:
    """Runs the command line in this process, in an empty folder; `{tmp}` in arguments is that folder."""
    monkeypatch.chdir(tmp_path)

    from painters import cli

    def call(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["painters", *(a.replace("{tmp}", str(tmp_path)) for a in arguments)])
        with pytest.raises(SystemExit) as stopped, mock.patch.dict(os.environ):  # commands set defaults in it
            cli.main()
        captured = capfd.readouterr()
        return Outcome(int(stopped.value.code or 0), captured.out, captured.err)

    return call
