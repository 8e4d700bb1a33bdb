"""Packages that import names at their first use, and packages that can be called as a function."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any


def attach(package: str, names: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of a package whose names are imported at their first use.

    Args:
        package: The dotted name of the package, its `__name__`.
        names: Name -> dotted name of the module that defines it.

    Returns:
        The two functions, to be bound to these names in the package.
    """

    def getattr_(name: str) -> Any:
        """Import and return a name of the package."""
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(names[name]), name)
        # Importing the module may have put a module of this very name here. It stays: it is callable (make_callable).
        return vars(sys.modules[package]).setdefault(name, value)

    def dir_() -> list[str]:
        """List the names of the package, imported or not."""
        return sorted({*vars(sys.modules[package]), *names})

    return getattr_, dir_


def make_callable(package: str, function: Callable[..., Any]) -> None:
    """Make `package` callable as `function` is, for a package that is named like its main function.

    `painters.export` is then both: `painters.export(model, ...)` works, and so does `painters.export.check(...)`.

    Args:
        package: The dotted name of the package, its `__name__`.
        function: What a call of the package calls.
    """

    class CallablePackage(ModuleType):
        """A package that is callable as its main function."""

        __call__ = staticmethod(function)

    sys.modules[package].__class__ = CallablePackage
