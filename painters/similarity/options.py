"""How hidden states are measured: the options that all functions of the package share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from painters.errors import SimilarityError

__all__ = ["DocumentProgress", "MeasureOptions"]

DocumentProgress: TypeAlias = Callable[[int, int], None]
"""Called after every batch with the documents done and their number, over all passes."""


@dataclass(frozen=True, slots=True)
class MeasureOptions:
    """The options of a measurement; `painters.similarity.measure` describes them."""

    tokenizer: Any = None
    batch_size: int = 8
    limit: int | None = None
    max_length: int | None = None
    path: str | None = None
    progress: DocumentProgress | bool | None = None

    def check(self) -> None:
        """Raise SimilarityError where a number is not a whole one, or below 1."""
        for name in ("batch_size", "limit", "max_length"):
            number = getattr(self, name)
            if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
                raise SimilarityError(f"{name} {number!r}: give a whole number, 1 or more")
