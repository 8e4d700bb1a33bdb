"""Print the warnings of painters as single lines."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from painters.errors import PaintersWarning
from painters.ranks import launched_as


@contextmanager
def short_warnings() -> Iterator[None]:
    """Print each warning of painters once, as one line on stderr, for the length of a block."""
    printed: set[str] = set()
    with warnings.catch_warnings():
        show_others = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not issubclass(category, PaintersWarning):
                show_others(message, category, filename, lineno, file, line)
            elif str(message) not in printed and not launched_as():  # only the main process prints
                printed.add(str(message))
                sys.stderr.write(f"painters: {message}\n")

        warnings.simplefilter("always", PaintersWarning)
        warnings.showwarning = show
        yield
