"""The public functions that draw plans: as text, as a matplotlib figure, as SVG and as HTML."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from painters.drawing.canvas import GALLERY_UNIT, figure_of, svg_of
from painters.drawing.layout import lay_out, lay_out_gallery
from painters.drawing.text import draw_text
from painters.errors import PaintersError
from painters.plan import Plan, PlanLike, as_plan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png")


class DrawingError(PaintersError, ValueError):
    """A drawing that cannot be written to the file that was named."""

    exit_code = 2


def plan_text(
    plan: PlanLike, num_layers: int | None = None, width: int = 80, *, ascii_only: bool = False, dim: bool = False
) -> str:
    """Return the plan drawn with characters, from left to right.

    Args:
        plan: The plan to draw, its text, or its layers in order.
        num_layers: The number of layers in the model. If it is given, a last line names the layers that never run.
        width: The longest line, in characters; below 20 counts as 20. The last line is not broken.
        ascii_only: Whether to draw with ASCII characters alone.
        dim: Whether to show the last line in the terminal's faint style.

    Returns:
        The drawing, its lines joined by newlines.

    Raises:
        PlanError: The plan runs a layer that a model of `num_layers` layers does not have.

    Examples:
        >>> from painters.drawing import plan_text
        >>> from painters.plan import Plan
        >>> print(plan_text(Plan.parse("0-4 5*3 7-11"), num_layers=12, ascii_only=True))
        -- 0 ~ 4 -[ 5 ]x3- 7 ~ 11 ->
        never run: 6
    """
    plan = as_plan(plan)
    text = draw_text(plan, width, ascii_only)
    unused = never_run(plan, num_layers)
    if unused:
        text += f"\n\x1b[2m{unused}\x1b[0m" if dim else f"\n{unused}"
    return text


def never_run(plan: PlanLike, num_layers: int | None) -> str:
    """Return the line that names the layers that a plan never runs.

    Args:
        plan: The plan.
        num_layers: The number of layers in the model; None if it is not known.

    Returns:
        A line such as "never run: 20, 25-31"; empty if every layer runs or `num_layers` is None.

    Raises:
        PlanError: The plan runs a layer that a model of `num_layers` layers does not have.

    Examples:
        >>> from painters.drawing import never_run
        >>> from painters.plan import Plan
        >>> never_run(Plan.parse("0-3 6-10"), num_layers=12)
        'never run: 4-5, 11'
    """
    if num_layers is None:
        return ""
    plan = as_plan(plan)
    plan.check(num_layers)
    unused = sorted(set(range(num_layers)) - set(plan.layers))
    return f"never run: {', '.join(str(Plan.of(*unused)).split())}" if unused else ""


def plan_figure(plan: PlanLike, num_layers: int | None = None, title: str | None = None) -> Figure:
    """Return the plan drawn as a matplotlib figure, in the manner of the paper's Figure 1.

    Layers are boxes coloured by their position in the stack. Parallel groups split and merge; repeats are framed, with
    an arrow back. The figure belongs to no window, and pyplot does not know it.

    Args:
        plan: The plan to draw, its text, or its layers in order.
        num_layers: The number of layers in the model. Layers that never run are then named below the drawing. By
            default the model ends with the last layer that the plan runs, and none are named.
        title: The title above the drawing.

    Returns:
        The figure.

    Raises:
        PlanError: The plan runs a layer that a model of `num_layers` layers does not have.

    Examples:
        >>> from painters.drawing import plan_figure
        >>> from painters.plan import Plan
        >>> figure = plan_figure(Plan.parse("0-3 {4-8}*3 9-11"), num_layers=12, title="looped parallel")
        >>> [text.get_text() for text in figure.axes[0].texts if text.get_text()][:4]
        ['looped parallel', '0', '1', '2']
    """
    plan = as_plan(plan)
    count = num_layers or max(plan.layers) + 1
    return figure_of(lay_out(plan, count, title, never_run(plan, num_layers)), count)


def plan_svg(plan: PlanLike, num_layers: int | None = None) -> str:
    """Return the drawing of `plan_figure` as an SVG element of a few kilobytes, made without matplotlib.

    Its lines and words take the text colour of the page around it.

    Args:
        plan: The plan to draw, its text, or its layers in order.
        num_layers: The number of layers in the model. Layers that never run are then named below the drawing. By
            default the model ends with the last layer that the plan runs, and none are named.

    Returns:
        The SVG element, as text.

    Raises:
        PlanError: The plan runs a layer that a model of `num_layers` layers does not have.

    Examples:
        >>> from painters.drawing import plan_svg
        >>> from painters.plan import Plan
        >>> svg = plan_svg(Plan.parse("0-3 {4-8}*3 9-11"), num_layers=12)
        >>> svg.startswith("<svg"), "<title>Plan 0-3 {4-8}*3 9-11</title>" in svg
        (True, True)
    """
    plan = as_plan(plan)
    count = num_layers or max(plan.layers) + 1
    return svg_of(lay_out(plan, count, None, never_run(plan, num_layers)), count, f"Plan {plan}")


def plan_html(plan: PlanLike, num_layers: int | None = None) -> str:
    """Return the drawing of `plan_svg` with the plan's text and its cost below, as a notebook shows it.

    Args:
        plan: The plan to draw, its text, or its layers in order.
        num_layers: The number of layers in the model. Layers that never run are then named below the drawing. By
            default the model ends with the last layer that the plan runs, and none are named.

    Returns:
        The HTML element, as text.

    Raises:
        PlanError: The plan runs a layer that a model of `num_layers` layers does not have.

    Examples:
        >>> from painters.drawing import plan_html
        >>> from painters.plan import Plan
        >>> html = plan_html(Plan.parse("0-3 {4-8}*3 9-11"))
        >>> html[html.index("<code>"):]
        '<code>0-3 {4-8}*3 9-11</code> – 22 layer runs, depth 10, 12 distinct layers</div>'
    """
    plan = as_plan(plan)
    cost = f"{plan.layer_runs} layer runs, depth {plan.depth}, {len(plan.layers)} distinct layers"
    style = "overflow-x: auto"
    return f'<div style="{style}">{plan_svg(plan, num_layers)}<br><code>{escape(str(plan))}</code> – {cost}</div>'


def gallery(plans: Mapping[str, PlanLike], num_layers: int) -> Figure:
    """Return one figure with several plans for the same model, each drawn as `plan_figure` does.

    Args:
        plans: The plans by name; each name stands above its drawing.
        num_layers: The number of layers in the model.

    Returns:
        The figure.

    Raises:
        PlanError: A plan runs a layer that a model of `num_layers` layers does not have.

    Examples:
        >>> from painters import variants
        >>> from painters.drawing import gallery
        >>> figure = gallery({name: variants.build(name, 12) for name in ("skip", "reverse")}, num_layers=12)
        >>> [text.get_text() for text in figure.axes[0].texts if text.get_text().isalpha()]
        ['skip', 'reverse']
    """
    named = {name: as_plan(plan) for name, plan in plans.items()}
    for plan in named.values():
        plan.check(num_layers)
    return figure_of(lay_out_gallery(named, num_layers), num_layers, GALLERY_UNIT)


def save_plan(
    plan: PlanLike, path: str | PathLike[str], num_layers: int | None = None, title: str | None = None
) -> Path:
    """Write the figure of `plan_figure` to a file.

    The same plan always writes the same bytes.

    Args:
        plan: The plan to draw, its text, or its layers in order.
        path: The file to write; its suffix is .svg or .png.
        num_layers: The number of layers in the model. Layers that never run are then named below the drawing. By
            default the model ends with the last layer that the plan runs, and none are named.
        title: The title above the drawing.

    Returns:
        The path of the file.

    Raises:
        DrawingError: The suffix is another one.
        PlanError: The plan runs a layer that a model of `num_layers` layers does not have.

    Examples:
        >>> from painters.drawing import save_plan
        >>> from painters.plan import Plan
        >>> save_plan(Plan.parse("0-3 {4-8}*3 9-11"), "plan.svg", num_layers=12).name
        'plan.svg'
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise DrawingError(
            f"cannot save a plan as {path.name!r}: its suffix is {path.suffix!r}; use {' or '.join(SUFFIXES)}"
        )
    figure = plan_figure(plan, num_layers, title)
    import matplotlib

    # Without a date and random ids, so that the same plan writes the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "painters"}):
        figure.savefig(path, dpi=200, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
    return path
