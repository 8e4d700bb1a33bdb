"""What a model gathers from its layers under a plan: hidden states and attentions, compared with a plain loop."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from architectures.replay import replayed
from painters import Plan, surgery
from painters.engine.gathering import leaves_to_hooks
from painters.stack import LayerStack, SurgeryError

NOTHING = "nothing is gathered"
GATHERED = ("output_hidden_states", "output_attentions")


def gathers_itself(model: nn.Module, stack: LayerStack) -> bool:
    """Whether the model's own loop gathers what hooks of transformers gather in other models."""
    return not leaves_to_hooks(model, stack)


def check_gathered(
    model: nn.Module, stack: LayerStack, path: str | None, given: dict[str, Any], some_plans: dict[str, Plan]
) -> dict[str, str]:
    """For hidden states and attentions "exact", "none" where the model gives none, a refusal, or what is wrong.

    The identity must give all that the intact model does. Under the other plans the entries are those of a plain loop;
    the stages of a model, whose loops gather for all stages together, are run under the identity alone.
    """
    is_stage = any(part.isdigit() for part in stack.path.split("."))
    rows = {}
    for option in GATHERED:
        if option == "output_attentions" and hasattr(model, "set_attn_implementation"):
            with contextlib.suppress(Exception):  # there is no other kind, and what the model has gives attentions
                model.set_attn_implementation("eager")
        try:
            with torch.inference_mode():
                stock = seeded(model, given | {option: True})
        except Exception:
            rows[option] = "none: the intact model fails"
            continue
        rows[option] = outcome_of(model, stack, path, given, option, stock, {} if is_stage else some_plans)
    return rows


def outcome_of(
    model: nn.Module,
    stack: LayerStack,
    path: str | None,
    given: dict[str, Any],
    option: str,
    stock: Any,
    some_plans: dict[str, Plan],
) -> str:
    """The outcome for one option; `stock` is the output of the intact model."""
    try:
        with surgery(model, Plan.identity(stack.num_layers), path=path), torch.inference_mode():
            seen = unlike_plain(seeded(model, given | {option: True}), stock)
        if seen is not None:
            return f"WRONG: {option} under the identity: {seen}"
        for plan in some_plans.values():
            seen = unlike_loop(model, stack, path, plan, given, option)
            if seen is not None and seen.startswith(NOTHING):
                return "none"
            if seen is not None and (gathers_itself(model, stack) or option == "output_hidden_states"):
                return f"WRONG: {seen}"
    except SurgeryError as error:
        return f"refused: {error}"
    except Exception as error:
        return f"WRONG: {option}: {type(error).__name__}: {error}"
    return "exact"


def series(output: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every tuple in an output with its name; of single values only tensors."""
    items = (
        output.items() if isinstance(output, dict) else enumerate(output) if isinstance(output, tuple | list) else ()
    )
    if isinstance(output, Tensor):
        yield name, output
    elif isinstance(output, tuple | list) and all(item is None or isinstance(item, Tensor) for item in output):
        yield name, tuple(output)
    else:
        for key, value in items:
            yield from series(value, f"{name}.{key}" if name else str(key))


def unlike_plain(found: Any, stock: Any) -> str | None:
    """What differs between two outputs, everything compared that is gathered from layers; None for nothing."""
    one, two = dict(series(found)), dict(series(stock))
    if one.keys() != two.keys():
        return f"it returns {sorted(one.keys() ^ two.keys())} in one of them only"
    for name, value in two.items():
        values, others = (part if isinstance(part, tuple) else (part,) for part in (value, one[name]))
        if len(values) != len(others):
            return f"{name} has {len(others)} entries in the place of {len(values)}"
        for place, (this, that) in enumerate(zip(values, others, strict=True)):
            if not same(this, that):
                return f"{name} differs at {place}"
    return None


def unlike_loop(
    model: nn.Module, stack: LayerStack, path: str | None, plan: Plan, given: dict[str, Any], option: str
) -> str | None:
    """What differs between the outputs that are gathered under a plan of whole layers and those of a plain loop.

    In the place of an entry for each layer there must be one for each execution: the very tensor that the layer gives
    in the loop, up to the order of its dimensions and what is cut off. What comes before and after is the model's own,
    such as the last hidden state. The plan must run more or fewer layers than the model has.
    """
    options = {option: True}
    executions: list[tuple[int, Any]] = []
    with torch.inference_mode():
        stock = dict(series(seeded(model, given | options)))
        torch.manual_seed(2)
        after = dict(series(replayed(model, stack.layers, plan, given | options, executions)))
        with surgery(model, plan, path=path):
            found = dict(series(seeded(model, given | options)))
    outputs = [output if isinstance(output, tuple | list) else (output,) for _, output in executions]
    ends = option == "output_hidden_states"
    parts = [output[:1] if ends else output[1:] for output in outputs]
    more = len(executions) - stack.num_layers
    compared = 0
    for name, values in stock.items():
        if not isinstance(values, tuple) or not name.rpartition(".")[2].endswith(option.removeprefix("output_")):
            continue
        now, then = found.get(name), after[name]
        if not isinstance(now, tuple) or len(now) not in (len(values), len(values) + more):
            return f"{name} under {plan} has {len(now or ())} entries where the intact model has {len(values)}"
        if len(now) == len(values) + more:
            # Where a loop gathers hidden states before its layers, its last entry is what comes after the plan.
            some = (parts, parts[:-1]) if ends else (parts,)
            if not any(holds(now, then, begin, few) for few in some for begin in range(len(now) - len(few) + 1)):
                return f"{name} under {plan} does not hold what the executions give"
            compared += 1
        elif unlike_plain(now, then) is not None:
            return f"{name} under {plan} has not the entries of other layers"
    return None if compared else f"{NOTHING} by {option} under {plan}"


def seeded(model: nn.Module, given: dict[str, Any]) -> Any:
    torch.manual_seed(2)
    return model(**given)


def holds(now: tuple[Any, ...], then: tuple[Any, ...], begin: int, parts: list[Any]) -> bool:
    """Whether `now` is `then` with what executions give from `begin` on, in the place of what the layers gave."""
    rest = len(now) - begin - len(parts)
    return (
        all(map(same, now[:begin], then[:begin]))
        and all(map(is_of, now[begin:], parts))
        and all(map(same, now[len(now) - rest :], then[len(then) - rest :]))
    )


def is_of(value: Any, given: Any) -> bool:
    """Whether `value` is one of the tensors that an execution gave, or None where it gave none."""
    tensors = [part for part in given if isinstance(part, Tensor)]
    return any(is_part(value, part) for part in tensors) or (value is None and len(tensors) < max(1, len(given)))


def same(one: Any, other: Any) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return one is other
    return one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())


def is_part(value: Any, whole: Tensor) -> bool:
    """Whether `value` is `whole` with its dimensions in another order, perhaps cut off at their ends."""
    if not isinstance(value, Tensor) or value.ndim != whole.ndim:
        return False
    for order in itertools.permutations(range(whole.ndim)):
        turned = whole.permute(order)
        rooms = [there - here for there, here in zip(turned.shape, value.shape, strict=True)]
        if min(rooms, default=0) < 0:
            continue
        for begins in itertools.product(*({0, room} for room in rooms)):
            cut = tuple(slice(begin, begin + size) for begin, size in zip(begins, value.shape, strict=True))
            if same(turned[cut], value):
                return True
    return False
