"""Call the hub patiently: retry where the network failed, raise at once where a retry cannot help."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from painters.errors import class_and_first_line

T = TypeVar("T")

WAITS = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each retry."""
STATUSES = frozenset({408, 429, 500, 502, 503, 504})
"""HTTP status codes after which a retry may succeed."""
LIBRARIES = frozenset({"aiohttp", "httpx", "httpx2", "requests", "urllib3"})
"""The HTTP libraries that huggingface_hub and datasets use, in one release or another."""
NETWORK_ERRORS = frozenset(
    {
        *("TimeoutException", "NetworkError", "RemoteProtocolError"),  # httpx
        *("ConnectionError", "Timeout", "ChunkedEncodingError"),  # requests
        *("TimeoutError", "ProtocolError", "NewConnectionError"),  # urllib3
        *("ClientConnectionError", "ServerTimeoutError", "ClientPayloadError"),  # aiohttp
    }
)
"""The names of these libraries' errors after which a retry may succeed; subclasses count too."""
OFFLINE = "OfflineModeIsEnabled"
"""The hub's error where HF_HUB_OFFLINE is set. datasets raises a ConnectionError with this name in its message."""


def patiently(work: Callable[[], T]) -> T:
    """Call `work`; where the network or a server failed call it again, up to five times in all.

    Each wait is logged.

    Args:
        work: Reaches the hub; may be called again.

    Returns:
        What `work` returns.

    Raises:
        ConnectionError: The network or a server failed five times.
        Exception: Anything else that `work` raises, at once: a name that the hub does not have, or HF_HUB_OFFLINE.
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
                raise ConnectionError(f"{tried}: {class_and_first_line(error)}") from error
            logging.getLogger("painters").warning("%s; trying again in %g s", class_and_first_line(error), wait)
        time.sleep(wait)


def is_passing(error: BaseException) -> bool:
    """Return whether a retry may succeed: the network or the server failed, here or in a cause."""
    errors = list(_with_causes(error))
    if any(OFFLINE in f"{type(cause).__name__} {cause}" for cause in errors):
        return False
    return any(
        isinstance(cause, ConnectionError | TimeoutError) or _is_network_error(cause) or _is_server_error(cause)
        for cause in errors
    )


def _is_network_error(error: BaseException) -> bool:
    """Return whether an HTTP library says that the network failed; none of them has to be imported for it."""
    return any(
        kind.__name__ in NETWORK_ERRORS and kind.__module__.partition(".")[0] in LIBRARIES
        for kind in type(error).__mro__
    )


def _is_server_error(error: BaseException) -> bool:
    """Return whether `error` holds a server's response with one of STATUSES."""
    return getattr(getattr(error, "response", None), "status_code", None) in STATUSES


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield `error`, then the errors that led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
