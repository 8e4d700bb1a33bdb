"""Groups of tasks: which tasks they stand for, and what they change in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from lm_eval.config.group import GroupConfig

from painters.tasks import TaskError

_OF_GROUPS = frozenset(field.name for field in fields(GroupConfig)) | {"group", "task", "tag", "task_list"}
_DEEPEST = 20

Find: TypeAlias = Callable[[str], "Mapping[str, Any] | list[str] | None"]
"""Returns the fields of a group, the names that a tag stands for, or None for a single task or an unknown name."""


@dataclass(frozen=True, slots=True)
class Member:
    """A task of a group.

    Attributes:
        name: The name by which the group calls it.
        group: The name of the group.
        changes: Fields that the groups around it state for their tasks.
    """

    name: str
    group: str
    changes: Mapping[str, Any]


def members(group: Mapping[str, Any], find: Find, changes: Mapping[str, Any] | None = None) -> Iterator[Member]:
    """Yield the tasks of a group, those of the groups and tags in it too, in lm-eval's order.

    As in lm-eval, what a group states beside its own fields holds for its tasks, and the outer group goes before the
    inner one.

    Args:
        group: The group's fields: `group` and `task`, a list of names and of fields.
        find: Says of a name whether it is a group or tag.
        changes: What the groups around it state for their tasks.

    Raises:
        TaskError: The group has no list of tasks, an item is neither a name nor fields, or groups contain each other.
    """
    yield from _members(group, find, dict(changes or {}), ())


def _members(
    group: Mapping[str, Any], find: Find, changes: dict[str, Any], around: tuple[str, ...]
) -> Iterator[Member]:
    name, items = str(group["group"]), group.get("task")
    if name in around or len(around) >= _DEEPEST:
        raise TaskError(f"group {around[0] if around else name!r}: the group {name!r} is in itself")
    if not isinstance(items, list) or not items:
        raise TaskError(
            f"group {name!r}: task: is no list of tasks. A group has one; a task that belongs to one has tag:"
        )
    inherited = {field: value for field, value in group.items() if field not in _OF_GROUPS} | changes
    for item in items:
        yield from _of_item(item, name, find, inherited, (*around, name))


def _of_item(item: Any, group: str, find: Find, changes: dict[str, Any], around: tuple[str, ...]) -> Iterator[Member]:
    """Yield the tasks that one entry of the group `group` stands for."""
    stated = dict(item) if isinstance(item, Mapping) else {"task": item}
    name = stated.get("group", stated.get("task"))
    if not isinstance(name, str):
        raise TaskError(f"group {group!r}: {item!r} is no task: give names, or fields with task: or group:")
    if "group" in stated:
        known = find(name)
        if isinstance(known, Mapping):  # a group that is defined elsewhere, with changes
            own = {field: value for field, value in stated.items() if field not in _OF_GROUPS}
            yield from _members(known, find, changes | own, around)
        else:
            yield from _members(stated, find, changes, around)
        return
    changes = changes | {field: value for field, value in stated.items() if field != "task"}
    known = find(name)
    if known is None:
        yield Member(name, group, changes)
    elif isinstance(known, Mapping):
        yield from _members(known, find, changes, around)
    else:
        for tagged in known:
            yield from _of_item(tagged, group, find, changes, around)
