"""The same cell scored twice on one machine: the same numbers, bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from support import scored_cells

from painters.glue.training import repeatable

PATHS = [str(Path(__file__).parents[n]) for n in (1, 2)]


def test_another_process_agrees_to_the_last_bit(tmp_path: Path) -> None:
    """With another order of sets and dicts."""
    other = subprocess.Popen(
        [sys.executable, scored_cells.__file__, str(tmp_path / "other")],
        env={**os.environ, "PYTHONHASHSEED": "12345", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(PATHS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    one = json.loads(json.dumps(scored_cells.scored(tmp_path / "one")))
    out, err = other.communicate(timeout=300)
    assert other.returncode == 0, err
    assert json.loads(out) == one
    kinds: set[Any] = {(r["batching"], r["tuning"]["protocol"] if r["tuning"] else None) for r in one}
    assert {kind for kind in kinds if kind[1] is None} == {("shared", None), ("lm-eval", None)}
    assert {protocol for _, protocol in kinds} == {None, "retuned", "frozen", "operated"}
    assert len({r["value"] for r in one}) > 10


def test_on_a_gpu_training_asks_for_kernels_that_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # so that it is gone afterwards
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    with repeatable(torch.device("cpu")):
        assert not torch.are_deterministic_algorithms_enabled()
        assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ

    def fails() -> None:
        with repeatable(torch.device("cuda", 0)):
            assert torch.are_deterministic_algorithms_enabled()
            assert torch.is_deterministic_algorithms_warn_only_enabled()
            assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
            warnings.warn("scatter_add does not have a deterministic implementation", stacklevel=1)
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
