"""What every test runs under: no network, fixed seeds, one thread."""

from __future__ import annotations

import os

# Before anything imports transformers or datasets: both read these once, at import.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("MPLBACKEND", "Agg")

import random
import sys

import numpy as np
import pytest


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Nothing; torch adds up in the same order on every machine."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Nothing; every test starts from the same random state, whichever tests ran before it."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:  # tests that need no torch do not wait for it
        sys.modules["torch"].manual_seed(0)
