"""The processes of one run, as `accelerate launch` starts them.

Each does its share, and all get the same result. lm-eval divides the documents among processes, and then every process
draws other few-shot examples for its prompts. Here the batches are divided. They are the same as in a single process,
so the answers are too. Importing this module loads no torch.
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
    """Another process of the run has ended, so that the processes can no longer exchange anything."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among the processes of the run.

    All processes have to call `same` and `gathered` equally often and in the same order.

    Attributes:
        rank: The number of this process, from 0.
        size: How many processes there are.
        device: The device that the launcher chose for this process; None for the default of `load_model`.

    Examples:
        >>> batches = ["first", "second", "third"]
        >>> Ranks(rank=1, size=2).mine(batches)
        ['second']
        >>> alone = Ranks()
        >>> alone.is_main, alone.same("value"), alone.gathered(lambda: 7)
        (True, 'value', [7])
    """

    rank: int = 0
    size: int = 1
    device: str | None = None

    @property
    def is_main(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    def mine(self, items: Sequence[T]) -> Sequence[T]:
        """Return this process's share of `items`.

        Args:
            items: What all processes together have to do.

        Returns:
            Every `size`-th item, from the one of this rank on.
        """
        return items[self.rank :: self.size]

    def same(self, value: T) -> T:
        """Return the main process's `value` in every process (a broadcast).

        Args:
            value: What this process has; only the main one's counts.

        Returns:
            The value of the main process.

        Raises:
            LostProcessError: Another process has ended.
        """
        if self.size == 1:
            return value
        import torch.distributed

        sent = [value]
        self._exchange(lambda: torch.distributed.broadcast_object_list(sent, src=0))
        return sent[0]

    def gathered(self, work: Callable[[], T]) -> list[T]:
        """Call `work` in every process, and return all results in every process (an all-gather).

        Args:
            work: What each process does. If it raises in one process, every process raises.

        Returns:
            The results by rank.

        Raises:
            OtherProcessError: `work` raised in another process; in this one its own error is raised.
            LostProcessError: Another process has ended.
        """
        if self.size == 1:
            return [work()]
        import torch.distributed

        own_error: Exception | None = None
        sent: tuple[T | None, str | None]
        try:
            sent = work(), None
        except Exception as error:
            own_error, sent = error, (None, f"{type(error).__name__}: {error}")
        received: list[Any] = [None] * self.size
        self._exchange(lambda: torch.distributed.all_gather_object(received, sent))
        if own_error is not None:
            raise own_error
        for rank, (_, message) in enumerate(received):
            if message is not None:
                raise OtherProcessError(f"process {rank} of {self.size} failed ({message})")
        return [value for value, _ in received]

    def _exchange(self, call: Callable[[], object]) -> None:
        """Call a function of torch.distributed; raise LostProcessError where the connection is closed."""
        try:
            call()
        except RuntimeError as error:  # gloo and NCCL have no class of their own for this
            raise LostProcessError(
                f"process {self.rank} of {self.size}: another process of the run is gone ({first_line(error)}). "
                f"What was recorded is kept: launch all of them again"
            ) from error


def launched() -> int:
    """Return how many processes the launcher started.

    Returns:
        The number in `WORLD_SIZE`; 1 without a launcher.

    Examples:
        >>> launched()
        1
    """
    return int(os.environ.get("WORLD_SIZE", "1"))


def launched_as() -> int:
    """Return which of the launched processes this one is.

    Returns:
        The number in `RANK`, from 0 for the main process; 0 without a launcher.

    Examples:
        >>> launched_as()
        0
    """
    return int(os.environ.get("RANK", "0"))


@functools.cache
def ranks() -> Ranks:
    """Return this process among those of the run, and set up their exchange at the first call.

    Returns:
        A single process unless the run was launched as several.

    Examples:
        >>> ranks().size
        1
    """
    if launched() < 2:
        return Ranks()
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available())
    return Ranks(state.process_index, state.num_processes, str(state.device) if torch.cuda.is_available() else None)
