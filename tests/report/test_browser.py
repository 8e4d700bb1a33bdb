"""A report in a real browser: it opens without an error, is sorted, filtered and compared, by keyboard too."""

from __future__ import annotations

import base64
import itertools
import json
import os
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from support import browser
from support.browser import Page
from support.fake_records import LAYERS, record
from support.reports import DRAWS, check_statistics, hostile_records, interval, some_records

from painters import results, variants
from painters.plan import Plan
from painters.report import report
from painters.results import Record, scoring
from painters.results.lines import seal

COMMAND = browser.find()
pytestmark = pytest.mark.skipif(COMMAND is None, reason=browser.MISSING)
WIDTHS = (1400, 400)
TASKS = ("fake_arc", "fake_gsm8k", "fake_hellaswag", "fake_lambada", "fake_winogrande")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Page]:
    assert COMMAND is not None
    with browser.running(COMMAND) as page:
        yield page


def many_records() -> list[Record]:
    """Return a record of each of some plans on each task, one of them a task of few documents."""
    made = []
    for start, loops in itertools.product(range(6), range(1, 5)):
        plan = variants.parallel(num_layers=LAYERS, start=start, loops=loops)
        for task in TASKS:
            params = {"start": start, "loops": loops}
            few = 12 if task == "fake_lambada" else 60
            made.append(record(plan, task, 1 - 0.1 * (6 - start), documents=few, variant="parallel", params=params))
    made += [record(Plan.identity(LAYERS), task, 1.0, documents=12 if task == "fake_lambada" else 60) for task in TASKS]
    keys = {results.key(one): one for one in made}
    return list(keys.values())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def path(folder: Path) -> Path:
    results.append(folder / "many" / "records.jsonl", many_records())
    return report(folder / "many", folder / "many.html").path


@pytest.fixture
def page(chromium: Page, path: Path) -> Iterator[Page]:
    """Open the report; at the end, check that no script failed and nothing was fetched."""
    chromium.show(1400)
    chromium.open(path)
    yield chromium
    assert_quiet(chromium, path)


def assert_quiet(page: Page, path: Path) -> None:
    page.evaluate("0")
    assert page.errors == []
    assert {address for address in page.requests if not address.startswith("data:")} == {path.resolve().as_uri()}


def rows(page: Page) -> list[list[str]]:
    """Return the texts of the table of records."""
    found: list[list[str]] = page.evaluate(
        "[...document.querySelectorAll('#records-table tbody tr:not(.detail)')]"
        ".map((row) => [...row.cells].map((cell) => cell.innerText.trim()))"
    )
    return found


def sort_by(page: Page, name: str) -> list[str]:
    """Click on the head of a column, and return its texts on the first page."""
    page.evaluate(f"document.querySelector('#records-table th[data-name={name}] button').click()")
    place = page.evaluate(f"document.querySelector('#records-table th[data-name={name}]').cellIndex")
    return [row[place] for row in rows(page)]


def enter(page: Page, name: str, value: str) -> None:
    page.evaluate(f"get({json.dumps(name)}).value = {json.dumps(value)}")
    kind = "change" if page.evaluate(f"get({json.dumps(name)}).tagName") == "SELECT" else "input"
    page.evaluate(f"get({json.dumps(name)}).dispatchEvent(new Event({json.dumps(kind)}))")


def choose(page: Page, side: str, plan: Plan) -> None:
    """Choose `plan` as A or B of the comparison."""
    place = page.evaluate(f"compare.sides.findIndex((side) => side.plan.text === {json.dumps(str(plan))})")
    assert place >= 0
    enter(page, f"compare-{side}", str(place))


def number(text: str) -> float:
    return float(text.split(" ±")[0].replace("−", "-").replace("+", ""))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_at_every_width(chromium: Page, path: Path, tmp_path: Path, width: int, dark: bool) -> None:
    chromium.show(width, dark=dark)
    chromium.open(path)
    whole, seen = chromium.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert whole == seen <= width  # tables scroll by themselves
    background = chromium.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)")
    pictures = (
        "[...document.querySelectorAll('figure:not([hidden]) img')].map((i) => i.complete && i.naturalWidth > 100)"
    )
    chromium.wait(f"({pictures}).join() === 'true'")
    kept = os.environ.get("PAINTERS_SCREENSHOTS")  # a folder, for those who want to look
    shot = (Path(kept) if kept else tmp_path) / f"report-{width}-{'dark' if dark else 'light'}.png"
    chromium.screenshot(shot)
    assert shot.read_bytes().startswith(b"\x89PNG")
    assert_quiet(chromium, path)


