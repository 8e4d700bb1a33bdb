"""Where the bundled models are. Reads folders only, so that listing them loads no library."""

from __future__ import annotations

import json
from pathlib import Path

from painters.models import fetched

__all__ = ["NANO", "models", "num_layers"]

NANO = Path(__file__).parents[1] / "nano"
"""The folder that holds the bundled models, and the texts and tasks that they were made for."""


def models() -> dict[str, Path]:
    """Return the bundled models of this installation.

    Returns:
        Name -> folder, in alphabetical order.

    Examples:
        >>> list(models())
        ['nano-bert', 'nano-llama']
    """
    return {f"nano-{config.parent.name}": config.parent for config in sorted(NANO.glob("*/config.json"))}


def num_layers(model: str) -> int | None:
    """Return the number of layers of a bundled or fetched model, or of a folder by its config.json.

    Args:
        model: A bundled model, one of `painters.models.fetched.MODELS`, or the path of a folder.

    Returns:
        The number; None where there is no such file, or it does not say, or says that of several stacks.

    Examples:
        >>> num_layers("nano-llama")
        12
        >>> print(num_layers("no-such-folder"))
        None
    """
    if model in fetched.MODELS:
        return fetched.MODELS[model].num_layers
    path = models().get(model, Path(model)) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(config, dict) or config.get("is_encoder_decoder"):
        return None
    count = config.get("num_hidden_layers")
    return count if type(count) is int else None
