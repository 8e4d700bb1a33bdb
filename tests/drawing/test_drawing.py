"""Drawings of plans: legible in a terminal, and figures with every word on the canvas and apart."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from support.plan_strategies import plans

from painters.drawing import plan_figure, plan_text, save_plan
from painters.plan import Layer, Parallel, Plan, PlanError

DRAWINGS = {
    "0-14 {15-17}*3 18-31": """\
           ╔┌─ 15 ─┐      ╗
── 0 … 14 ─╠┼─ 16 ─┼ mean ╣×3─ 18 … 31 ─▶
           ╚└─ 17 ─┘      ╝""",
    "0-13 16*5 19-31": """\
── 0 … 13 ─╞ 16 ╡×5─ 19 … 31 ─▶
never run: 14-15, 17-18""",
    "0-14 (15-17)*2 18-31": """\
── 0 … 14 ─╞ 15 ─ 16 ─ 17 ╡×2─ 18 … 31 ─▶""",
    "0-3 {(3 4)*2 {5 6}:sum 7*3} 8.attn 9-31.mlp": """\
          ┌─╞ 3 ─ 4 ╡×2──┐
── 0 … 3 ─┼─┬─ 5 ─┬ sum ─┼ mean ─ 8.attn ─ 9.mlp … 31.mlp ─▶
          │ └─ 6 ─┘      │
          └─╞ 7 ╡×3──────┘""",
    "0 {1-30} 31": """\
      ┌─ 1 ─────────┐
      ├─ 2 ─────────┤
── 0 ─┼─ 3 ─────────┼ mean ─ 31 ─▶
      ├─ ⋮ 25 more ─┤
      ├─ 29 ────────┤
      └─ 30 ────────┘""",
}


@pytest.mark.parametrize(("text", "drawing"), DRAWINGS.items())
def test_drawings(text: str, drawing: str) -> None:
    assert plan_text(Plan.parse(text), 32) == drawing


def test_ascii_drawing() -> None:
    assert plan_text(Plan.parse("0-14 {15-17}*3 18-31"), ascii_only=True) == (
        "           [+- 15 -+      ]\n-- 0 ~ 14 -[+- 16 -+ mean ]x3- 18 ~ 31 ->\n           [+- 17 -+      ]"
    )


def test_never_run_is_faint_where_asked() -> None:
    assert plan_text(Plan.parse("0-3"), 5, dim=True) == "── 0 … 3 ─▶\n\x1b[2mnever run: 4\x1b[0m"


@given(plans(40, 80, halves=True))
@settings(max_examples=100, deadline=None)
def test_any_plan_fits_the_terminal(plan: Plan) -> None:
    for width in (40, 80):
        lines = plan_text(plan, width=width).split("\n")
        assert all(len(line) <= width for line in lines)
        assert "\n".join(lines).count("▶") == 1
        lines_ascii = plan_text(plan, width=width, ascii_only=True).split("\n")
        assert [len(line) for line in lines_ascii] == [len(line) for line in lines]
        assert "\n".join(lines_ascii).isascii()


def deepest() -> Plan:
    steps: tuple[Layer | Parallel, ...] = (Layer(1),)
    for place in range(32):
        steps = (Layer(place), Parallel((steps, (Layer(5),))))
    return Plan(steps)


@pytest.mark.parametrize("plan", [deepest(), Plan.of(*[5, 3, 9] * 90, *range(0, 1000, 7)), Plan.parse("{5 7*9000}")])
def test_large_plans_are_drawn(plan: Plan) -> None:
    assert all(len(line) <= 80 for line in plan_text(plan).split("\n"))
    plan_figure(plan)


FIGURES = [
    "0-14 {15-17}*3 18-31",
    "0-3 {4-8}*3 9-11",
    "0-3 4*2 5*2 6*2 7*2 8*2 9-11",
    "0-3 {(3 4)*2 {5 6}:sum 7*3} 8.attn 9-11.mlp",
    "0-2 ({3 4} 5)*3 {2-30} 31",
    "0 3 1 4 2 7 5 9 6 8 10 11 13 15 14 12 17 19 21 16 18 20 22 23",
    "7",
]


@pytest.mark.parametrize("text", FIGURES)
def test_figures_keep_their_words_apart(text: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = plan_figure(Plan.parse(text), 32, title=text)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    labels = [label for label in figure.axes[0].texts if label.get_text()]
    boxes = [label.get_window_extent(canvas.get_renderer()) for label in labels]
    page = figure.bbox
    for place, box in enumerate(boxes):
        assert page.x0 <= box.x0 <= box.x1 <= page.x1, labels[place].get_text()
        assert page.y0 <= box.y0 <= box.y1 <= page.y1, labels[place].get_text()
        for other, label in zip(boxes[:place], labels, strict=False):
            assert not box.overlaps(other), (labels[place].get_text(), label.get_text())


def test_figures_name_what_runs() -> None:
    words = [label.get_text() for label in plan_figure(Plan.parse("0-1 {4.attn 5}*3 7"), 9).axes[0].texts]
    assert {"0", "1", "4\nattn", "5", "7", "mean", "×3"} <= set(words)
    assert "layers of the stack; never run: 2-3, 6, 8" in words


def test_figures_leave_pyplot_alone() -> None:
    plan_figure(Plan.parse("0-3"))
    if "matplotlib.pyplot" in sys.modules:
        assert not sys.modules["matplotlib.pyplot"].get_fignums()


@pytest.mark.parametrize(("name", "start"), [("plan.png", b"\x89PNG"), ("plan.svg", b"<?xml"), ("plan.SVG", b"<?xml")])
def test_saving(tmp_path: Path, name: str, start: bytes) -> None:
    plan = Plan.parse("0-3 {4-8}*3 9-11")
    path = save_plan(plan, tmp_path / name, 12)
    assert path == tmp_path / name
    first = path.read_bytes()
    assert first.startswith(start)
    assert save_plan(plan, str(path), 12).read_bytes() == first


@pytest.mark.parametrize(("name", "suffix"), [("plan.pdf", ".pdf"), ("plan", "")])
def test_saving_refuses_other_suffixes(tmp_path: Path, name: str, suffix: str) -> None:
    with pytest.raises(
        ValueError, match=f"^cannot save a plan as '{name}': its suffix is '{suffix}'; use .svg or .png$"
    ):
        save_plan(Plan.parse("0-3"), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_drawing_checks_the_plan() -> None:
    for draw in (plan_text, plan_figure):
        with pytest.raises(PlanError, match=r"^plan runs layer 12, but the model has 12 layers"):
            draw(Plan.parse("0-12"), 12)
