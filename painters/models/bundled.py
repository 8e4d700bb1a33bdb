"""Where the bundled models are. Reads folders only, so that listing them loads no library."""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path

from painters.models import fetched
from painters.models.errors import ModelRequestError

__all__ = ["NANO", "check_name", "models", "num_layers"]

NANO = Path(__file__).parents[1] / "nano"
"""The folder that holds the bundled models, and the texts and tasks that they were made for."""

_ALIKE = 0.8
"""How alike a name and a bundled one are where surely the bundled one is meant."""


def models() -> dict[str, Path]:
    """Return the bundled models of this installation.

    Returns:
        Name -> folder, in alphabetical order.

    Examples:
        >>> list(models())
        ['nano-bert', 'nano-llama']
    """
    return {f"nano-{config.parent.name}": config.parent for config in sorted(NANO.glob("*/config.json"))}


def check_name(model: str) -> None:
    """Raise ModelRequestError for a name that is surely no model's, before anything is asked of the hub.

    Args:
        model: A bundled or fetched model, the path of a folder or of a GGUF file, or a name on the hub.

    Raises:
        ModelRequestError: The name is a path at which nothing is, or almost that of a bundled model.

    Examples:
        >>> check_name("nano-llama")
        >>> check_name("meta-llama/Llama-2-7b-hf")
        >>> check_name("nano-lama")
        Traceback (most recent call last):
        painters.models.errors.ModelRequestError: model 'nano-lama': neither a bundled model nor a folder; did you mean
        nano-llama?
    """
    known = [*models(), *fetched.MODELS]
    if model in known or (model and Path(model).exists()):
        return
    is_deep = model.count("/") > 1 and not model.lower().endswith(".gguf")  # the hub has org/model/file.gguf
    if is_deep or model.startswith((".", "/", "~", "\\")) or re.match(r"[A-Za-z]:[\\/]", model):
        raise ModelRequestError(f"model {model!r}: there is no such file or folder; check the path")
    if "/" not in model and (close := difflib.get_close_matches(model.lower(), known, 1, _ALIKE)):
        raise ModelRequestError(f"model {model!r}: neither a bundled model nor a folder; did you mean {close[0]}?")


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
