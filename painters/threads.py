"""What several threads of one process share: its random numbers, and the cores of the machine."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from typing import Final

from painters.errors import PaintersWarning

__all__ = ["TURNS", "spare_cores", "warn_of_spinning"]

TURNS: Final = threading.RLock()
"""Held while documents are scored. Scoring sets the random state of the process, and lm-eval's own code is not made for
several threads, so scorings in several threads take turns."""

_WAITING: Final = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""The variables of the environment that say how threads of OpenMP wait; they are read when torch is loaded."""
_LOADED_BEFORE: Final = "torch" in sys.modules and not any(name in os.environ for name in _WAITING)
"""Whether torch was loaded before painters, with threads that spin while they wait."""
_WARNED: Final[list[str]] = []


def spare_cores() -> None:
    """Keep the threads of libraries that are loaded later from spinning while they wait.

    On a machine with other work, spinning threads cost more than they gain (up to sixtyfold on small models). What the
    environment says already is left as it is, and so it is where torch is loaded.

    Examples:
        >>> import os
        >>> from painters.threads import spare_cores
        >>> spare_cores()
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in _WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def warn_of_spinning() -> None:
    """Warn once if the threads of torch spin while they wait, on a machine that has more work than cores."""
    if not _LOADED_BEFORE or _WARNED:
        return
    import torch

    if torch.get_num_threads() > 1 and _is_busy():
        _WARNED.append("warned")
        warnings.warn(
            f"this machine is busy, and the {torch.get_num_threads()} threads of torch spin while they wait for each "
            "other, which makes small models many times slower: import painters before torch, or set "
            "OMP_WAIT_POLICY=PASSIVE or OMP_NUM_THREADS=1 before Python starts, or call torch.set_num_threads(1)",
            PaintersWarning,
            stacklevel=2,
        )


def _is_busy() -> bool:
    """Return whether more is to be done than this process has cores for, as of the last minute."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > cores + 1
