"""Run many plans on the same inputs and run what they have in common once.

Importing the package loads no torch; `Sharing` brings it when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from painters._lazy import attach

if TYPE_CHECKING:
    from painters.sharing.sharing import Sharing

__all__ = ["Sharing"]

__getattr__, __dir__ = attach(__name__, {"Sharing": "painters.sharing.sharing"})
