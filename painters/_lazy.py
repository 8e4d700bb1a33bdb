"""Names of a package that are imported when they are first asked for, so that importing the package stays light."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def attach(package: str, names: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of `package` for names that are imported when first asked for.

    Args:
        package: The dotted name of the package, its `__name__`.
        names: Name -> dotted name of the module that defines it.

    Returns:
        The two functions, to be bound to these names in the package.
    """

    def getattr_(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(names[name]), name)
        # A module of this very name may be there by now, put by its import: it stays, and is callable as its function.
        return vars(sys.modules[package]).setdefault(name, value)

    def dir_() -> list[str]:
        return sorted({*vars(sys.modules[package]), *names})

    return getattr_, dir_
