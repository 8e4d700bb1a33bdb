"""The Ray cluster that a sweep runs on: joined or started here, and how many workers it has room for."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from painters.errors import PaintersError


class EngineError(PaintersError):
    """Ray is not installed, or its cluster does not offer what was asked of it."""


class Cluster:
    """The cluster of RAY_ADDRESS, the one that this process has joined, or one started here until `close`.

    Args:
        workers: The number of workers; None takes one for each GPU of the cluster, or for each core where it has none.
        device: The device of every worker; None or "cuda" takes GPUs where there are some.

    Attributes:
        ray: The module `ray`.
        workers: The number of workers.
        options: What each worker needs of the cluster, as keyword arguments of `ray.remote`.
    """

    def __init__(self, workers: int | None, device: str | None) -> None:
        if device is not None and ":" in device and not device.endswith(":0"):
            raise EngineError(f"device {device!r} with the engine ray, which gives each worker a GPU: leave it out")
        self.ray = _imported()
        self._open = contextlib.ExitStack()
        try:
            self._join(workers)
            self.workers, self.options = self._share_out(workers, device)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the cluster if it was started here, and let Ray print again."""
        self._open.close()

    def _join(self, workers: int | None) -> None:
        """Start Ray in this process, unless it runs already; with the RAY_ADDRESS given, join that cluster."""
        is_loud = bool(os.environ.get("PAINTERS_TRACEBACK"))
        if not is_loud:
            self._open.enter_context(_quiet())
        if self.ray.is_initialized():
            return
        address = os.environ.get("RAY_ADDRESS")
        here = {"address": "local", "num_cpus": max(workers or 0, _cores()), "include_dashboard": False}
        self._open.callback(self.ray.shutdown)
        with _own_signals():
            try:
                self.ray.init(
                    **({} if address else here), log_to_driver=is_loud, logging_level="INFO" if is_loud else "ERROR"
                )
            except (ConnectionError, RuntimeError, ValueError) as error:
                what = (
                    f"the cluster at RAY_ADDRESS={address} cannot be joined"
                    if address
                    else ("a cluster on this machine cannot be started")
                )
                raise EngineError(f"engine ray: {what}: {error}") from error

    def _share_out(self, workers: int | None, device: str | None) -> tuple[int, dict[str, int]]:
        """Return the number of workers, and what each needs: a GPU if the cluster has some, else a core."""
        resources = self.ray.cluster_resources()
        gpus = 0 if device is not None and not device.startswith("cuda") else int(resources.get("GPU", 0))
        there = gpus or int(resources.get("CPU", 0))
        kind = "GPU" if gpus else "CPU"
        if (workers or 1) > there:
            raise EngineError(
                f"engine ray: {workers or 1} workers need {workers or 1} {kind}s, one each, and the cluster has {there}"
            )
        return workers or there, {"num_gpus": 1, "num_cpus": 0} if gpus else {"num_cpus": 1}


def require() -> None:
    """Raise EngineError where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise EngineError("engine ray: Ray is not installed. To have it: pip install 'painters[ray]'")


def _imported() -> Any:
    """Return the module `ray`, imported so that it reports nothing to anybody."""
    # Read when ray is imported: no usage statistics, and no lines held back to be printed at the end.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    require()
    return importlib.import_module("ray")


def _cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Restore the handler of SIGTERM at the end of the block, because `ray.init` sets its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drop what Ray's own threads, whose names begin with "ray_", print to stdout within the block."""

    class Stdout:
        def __init__(self, stream: Any) -> None:
            self._stream = stream

        def write(self, text: str) -> int:
            if threading.current_thread().name.startswith("ray_"):
                return len(text)
            return int(self._stream.write(text))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._stream, name)

    with contextlib.redirect_stdout(Stdout(sys.stdout)):
        yield
