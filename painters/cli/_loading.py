"""Models as commands load them."""

from __future__ import annotations

import os
from typing import Any

from rich.console import Console

from painters.cli._progress import status
from painters.ranks import ranks


def spare_cores() -> None:
    """Nothing; threads of libraries that are yet to be loaded do not spin while they wait.

    On a machine with other work they cost more than they win (small models: tenfold).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def load(
    name: str,
    console: Console | None,
    *,
    revision: str | None,
    dtype: str,
    device: str | None,
    device_map: str | None,
    trust_remote_code: bool,
    to_score: bool,
) -> tuple[Any, Any]:
    """The model `name` and its tokenizer; the console says what takes so long.

    `to_score` it lm-eval is loaded too, which takes no encoder.
    """
    spare_cores()
    with status("Loading torch, transformers and lm-eval" if to_score else "Loading torch and transformers", console):
        if to_score:
            from painters.harness import load_model
        else:
            from painters.models import load_model
    with status(f"Loading {name}", console):
        loaded: tuple[Any, Any] = load_model(
            name,
            revision=revision,
            dtype=dtype,
            device=device or (ranks().device if device_map is None else None),
            device_map=device_map,
            trust_remote_code=trust_remote_code,
            encoders=not to_score,
        )
    return loaded
