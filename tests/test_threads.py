"""Threads that wait for each other: `import painters` keeps them from spinning, or a warning says how."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")
MODEL = """
import torch, transformers
torch.set_num_threads({threads})
sizes = dict(hidden_size=8, intermediate_size=16, num_attention_heads=2, vocab_size=32, num_hidden_layers=3)
model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes))
for _ in range(2):
    with painters.surgery(model, "2-0"):
        pass
"""


def run(code: str, **environment: str) -> str:
    """What the code prints in a process of its own."""
    plain = {name: value for name, value in os.environ.items() if name not in WAITING}
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", code],
        env={**plain, "PYTHONPATH": str(Path(__file__).parents[1]), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "PASSIVE"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"),
        ({"GOMP_SPINCOUNT": "10"}, "None"),
        ({"KMP_BLOCKTIME": "0"}, "None"),
    ],
    ids=repr,
)
def test_import_sets_how_threads_wait_unless_it_is_said(environment: dict[str, str], expected: str) -> None:
    code = "import os, sys, painters; print(os.environ.get('OMP_WAIT_POLICY'), 'torch' in sys.modules)"
    assert run(code, **environment).split() == [expected, "False"]


@pytest.mark.parametrize(
    ("first", "busy", "threads", "warnings"),
    [("torch", True, 2, 1), ("torch", False, 2, 0), ("torch", True, 1, 0), ("painters", True, 2, 0)],
)
def test_torch_before_painters_on_a_busy_machine_is_warned_of(
    first: str, busy: bool, threads: int, warnings: int
) -> None:
    load = f"import os; os.getloadavg = lambda: ({99 if busy else 0}, 0, 0)\n"
    output = run(f"{load}import {first}, painters\n" + MODEL.format(threads=threads))
    assert output.count("this machine is busy") == warnings
    assert ("import painters before torch" in output) == bool(warnings)
