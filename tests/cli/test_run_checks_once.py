"""One `painters run` finds the layers of the model once, and checks each plan against them once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from support.outcome import Outcome

from painters.engine import Program
from painters.plan import Plan
from painters.stack import LayerStack

PLAN, INTACT = "0-3 {4-8} 9-11", "0-11"


def test_layers_are_found_once_and_plans_checked_once(
    painters: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a task of each kind: answers that are compared, and texts that are generated."""
    found: list[str] = []
    programs: Counter[str] = Counter()
    checks: Counter[str] = Counter()
    find, check, make = LayerStack.find.__func__, Plan.check, Program.__init__  # type: ignore[attr-defined]

    def counted_find(kind: type[LayerStack], *args: Any) -> LayerStack:
        stack: LayerStack = find(kind, *args)
        found.append(stack.path)
        return stack

    def counted_make(self: Program, plan: Plan, *args: Any, **options: Any) -> None:
        programs[str(plan)] += 1
        make(self, plan, *args, **options)

    def counted_check(self: Plan, *args: Any) -> None:
        checks[str(self)] += 1
        check(self, *args)

    monkeypatch.setattr(LayerStack, "find", classmethod(counted_find))
    monkeypatch.setattr(Program, "__init__", counted_make)
    monkeypatch.setattr(Plan, "check", counted_check)
    ran = painters("run", "--plan", PLAN, "--tasks", "nano_arc,nano_gsm8k", "--limit", "2", "--batch-size", "4")
    assert ran.code == 0, ran.err
    assert found == ["model.layers"]
    # The intact model is also what the engine compares a model with before it first operates on it.
    assert programs == {PLAN: 1, INTACT: 2}
    # The plan before the model is loaded, whose number of layers is known by then, and the intact one with the model.
    assert checks == {PLAN: 1, INTACT: 1}
