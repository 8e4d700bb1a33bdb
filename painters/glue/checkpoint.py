"""Checkpoints: the state of a training, or of a pass over documents, in a file from which an interrupted one goes on.

A state that is loaded is the very state that was saved, so the rest of the computation gives the same bits.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from painters.results import ResultsWarning, partial

__all__ = ["Checkpoint"]

State = dict[str, Any]
"""Tensors and plain values by their names."""


class Checkpoint:
    """The state of one computation, in a file that is replaced as a whole when it is worth it.

    Args:
        path: The file; None keeps nothing.
        total: How many documents the computation sees in all.
    """

    def __init__(self, path: Path | None, total: int) -> None:
        self._path, self._total = path, total
        self._since = 0
        self._began = time.monotonic()
        self._last_write = 0.0

    def load(self) -> State | None:
        """Return the state that an interrupted computation saved, on the CPU; None where there is none to be read."""
        if self._path is None or not self._path.is_file():
            return None
        with contextlib.suppress(OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
            state: State = torch.load(self._path, map_location="cpu", weights_only=True)
            self._began = time.monotonic()
            return state
        return None

    def step(self, documents: int, state: Callable[[], State], *, is_last: bool = False) -> None:
        """Note that so many documents more were seen; save the state if it is due.

        Args:
            documents: Their number.
            state: Returns the state.
            is_last: Whether the computation is complete.
        """
        if self._path is None:
            return
        self._since += documents
        taken = time.monotonic() - self._began
        is_due = is_last or taken > partial.SECONDS or self._since > self._total * partial.SHARE
        if is_due and taken >= partial.WORTH * self._last_write:
            began = time.monotonic()
            self._save(state())
            self._began, self._since = time.monotonic(), 0
            self._last_write = self._began - began

    def _save(self, state: State) -> None:
        assert self._path is not None
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
        except (OSError, RuntimeError) as error:  # torch's own writer raises the latter where a disk is full
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            warnings.warn(
                f"the state of a training cannot be kept in {self._path.parent}: {error}. If this run is stopped, it "
                f"begins again",
                ResultsWarning,
                stacklevel=2,
            )
            self._path = None
        except BaseException:  # a signal
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise
