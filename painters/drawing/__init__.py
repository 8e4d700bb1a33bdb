"""Drawings of plans: text for a terminal, SVG and HTML for a notebook, and matplotlib figures."""

from __future__ import annotations

from painters.drawing.draw import (
    DrawingError,
    gallery,
    never_run,
    plan_figure,
    plan_html,
    plan_svg,
    plan_text,
    save_plan,
)

__all__ = ["DrawingError", "gallery", "never_run", "plan_figure", "plan_html", "plan_svg", "plan_text", "save_plan"]
