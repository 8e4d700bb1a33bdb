"""The protocol of a scoring as one value."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from painters import Plan
from painters.experiment import Cell, Protocol, ScoringProtocol

CELL: dict[str, Any] = {
    "model": "nano-llama",
    "revision": None,
    "dtype": "bfloat16",
    "plan": Plan.parse("0-2"),
    "kv": "averaged",
    "task": "nano_arc",
    "shots": 2,
    "limit": 5,
    "seed": 7,
    "batch_size": 16,
    "num_layers": 3,
}


@pytest.mark.parametrize("batching", ["lm-eval", "shared"])
def test_a_cell_has_the_protocol_of_its_fields(batching: str) -> None:
    protocol = Cell(**CELL, batching=batching).protocol
    assert protocol == ScoringProtocol(
        limit=5,
        shots=2,
        batch_size=16,
        dtype="bfloat16",
        seed=7,
        exact_batching=batching == "lm-eval",
        kv="averaged",
    )
    assert protocol.batching == batching


def test_the_cache_is_no_field_of_a_file_s_protocol() -> None:
    with pytest.raises(ValidationError, match="kv"):
        Protocol.model_validate({"kv": "exact"})


def test_a_protocol_is_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ScoringProtocol().limit = 3  # type: ignore[misc]
