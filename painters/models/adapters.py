"""Folders of adapters that peft wrote: which model they belong on, and that model with the adapters on it."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from painters.errors import first_line
from painters.models.errors import ModelError

__all__ = ["Adapter", "find_adapter", "with_adapter"]

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter in a folder.

    Attributes:
        folder: The folder.
        base: The model that it was trained on: a bundled model, a folder, or a name on the hub.
        revision: The revision of that model on the hub; None for the newest.
        has_tokenizer: Whether a tokenizer lies beside it.
    """

    folder: Path
    base: str
    revision: str | None
    has_tokenizer: bool


def find_adapter(name: str) -> Adapter | None:
    """Return the adapter in a folder; None where there is none, or where a whole model lies beside it.

    Args:
        name: The name of a model.

    Returns:
        The adapter, of which only its configuration was read.

    Raises:
        ModelError: The configuration cannot be read, or names no model.

    Examples:
        >>> print(find_adapter("nano-llama"))
        None
        >>> folder = Path("my-lora")
        >>> folder.mkdir()
        >>> _ = (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "nano-llama"}')
        >>> find_adapter("my-lora").base
        'nano-llama'
    """
    folder = Path(name)
    if not (folder / CONFIG).is_file() or any(folder.glob("model*.safetensors")):
        return None
    try:
        fields = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        base, revision = fields.get("base_model_name_or_path"), fields.get("revision")
    except (OSError, ValueError, RecursionError, AttributeError) as error:
        raise ModelError(f"model {name!r}: its {CONFIG} cannot be read: {first_line(error)}") from error
    if not isinstance(base, str) or not base or (Path(base) / CONFIG).is_file():
        raise ModelError(
            f"model {name!r} is an adapter of peft, and its {CONFIG} names the model {base!r} that it belongs on: "
            "write the name or folder of a whole model there (base_model_name_or_path)"
        )
    is_on_hub = isinstance(revision, str) and not Path(base).exists()
    has_tokenizer = (folder / "tokenizer_config.json").is_file()
    return Adapter(folder, base, revision if is_on_hub else None, has_tokenizer)


def with_adapter(model: Any, adapter: Adapter, *, merge: bool) -> Any:
    """Return `model` with the adapter on it.

    Args:
        model: The loaded model that the adapter belongs on. It is changed.
        adapter: The adapter.
        merge: Whether to add the adapter to the model's own weights, instead of running it beside them.

    Returns:
        The model without peft's wrapper, in evaluation mode.

    Raises:
        ModelError: peft is not installed, the adapter does not fit or is pickled, or it is one of learned prompts.
    """
    name = str(adapter.folder)
    try:
        from peft import PeftModel
    except ImportError as error:
        raise ModelError(f"model {name!r} is an adapter of peft: install peft to load it (pip install peft)") from error
    if not (adapter.folder / WEIGHTS).is_file():
        raise ModelError(f"model {name!r} is an adapter without {WEIGHTS}: painters reads no pickled weights")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            warnings.filterwarnings("error", message=".*missing adapter keys")  # they would be drawn at random
            wrapped = PeftModel.from_pretrained(model, name)
    except Exception as error:  # any: peft checks little of files that it did not write
        raise ModelError(f"model {name!r}: the adapter cannot be put on {adapter.base}: {first_line(error)}") from error
    if wrapped.active_peft_config.is_prompt_learning:
        raise ModelError(
            f"model {name!r} is an adapter of learned prompts ({wrapped.active_peft_config.peft_type.value}), and only "
            "adapters within layers can be loaded by name: load it with peft and call painters.surgery"
        )
    whole = wrapped.merge_and_unload() if merge else wrapped.get_base_model()
    whole.name_or_path = name  # the name in records
    return whole.eval()
