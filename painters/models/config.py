"""A model's configuration as a file that anybody may have written: its sizes are bounded before it is used."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import transformers

from painters.errors import PaintersError
from painters.models.hub import patiently
from painters.plan import MAX_LAYERS

MAX_LABELS = 1_000_000
MAX_MODULES = 200_000
"""Layers times experts, each with modules of its own; the largest model that is known has 23,000."""
LEAST_BYTES = 0.1
"""Of a parameter in a file: one bit and its scales take more."""

_LAYERS = re.compile(r"(?:n|num|number)_(?:\w+_)?(?:layers?|blocks|stages)|(?:\w+_)?layers|depth")
_EXPERTS = re.compile(r"(?:n|num)_(?:\w+_)?experts")
_IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")


class ModelError(PaintersError, ValueError):
    """A model that cannot be had, or that cannot be scored this way."""


class ModelRequestError(ModelError):
    """A way to load a model that there is not."""

    exit_code = 2


def read(name: str, source: str, revision: str | None, trust_remote_code: bool, not_found: Any) -> Any:
    """The configuration of the model `name`, which lies at `source`; `not_found` words the error where it is not."""
    try:
        raw, _ = patiently(lambda: transformers.PreTrainedConfig.get_config_dict(source, revision=revision))
    except Exception as error:  # no such model, or a file that is no configuration
        if Path(source).is_dir():
            raise ModelError(f"model {name!r}: its config.json cannot be read: {first_line(error)}") from error
        raise ModelError(not_found(name, error)) from error
    _refuse_sizes(raw, name)
    if not trust_remote_code:
        _refuse_kernels(raw, name)
    try:
        return patiently(
            lambda: transformers.AutoConfig.from_pretrained(
                source, revision=revision, trust_remote_code=trust_remote_code
            )
        )
    except Exception as error:  # what transformers makes of a file that it did not write: anything
        raise ModelError(
            f"model {name!r}: its config.json is not one that this transformers ({transformers.__version__}) can use: "
            f"{first_line(error)}. Take another release of transformers, or mend the file"
        ) from error


def refuse_small_files(model: Any, name: str, folder: Path) -> None:
    """Nothing; ModelError where the configuration describes far more than the files in `folder` can hold.

    transformers would draw the rest at random, after it has allocated it. `model` is on the meta device.
    """
    numbers = sum(parameter.numel() for parameter in model.parameters())
    stored = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if 0 < stored < LEAST_BYTES * numbers:
        raise ModelError(
            f"model {name!r}: its config.json describes {numbers:,} parameters, and its *.safetensors have {stored:,} "
            f"bytes: they belong to another model, or are not whole"
        )


def require_weights(name: str, found: dict[str, Any]) -> None:
    """Nothing; ModelError where the checkpoint lacks weights, which transformers has drawn at random.

    `found` is what its loading told.
    """
    misshapen = sorted(found["mismatched_keys"])
    if misshapen:
        key, stored, wanted = misshapen[0]
        raise ModelError(
            f"model {name!r}: {key} has the shape {tuple(stored)} in its checkpoint, and {tuple(wanted)} by its "
            f"config.json, as have {len(misshapen) - 1} others: these belong to different models"
        )
    missing = sorted(key for key in found["missing_keys"] if "pooler" not in key.split("."))  # which nothing here reads
    if missing:
        raise ModelError(
            f"model {name!r}: its checkpoint lacks {len(missing)} of the weights that its config.json asks for, such "
            f"as {missing[0]}, and numbers at random would stand in for them. Complete it, or mend its config.json"
        )


def first_line(error: BaseException) -> str:
    """The first line of what the error says, or its name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1]).rstrip(".")
    return told if told and not isinstance(error, KeyError) else f"{type(error).__name__} {told}".strip()


def _refuse_sizes(raw: Any, name: str) -> None:
    """Nothing; ModelError where a count is so large that building the model's modules alone would never end."""
    layers = experts = 1
    for key, value in _numbers(raw):
        if _LAYERS.fullmatch(key):
            layers = max(layers, value)
        elif _EXPERTS.fullmatch(key):
            experts = max(experts, value)
        if (_LAYERS.fullmatch(key) and value > MAX_LAYERS) or (key == "num_labels" and value > MAX_LABELS):
            most = MAX_LABELS if key == "num_labels" else MAX_LAYERS
            raise ModelError(f"model {name!r}: its config.json has {key} {value}: at most {most} are read")
    if layers * experts > MAX_MODULES:
        raise ModelError(
            f"model {name!r}: its config.json has {layers} layers of {experts} experts: at most {MAX_MODULES} in all "
            f"are read"
        )


def _refuse_kernels(raw: Any, name: str) -> None:
    """Nothing; ModelError where the file names a repository whose compiled code would be fetched and run."""
    for key, value in _values(raw):
        if key.lstrip("_") in _IMPLEMENTATIONS and isinstance(value, str) and "/" in value:
            raise ModelError(
                f"model {name!r}: its config.json asks for the code of {value!r} ({key}). Take that field out, or give "
                f"--trust-remote-code if you trust it"
            )


def _numbers(raw: Any) -> Iterator[tuple[str, int]]:
    yield from ((key, value) for key, value in _values(raw) if isinstance(value, int))


def _values(raw: Any) -> Iterator[tuple[str, Any]]:
    """Every value of the file with the nearest name around it."""
    todo = [("", raw)]
    while todo:
        key, value = todo.pop()
        if isinstance(value, dict):
            todo += [(str(inner), one) for inner, one in value.items()]
            if key.lstrip("_") in _IMPLEMENTATIONS:
                todo += [(key, one) for one in value.values()]
        elif isinstance(value, list):
            todo += [(key, one) for one in value]
        else:
            yield key, value
