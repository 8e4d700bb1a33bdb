"""How the command line tells what Python would warn of."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from painters.errors import PaintersWarning
from painters.ranks import launched_as


@contextmanager
def warned() -> Iterator[None]:
    """Nothing; meanwhile each warning of painters is one line on stderr, once."""
    told: set[str] = set()
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not issubclass(category, PaintersWarning):
                others(message, category, filename, lineno, file, line)
            elif str(message) not in told and not launched_as():  # the main process says it all
                told.add(str(message))
                sys.stderr.write(f"painters: {message}\n")

        warnings.simplefilter("always", PaintersWarning)
        warnings.showwarning = show
        yield
