"""Where the bundled models lie. Looks at folders only, so that listing them loads no library."""

from __future__ import annotations

import json
from pathlib import Path

NANO = Path(__file__).parents[1] / "nano"


def models() -> dict[str, Path]:
    """Name -> folder of the models in this installation, in alphabetical order."""
    return {f"nano-{config.parent.name}": config.parent for config in sorted(NANO.glob("*/config.json"))}


def num_layers(model: str) -> int | None:
    """The number of layers by the config.json of a bundled model or a folder; None where that does not say."""
    config = models().get(model, Path(model)) / "config.json"
    try:
        read = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    count = read.get("num_hidden_layers") if isinstance(read, dict) else None
    return count if type(count) is int else None
