"""Which documents of a task count: all of them, the first ones, or some that are drawn at random.

The draw depends on a seed and on the positions of the documents alone: not on the plan, the platform, or a random
generator of some library.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["ALL_DOCUMENTS", "ONE_OF_TWO", "DocumentSelection", "checked_limit"]

T = TypeVar("T")
ONE_OF_TWO = "limit takes the first documents and sample draws some at random; give one of the two"
"""What is said where both are given."""


@dataclass(frozen=True, slots=True)
class DocumentSelection:
    """The documents of a task that count, as a user asks for them; the defaults take all.

    Attributes:
        limit: The number of documents, from the first on; a number below 1 is a share of them, rounded up as lm-eval
            does. None: all.
        sample: The number of documents that are drawn at random, without one being drawn twice. None: none are drawn.
            A larger sample with the same seed holds the smaller one.
        seed: The seed of the draw.

    Examples:
        >>> from painters.documents import DocumentSelection
        >>> DocumentSelection(limit=0.25).positions(10)
        [0, 1, 2]
        >>> DocumentSelection(sample=3).positions(1000)
        [24, 470, 565]
        >>> set(DocumentSelection(sample=3).positions(1000)) < set(DocumentSelection(sample=4).positions(1000))
        True
    """

    limit: int | float | None = None
    sample: int | None = None
    seed: int = 0

    @classmethod
    def checked(
        cls, limit: int | float | None = None, sample: int | None = None, seed: int | None = None
    ) -> DocumentSelection:
        """Return the selection that these options describe.

        Args:
            limit: As the attribute.
            sample: As the attribute.
            seed: The seed of the draw; None for 0.

        Raises:
            ValueError: An option has a value that it cannot have, or limit and sample are both given.
        """
        try:
            checked_limit(limit)
        except ValueError as error:
            raise ValueError(f"limit {limit!r}: {error}") from None
        for name, number, least in (("sample", sample, 1), ("sample_seed", seed, 0)):
            if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < least):
                raise ValueError(f"{name} {number!r}: give a whole number, {least} or more")
        if limit is not None and sample is not None:
            raise ValueError(f"limit {limit} and sample {sample}: {ONE_OF_TWO}")
        return cls(limit, sample, (seed or 0) if sample is not None else 0)

    def positions(self, total: int) -> list[int]:
        """Return the positions of the documents that count among `total` of them, in ascending order."""
        if self.sample is not None and self.sample < total:
            drawn = heapq.nsmallest(self.sample, ((_rank(self.seed, position), position) for position in range(total)))
            return sorted(position for _, position in drawn)
        count = total if self.limit is None else math.ceil(total * self.limit) if self.limit < 1 else int(self.limit)
        return list(range(min(count, total)))

    def at_most(self, limit: int | float) -> DocumentSelection:
        """Return the selection with at most `limit` documents.

        A number makes a number or a sample smaller where it is less; a share makes a share smaller. Otherwise which of
        the two is less is not known without the documents, and `limit` replaces what was there.

        Args:
            limit: A number of documents, or a share of them below 1.
        """
        if self.sample is not None and limit >= 1:
            return DocumentSelection(sample=min(self.sample, int(limit)), seed=self.seed)
        is_same_kind = self.limit is not None and (self.limit < 1) is (limit < 1)
        return DocumentSelection(limit=min(limit, self.limit) if is_same_kind and self.limit is not None else limit)

    def sampled(self, sample: int | None, seed: int | None) -> DocumentSelection:
        """Return the selection with another sample in place of its documents, or drawn by another seed.

        Args:
            sample: How many documents are drawn; None for as many as there were, which leaves a selection that draws
                none as it is.
            seed: The seed of the draw; None for that which there was.
        """
        size = self.sample if sample is None else sample
        return self if size is None else DocumentSelection(sample=size, seed=self.seed if seed is None else seed)

    def count(self, total: int) -> int:
        """Return how many of `total` documents count."""
        return min(self.sample, total) if self.sample is not None else len(self.positions(total))

    def of(self, documents: Sequence[T]) -> list[T]:
        """Return those of the documents that count, in their order."""
        return [documents[position] for position in self.positions(len(documents))]

    def drawn_by(self, total: int) -> int | None:
        """Return the seed by which some of `total` documents are drawn; None where the first ones or all count."""
        return self.seed if self.sample is not None and self.sample < total else None

    def note(self, total: int, name: str) -> str | None:
        """Return what a user should know where fewer documents are there than were to be drawn; else None.

        Args:
            total: The number of documents that are there.
            name: What the documents belong to.
        """
        if self.sample is None or self.sample <= total:
            return None
        return f"{name}: a sample of {self.sample:,} documents was asked for, and it has {total:,}: all of them count"


ALL_DOCUMENTS = DocumentSelection()
"""The selection of all documents."""


def checked_limit(value: object) -> object:
    """Return `value`; raise ValueError where it is a number that is neither a count of documents nor a share of them.

    Args:
        value: A limit; None is none.
    """
    is_count = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 10**9
    is_share = isinstance(value, float) and 0 < value < 1
    if value is None or is_count or is_share:
        return value
    raise ValueError("give a whole number of documents, 1 or more, or a share of them between 0 and 1, such as 0.1")


def _rank(seed: int, position: int) -> bytes:
    """Return what documents are sorted by before the first ones are drawn."""
    return hashlib.blake2b(b"%d:%d" % (seed, position), digest_size=16).digest()
