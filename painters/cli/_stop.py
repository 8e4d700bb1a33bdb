"""Signals that end a command: what is kept stays, one message says how to go on, and the exit code names the signal."""

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
    """By their numbers; not every system has all."""
    return {int(getattr(signal, name)): kind for name, kind in _NAMES.items() if hasattr(signal, name)}


class Stops:
    """Hears signals; the last one heard is `number`."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        raise KeyboardInterrupt  # which libraries let pass, or raise anew

    def watching(self, tell: Callable[P, None] | None) -> Callable[P, None]:
        """`tell`, which raises KeyboardInterrupt where a signal came before: Python drops what a handler raises while
        it tidies up objects.
        """

        def watched(*args: P.args, **kwargs: P.kwargs) -> None:
            if self.number is not None:
                raise KeyboardInterrupt
            if tell is not None:
                tell(*args, **kwargs)

        return watched


@contextlib.contextmanager
def stoppable(kept: str = "") -> Iterator[Stops]:
    """What hears SIGINT, SIGTERM and SIGHUP, which end the block with `kept` and the command to go on.

    A signal that this process was told to ignore, as by nohup, stays ignored. Of several processes of one run only the
    main one speaks.
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
        text = f"stopped. {kept}; to go on:" if kept else "stopped. To run it again:"
        raise kind(f"{text}\n  {_command()}") from None
    finally:
        for number in caught:
            signal.signal(number, before[number])


def _command() -> str:
    """What was typed, as far as this process knows."""
    processes = launched()
    launch = ["accelerate", "launch", "--num_processes", str(processes), "-m"] if processes > 1 else []
    return shlex.join([*launch, "painters", *sys.argv[1:]])
