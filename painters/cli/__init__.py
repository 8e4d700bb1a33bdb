"""The command line: arguments into one call, and a result into text."""

from __future__ import annotations

from painters.cli.app import app, main

__all__ = ["app", "main"]
