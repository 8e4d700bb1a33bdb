"""What notebooks show: plans drawn, tables styled, records in rows, bars while calls take long."""

from __future__ import annotations

import math
import re
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from support.fake_records import LAYERS, record, records
from support.plan_strategies import plans
from tqdm import tqdm

from painters import progress, results, variants
from painters.drawing import plan_figure, plan_svg
from painters.plan import Plan, PlanError
from painters.progress import ProgressBar, progress_callback
from painters.results import Record

HOSTILE = "<script>alert(1)</script>"
SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


# --------------------------------------------------------------------------------------------------------------- plans


@given(plans(num_layers=40, max_runs=60, halves=True))
def test_every_plan_is_drawn_as_svg(plan: Plan) -> None:
    svg = plan_svg(plan)
    drawn = parsed(svg)
    assert drawn.findtext(f"{SVG}title") == f"Plan {plan}"
    width, height = (float(drawn.attrib[name]) for name in ("width", "height"))
    for text in drawn.iter(f"{SVG}text"):
        assert 0 <= float(text.attrib["x"]) <= width
        assert 0 <= float(text.attrib["y"]) <= height
    assert plan_svg(plan) == svg


@pytest.mark.parametrize("text", ["0-3 {4-8}*3 9-11", "0-2 {(3 4)*2 5}:sum 8.attn 9-31.mlp", "0-31", "7"])
def test_the_svg_says_what_the_figure_says(text: str) -> None:
    plan = Plan.parse(text)
    svg = parsed(plan_svg(plan, 32))
    drawn = [(one.text, float(one.attrib["x"]), float(one.attrib["y"])) for one in svg.iter(f"{SVG}text")]
    figure = []
    for one in plan_figure(plan, 32).axes[0].texts:
        x, y = one.get_position()
        # The same places, 40 pixels to a unit and downwards; of two lines each is half a line off.
        lines = one.get_text().split("\n")
        figure += [(line, 40 * x, float(svg.attrib["height"]) - 40 * y, len(lines)) for line in lines if line]
    for (text, x, y), (other, left, top, count) in zip(sorted(drawn), sorted(figure), strict=True):
        assert (text, x) == (other, pytest.approx(left, abs=0.1))
        assert y == pytest.approx(top, abs=0.1 if count == 1 else 5)


def test_the_svg_colours_layers_as_the_figure_does() -> None:
    import matplotlib

    from painters.drawing.canvas import ramp

    exact = np.array([matplotlib.colormaps["viridis"](layer / 31)[:3] for layer in range(32)])
    assert np.abs(np.array(ramp(32)) - exact).max() < 0.025
    assert len(ramp(1)) == 1


def test_the_svg_can_be_read_on_any_page_and_brings_nothing_along() -> None:
    svg = plan_svg(Plan.parse("0-3 {4-8}*3 9-11"), 12)
    assert "currentColor" in svg
    assert len(svg) < 8000
    assert not re.search(r"<style|<script|href|url\(|style=|\bid=", svg)


def test_a_plan_beyond_the_stack_is_not_drawn() -> None:
    with pytest.raises(PlanError, match=r"^plan runs layer 12, but the model has 12 layers"):
        plan_svg(Plan.parse("0-12"), 12)


def test_a_plan_shows_itself() -> None:
    plan = variants.parallel(num_layers=LAYERS, start=3, loops=3)
    assert plan._repr_svg_() == plan_svg(plan)
    html = plan._repr_html_()
    assert plan_svg(plan) in html
    assert "<code>0-3 {4-8}*3 9-11</code> – 22 layer runs, depth 10, 12 distinct layers" in html


# --------------------------------------------------------------------------------------------------------------- tables


