"""Drawings of plans: as text for a terminal, as a figure in the manner of the paper's Figure 1."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from painters.drawing.canvas import figure_of, svg_of
from painters.drawing.layout import lay_out, lay_out_gallery
from painters.drawing.text import draw_text
from painters.errors import PaintersError
from painters.plan import Plan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png")


class DrawingError(PaintersError, ValueError):
    """A picture that cannot be written."""

    exit_code = 2


def plan_text(
    plan: Plan, num_layers: int | None = None, width: int = 80, *, ascii_only: bool = False, dim: bool = False
) -> str:
    """The plan drawn from left to right in lines of at most `width` characters.

    Given `num_layers`, layers of the model that never run are named in a last line, which `dim` sets in the
    terminal's faint style. Raises PlanError where the plan runs a layer that the model does not have.
    """
    text = draw_text(plan, width, ascii_only)
    unused = never_run(plan, num_layers)
    if unused:
        text += f"\n\x1b[2m{unused}\x1b[0m" if dim else f"\n{unused}"
    return text


def never_run(plan: Plan, num_layers: int | None) -> str:
    """The line `never run: 20, 25-31`, empty where every layer runs or `num_layers` is not known."""
    if num_layers is None:
        return ""
    plan.check(num_layers)
    unused = sorted(set(range(num_layers)) - set(plan.layers))
    return f"never run: {', '.join(str(Plan.of(*unused)).split())}" if unused else ""


def plan_figure(plan: Plan, num_layers: int | None = None, title: str | None = None) -> Figure:
    """The plan as a matplotlib figure: boxes coloured by place in the stack, splits, merges and loop arrows.

    Without `num_layers` the stack is taken to end with the last layer that the plan runs. The figure belongs
    to no window and to no global state. Raises PlanError where the plan runs a layer beyond `num_layers`.
    """
    count = num_layers or max(plan.layers) + 1
    return figure_of(lay_out(plan, count, title, never_run(plan, num_layers)), count)


def plan_svg(plan: Plan, num_layers: int | None = None) -> str:
    """The drawing of `plan_figure` as an SVG element of a few kilobytes, made without matplotlib.

    Its lines and words take the colour of the page that it is put in. Raises PlanError as `plan_figure` does.
    """
    count = num_layers or max(plan.layers) + 1
    return svg_of(lay_out(plan, count, None, never_run(plan, num_layers)), count, f"Plan {plan}")


def plan_html(plan: Plan, num_layers: int | None = None) -> str:
    """The drawing with the plan's text and what it costs, for a notebook."""
    cost = f"{plan.layer_runs} layer runs, depth {plan.depth}, {len(plan.layers)} distinct layers"
    style = "overflow-x: auto"
    return f'<div style="{style}">{plan_svg(plan, num_layers)}<br><code>{escape(str(plan))}</code> – {cost}</div>'


def gallery(plans: Mapping[str, Plan], num_layers: int) -> Figure:
    """The named plans of one model as a single figure, as `plan_figure` draws each."""
    for plan in plans.values():
        plan.check(num_layers)
    return figure_of(lay_out_gallery(plans, num_layers), num_layers)


def save_plan(plan: Plan, path: str | PathLike[str], num_layers: int | None = None, title: str | None = None) -> Path:
    """The path of the figure it has written: an .svg or a .png; raises DrawingError for another suffix."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise DrawingError(
            f"cannot save a plan as {path.name!r}: its suffix is {path.suffix!r}; use {' or '.join(SUFFIXES)}"
        )
    figure = plan_figure(plan, num_layers, title)
    import matplotlib

    # The same plan writes the same bytes: no date, no random ids.
    with matplotlib.rc_context({"svg.hashsalt": "painters"}):
        figure.savefig(path, dpi=200, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
    return path
