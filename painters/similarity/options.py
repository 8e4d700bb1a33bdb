"""How hidden states are measured: the options that all functions of the package share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from painters.documents import DocumentSelection
from painters.errors import SimilarityError

__all__ = ["DocumentProgress", "MeasureOptions"]

DocumentProgress: TypeAlias = Callable[[int, int], None]
"""Called after every batch with the documents done and their number, over all passes."""


@dataclass(frozen=True, slots=True)
class MeasureOptions:
    """The options of a measurement; `painters.similarity.measure` describes them."""

    tokenizer: Any = None
    batch_size: int = 8
    limit: int | float | None = None
    max_length: int | None = None
    path: str | None = None
    progress: DocumentProgress | bool | None = None
    sample: int | None = None
    sample_seed: int | None = None

    @property
    def selection(self) -> DocumentSelection:
        """The documents that are read."""
        try:
            return DocumentSelection.checked(self.limit, self.sample, self.sample_seed)
        except ValueError as error:
            raise SimilarityError(str(error)) from None

    def check(self) -> None:
        """Raise SimilarityError where a number is one that it cannot be, or two options exclude one another."""
        _ = self.selection
        for name in ("batch_size", "max_length"):
            number = getattr(self, name)
            if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
                raise SimilarityError(f"{name} {number!r}: give a whole number, 1 or more")
