"""Patience with the network: what failed for a moment is tried again, and what is wrong is told at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

WAITS = (1.0, 2.0, 4.0, 8.0)
"""Seconds between two tries."""
STATUSES = frozenset({408, 429, 500, 502, 503, 504})
"""Answers of a server that may be another one the next time."""
LIBRARIES = frozenset({"aiohttp", "httpx", "httpx2", "requests", "urllib3"})
"""What the hub's and datasets' libraries reach the network with, from release to release."""
FAULTS = frozenset(
    {
        *("TimeoutException", "NetworkError", "RemoteProtocolError"),  # httpx
        *("ConnectionError", "Timeout", "ChunkedEncodingError"),  # requests
        *("TimeoutError", "ProtocolError", "NewConnectionError"),  # urllib3
        *("ClientConnectionError", "ServerTimeoutError", "ClientPayloadError"),  # aiohttp
    }
)
OFFLINE = "OfflineModeIsEnabled"
"""The hub's error where the network is switched off; datasets has but its name in the message of a ConnectionError."""


def patiently(work: Callable[[], T]) -> T:
    """What `work` returns; where the network or a server failed it is called again, up to five times in all.

    Each wait is logged. What is wrong in itself, such as a name that the hub does not have, or a network that is
    switched off (HF_HUB_OFFLINE), is raised at once; what failed five times is a ConnectionError that says so.
    """
    waits = iter(WAITS)
    while True:
        try:
            return work()
        except Exception as error:
            if not is_passing(error):
                raise
            wait = next(waits, None)
            if wait is None:
                tried = f"tried {len(WAITS) + 1} times over {sum(WAITS):g} s"
                raise ConnectionError(f"{tried}: {_told(error)}") from error
            logging.getLogger("painters").warning("%s; trying again in %g s", _told(error), wait)
        time.sleep(wait)


def is_passing(error: BaseException) -> bool:
    """Whether `error`, or what led to it, is a fault of the network or of a server that may pass."""
    chain = list(_chain(error))
    if any(OFFLINE in f"{type(one).__name__} {one}" for one in chain):
        return False
    return any(isinstance(one, ConnectionError | TimeoutError) or _is_fault(one) or _is_down(one) for one in chain)


def _is_fault(error: BaseException) -> bool:
    return any(
        kind.__name__ in FAULTS and kind.__module__.partition(".")[0] in LIBRARIES for kind in type(error).__mro__
    )


def _is_down(error: BaseException) -> bool:
    return getattr(getattr(error, "response", None), "status_code", None) in STATUSES


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """`error`, and what led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _told(error: BaseException) -> str:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}".rstrip(".: ")
