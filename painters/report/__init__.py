"""Reports: one self-contained HTML page with figures, records and comparisons of plans.

The package is callable, as its function `report`: `painters.report` is the name of both.
"""

from __future__ import annotations

import sys
from types import ModuleType

from painters.report.build import Report, ReportError, report

__all__ = ["Report", "ReportError", "report"]


class _CallableModule(ModuleType):
    """The class of this package, which makes it callable as its function is."""

    __call__ = staticmethod(report)


sys.modules[__name__].__class__ = _CallableModule
