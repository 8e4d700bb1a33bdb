"""A progress bar while a call takes long: in notebooks by default, elsewhere on request."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

__all__ = ["OnProgress", "ProgressBar", "in_notebook", "progress_callback", "silent_libraries"]

P = TypeVar("P")

DELAY = 1.0  # seconds that a call takes before its bar is shown


class OnProgress(Protocol):
    """A progress callback: how many items are done, how many there are, and what is being done."""

    def __call__(self, done: int, total: int, what: str) -> None:
        """Show that `done` of `total` items are done, and that `what` is being done."""


class ProgressBar:
    """A progress callback that moves a bar of tqdm. The bar is shown after one second.

    Examples:
        >>> bar = ProgressBar()
        >>> squares = []
        >>> for number in range(3):
        ...     squares.append(number**2)
        ...     bar(done=number + 1, total=3, what="squares")
        >>> bar.close()
        >>> squares
        [0, 1, 4]
    """

    def __init__(self) -> None:
        self._bar: Any = None

    def __call__(self, done: int, total: int, what: str = "") -> None:
        """Move the bar.

        Args:
            done: How many items are done.
            total: How many there are.
            what: What is being done; stands in front of the bar.
        """
        if self._bar is None:
            self._bar = _tqdm()(total=total, leave=False, delay=DELAY)
        self._bar.total = total
        self._bar.set_description_str(what, refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()


@contextmanager
def progress_callback(progress: P | bool | None) -> Iterator[P | ProgressBar | None]:
    """Turn the argument `progress` of a function into the callback to use, and close its bar at the end.

    Args:
        progress: A callback; True for a bar; False for no progress; None for a bar in a notebook only.

    Yields:
        The callback that was given, a `ProgressBar`, or None.

    Examples:
        >>> with progress_callback(True) as on_progress:
        ...     type(on_progress).__name__
        'ProgressBar'
        >>> with progress_callback(print) as on_progress:
        ...     on_progress(1, 2, "batches")
        1 2 batches
    """
    callback = in_notebook() if progress is None else progress
    if not isinstance(callback, bool):
        yield callback
        return
    if not callback:
        yield None
        return
    bar = ProgressBar()
    try:
        yield bar
    finally:
        bar.close()


@contextmanager
def silent_libraries() -> Iterator[None]:
    """Switch off the bars of transformers and datasets within the block; those of downloads stay.

    They are "Loading weights", "Map" and the like, which would run into a display of one's own. Both libraries are
    imported.

    Yields:
        None.

    Examples:
        >>> import datasets
        >>> with silent_libraries():
        ...     datasets.are_progress_bars_disabled()
        True
        >>> datasets.are_progress_bars_disabled()
        False
    """
    import datasets

    # Neither has types.
    hub: Any = importlib.import_module("huggingface_hub.utils")
    logging: Any = importlib.import_module("transformers.utils.logging")
    shows_weights, shows_downloads = logging.is_progress_bar_enabled(), not hub.are_progress_bars_disabled()
    shows_documents = not datasets.are_progress_bars_disabled()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    if shows_downloads:
        hub.enable_progress_bars()
    try:
        yield
    finally:
        if shows_weights:
            logging.enable_progress_bar()
        if shows_documents:
            datasets.enable_progress_bars()
        if not shows_downloads:
            hub.disable_progress_bars()


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook.

    Returns:
        True in Jupyter; False in a script, in a terminal, and in IPython's shell.

    Examples:
        >>> in_notebook()
        False
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")


def _tqdm() -> Any:
    """Return the class of tqdm's bar: of widgets in a notebook that has them, and of text elsewhere.

    tqdm.auto would warn in a notebook without widgets; a bar of text does as well there.
    """
    if in_notebook() and _has_widgets():
        from tqdm.notebook import tqdm as in_widgets  # type: ignore[import-untyped]

        return in_widgets
    from tqdm import tqdm  # type: ignore[import-untyped]

    return tqdm


def _has_widgets() -> bool:
    """Return whether this environment can draw widgets in a notebook."""
    return importlib.util.find_spec("ipywidgets") is not None
