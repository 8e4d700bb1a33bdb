"""What every test runs under: no network, fixed seeds, one thread."""

from __future__ import annotations

import os

# Before anything imports transformers or datasets: both read these once, at import.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("MPLBACKEND", "Agg")

import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from support.outcome import Outcome


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Nothing; torch adds up in the same order on every machine."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Nothing; Ctrl-C is heard also where a shell has started the tests in the background, which ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Nothing; every test starts from the same random state, whichever tests ran before it."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:  # tests that need no torch do not wait for it
        sys.modules["torch"].manual_seed(0)


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