def test_sorting(page: Page) -> None:
    enter(page, "page-size", "1000")
    values = [number(text) for text in sort_by(page, "value")]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) > 10
    assert page.evaluate("document.querySelector('th[data-name=value]').ariaSort") == "descending"
    values = [number(text) for text in sort_by(page, "value")]
    assert values == sorted(values)
    assert sort_by(page, "task") == sorted(row[4] for row in rows(page))
    assert page.evaluate("document.querySelectorAll('th[aria-sort]').length") == 1


def test_what_is_missing_comes_last_in_either_order(page: Page, chromium: Page) -> None:
    assert page.evaluate("[null, 2, 1].sort((a, b) => compared(a, b, false))") == [1, 2, None]
    assert page.evaluate("[null, 2, 1].sort((a, b) => compared(a, b, true))") == [2, 1, None]
    assert page.evaluate("['9', '10', '2'].sort((a, b) => compared(a, b, false))") == ["2", "9", "10"]


def test_filtering(page: Page) -> None:
    records = many_records()
    assert page.evaluate("get('records-status').textContent") == f"{len(records)} records"
    enter(page, "filter-text", "loops=3 fake_arc")
    wanted = [one for one in records if one.task == "fake_arc" and (one.params or {}).get("loops") == 3]
    assert page.evaluate("get('records-status').textContent") == f"{len(wanted)} of {len(records)} records"
    assert [row[0] for row in rows(page)] == [one.plan for one in wanted]
    enter(page, "filter-text", "{4-8}*3 9")  # a piece of a plan, spaces and all
    assert [row[0] for row in rows(page)] == ["0-3 {4-8}*3 9-11"] * len(TASKS)
    enter(page, "filter-text", "nothing like it")
    assert rows(page) == [["No record fits. Clear the filters to see all."]]
    page.evaluate("get('filter-clear').click()")
    assert page.evaluate("get('records-status').textContent") == f"{len(records)} records"
    page.evaluate(
        "{ const s = [...get('filters').querySelectorAll('label')].find((l) => l.textContent.startsWith('Task'))"
        ".querySelector('select'); s.value = [...s.options].find((o) => o.text === 'fake_gsm8k').value;"
        " s.dispatchEvent(new Event('change')); }"
    )
    assert {row[4] for row in rows(page)} == {"fake_gsm8k"}


def test_pages(page: Page) -> None:
    records = many_records()
    enter(page, "page-size", "25")
    seen = [row[0] for row in rows(page)]
    while not page.evaluate("get('page-after').disabled"):
        page.evaluate("get('page-after').click()")
        seen += [row[0] for row in rows(page)]
    assert seen == [one.plan for one in records]
    page.evaluate("get('page-first').click()")
    assert page.evaluate("get('page-status').textContent") == f"1 to 25 of {len(records)}"


def test_the_keyboard_is_enough(page: Page) -> None:
    page.evaluate("document.querySelector('th[data-name=task] button').focus()")
    page.press("Enter", 13, "\r")
    assert page.evaluate("document.querySelector('th[data-name=task]').ariaSort") == "ascending"
    page.evaluate("document.querySelector('#records-table button.plan').focus()")
    page.press("Enter", 13, "\r")
    assert page.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
    page.press("Tab", 9)
    page.press("Tab", 9)
    assert page.evaluate("document.activeElement.textContent") == "Compare as A"
    everything = "a[href], button, input, select, summary, [tabindex]"
    assert page.evaluate(f"[...document.querySelectorAll('{everything}')].every((one) => one.tabIndex >= 0)")
    unnamed = "[...document.querySelectorAll('select, input')].filter((one) => !one.labels.length).length"
    assert page.evaluate(unnamed) == 0


