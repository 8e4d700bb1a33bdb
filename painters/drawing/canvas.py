"""Two canvases: one for matplotlib figures, one that writes SVG.

The second is light enough for pages that hold hundreds of plans. Their methods are those of
`painters.drawing.parts.Canvas`, which says what each draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from painters.drawing.layout import Sheet
from painters.drawing.parts import Align, Color

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

UNIT = 0.62
"""The length of a unit of the drawing, in inches."""
GALLERY_UNIT = 0.5
"""The length of a unit of a gallery, in inches: less, so that its words are larger beside the boxes."""
PIXELS = 40
"""The length of a unit of the drawing, in pixels of SVG."""
POINT = PIXELS / (72 * UNIT)
"""The length of a typographic point, in pixels of SVG."""
INK = "#444444"
"""The colour of lines and edges in matplotlib's figures."""

# Seventeen colours of viridis, evenly spaced, from dark to light. The colours between them are interpolated.
VIRIDIS = (
    "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c "
    "1fa088 28ae80 3fbc73 5ec962 84d44b addc30 d8e219 fde725"
).split()


def ramp(num_layers: int) -> list[Color]:
    """Return a colour for each layer of a stack: matplotlib's viridis to within 0.025."""
    stops = [tuple(int(text[start : start + 2], 16) / 255 for start in (0, 2, 4)) for text in VIRIDIS]
    colors: list[Color] = []
    for layer in range(num_layers):
        position = layer / max(num_layers - 1, 1) * (len(stops) - 1)
        stop = min(int(position), len(stops) - 2)
        red, green, blue = (
            low + (position - stop) * (high - low) for low, high in zip(stops[stop], stops[stop + 1], strict=True)
        )
        colors.append((red, green, blue))
    return colors


