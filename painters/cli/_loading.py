"""Load models for commands, and say on the console what takes so long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console

from painters.cli._progress import status
from painters.models import bundled
from painters.progress import silent_libraries
from painters.ranks import ranks


def check_plan_before(
    name: str,
    build_plan: Callable[[int], Any],
    console: Console | None,
    *,
    stack: str | None,
    revision: str | None,
    trust_remote_code: bool,
) -> int | None:
    """Call `build_plan` for the layers that the configuration of a model states, before minutes of loading.

    Args:
        name: A bundled model, a folder, or a name on the hub.
        build_plan: Takes the number of layers; raises an error where the plan does not fit.
        console: Where to show what is being loaded; None shows nothing.
        stack: Which stack of layers the plan runs, where there are several.
        revision: Branch, tag or commit on the hub.
        trust_remote_code: Whether code that comes with the model may run.

    Returns:
        The number of layers; None where the configuration does not state it.
    """
    count = bundled.num_layers(name) if stack is None else None
    if count is None:
        with status("Loading torch and transformers", console):
            from painters.models import LayersUnknownError, num_layers
        try:
            count = num_layers(name, revision=revision, trust_remote_code=trust_remote_code, stack=stack)
        except LayersUnknownError:
            return None
    build_plan(count)
    return count


def load(
    name: str,
    console: Console | None,
    *,
    revision: str | None,
    dtype: str,
    device: str | None,
    device_map: str | None,
    trust_remote_code: bool,
    to_score: bool,
) -> tuple[Any, Any]:
    """Return the model `name` and its tokenizer.

    Args:
        name: A bundled model, a folder, or a name on the hub.
        console: Where to show what is being loaded; None shows nothing.
        revision: Branch, tag or commit on the hub.
        dtype: The number type of the weights.
        device: Where the model goes; None takes the best device at hand.
        device_map: How transformers spreads the model over devices, such as "auto".
        trust_remote_code: Whether code that comes with the model may run.
        to_score: Whether lm-eval is loaded too; it takes no encoders.
    """
    with status("Loading torch, transformers and lm-eval" if to_score else "Loading torch and transformers", console):
        if to_score:
            from painters.harness import load_model
        else:
            from painters.models import load_model
    with status(f"Loading {name}", console), silent_libraries():
        loaded: tuple[Any, Any] = load_model(
            name,
            revision=revision,
            dtype=dtype,
            device=device or (ranks().device if device_map is None else None),
            device_map=device_map,
            trust_remote_code=trust_remote_code,
            encoders=not to_score,
        )
    return loaded
