"""Reports: one self-contained HTML page with figures, records and comparisons of plans.

The package is callable, as its function `report`: `painters.report` is the name of both.
"""

from __future__ import annotations

from painters._lazy import make_callable
from painters.report.build import Report, ReportError, report

__all__ = ["Report", "ReportError", "report"]

make_callable(__name__, report)
