"""The processes of one run, as `accelerate launch` starts them: each does its share, and all come to the same result.

lm-eval shares out documents, and then draws other examples for the prompts in every process. Here the batches are
shared out, which are the same as in one process, so the answers are too. Importing this loads no torch.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from painters.errors import PaintersError, first_line

__all__ = ["OtherProcessError", "Ranks", "launched", "launched_as", "ranks"]

T = TypeVar("T")


class OtherProcessError(PaintersError):
    """Another process of the run failed, and this one cannot go on without it."""

    exit_code = 1


class LostProcessError(OtherProcessError):
    """Another process of the run is gone, and nothing can be done together any more."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those of the run. All have to call `same` and `gathered` alike, and in the same order."""

    rank: int = 0
    size: int = 1
    device: str | None = None
    """Where this process runs its model, unless it is told; None for the usual place."""

    @property
    def is_main(self) -> bool:
        """Whether this is the one that prints and writes."""
        return self.rank == 0

    def mine(self, items: Sequence[T]) -> Sequence[T]:
        """This process's share of `items`."""
        return items[self.rank :: self.size]

    def same(self, value: T) -> T:
        """The value that the main process has, in all of them."""
        if self.size == 1:
            return value
        import torch.distributed

        sent = [value]
        self._exchange(lambda: torch.distributed.broadcast_object_list(sent, src=0))
        return sent[0]

    def gathered(self, work: Callable[[], T]) -> list[T]:
        """What `work` returns in each process, by rank. If it raises in one, all raise: that error, or
        OtherProcessError in its place.
        """
        if self.size == 1:
            return [work()]
        import torch.distributed

        own: Exception | None = None
        sent: tuple[T | None, str | None]
        try:
            sent = work(), None
        except Exception as error:
            own, sent = error, (None, f"{type(error).__name__}: {error}")
        found: list[Any] = [None] * self.size
        self._exchange(lambda: torch.distributed.all_gather_object(found, sent))
        if own is not None:
            raise own
        for rank, (_, told) in enumerate(found):
            if told is not None:
                raise OtherProcessError(f"process {rank} of {self.size} failed ({told})")
        return [value for value, _ in found]

    def _exchange(self, call: Callable[[], object]) -> None:
        try:
            call()
        except RuntimeError as error:  # whatever gloo and NCCL say of a connection that is closed
            raise LostProcessError(
                f"process {self.rank} of {self.size}: another process of the run is gone ({first_line(error)}). "
                f"What was recorded is kept: launch all of them again"
            ) from error


def launched() -> int:
    """How many processes the launcher started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launched_as() -> int:
    """Which of them this process is; 0 is the main one."""
    return int(os.environ.get("RANK", "0"))


@functools.cache
def ranks() -> Ranks:
    """The processes of this run; a single one unless it was launched as several."""
    if launched() < 2:
        return Ranks()
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available())
    return Ranks(state.process_index, state.num_processes, str(state.device) if torch.cuda.is_available() else None)
