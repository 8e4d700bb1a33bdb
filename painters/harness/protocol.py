"""The keyword arguments of a scoring, checked and put into one value."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from painters.documents import DocumentSelection
from painters.engine import KINDS_OF_KV
from painters.experiment import ScoringProtocol
from painters.tasks import TaskError

SEED = ScoringProtocol().seed
"""The seed of few-shot prompts: lm-eval's own, so that the prompts are those of its command line."""


def scoring_protocol(  # noqa: PLR0913 - the fields of a protocol by their names
    *,
    limit: int | float | None = None,
    shots: int | None = None,
    batch_size: int = 8,
    seed: int = SEED,
    exact_batching: bool = False,
    kv: str = "exact",
    sample: int | None = None,
    sample_seed: int | None = None,
    chat: Mapping[str, Any] = MappingProxyType({}),
) -> ScoringProtocol:
    """Return the protocol that these arguments describe; `chat` holds the fields of `Chat` by name.

    Raises:
        TaskError: An option of documents or prompts has a value that no task can be asked with.
        ValueError: `batch_size` is not a number of rows, or `kv` is unknown.
    """
    try:
        DocumentSelection.checked(limit, sample, sample_seed)
    except ValueError as error:
        raise TaskError(str(error)) from None
    if shots is not None and shots < 0:
        raise TaskError(f"shots {shots}: a prompt has 0 shots or more")
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(
            f"batch_size {batch_size!r}: give a number of rows, 1 or more. lm-eval's 'auto' depends on the "
            f"free memory, and scores depend on the batches"
        )
    if kv not in KINDS_OF_KV:
        raise ValueError(f"kv is {kv!r}: it must be one of {', '.join(map(repr, KINDS_OF_KV))}")
    fields: dict[str, Any] = {
        "limit": limit,
        "sample": sample,
        "sample_seed": sample_seed or 0,
        **chat,
        "shots": None if shots is None else operator.index(shots),
        "batch_size": batch_size,
        "seed": operator.index(seed),
        "exact_batching": exact_batching,
        "kv": kv,
    }
    try:
        return ScoringProtocol.model_validate(fields)
    except ValidationError as error:
        problem = error.errors()[0]
        field = f"{problem['loc'][0]} {problem['input']!r}: " if problem["loc"] else ""
        raise TaskError(f"{field}{problem['msg'].removeprefix('Value error, ')}") from None
