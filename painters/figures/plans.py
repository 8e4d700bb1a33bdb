"""Figure 1: the ways to run the layers of a window, drawn as plans."""

from __future__ import annotations

from painters import variants
from painters.drawing import gallery
from painters.figures.data import Data
from painters.figures.output import Drawing
from painters.figures.style import styled

LAYERS = 12
"""Depth of the drawn stack where no records say how deep the model is."""
MOST_LAYERS = 16
"""Deepest stack that is still legible."""
SHOWN: dict[str, tuple[str, dict[str, int | str]]] = {
    "intact": ("identity", {}),
    "skip": ("skip", {}),
    "middle repeat": ("middle-repeat", {}),
    "reverse": ("reverse", {}),
    "shuffle (seed 0)": ("shuffle", {"seed": 0}),
    "parallel": ("parallel", {}),
    "looped parallel ×3": ("parallel", {"loops": 3}),
    "loop ×2, block by block": ("loop", {"loops": 2, "by": "block"}),
}
"""Label -> name of the variant and its parameters besides the window."""


def strategies(data: Data) -> Drawing:
    """Draw every variant over the same window."""
    known = data.decoder.num_layers if data.decoder else LAYERS
    layers = known if 4 <= known <= MOST_LAYERS else LAYERS
    start = variants.default_start(layers)
    plans = {label: variants.build(name, layers, **_params(name, start, more)) for label, (name, more) in SHOWN.items()}
    touched = variants.window(layers, start)
    about = [
        f"Plans for a model of {layers} layers and the window of layers {touched[0]} to {touched[-1]} (start {start}). "
        f"Colours show a layer's position in the stack. Nothing was measured; the only seed is shuffle's.",
        *(f"{label}: `{plan}`" for label, plan in plans.items()),
    ]
    rows = [
        {"variant": label, "plan": str(plan), "layer_runs": plan.layer_runs, "depth": plan.depth}
        for label, plan in plans.items()
    ]
    with styled():
        return Drawing(gallery(plans, layers), rows, list(rows[0]), about)


def _params(name: str, start: int, more: dict[str, int | str]) -> dict[str, int | str]:
    """Return the parameters of the variant: `more`, and `start` where it takes a window."""
    return {"start": start, **more} if "start" in variants.find(name).parameters else dict(more)
