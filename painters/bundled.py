"""Where the bundled models lie. Looks at folders only, so that listing them loads no library."""

from __future__ import annotations

from pathlib import Path

NANO = Path(__file__).parent / "nano"


def models() -> dict[str, Path]:
    """Name -> folder of the models in this installation, in alphabetical order."""
    return {f"nano-{config.parent.name}": config.parent for config in sorted(NANO.glob("*/config.json"))}
