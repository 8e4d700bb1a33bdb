"""The fields that all records share: which model was measured, on what, with which libraries, and when."""

from __future__ import annotations

import datetime
import importlib.metadata
from collections.abc import Sequence
from typing import Any

from painters import __version__, _compat

__all__ = ["LIBRARIES", "model_fields", "timestamp"]

LIBRARIES = ("torch", "transformers", "tokenizers")
"""The libraries whose versions every record holds, after that of painters."""


def model_fields(
    model: Any, num_layers: int, *, weights: str | None = None, libraries: Sequence[str] = LIBRARIES
) -> dict[str, Any]:
    """Return the fields of a record that the loaded model and the installed libraries determine.

    Args:
        model: A loaded Hugging Face model.
        num_layers: How many layers its stack has.
        weights: The digest of its weights where it is known already; by default it is computed.
        libraries: The distributions whose versions are recorded, besides painters itself.

    Returns:
        `model`, `revision`, `weights`, `num_layers`, `dtype`, `device`, `attention` and `versions`, as `Record` and
        `SimilarityRecord` name them.

    Raises:
        importlib.metadata.PackageNotFoundError: One of `libraries` is not installed.

    Examples:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> config = LlamaConfig(
        ...     vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2
        ... )
        >>> fields = model_fields(LlamaForCausalLM(config), num_layers=2)
        >>> fields["model"], fields["num_layers"], fields["dtype"], fields["device"], fields["attention"]
        ('LlamaForCausalLM in memory', 2, 'float32', 'cpu', 'sdpa')
        >>> list(fields["versions"])
        ['painters', 'torch', 'transformers', 'tokenizers']
    """
    from painters.models import describe, weights_digest

    name, revision = describe(model)
    return {
        "model": name,
        "revision": revision,
        "weights": weights_digest(model) if weights is None else weights,
        "num_layers": num_layers,
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": model.device.type,
        "attention": _compat.attention_implementation(model.config),
        "versions": {"painters": __version__} | {library: importlib.metadata.version(library) for library in libraries},
    }


def timestamp() -> str:
    """Return the present time as records hold it: UTC in ISO 8601, to the second.

    Examples:
        >>> timestamp()
        '20...-...T...:...:...+00:00'
    """
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
