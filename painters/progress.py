"""A bar while a call takes long: in notebooks by default, elsewhere where it is asked for."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

P = TypeVar("P")

DELAY = 1.0  # seconds that a call takes before its bar is shown


class OnProgress(Protocol):
    """Called with how many are done, how many there will be, and what is being done."""

    def __call__(self, done: int, total: int, what: str) -> None: ...


class ProgressBar:
    """Moves a bar of tqdm; called with how many are done, how many there will be, and what is being done."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __call__(self, done: int, total: int, what: str = "") -> None:
        if self._bar is None:
            self._bar = _tqdm()(total=total, leave=False, delay=DELAY)
        self._bar.total = total
        self._bar.set_description_str(what, refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Nothing; the bar is gone."""
        if self._bar is not None:
            self._bar.close()


@contextmanager
def progress_callback(progress: P | bool | None) -> Iterator[P | ProgressBar | None]:
    """What is to be told of progress: `progress` itself, a bar for True, nothing for False.

    For None it is a bar in a notebook and nothing elsewhere.
    """
    wanted = in_notebook() if progress is None else progress
    if not isinstance(wanted, bool):
        yield wanted
        return
    if not wanted:
        yield None
        return
    bar = ProgressBar()
    try:
        yield bar
    finally:
        bar.close()


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")


def _tqdm() -> Any:
    # tqdm.auto warns where a notebook has no widgets; a bar of text does as well there.
    if in_notebook() and _has_widgets():
        from tqdm.notebook import tqdm as in_widgets  # type: ignore[import-untyped]

        return in_widgets
    from tqdm import tqdm  # type: ignore[import-untyped]

    return tqdm


def _has_widgets() -> bool:
    return importlib.util.find_spec("ipywidgets") is not None
