"""Read a model's configuration, and bound its sizes first: anybody may have written the file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import transformers

from painters.errors import first_line
from painters.models.errors import ModelError
from painters.models.hub import patiently
from painters.models.source import ModelSource
from painters.plan import MAX_LAYERS

MAX_LABELS = 1_000_000
MAX_MODULES = 200_000
"""The most layers times experts, each with modules of its own. The largest known model has 23,000."""
MIN_BYTES_PER_PARAMETER = 0.1
"""The least that a parameter takes in a file: one bit and its scales take more."""

_LAYERS = re.compile(r"(?:n|num|number)_(?:\w+_)?(?:layers?|blocks|stages)|(?:\w+_)?layers|depth")
_EXPERTS = re.compile(r"(?:n|num)_(?:\w+_)?experts")
_IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")


def read_checked(
    name: str,
    source: ModelSource,
    revision: str | None,
    trust_remote_code: bool,
    not_found: Callable[[str, Exception], str],
) -> Any:
    """Return the configuration of a model, once its sizes and what it would run are found harmless.

    Args:
        name: The model's name in messages.
        source: Where it is.
        revision: Its branch, tag or commit on the hub.
        trust_remote_code: Run code that comes with the model.
        not_found: Makes the message of an error from `name` and the error, where there is nothing at `source`.

    Returns:
        The configuration, of transformers.

    Raises:
        ModelError: There is no such model, or its file is unreadable, too large in some size, or names code to run.
    """
    try:
        raw, _ = patiently(
            lambda: transformers.PreTrainedConfig.get_config_dict(source.location, revision=revision, **source.options)
        )
    except Exception as error:  # no such model, or a file that is no configuration
        if source.is_local:
            read = (
                f"{source.gguf_file} cannot be read as a GGUF file"
                if source.gguf_file
                else "its config.json cannot be read"
            )
            raise ModelError(f"model {name!r}: {read}: {first_line(error)}") from error
        raise ModelError(not_found(name, error)) from error
    _refuse_sizes(raw, name)
    if not trust_remote_code:
        _refuse_kernels(raw, name)
    try:
        return patiently(
            lambda: transformers.AutoConfig.from_pretrained(
                source.location, revision=revision, trust_remote_code=trust_remote_code, **source.options
            )
        )
    except Exception as error:  # any: transformers checks little of a file that it did not write
        raise ModelError(
            f"model {name!r}: its config.json is not one that this transformers ({transformers.__version__}) can use: "
            f"{first_line(error)}. Take another release of transformers, or mend the file"
        ) from error


def check_file_sizes(model: Any, name: str, path: Path) -> None:
    """Raise ModelError where `model` is far larger than a GGUF file, or the weight files of a folder, at `path`.

    `model` is on the meta device. transformers would allocate the rest and draw it at random.
    """
    parameters = sum(parameter.numel() for parameter in model.parameters())
    files = [path] if path.is_file() else list(path.glob("*.safetensors"))
    stored = sum(file.stat().st_size for file in files)
    described, weights = ("header", "the file has") if path.is_file() else ("config.json", "its *.safetensors have")
    if 0 < stored < MIN_BYTES_PER_PARAMETER * parameters:
        raise ModelError(
            f"model {name!r}: its {described} describes {parameters:,} parameters, and {weights} "
            f"{stored:,} bytes: they belong to another model, or are not whole"
        )


def check_weights(name: str, loading_info: dict[str, Any]) -> None:
    """Raise ModelError where weights are missing or misshapen: transformers drew them at random.

    Args:
        name: The model's name in messages.
        loading_info: What `from_pretrained(..., output_loading_info=True)` returned beside the model.
    """
    misshapen = sorted(loading_info["mismatched_keys"])
    if misshapen:
        key, stored, configured = misshapen[0]
        raise ModelError(
            f"model {name!r}: {key} has the shape {tuple(stored)} in its checkpoint, and {tuple(configured)} by its "
            f"config.json, as have {len(misshapen) - 1} others: these belong to different models"
        )
    # A pooler may be missing: nothing here reads it.
    missing = sorted(key for key in loading_info["missing_keys"] if "pooler" not in key.split("."))
    if missing:
        raise ModelError(
            f"model {name!r}: its checkpoint lacks {len(missing)} of the weights that its config.json asks for, such "
            f"as {missing[0]}, and transformers would fill them at random. Complete the checkpoint, or correct its "
            "config.json"
        )


def _refuse_sizes(raw: Any, name: str) -> None:
    """Raise ModelError where a count is so large that building the model's modules alone would not end."""
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
    """Raise ModelError where the file names a repository whose compiled code would be fetched and run."""
    for key, value in _values(raw):
        if key.lstrip("_") in _IMPLEMENTATIONS and isinstance(value, str) and "/" in value:
            raise ModelError(
                f"model {name!r}: its config.json asks for the code of {value!r} ({key}). Take that field out, or give "
                f"--trust-remote-code if you trust it"
            )


def _numbers(raw: Any) -> Iterator[tuple[str, int]]:
    """Yield every whole number in the file, after the key nearest to it."""
    yield from ((key, value) for key, value in _values(raw) if isinstance(value, int))


def _values(raw: Any) -> Iterator[tuple[str, Any]]:
    """Yield every value in the file, after the key nearest to it.

    The values of a dictionary of implementations, one for each part of the model, also come after its own key.
    """
    remaining = [("", raw)]
    while remaining:
        key, value = remaining.pop()
        if isinstance(value, dict):
            remaining += [(str(inner_key), inner) for inner_key, inner in value.items()]
            if key.lstrip("_") in _IMPLEMENTATIONS:
                remaining += [(key, inner) for inner in value.values()]
        elif isinstance(value, list):
            remaining += [(key, inner) for inner in value]
        else:
            yield key, value
