"""The names by which figures, captions, tables and reports show models.

A record keeps what the model was loaded as, which may be a long path of one machine. What is shown is the name that the
user chose, or a short one made from the path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from painters.errors import PaintersError
from painters.models import fetched

__all__ = ["ModelNameError", "assign_names", "check_name", "display_name", "display_names"]

LONGEST = 60
"""The most characters of a chosen name, so that titles fit their panels."""

# Folders that say at which step of a training weights were kept, but not of which training.
_STEP = re.compile(
    r"(checkpoint|ckpt|step|global_?step|epoch|iter|iteration|round|it|ep)?[-_.=]?\d+[a-z]*"
    r"|final|last|best|latest|merged|model|hf|weights|(final|best|last)[-_](model|checkpoint)",
    re.IGNORECASE,
)
# Folders that hold such folders, and say nothing themselves.
_SHELF = re.compile(r"checkpoints?|ckpts?|outputs?|saved_models?|models?|snapshots?|steps|epochs", re.IGNORECASE)
_HUB = re.compile(r"models--(?P<name>.+)")


class ModelNameError(PaintersError, ValueError):
    """A name for a model that cannot be shown, or that names no model."""

    exit_code = 2


def display_name(model: str) -> str:
    """Return a short name for a model: of a path its last part, of anything else all of it.

    Args:
        model: What records call the model: a bundled name, a name on the hub, or a path.

    Returns:
        The name. Names on the hub stay as they are, and a folder of the hub's cache has the hub's name. Where the last
        part of a path is a step of a training, the training's own name stands before it.

    Examples:
        >>> display_name("nano-llama"), display_name("meta-llama/Llama-2-7b-hf")
        ('nano-llama', 'meta-llama/Llama-2-7b-hf')
        >>> display_name("/data/runs/pruned-llama/")
        'pruned-llama'
        >>> display_name("/data/runs/pruned-llama/checkpoint-500")
        'pruned-llama/checkpoint-500'
        >>> display_name("/cache/hub/models--gpt2/snapshots/607a30d783df")
        'gpt2'
    """
    return _candidates(model)[0]


def display_names(models: Iterable[str], chosen: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the name of each model as it is shown, different ones for different models.

    Args:
        models: What records call the models that are shown together.
        chosen: The names that the user gave some of them.

    Returns:
        The name of each model. Where two would be equal, as many more parts of their paths are shown as tell them
        apart.

    Examples:
        >>> names = display_names(["/data/a/llama", "/data/b/llama", "gpt2"])
        >>> list(names.values())
        ['a/llama', 'b/llama', 'gpt2']
        >>> display_names(["/data/a/llama", "gpt2"], {"/data/a/llama": "half a llama"})
        {'/data/a/llama': 'half a llama', 'gpt2': 'gpt2'}
    """
    options = {model: _candidates(model) for model in dict.fromkeys(models)}
    for model, name in (chosen or {}).items():
        if model in options:
            options[model] = [name, *(f"{name} ({text})" for text in options[model])]
    names = {model: candidates[0] for model, candidates in options.items()}
    for depth in range(1, max(map(len, options.values()), default=0)):
        shown = list(names.values())
        names = {
            model: candidates[min(depth, len(candidates) - 1)] if shown.count(names[model]) > 1 else names[model]
            for model, candidates in options.items()
        }
    return names


def check_name(name: str) -> str:
    """Return a name that a user chose, without spaces around it.

    Args:
        name: The name.

    Raises:
        ModelNameError: It is empty, too long, or more than one line of plain characters.

    Examples:
        >>> check_name(" half a llama ")
        'half a llama'
    """
    stripped = name.strip()
    if not stripped or len(stripped) > LONGEST or not stripped.isprintable():
        raise ModelNameError(
            f"name {name!r}: found {len(stripped)} characters; give 1 to {LONGEST} printable characters on one line"
        )
    return stripped


def assign_names(names: Sequence[str], decoders: Iterable[str], encoders: Iterable[str] = ()) -> dict[str, str]:
    """Return model -> name for names as a command line gives them.

    Args:
        names: Each `NAME`, which names the only decoder (or the only encoder where there is no decoder), or
            `MODEL=NAME`.
        decoders: What records call the decoders.
        encoders: What they call the encoders.

    Raises:
        ModelNameError: A name cannot be shown, there is no such model, or it is unclear which model is meant.

    Examples:
        >>> assign_names(["half a llama"], ["/data/a/llama"], ["nano-bert"])
        {'/data/a/llama': 'half a llama'}
        >>> assign_names(["bert=an encoder"], ["/data/a/llama"], ["/data/bert"])
        {'/data/bert': 'an encoder'}
    """
    decoders, encoders = list(dict.fromkeys(decoders)), list(dict.fromkeys(encoders))
    known = display_names([*decoders, *encoders])
    by_text = {shown: model for model, shown in known.items()} | {model: model for model in known}
    assigned: dict[str, str] = {}
    for text in names:
        splits = [(text[:place], text[place + 1 :]) for place, sign in enumerate(text) if sign == "="]
        match = next(((by_text[left], right) for left, right in reversed(splits) if left in by_text), None)
        if match is None:
            only = decoders or encoders
            if len(only) != 1:
                listed = ", ".join(known.values()) or "none"
                raise ModelNameError(
                    f"name {text!r}: found {len(known)} models ({listed}); give MODEL=NAME with one of them"
                )
            match = only[0], text
        model, name = match
        if assigned.setdefault(model, check_name(name)) != check_name(name):
            raise ModelNameError(
                f"name {text!r}: {known[model]} already has the name {assigned[model]!r}; give one of them"
            )
    return assigned


def _candidates(model: str) -> list[str]:
    """Return the names that a model can be shown by: the shortest first, each longer one with more of the path."""
    if model in fetched.MODELS:
        return [fetched.MODELS[model].title, model]
    parts, is_path = _parts(model.removesuffix(".gguf"))
    if not is_path or not parts:
        return [model.removesuffix(".gguf")]
    hub = next((place for place, part in enumerate(parts) if _HUB.fullmatch(part)), None)
    if hub is not None:
        name = parts[hub].removeprefix("models--").replace("--", "/")
        commit, *inside = parts[hub + 2 :] or [""]  # models--org--name/snapshots/commit/inside
        return ["/".join((name, *inside)), "/".join((f"{name}@{commit[:7]}", *inside)), model]
    first = len(parts) - 1
    while first > 0 and (_STEP.fullmatch(parts[first]) or _SHELF.fullmatch(parts[first])):
        first -= 1
    # The training's name and the step; what lies between them tells nothing.
    head, between = parts[first], [part for part in parts[first + 1 : -1] if not _SHELF.fullmatch(part)]
    tail = [*between, parts[-1]] if first < len(parts) - 1 else []
    short = "/".join((head, *tail))
    longer = ["/".join((*parts[place:first], head, *tail)) for place in range(first - 1, -1, -1)]
    return list(dict.fromkeys((short, *longer, model)))


def _parts(model: str) -> tuple[list[str], bool]:
    """Return the parts of a path without `.` and the root, and whether the name of the model is a path at all."""
    windows = "\\" in model or re.match(r"[A-Za-z]:[\\/]", model) is not None
    text = model.replace("\\", "/") if windows else model
    parts = [part for part in text.split("/") if part not in ("", ".")]
    rooted = windows or text.startswith(("/", "./", "../", "~"))
    return parts[1:] if windows and parts and parts[0].endswith(":") else parts, (
        rooted or text.endswith("/") or len(parts) > 2
    )
