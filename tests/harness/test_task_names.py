"""Names of tasks are checked before a model is loaded, without lm-eval's index where that is not needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.outcome import Outcome

from painters.harness import task_index, task_names
from painters.harness.task_names import check_names
from painters.tasks import TaskError


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What lm-eval's index has, which takes half a minute to make; and a note of each look into it."""
    looks: list[str] = []

    def names() -> list[str]:
        looks.append("looked")
        return ["hellaswag", "only_in_a_group"]

    monkeypatch.setattr(task_index, "lm_eval_names", names)
    return looks


@pytest.mark.parametrize("name", ["nano_arc", "hellaswag", "arc_challenge", "mmlu", "mine/task.yaml", "folder/cola"])
def test_names_that_need_no_index(name: str, index: list[str]) -> None:
    check_names([name])
    assert not index


def test_a_bundled_name_misspelt_needs_no_index(index: list[str]) -> None:
    with pytest.raises(TaskError, match=r"task 'nano_hellaswagg': neither .* did you mean nano_hellaswag"):
        check_names(["nano_arc", "nano_hellaswagg"])
    assert not index


def test_other_names_are_looked_up(index: list[str]) -> None:
    check_names(["only_in_a_group"])
    with pytest.raises(TaskError, match=r"task 'helaswag': neither .* did you mean (nano_\w+ or )?hellaswag"):
        check_names(["helaswag"])
    assert len(index) == 2


def test_a_typo_shows_before_the_model_is_loaded(
    painters: Callable[..., Outcome], index: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from painters.cli import run

    def loaded(*args: Any, **options: Any) -> Any:
        pytest.fail("a model was loaded")

    monkeypatch.setattr("painters.cli.run.load", loaded)
    assert run is not None
    for name, meant in (("nano_ark", "nano_arc"), ("helaswag", "hellaswag")):
        found = painters("run", "--plan", "0-11", "--tasks", f"nano_arc,{name}")
        assert found.code == 2
        assert f"task '{name}'" in found.err
        assert meant in found.err
    assert painters("similarity", "--inputs", "nano_ark").code == 2
    assert task_names.unknown_task("nano_ark", ["nano_arc"]).exit_code == 2
