"""Small experiments as dictionaries and texts."""

from __future__ import annotations

from typing import Any

BASE = {"title": "a grid", "models": "nano-llama", "tasks": "nano_arc"}


def of(num_layers: int) -> Any:
    return lambda model: num_layers


GOOD = """\
title: a grid
figure: 4
models: [nano-llama]
tasks: [nano_arc]
variants:
  - name: skip
    start: all
  - {name: parallel, loops: 1..3}
protocol:
  limit: 40
"""