class FigureCanvas:
    """A canvas that draws on the axes of a matplotlib figure."""

    def __init__(self, axes: Axes, colors: Sequence[Color]) -> None:
        self._axes, self.colors = axes, colors

    def rectangle(
        self, x: float, y: float, width: float, height: float, fill: Color | str | None, *,
        edge: float = 0.8, radius: float = 0.0,
    ) -> None:  # fmt: skip
        """Draw a rectangle with its lower left corner at (x, y)."""
        from matplotlib.patches import FancyBboxPatch, Rectangle

        look: dict[str, Any] = {
            "facecolor": "none" if fill is None else fill,
            "edgecolor": INK if edge else "none",
            "linewidth": edge,
        }
        if radius:
            style = f"round,pad=0,rounding_size={radius}"
            self._axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, **look))
        else:
            self._axes.add_patch(Rectangle((x, y), width, height, **look))

    def circle(self, x: float, y: float, radius: float) -> None:
        """Draw a white circle around (x, y)."""
        from matplotlib.patches import Circle

        self._axes.add_patch(Circle((x, y), radius, facecolor="white", edgecolor=INK, linewidth=1.0))

    def frame(self, x: float, y: float, width: float, height: float) -> None:
        """Draw a shaded frame behind everything else."""
        from matplotlib.patches import FancyBboxPatch

        frame = FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.12")
        frame.set(facecolor="#f2f2f2", edgecolor="#bbbbbb", linewidth=0.6, alpha=0.6, zorder=0)
        self._axes.add_patch(frame)

    def line(self, *points: tuple[float, float]) -> None:
        """Draw a line through the points."""
        xs, ys = zip(*points, strict=True)
        self._axes.plot(xs, ys, color=INK, linewidth=1.1, solid_capstyle="butt", zorder=1)

    def arrow(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Draw a straight arrow."""
        look = {
            "arrowstyle": "-|>",
            "color": INK,
            "linewidth": 1.1,
            "shrinkA": 0,
            "shrinkB": 0,
            "mutation_scale": 8,
        }
        self._axes.annotate("", xy=end, xytext=start, arrowprops=look, zorder=1)

    def text(self, x: float, y: float, label: str, size: float, ink: str = "black") -> None:
        """Write a label centred on (x, y)."""
        self._axes.text(x, y, label, ha="center", va="center", fontsize=size, color=ink, linespacing=0.95)

    def note(self, x: float, y: float, label: str, size: float, align: Align = "left") -> None:
        """Write words beside (x, y)."""
        across, up = ("left", "top") if align == "top" else (align, "center")
        self._axes.text(x, y, label, ha=across, va=up, fontsize=size)

    def pill(self, x: float, y: float, label: str, size: float, *, badge: bool = False) -> None:
        """Write a label centred on (x, y), on a white background."""
        style: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "boxstyle": "round,pad=0.25"}
        if badge:
            style = {"facecolor": "white", "edgecolor": INK, "linewidth": 0.8, "boxstyle": "round,pad=0.2"}
        weight = "bold" if badge else "normal"
        self._axes.text(x, y, label, ha="center", va="center", fontsize=size, fontweight=weight, bbox=style)


def figure_of(sheet: Sheet, num_layers: int, unit: float = UNIT) -> Figure:
    """Return the sheet as a matplotlib figure whose only axes use the units of the drawing, each `unit` inches."""
    import matplotlib
    from matplotlib.figure import Figure

    viridis = matplotlib.colormaps["viridis"]
    figure = Figure(figsize=(sheet.width * unit, sheet.height * unit))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, sheet.width), ylim=(0, sheet.height), aspect="equal")
    axes.axis("off")
    sheet.paint(FigureCanvas(axes, [viridis(layer / max(num_layers - 1, 1))[:3] for layer in range(num_layers)]))
    return figure


class SvgCanvas:
    """A canvas that collects SVG elements.

    Lines and words take the text colour of the page around the drawing, so that it can be read on any page.
    """

    def __init__(self, height: float, colors: Sequence[Color]) -> None:
        self._height, self.colors = height, colors
        self._frames: list[str] = []
        self._lines: list[str] = []  # parts of one path
        self._heads: list[str] = []  # of arrows; parts of one path
        self._marks: list[str] = []

    @property
    def elements(self) -> str:
        """The elements drawn so far: frames at the back, then lines, then everything else."""
        lines = f'<path d="{"".join(self._lines)}" fill="none" stroke="currentColor"/>'
        heads = f'<path d="{"".join(self._heads)}" fill="currentColor"/>'
        return "".join((*self._frames, lines, heads, *self._marks))

    def rectangle(
        self, x: float, y: float, width: float, height: float, fill: Color | str | None, *,
        edge: float = 0.8, radius: float = 0.0,
    ) -> None:  # fmt: skip
        """Draw a rectangle with its lower left corner at (x, y)."""
        left, top = self._at(x, y + height)
        corner = f' rx="{_short(radius * PIXELS)}"' if radius else ""
        line = f' stroke="currentColor" stroke-width="{edge}"' if edge else ' shape-rendering="crispEdges"'
        self._marks.append(
            f'<rect x="{left}" y="{top}" width="{_short(width * PIXELS)}" height="{_short(height * PIXELS)}"{corner} '
            f'fill="{_hex(fill)}"{line}/>'
        )

    def circle(self, x: float, y: float, radius: float) -> None:
        """Draw a white circle around (x, y)."""
        left, top = self._at(x, y)
        self._marks.append(
            f'<circle cx="{left}" cy="{top}" r="{_short(radius * PIXELS)}" fill="#fff" stroke="currentColor"/>'
        )

    def frame(self, x: float, y: float, width: float, height: float) -> None:
        """Draw a shaded frame behind everything else."""
        left, top = self._at(x, y + height)
        self._frames.append(
            f'<rect x="{left}" y="{top}" width="{_short(width * PIXELS)}" height="{_short(height * PIXELS)}" rx="5" '
            f'fill="currentColor" fill-opacity=".06" stroke="currentColor" stroke-opacity=".25"/>'
        )

    def line(self, *points: tuple[float, float]) -> None:
        """Draw a line through the points."""
        self._lines.append(self._path(points))

    def arrow(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Draw a straight arrow."""
        self.line(start, end)
        length = max(abs(end[0] - start[0]), abs(end[1] - start[1]))
        along, up = (end[0] - start[0]) / length * 0.14, (end[1] - start[1]) / length * 0.14
        wings = [(end[0] - along + side * up / 3, end[1] - up - side * along / 3) for side in (1, -1)]
        self._heads.append(self._path((end, *wings)) + "z")

    def text(self, x: float, y: float, label: str, size: float, ink: str = "black") -> None:
        """Write a label centred on (x, y)."""
        lines = label.split("\n")
        for number, line in enumerate(lines):
            shift = ((len(lines) - 1) / 2 - number) * size / (72 * UNIT)
            self._write(x, y + shift, line, size, f'fill="{ink}" text-anchor="middle"')

    def note(self, x: float, y: float, label: str, size: float, align: Align = "left") -> None:
        """Write words beside (x, y)."""
        y -= 0.4 * size / (72 * UNIT) if align == "top" else 0.0
        anchor = ' text-anchor="end"' if align == "right" else ""
        self._write(x, y, label, size, f'fill="currentColor"{anchor}')

    def pill(self, x: float, y: float, label: str, size: float, *, badge: bool = False) -> None:
        """Write a label centred on (x, y), on a white background."""
        width, height = 0.2 + 0.62 * len(label) * size / (72 * UNIT), 1.5 * size / (72 * UNIT)
        self.rectangle(x - width / 2, y - height / 2, width, height, "#fff", edge=0.8 if badge else 0, radius=0.07)
        weight = ' font-weight="bold"' if badge else ""
        self._write(x, y, label, size, f'fill="black" text-anchor="middle"{weight}')

    def _write(self, x: float, y: float, label: str, size: float, look: str) -> None:
        """Add one line of text, at half its height on `y`; `look` holds more attributes."""
        left, top = self._at(x, y)
        self._marks.append(
            f'<text x="{left}" y="{top}" dy=".35em" font-size="{_short(size * POINT)}" {look}>{escape(label)}</text>'
        )

    def _path(self, points: Iterable[tuple[float, float]]) -> str:
        """Return the commands of a path through the points."""
        return "M" + "L".join(" ".join(self._at(x, y)) for x, y in points)

    def _at(self, x: float, y: float) -> tuple[str, str]:
        """Return a point in pixels; SVG counts `y` downwards."""
        return _short(x * PIXELS), _short((self._height - y) * PIXELS)


def svg_of(sheet: Sheet, num_layers: int, name: str) -> str:
    """Return the sheet as an SVG element with the title `name`, which screen readers read out."""
    canvas = SvgCanvas(sheet.height, ramp(num_layers))
    sheet.paint(canvas)
    width, height = _short(sheet.width * PIXELS), _short(sheet.height * PIXELS)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" font-family="system-ui,sans-serif"><title>{escape(name)}</title>{canvas.elements}</svg>'
    )


def _short(number: float) -> str:
    """Return the number with at most one decimal."""
    return f"{number:.1f}".removesuffix(".0")


def _hex(fill: Color | str | None) -> str:
    """Return the colour as SVG writes it."""
    if fill is None or isinstance(fill, str):
        return fill or "none"
    return "#" + "".join(f"{round(255 * part):02x}" for part in fill)
