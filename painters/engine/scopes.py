"""Where a plan holds: in which threads and asyncio tasks, when several of them call one model.

A plan holds in the thread or task that entered it, and wherever that hands its context on: tasks that it starts, and
`asyncio.to_thread`. Other threads have no context to tell by, so it depends on who entered the plan and when.
`Scope.holds_here` has the rules; docs/exact.md states them for users.
"""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from typing import Any, Final, Literal, NoReturn, SupportsIndex, TypeAlias, get_args
from weakref import WeakKeyDictionary, WeakSet, ref

from torch import nn

from painters import _compat
from painters.plan import Plan
from painters.stack import LayerList, SurgeryError

Threads: TypeAlias = Literal["auto", "own", "all"]
"""In which threads a plan holds besides the one that entered it; `surgery` explains the names."""
KINDS_OF_THREADS: Final[tuple[str, ...]] = get_args(Threads)
"""The names of these."""

LOCK: Final = threading.RLock()
"""Held for the moments in which lists of layers are replaced or restored, and in which scopes open and close."""

_ENTERED: ContextVar[tuple[Scope, ...]] = ContextVar("painters_plans", default=())
"""The scopes that were entered in this context, the innermost last; those that are over may still be among them."""


class Scope:
    """Where the plan of one context holds, and whether the context still does."""

    def __init__(self, threads: Threads) -> None:
        self.is_open = True
        """Whether the context still holds."""
        self._threads = threads
        self._thread = threading.current_thread()
        task = _task()
        self._task = None if task is None else ref(task)
        self._earlier = WeakSet(threading.enumerate() if threads == "auto" else ())

    @property
    def thread_name(self) -> str:
        """The name of the thread that entered the context."""
        return self._thread.name

    def is_of_this_thread(self) -> bool:
        """Return whether this very thread entered the context."""
        return self._thread.ident == threading.get_ident() and self._thread is threading.current_thread()

    def holds_here(self) -> bool | None:
        """Return whether the plan holds here, where no context says so; None if that is not clear.

        In the same thread it holds, unless another task entered it that is not finished. In other threads:

        - with "all" it holds, and with "own" it does not;
        - with "auto", one that the main thread entered holds in threads that began later, which it mostly started. One
          that another thread entered does not hold in threads that were there before. All else is not clear.
        - A thread of torch that runs a backward pass may run a forward of any thread again.
        """
        if self._threads == "all":
            return True
        if self.is_of_this_thread():
            task = None if self._task is None else self._task()
            if task is None or task.done() or task is _task():
                return True
            return False if self._threads == "own" else None
        thread = threading.current_thread()
        runs_again = thread.name.startswith("Dummy-") and _compat.is_in_backward()
        if self._threads == "own":
            return None if runs_again else False
        began_later = runs_again or thread not in self._earlier
        if self._thread is threading.main_thread():
            return True if began_later else None
        return None if began_later else False


class Site:
    """A list of layers, with the scopes of all plans that are open on it in any thread."""

    def __init__(self) -> None:
        self.scopes: tuple[Scope, ...] = ()
        """The open scopes, in the order in which they were entered; the tuple is replaced and never changed."""
        self._class: type[nn.Module] | None = None

    def scope_here(self, name: str, num_layers: int) -> Scope | None:
        """Return the scope that holds for a forward that is called here and now; None if it is to be intact.

        Raises:
            SurgeryError: If that is not clear. `name` and `num_layers` are those of the model in the message.
        """
        scopes = self.scopes
        for scope in reversed(_ENTERED.get()):
            if scope in scopes:
                return scope
        others: dict[str, Scope] = {}
        for scope in reversed(scopes):
            if not scope.is_of_this_thread():
                others.setdefault(scope.thread_name, scope)  # the innermost of each thread
            elif (holds := scope.holds_here()) is not False:
                return scope if holds else _refuse(name, num_layers, [scope])
        candidates = {scope: holds for scope in others.values() if (holds := scope.holds_here()) is not False}
        if len(candidates) == 1 and all(candidates.values()):
            return next(iter(candidates))
        return _refuse(name, num_layers, [*candidates]) if candidates else None

    def enter(self, scope: Scope, layers: LayerList) -> None:
        """Let `scope` hold for `layers`."""
        with LOCK:
            if not self.scopes:
                self._class = type(layers)
            self.scopes = (*self.scopes, scope)
            self._renew_class(layers)
        _ENTERED.set((*(other for other in _ENTERED.get() if other.is_open), scope))

    def leave(self, scope: Scope, layers: LayerList) -> None:
        """End what `enter` began."""
        scope.is_open = False
        with LOCK:
            self.scopes = tuple(other for other in self.scopes if other is not scope)
            self._renew_class(layers)
        _ENTERED.set(tuple(other for other in _ENTERED.get() if other.is_open))

    def _renew_class(self, layers: LayerList) -> None:
        """Give `layers` a new class while a plan is open, a subclass that adds nothing to it; then its own again.

        What torch has compiled is not compiled anew for new hooks, but it is for new classes of the modules in it. With
        the new class, a function that was compiled before is compiled anew with the plan, and one that was compiled
        with a plan is not used without it, nor with another plan.
        """
        own = self._class
        assert own is not None

        def reduce_ex(module: nn.Module, protocol: SupportsIndex) -> Any:
            """Return what a copy is made of, which is of the list's own class."""
            parts: Any = own.__reduce_ex__(module, protocol)
            function, (_, *arguments), *state = parts
            return function, (own, *arguments), *state

        names = {"__module__": own.__module__, "__reduce_ex__": reduce_ex}
        layers.__class__ = type(own.__name__, (own,), names) if self.scopes else own


_SITES: WeakKeyDictionary[nn.Module, Site] = WeakKeyDictionary()


def site_of(layers: LayerList) -> Site:
    """Return the site of a list of layers, the same for every plan."""
    with LOCK:
        return _SITES.setdefault(layers, Site())


def _task() -> asyncio.Task[object] | None:
    """Return the task of asyncio that runs in this thread; None without one."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _refuse(name: str, num_layers: int, scopes: list[Scope]) -> NoReturn:
    """Raise SurgeryError for a forward of which it is not clear whether it runs under the plan of one of `scopes`."""
    threads = " and ".join(dict.fromkeys(scope.thread_name for scope in scopes))
    here = threading.current_thread().name
    where = f"in {threads}" if here != threads else "in another task"
    raise SurgeryError(
        f"{name}: a plan is open {where}, and it is not clear whether {here} is to run under it: enter surgery here "
        f'too (for the intact model with the plan "{Plan.identity(num_layers)}"), or say there '
        'surgery(..., threads="all") for every thread without a plan of its own, or threads="own" for no other'
    )