def test_details_of_a_record(page: Page) -> None:
    page.evaluate("document.querySelector('#records-table button.plan').click()")
    first = many_records()[0]
    told = page.evaluate("document.querySelector('tr.detail').textContent")
    for word in (first.plan, "float32", "sdpa", "Seed1234", "Batchinglm-eval", "lm_eval 0", first.requests):
        assert word in told
    assert page.evaluate("document.querySelectorAll('tr.detail svg').length") == 1
    page.evaluate("document.querySelector('#records-table button.plan').click()")
    assert page.evaluate("document.querySelector('tr.detail')") is None


def test_comparison(page: Page) -> None:
    a = variants.parallel(num_layers=LAYERS, start=3, loops=2)
    b = variants.parallel(num_layers=LAYERS, start=1, loops=1)
    choose(page, "a", a)
    choose(page, "b", b)
    page.wait("compare.waiting.length === 0")
    found: list[list[str]] = page.evaluate(
        "[...document.querySelectorAll('#compare-table tbody tr')]"
        ".map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    records = {(one.plan, one.task): one for one in many_records()}
    assert [row[0].removesuffix(row[1]) for row in found] == list(TASKS)
    for row, task in zip(found, TASKS, strict=True):
        one, other = records[str(a), task], records[str(b), task]
        assert one.value is not None
        assert other.value is not None
        assert one.outcomes is not None
        assert other.outcomes is not None
        error = scoring.difference_stderr("mean", one.outcomes, one.value, other.outcomes, other.value)
        sure = interval("mean", *map(_array, (one.outcomes, other.outcomes)))
        only = [sum(x > y for x, y in zip(*pair, strict=True)) for pair in _both_ways(one.outcomes, other.outcomes)]
        assert [number(row[2]), number(row[3])] == [round(100 * one.value, 1), round(100 * other.value, 1)]
        assert number(row[4]) == round(100 * (one.value - other.value), 1)
        assert row[4].endswith(f" ± {100 * (error or 0):.1f}")
        assert [number(text) for text in row[6].split(" to ")] == [round(100 * end, 1) for end in sure]
        assert [int(text) for text in row[7:10]] == [one.documents, *only]
    notes = page.evaluate("get('compare-notes').textContent")
    assert "Too few documents: under 30 on fake_lambada acc." in notes
    assert "seed 2407" in page.evaluate("get('compare').textContent")
    assert f"{DRAWS:,} bootstrap draws" in page.evaluate("get('compare').textContent")
    page.evaluate("get('compare-swap').click()")
    assert page.evaluate("compare.sides[Number(get('compare-a').value)].plan.text") == str(b)


def compared(page: Page) -> list[tuple[str, str]]:
    """Plan and cache of A and B."""
    script = "['a', 'b'].map((side) => compare.sides[chosenPlace(side)]).map(({ plan, kv }) => [plan.text, kv])"
    return [(plan, kv) for plan, kv in page.evaluate(script)]


@pytest.fixture(scope="module")
def two_caches(folder: Path) -> Path:
    """A report with plans under both kinds of cache."""
    exact = [one for one in many_records() if one.task == "fake_gsm8k"]
    averaged = [one.model_copy(update={"kv": "averaged"}) for one in exact if not one.is_intact]
    results.append(folder / "caches" / "records.jsonl", exact + averaged)
    return report(folder / "caches", folder / "caches.html", with_figures=False).path


def test_plans_are_searched_and_their_cache_is_in_sight(chromium: Page, two_caches: Path) -> None:
    chromium.open(two_caches)
    chosen = compared(chromium)
    enter(chromium, "compare-a-text", "averaged loops=3 {4-8}")
    listed = chromium.evaluate("[...get('compare-a').options].map((option) => option.text)")
    assert "averaged cache: 0-3 {4-8}*3 9-11 (parallel start=3 loops=3)" in listed
    assert compared(chromium) == chosen  # typing changes no choice
    assert len(listed) == 2  # what fits, and what is chosen
    assert chromium.evaluate("get('compare-a-count').textContent") == "1 of 47"
    chromium.evaluate("get('compare-a-text').focus()")
    chromium.press("Enter", 13, "\r")
    assert compared(chromium) == [("0-3 {4-8}*3 9-11", "averaged"), chosen[1]]
    assert chromium.evaluate("get('compare-a').options.length") == 47
    enter(chromium, "compare-b-text", "no such plan")
    assert chromium.evaluate("get('compare-b').options.length") == 1
    chromium.evaluate("get('compare-swap').click()")
    assert compared(chromium) == [chosen[1], ("0-3 {4-8}*3 9-11", "averaged")]
    assert_quiet(chromium, two_caches)


def test_a_comparison_has_an_address(chromium: Page, two_caches: Path) -> None:
    chromium.open(two_caches)
    assert chromium.evaluate("location.hash") == ""  # nothing was chosen yet
    enter(chromium, "compare-a-text", "averaged {4-8}*2")
    chromium.evaluate("get('compare-a-text').focus()")
    chromium.press("Enter", 13, "\r")
    shown = compared(chromium)
    assert shown[0] == ("0-3 {4-8}*2 9-11", "averaged")
    link = chromium.evaluate("location.hash")
    assert link == chromium.evaluate("get('compare-link').getAttribute('href')")
    chromium.open(two_caches)
    assert compared(chromium) != shown
    chromium.evaluate(f"location.hash = {json.dumps(link)}")
    chromium.wait("get('compare-a').selectedOptions[0].text.startsWith('averaged cache: 0-3 {4-8}*2')")
    assert compared(chromium) == shown
    chromium.evaluate(f"location.hash = {json.dumps(link.replace('4-8', '4-9'))}")
    chromium.wait("get('compare-status').textContent.includes('which this page has no records of')")
    assert "0-3 {4-9}*2 9-11" in chromium.evaluate("get('compare-status').textContent")
    assert compared(chromium) == shown


def test_pictures_are_saved_as_svg_and_png(page: Page) -> None:
    page.evaluate(
        "{ globalThis.saved = [];"
        " HTMLAnchorElement.prototype.click = function () { saved.push([this.download, this.href]); }; }"
    )
    page.evaluate("saveComparison('svg')")
    page.evaluate("saveComparison('png')")
    page.evaluate("document.querySelector('#figures figure:not([hidden]) button[data-save=svg]').click()")
    page.wait("saved.length === 3")
    (svg_name, svg), (png_name, png), (figure_name, figure) = page.evaluate("saved")
    assert (svg_name, png_name) == ("comparison.svg", "comparison.png")
    assert figure_name.startswith("fig")
    assert figure.startswith("data:image/svg+xml;base64,")
    text = urllib.parse.unquote(svg.partition(",")[2])
    words = [element.text for element in ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}text")]
    cells = page.evaluate(
        "[...get('compare-table').tBodies[0].rows]"
        ".flatMap((row) => [2, 3, 4, 6, 7, 10].map((i) => row.cells[i].textContent))"
    )
    assert set(cells) <= set(words)
    assert {f"A: {compared(page)[0][0]}", f"B: {compared(page)[1][0]}", *TASKS} <= set(words)
    assert text.count('class="interval"') == len(TASKS)
    content = base64.b64decode(png.partition(",")[2])
    assert content.startswith(b"\x89PNG")
    assert int.from_bytes(content[16:20], "big") >= 2000  # its width in pixels
    kept = os.environ.get("PAINTERS_SCREENSHOTS")
    if kept:
        (Path(kept) / "comparison.png").write_bytes(content)


def test_what_is_cut_off_says_so(chromium: Page, path: Path) -> None:
    """Each box of which a part is out of sight has a line that says so: on a narrow page figures and plans, too."""
    boxes = (
        "[...document.querySelectorAll('figure:not([hidden]) .scroll, section .scroll:not(figure *), .drawing')]"
        ".map((box) => [box.scrollWidth > box.clientWidth + 1, !box.nextElementSibling.hidden,"
        " box.classList.contains('cut-right'), box.classList.contains('cut-left')])"
    )
    for width in WIDTHS:
        chromium.show(width)
        chromium.open(path)
        chromium.wait("[...document.querySelectorAll('figure:not([hidden]) img')].every((image) => image.complete)")
        chromium.wait(f"{boxes}.every(([cut, hint, right]) => cut === hint && cut === right)")
        assert chromium.evaluate(boxes)[0][0] == (width == 400)
    chromium.evaluate("{ const box = document.querySelector('figure:not([hidden]) .scroll'); box.scrollLeft = 1e6; }")
    chromium.wait(f"{boxes}[0].join() === 'true,true,false,true'")
    assert_quiet(chromium, path)


def _array(values: tuple[float, ...]) -> Any:
    import numpy as np

    return np.array(values)


def _both_ways(one: Any, other: Any) -> list[tuple[Any, Any]]:
    return [(one, other), (other, one)]


def test_a_record_goes_to_the_comparison(page: Page) -> None:
    page.evaluate("document.querySelectorAll('#records-table button.plan')[7].click()")
    page.evaluate("document.querySelectorAll('tr.detail button')[1].click()")
    plan = many_records()[7].plan
    assert page.evaluate("compare.sides[Number(get('compare-b').value)].plan.text") == plan
    assert plan in page.evaluate("get('compare-drawings').lastChild.textContent")


def test_the_statistics_in_the_browser(page: Page) -> None:
    check_statistics(page.evaluate)


def test_one_figure_at_a_time(page: Page) -> None:
    shown = "[...document.querySelectorAll('#figures figure')].filter((one) => !one.hidden).length"
    count = page.evaluate("document.querySelectorAll('#figures figure').length")
    assert count > 2
    assert page.evaluate(shown) == 1
    before = page.evaluate("get('figure-choice').value")
    page.evaluate("get('figure-after').click()")
    assert page.evaluate(shown) == 1
    assert page.evaluate("get('figure-choice').value") == str(int(before) + 1)


def test_the_gallery_draws_every_plan(page: Page) -> None:
    plans = {one.plan for one in many_records()}
    while not page.evaluate("get('plans-more').hidden"):
        page.evaluate("get('plans-more').click()")
    drawn = page.evaluate("[...document.querySelectorAll('#plans-cards article svg title')].map((t) => t.textContent)")
    assert sorted(drawn) == sorted(f"Plan {plan}" for plan in plans)
    enter(page, "plans-text", "loops=4")
    assert page.evaluate("document.querySelectorAll('#plans-cards article').length") == 6


def test_hostile_records_stay_words(chromium: Page, folder: Path) -> None:
    results.append(folder / "hostile" / "records.jsonl", hostile_records() + some_records())
    path = report(folder / "hostile", folder / "hostile.html").path
    chromium.show(1400)
    chromium.open(path)
    for script in (
        "for (const one of document.querySelectorAll('#records-table button.plan')) one.click()",
        "chooseGroup(1); chooseGroup(0)",
        "get('filter-text').value = '<script>'; get('filter-text').dispatchEvent(new Event('input'))",
    ):
        chromium.evaluate(script)
    assert chromium.evaluate("document.title") == "painters report"
    assert chromium.evaluate("document.querySelectorAll('script').length") == 2
    assert chromium.evaluate("document.querySelectorAll('[onerror], img:not(figure img)').length") == 0
    assert len(rows(chromium)) == 3
    assert_quiet(chromium, path)


@pytest.mark.slow
def test_thousands_of_rows_stay_fast(chromium: Page, folder: Path) -> None:
    """Five thousand records: a filter and a sort each take well under a second, also on a busy machine."""
    one = some_records()[0]
    text = one.model_dump_json()
    lines = [text.replace('"seed":1234', f'"seed":{seed}') for seed in range(5000)]
    (folder / "large").mkdir()
    (folder / "large" / "records.jsonl").write_bytes(b"".join(map(seal, lines)))
    path = report(folder / "large", folder / "large.html", with_figures=False).path
    assert path.stat().st_size < 3_000_000
    began = time.monotonic()
    chromium.open(path)
    opened = time.monotonic() - began
    script = "(() => { const began = performance.now(); %s; return performance.now() - began; })()"
    filtered = chromium.evaluate(script % "get('filter-text').value = 'arc'; filterRows()")
    ordered = chromium.evaluate(script % "table.sort = 'value'; sortRows()")
    assert chromium.evaluate("get('records-status').textContent") == "5,000 records"
    assert opened < 20
    # Every one of them is the same plan on the same task: the comparison has 5000 rows, and fills them in meanwhile.
    assert chromium.evaluate("document.querySelectorAll('#compare-table tbody tr').length") == 5000
    assert filtered < 1000
    assert ordered < 1000