class Cells(HTMLParser):
    """The texts of the cells of a table, and the ids of those in bold."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.cells: dict[str, str] = {}
        self._id = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._id = str(dict(attrs).get("id", "")) if tag == "td" else ""

    def handle_data(self, data: str) -> None:
        if self._id:
            self.cells[self._id] = data
            self._id = ""


def some(count: int = 5) -> pd.DataFrame:
    found = [one for one in records() if one.tuning is None and one.task == "fake_arc" and one.kv == "exact"]
    intact = [one for one in found if one.is_intact]
    return results.frame([*intact, *[one for one in found if not one.is_intact][:count]])


def test_a_table_of_scores_is_a_dataframe_and_so_is_what_is_made_of_it() -> None:
    table = some()
    assert isinstance(table, pd.DataFrame)
    for made in (table, table.loc[table["primary"], [*table.columns[:11]]].round(3), table.reset_index()):
        assert "Bold: more than two" in made._repr_html_()
    without = table[["plan", "value", "difference"]]._repr_html_()
    assert "Bold" not in without
    assert "Bars" not in without
    assert "0.000" in without  # styled all the same
    rest = table[["plan", "value"]]
    assert rest._repr_html_() == pd.DataFrame(rest)._repr_html_(), "what is not compared looks as it always does"
    assert repr(table) == repr(pd.DataFrame(table))
    assert isinstance(table["value"], pd.Series)


def test_large_differences_are_bold_and_numbers_short() -> None:
    table = some()
    table["difference_stderr"] = 0.02
    table["difference"] = [0.0, 0.021, -0.039, -0.041, 0.5, -0.5]
    html = table._repr_html_()
    cells = Cells(html).cells
    place = {name: number for number, name in enumerate(table.columns)}
    bold = set(re.findall(r"#(T_\w+)", "".join(re.findall(r"([^{}]*)\{\s*font-weight: bold", html))))
    for number, row in enumerate(table.itertuples()):
        [name] = [one for one in cells if one.endswith(f"_row{number}_col{place['difference']}")]
        assert cells[name] == f"{row.difference:+.3f}"
        assert (name in bold) == (abs(row.difference) > 2 * row.difference_stderr)
    assert len(bold) == 3


def test_a_table_escapes_what_records_say_and_shows_dashes() -> None:
    hostile = record(Plan.parse("0-3"), "fake_arc", 0.5).model_copy(update={"model": HOSTILE})
    html = results.frame([hostile])._repr_html_()
    assert HOSTILE not in html
    assert "&lt;script&gt;" in html
    assert "–" in Cells(html).cells.values()  # there is no intact model to compare with


def test_the_same_table_has_the_same_html_and_another_one_other_ids() -> None:
    def ids(table: pd.DataFrame) -> set[str]:
        return set(Cells(table._repr_html_()).cells)

    assert some()._repr_html_() == some()._repr_html_()
    assert not ids(some()) & ids(some(4))


def test_bars_go_from_chance_to_the_intact_model() -> None:
    table = results.frame([record(Plan.identity(12), "fake_arc", 1)] * 6)
    table["normalised"] = [-0.5, 0.0, 0.25, 1.0, 1.5, math.nan]
    html = table._repr_html_()
    bars = {
        int(row): width
        for places, width in re.findall(
            r"([^{}]*)\{\s*background: linear-gradient\(90deg, \S+ \S+ \S+ \S+ (\d+%)", html
        )
        for row in re.findall(r"_row(\d)_", places)
    }
    assert bars == {0: "0%", 1: "0%", 2: "25%", 3: "100%", 4: "100%"}


def test_two_errors_are_not_bold_and_plans_are_not_broken() -> None:
    table = some(1)
    table["difference"], table["difference_stderr"] = [0.5, 0.5], [0.25, 0.2]
    html = table._repr_html_()
    [bold] = re.findall(r"([^{}]*)\{\s*font-weight: bold", html)
    assert "_row1_" in bold
    assert "_row0_" not in bold
    [nowrap] = re.findall(r"([^{}]*)\{\s*white-space: nowrap;\s*\}", html)
    assert set(re.findall(r"_col(\d+)", nowrap)) == {str(list(table.columns).index("plan"))}


def test_the_caption_explains_what_is_shown() -> None:
    bold, bars = (
        "Bold: more than two paired standard errors from the intact model.",
        "Bars: 0 is chance, 1 the intact model.",
    )

    def caption(*columns: str) -> str | None:
        found = re.search(r"<caption>(.*)</caption>", some()[[*columns]]._repr_html_())
        return found[1] if found else None

    assert caption("difference", "difference_stderr", "normalised") == f"{bold} {bars}"
    assert caption("difference", "difference_stderr") == bold
    assert caption("plan", "normalised") == bars
    assert caption("difference") is None


def test_names_of_rows_are_escaped() -> None:
    table = some(1).rename(index={0: HOSTILE})
    assert HOSTILE not in table._repr_html_()


def test_a_table_as_long_as_pandas_shows_is_styled() -> None:
    table = some(1)
    with pd.option_context("display.max_rows", 2):
        assert "Bold" in table._repr_html_()
    with pd.option_context("display.max_rows", 1):
        assert "Bold" not in table._repr_html_()


def test_a_long_table_is_shown_as_pandas_shows_it() -> None:
    table = pd.concat([some()] * 20)
    assert "Bold" not in table._repr_html_()


def test_a_record_shows_itself_without_its_outcomes() -> None:
    one = record(Plan.parse("0-3"), "fake_arc", 0.5).model_copy(update={"model": HOSTILE})
    assert "outcomes=<60 outcomes>" in repr(one)
    assert len(repr(one)) < 1500
    html = one._repr_html_()
    assert HOSTILE not in html
    assert "&lt;script&gt;" in html
    rows = dict(re.findall(r"<tr><th[^>]*>([^<]*)</th><td[^>]*>([^<]*)</td></tr>", html))
    assert html.count("<tr>") == len(rows)
    assert re.sub("<tr>.*?</tr>", "", html) == "<table></table>"
    assert list(rows)[:6] == ["plan", "model", "task", "metric", "value", "stderr"]
    assert rows["outcomes"] == "&lt;60 outcomes&gt;"
    assert set(rows) == {name for name, value in one if value is not None}
    assert "outcomes" not in one.model_copy(update={"outcomes": None})._repr_html_()
    assert Record.model_validate_json(one.model_dump_json()) == one


# ----------------------------------------------------------------------------------------------------------------- bars


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.setattr(progress, "_has_widgets", lambda: False)
    monkeypatch.setattr(progress, "_tqdm", lambda: partial(tqdm, mininterval=0))  # of short calls nothing would be seen


def test_there_is_no_bar_outside_of_notebooks(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_callback(None) as on_progress:
        assert on_progress is None
    with progress_callback(False) as on_progress:
        assert on_progress is None
    assert capsys.readouterr().err == ""


def test_a_callback_is_passed_through() -> None:
    calls: list[int] = []
    with progress_callback(calls.append) as on_progress:
        assert callable(on_progress)
        on_progress(3)
    assert calls == [3]


@pytest.mark.usefixtures("notebook")
def test_a_notebook_gets_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_callback(None) as on_progress:
        assert isinstance(on_progress, ProgressBar)
        on_progress(1, 4, "0-3 on fake_arc")
        on_progress(4, 4, "0-5 on fake_arc")
    said = capsys.readouterr().err
    assert "0-3 on fake_arc" in said
    assert "4/4" in said
    with progress_callback(False) as on_progress:
        assert on_progress is None


@pytest.mark.usefixtures("notebook")
def test_a_call_shows_its_bar(capsys: pytest.CaptureFixture[str]) -> None:
    from painters import evaluate, similarity
    from painters.models import load_model

    model, tokenizer = load_model("nano-llama")
    evaluate(model, ["0-4 6-11"], ["nano_winogrande"], tokenizer=tokenizer, limit=4)
    assert "nano_winogrande" in capsys.readouterr().err
    evaluate(model, ["0-4 6-11"], ["nano_winogrande"], tokenizer=tokenizer, limit=4, progress=False)
    assert capsys.readouterr().err == ""
    similarity(model, "nano_lambada", tokenizer=tokenizer, limit=4)
    assert "4/4" in capsys.readouterr().err


def test_the_bar_is_tqdms(monkeypatch: pytest.MonkeyPatch) -> None:
    assert progress._tqdm() is tqdm
    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    monkeypatch.setattr(progress, "_has_widgets", lambda: True)
    assert progress._tqdm().__module__ == "tqdm.notebook"


def test_a_kernel_shows_all_of_it(tmp_path: Path) -> None:
    from support import notebook_runs

    book = nbformat.v4.new_notebook()
    for source in (
        "from painters import Plan\nPlan.parse('0-3 {4-8}*3 9-11')",
        "from painters.progress import in_notebook\nin_notebook()",
    ):
        book.cells.append(nbformat.v4.new_code_cell(source))
    nbformat.write(book, tmp_path / "book.ipynb")
    plan, here = notebook_runs.execute(tmp_path / "book.ipynb", tmp_path / "scratch").cells
    assert {"image/svg+xml", "text/html", "text/plain"} <= set(plan.outputs[0].data)
    assert plan.outputs[0].data["text/plain"] == "Plan('0-3 {4-8}*3 9-11')"
    assert here.outputs[0].data["text/plain"] == "True"
