"""Where a model's files are: a bundled folder, a fetched file, a folder, a GGUF file, or a name on the hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from painters.models import bundled, fetched

__all__ = ["ModelSource", "find_source", "join_gguf"]

GGUF = ".gguf"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where transformers reads a model.

    Attributes:
        location: A folder, or the name of a repository on the hub.
        gguf_file: The GGUF file in it that holds the whole model; None where it is safetensors.
        is_local: Whether the location is on this machine.
    """

    location: str
    gguf_file: str | None = None
    is_local: bool = False

    @property
    def options(self) -> dict[str, str]:
        """The options of `from_pretrained` that name the file."""
        return {} if self.gguf_file is None else {"gguf_file": self.gguf_file}

    @property
    def path(self) -> Path:
        """The folder, or the GGUF file."""
        return Path(self.location, self.gguf_file or "")


def find_source(name: str) -> ModelSource:
    """Return where a model's files are. Nothing is read.

    Args:
        name: A bundled model, a model that `painters models --fetch` gets, the path of a folder or of a GGUF file, a
            name on the hub, or one followed by a GGUF file in it, as in `org/model/file.gguf`.

    Returns:
        The location; one on the hub where nothing of this name is on this machine.

    Examples:
        >>> find_source("org/model-GGUF/model.Q4_1.gguf")
        ModelSource(location='org/model-GGUF', gguf_file='model.Q4_1.gguf', is_local=False)
        >>> find_source("nano-llama").is_local, find_source("org/model").location
        (True, 'org/model')
    """
    if (folder := bundled.models().get(name)) is not None:
        return ModelSource(str(folder), is_local=True)
    if (model := fetched.MODELS.get(name)) is not None:
        return ModelSource(str(model.path.parent), model.path.name, is_local=True)
    if not name.lower().endswith(GGUF):
        return ModelSource(name, is_local=Path(name).exists())
    path, parts = Path(name), name.split("/")
    is_hub = not path.exists() and len(parts) > 2 and all(parts[:2]) and parts[0] not in (".", "..", "~")
    if is_hub and not path.parent.is_dir():
        return ModelSource("/".join(parts[:2]), "/".join(parts[2:]))
    return ModelSource(str(path.parent), path.name, is_local=True)


def join_gguf(name: str, gguf_file: str | None) -> str:
    """Return the one name of a model that is given as a folder or a repository and a GGUF file in it.

    Args:
        name: The folder, or the name on the hub.
        gguf_file: The file in it; None for a model without one.

    Returns:
        The name that `load_model`, experiments and records take.

    Examples:
        >>> join_gguf("org/model-GGUF", "model.Q4_1.gguf")
        'org/model-GGUF/model.Q4_1.gguf'
        >>> join_gguf("org/model", None)
        'org/model'
    """
    return name if gguf_file is None else f"{name.rstrip('/')}/{gguf_file}"
