"""The command line: each command turns its arguments into one call, and the result into text."""

from __future__ import annotations

from painters.cli.app import app, main

__all__ = ["app", "main"]
