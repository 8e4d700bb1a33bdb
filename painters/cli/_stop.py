"""Signals that end a command: one message says what is kept and how to go on, and the exit code names the signal."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from types import FrameType, MappingProxyType
from typing import ParamSpec

from painters.cli._errors import HUNG_UP, STOPPED, TERMINATED
from painters.errors import PaintersError
from painters.ranks import launched, launched_as

P = ParamSpec("P")


class Stopped(PaintersError):
    """SIGINT, which is Ctrl-C."""

    exit_code = STOPPED


class Terminated(Stopped):
    """SIGTERM: a batch system takes the machine back, say."""

    exit_code = TERMINATED


class HungUp(Stopped):
    """SIGHUP: the terminal is gone."""

    exit_code = HUNG_UP


_NAMES: Mapping[str, type[Stopped]] = MappingProxyType({"SIGINT": Stopped, "SIGTERM": Terminated, "SIGHUP": HungUp})


def _kinds() -> dict[int, type[Stopped]]:
    """Return the error of each signal by its number; not every system has all signals."""
    return {int(getattr(signal, name)): kind for name, kind in _NAMES.items() if hasattr(signal, name)}


class Stops:
    """A handler of signals that remembers the last one, by its `number`, and raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        raise KeyboardInterrupt  # which libraries let pass, or raise anew

    def watching(self, on_progress: Callable[P, None] | None) -> Callable[P, None]:
        """Return `on_progress` so that it raises KeyboardInterrupt where a signal came before the call.

        Python drops the exception of a handler that runs while objects are being deleted; this raises it again.
        """

        def watched(*args: P.args, **kwargs: P.kwargs) -> None:
            if self.number is not None:
                raise KeyboardInterrupt
            if on_progress is not None:
                on_progress(*args, **kwargs)

        return watched


@contextlib.contextmanager
def stoppable(kept: str | Callable[[], str] = "") -> Iterator[Stops]:
    """End the block at SIGINT, SIGTERM or SIGHUP, with a message that says what is kept and how to go on.

    A signal that this process ignores, as under nohup, stays ignored. Of several processes of one run only the main
    one prints the message.

    Args:
        kept: A sentence on what is kept, without its full stop, or what returns it when the signal came; an empty one
            where nothing is kept.

    Yields:
        The handler of the signals.
    """
    heard = Stops()
    before = {number: signal.getsignal(number) for number in _kinds()}
    caught = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in caught:
        signal.signal(number, heard)
    try:
        yield heard
    except (KeyboardInterrupt, SystemExit) as error:  # typer makes the latter of the former
        if heard.number is None and isinstance(error, SystemExit):
            raise
        kind = _kinds()[heard.number or signal.SIGINT]
        if launched_as():
            raise SystemExit(kind.exit_code) from None
        sentence = kept if isinstance(kept, str) else kept()
        text = f"stopped. {sentence}; to go on:" if sentence else "stopped. To run it again:"
        raise kind(f"{text}\n  {_command()}") from None
    finally:
        for number in caught:
            signal.signal(number, before[number])


def _command() -> str:
    """Return the command line that this process was started with."""
    processes = launched()
    launch = ["accelerate", "launch", "--num_processes", str(processes), "-m"] if processes > 1 else []
    return shlex.join([*launch, "painters", *sys.argv[1:]])
