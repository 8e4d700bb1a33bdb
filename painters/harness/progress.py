"""Counting answers, and offering each count to the caller's progress callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lm_eval.api.model import CacheHook

from painters.progress import OnProgress


class ProgressCounter:
    """Counts answers and reports each to `on_progress`.

    Args:
        on_progress: Called after every answer; None to count only.
        total: The number of answers that are expected.
        step: How many answers one stands for: the number of processes that work at the same time.
    """

    def __init__(self, on_progress: OnProgress | None, total: int, step: int = 1) -> None:
        self.done, self.total, self.what = 0, total, ""
        self.error: Exception | None = None
        """What `on_progress` raised."""
        self._on_progress, self._step = on_progress, step

    def count(self) -> None:
        """Count one answer and report it."""
        self.done = min(self.done + self._step, max(self.total, self.done + 1))
        self._report()

    def skip(self, answers: int) -> None:
        """Count answers that are known from before, of all processes together."""
        if answers:
            self.done = min(self.done + answers, self.total)
            self._report()

    def _report(self) -> None:
        if self._on_progress is not None:
            try:
                self._on_progress(self.done, self.total, self.what)
            except Exception as error:
                self.error = error
                raise

    def next_part(self) -> OnProgress:
        """Return the callback for a part of the whole that begins now, such as one task of several."""
        before = self.done

        def on_progress(done: int, total: int, what: str) -> None:
            self.done, self.what = before + done, what
            self._report()

        return on_progress


class CountingCacheHook(CacheHook):  # type: ignore[misc]
    """A cache for lm-eval that keeps nothing and calls `on_answer` for every answer that it is offered."""

    def __init__(self, on_answer: Callable[[], None]) -> None:
        super().__init__(None)
        self._on_answer = on_answer

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        """Call `on_answer`."""
        self._on_answer()
