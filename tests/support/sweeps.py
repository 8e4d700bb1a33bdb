"""A small grid to sweep, and what a sweep of it has written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from painters.results import Store
from painters.sweep import Summary

GRID = """\
title: a grid
models: [{model}]
tasks: [tasks/nano_arc/nano_arc.yaml, tasks/nano_lambada/nano_lambada.yaml]
variants:
  - {{name: skip, start: all}}
  - {{name: reverse, start: all}}
protocol: {{limit: 3}}
"""


CELLS = 12  # six plans, two tasks


def content(store: Store | Path) -> set[str]:
    """All that is recorded but how long it took and when."""
    records = (store if isinstance(store, Store) else Store(store)).records()
    return {record.model_dump_json(exclude={"seconds", "date", "command"}) for record in records}


def counts(found: Summary) -> tuple[int, int, int, int]:
    return found.cells, found.found, found.done, len(found.failures)


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
