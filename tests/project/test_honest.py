"""What is told beside numbers: answers that are not finite, documents that are too few, and where figures come from."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import bootstrap
from support.fake_records import record, records
from support.nano_samples import llama, tokenizer, write_tasks
from support.outcome import Outcome
from support.printing import printed
from support.reports import data_of

from painters import Plan, figures, harness, results, surgery, sweep
from painters.cli import remarks
from painters.cli import sweep as sweep_command
from painters.experiment import Experiment
from painters.generation import greedy
from painters.harness.shared_lm import SharingLM
from painters.models import load_model
from painters.report import report
from painters.report.page import STATIC
from painters.results import Store, scoring

ROOT = Path(__file__).parents[2]
SUM, MEAN = "0-3 {4-8}:sum*5 9-11", "0-3 {4-8}*3 9-11"

# ------------------------------------------------------------------------------------------ answers that are not finite


@pytest.fixture(scope="module")
def loud() -> Any:
    """nano-llama in float16 with loud layers: adding up what they say overflows, and their mean does not."""
    model, words = load_model("nano-llama", dtype="float16")
    with torch.no_grad():
        for layer in model.model.layers[4:9]:
            layer.mlp.down_proj.weight *= 600
    return model, words


@pytest.mark.parametrize("exact", [False, True])
def test_a_plan_that_overflows_has_no_values(loud: Any, exact: bool) -> None:
    """Log-likelihoods and texts, shared and in lm-eval's batches: counted, and neither a score nor its error."""
    tasks = ["nano_arc", "nano_lambada", "nano_gsm8k"]
    found = list(harness.score_together(*loud, ["0-11", MEAN, SUM], tasks, limit=3, exact_batching=exact))
    for one in found:
        answers = one.documents * (4 if one.task == "nano_arc" else 1)
        expected = answers if one.plan == SUM else 0
        assert one.not_finite == expected, (one.plan, one.task)
        assert (one.value is None) == (one.plan == SUM)
        assert (one.outcomes is None) == (one.plan == SUM)
        assert one.stderr is None or one.plan != SUM
    table = results.frame(found)
    assert table[table["plan"] == SUM][["value", "difference", "normalised"]].isna().all(axis=None)
    assert set(table[table["plan"] == SUM]["not_finite"]) == {3, 12}


def test_one_answer_is_enough(loud: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """lm-eval would take the first choice of the document, and average it with the others."""
    model, words = loud
    (task,) = harness.prepare("nano_arc", limit=5)
    log_likelihoods = SharingLM.log_likelihoods

    def one_nan(self: Any, plans: Any, requests: Any, *rest: Any) -> Any:
        found = log_likelihoods(self, plans, requests, *rest)
        for answers in found.values():
            answers[7] = (math.nan, False)
        return found

    monkeypatch.setattr(SharingLM, "log_likelihoods", one_nan)
    scorer = harness.Scorer(model, words)
    found = list(scorer.score([Plan.parse("0-11")], task))
    assert {(one.not_finite, one.value, one.stderr, one.outcomes) for one in found} == {(1, None, None, None)}


def test_texts_are_counted_once_each(loud: Any) -> None:
    """Also those that lm-eval's loop decodes again."""
    odd: list[int] = []
    prompts = loud[1](["Question: Tom has 5 lamps.", "Question: Anna has 3 books."]).input_ids
    greedy(loud[0], prompts, 3, batch_size=2, not_finite=odd.append)
    assert odd == []
    with surgery(loud[0], SUM):
        greedy(loud[0], prompts, 3, batch_size=2, not_finite=odd.append)
    assert sorted(odd) == [0, 0, 0, 1, 1, 1]


def test_the_table_has_a_mark_and_a_line(
    painters: Callable[..., Outcome], loud: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "load_model", lambda *_, **__: loud)
    asked = ("run", "--plan", SUM, "--tasks", "nano_arc,nano_winogrande", "--limit", "2", "--quiet")
    found = painters(*asked)
    assert found.code == 0, found.err
    line = next(line for line in found.out.splitlines() if line.startswith("nano_arc"))
    assert line.split()[-3:] == ["–*", "–", "–"]
    text = " ".join(found.out.split())
    assert f"* nano_arc under {SUM}: 8 answers are not finite (NaN or infinite), so there is no value. float16" in text
    assert "the intact model" not in text.partition("norm.:")[0]
    told = json.loads(painters(*asked, "--json").out)
    assert [(row["task"], row["value"], row["not_finite"]) for row in told["rows"] if row["primary"]] == [
        ("nano_arc", None, 8), ("nano_winogrande", None, 4),
    ]  # fmt: skip
    assert told["median_normalised"] is None


def test_a_sweep_counts_its_cells_without_a_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = llama()
    with torch.no_grad():
        broken.model.layers[0].mlp.down_proj.weight.fill_(math.inf)
    broken.save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    tasks = write_tasks(tmp_path / "tasks")
    grid = Experiment.model_validate(
        {
            "title": "a", "models": str(tmp_path / "model"), "tasks": tasks["nano_arc"], "protocol": {"limit": 2},
            "variants": [{"plan": "1-5"}, {"plan": "1-4"}],
        }
    )  # fmt: skip
    for _ in range(2):  # also those that are found
        summary = sweep.run(grid, Store(tmp_path / "store"))
        assert (summary.cells, summary.failures, summary.lacks) == (3, [], False)
        assert summary.not_finite == {f"nano_arc of {tmp_path}/model (float32)": 1}
    assert sweep_command.summary_json(summary)["not_finite"] == summary.not_finite
    assert f"No value: 1 cell on nano_arc of {tmp_path}/model" in printed(sweep_command.summary_table(summary, ()), 300)


def without_a_value(found: results.Record) -> results.Record:
    return found.model_copy(update={"value": None, "stderr": None, "outcomes": None, "not_finite": 7})


def test_captions_and_reports_name_what_has_no_value(tmp_path: Path) -> None:
    all_of_them = records()
    (odd,) = [r for r in all_of_them if (r.task, r.variant, r.params) == ("fake_arc", "skip", {"start": 4})]
    mixed = [without_a_value(r) if r is odd else r for r in all_of_them]
    figures.draw(4, figures.Data.of(mixed), tmp_path)
    caption = (tmp_path / "fig04.md").read_text()
    assert f"Without a value, because answers were not finite (NaN or infinite): {odd.plan} on fake_arc." in caption
    assert "Missing, and left out of the picture: skip: fake_arc at M = 3" in caption
    older = [r.model_copy(update={"not_finite": 7}) if r is odd else r for r in all_of_them]
    figures.draw(4, figures.Data.of(older), tmp_path / "older")
    assert (tmp_path / "older" / "fig04.md").read_text() == caption
    none = figures.Data.of([without_a_value(r) for r in all_of_them])
    assert none.score_tables == []

    results.append(tmp_path / "store.jsonl", mixed)
    report(tmp_path / "store.jsonl", tmp_path / "page.html", with_figures=False)
    page = (tmp_path / "page.html").read_text()
    assert sorted(set(data_of(page)["rows"]["not_finite"])) == [0, 7]


# ------------------------------------------------------------------------------------------- documents that are too few


def outcomes(count: int, both: int, first: int, second: int) -> tuple[list[float], list[float]]:
    """Of so many documents, those that both, only the first and only the second gets right."""
    neither = count - both - first - second
    one = [1.0] * both + [1.0] * first + [0.0] * second + [0.0] * neither
    return one, [1.0] * both + [0.0] * first + [1.0] * second + [0.0] * neither


@pytest.mark.parametrize("seed", [0, 2407])
@pytest.mark.parametrize("count", [2, 57, 700])
@pytest.mark.parametrize("aggregation", ["mean", "perplexity"])
def test_the_paired_interval_of_other_outcomes_is_scipys(count: int, aggregation: str, seed: int) -> None:
    random = np.random.default_rng(count)
    one, other = random.normal(-2, 1, (2, count))

    def difference(first: Any, second: Any, axis: int) -> Any:
        if aggregation == "mean":
            return first.mean(axis) - second.mean(axis)
        return np.exp(-first.mean(axis)) - np.exp(-second.mean(axis))

    expected = bootstrap(
        (one, other), difference, paired=True, vectorized=True, n_resamples=3000, method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    found = scoring.paired_interval(one.tolist(), other.tolist(), aggregation, draws=3000, seed=seed)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_what_has_no_interval() -> None:
    assert scoring.paired_interval([1.0], [0.0]) is None
    assert scoring.paired_interval([1.0, 0.0], [0.0, 0.0], "matthews") is None
    with pytest.raises(ValueError, match="2 and 1 documents: score both on the same ones"):
        scoring.paired_interval([1.0, 0.0], [0.0])
    assert scoring.paired_interval([0.5, 0.5, 0.5], [0.25, 0.25, 0.25]) is None  # nothing is known of the spread
    many = outcomes(5000, 3000, 700, 500)
    assert scoring.paired_interval(*many) == scoring.paired_interval(*many, seed=1)
    half, other = ([outcome / 2 for outcome in side] for side in outcomes(500, 300, 70, 50))
    assert scoring.paired_interval(half, other) == scoring.paired_interval(half, other)
    assert scoring.paired_interval(half, other) != scoring.paired_interval(half, other, seed=1)


def tango_by_hand(first: int, second: int, count: int) -> tuple[float, float]:
    """The score interval, by a search for the most likely proportions under each difference."""
    agreed = count - first - second

    def distance(difference: float) -> float:
        def unlikely(only_other: float) -> float:
            only_one, same = only_other + difference, 1 - 2 * only_other - difference
            cells = ((first, only_one), (second, only_other), (agreed, same))
            return -sum(number * math.log(max(share, 1e-300)) for number, share in cells if number)

        ends = max(0.0, -difference) + 1e-13, (1 - difference) / 2 - 1e-13
        best = minimize_scalar(unlikely, bounds=ends, method="bounded", options={"xatol": 1e-13}).x
        variance = count * (2 * best + difference - difference**2)
        return float((first - second - count * difference) / math.sqrt(variance))

    observed = (first - second) / count
    low = brentq(lambda difference: distance(difference) - 1.96, -1 + 1e-9, observed)
    return low, brentq(lambda difference: distance(difference) + 1.96, observed, 1 - 1e-9)


@pytest.mark.parametrize(
    ("first", "second", "count"), [(12, 2, 50), (0, 0, 100), (9, 3, 100), (60, 20, 500), (0, 10, 40), (49, 0, 50)]
)
def test_the_paired_interval_of_right_and_wrong_is_tangos(first: int, second: int, count: int) -> None:
    pair = outcomes(count, (count - first - second) // 2, first, second)
    assert scoring.paired_interval(*pair) == pytest.approx(tango_by_hand(first, second, count), abs=1e-7)


def test_paired_intervals_stay_between_minus_one_and_one() -> None:
    assert scoring.paired_interval([1.0] * 50, [0.0] * 50) == pytest.approx((1 - 0.142700, 1.0), abs=1e-6)
    assert scoring.paired_interval([0.0] * 50, [1.0] * 50) == pytest.approx((-1.0, 0.142700 - 1), abs=1e-6)
    low, high = scoring.paired_interval([1.0] * 100, [1.0] * 100) or (0, 0)
    assert [-low, high] == pytest.approx([1.96**2 / (100 + 1.96**2)] * 2)


def test_many_documents_are_drawn_in_blocks() -> None:
    """Of 300,000 there are three draws in a block."""
    one, other = ([outcome / 2 for outcome in side] for side in outcomes(300_000, 200_000, 60_000, 40_000))
    assert scoring.paired_interval(one, other, draws=7) == pytest.approx((1 / 30, 1 / 30), abs=0.005)


@pytest.mark.parametrize(
    ("documents", "both", "first", "second", "told"),
    [
        (500, 400, 60, 20, None),  # 8 points, 4.6 standard errors
        (500, 400, 0, 0, None),  # nothing is claimed
        (500, 400, 15, 15, None),
        (29, 10, 9, 0, "29 documents; take 30 or more"),
        (29, 10, 10, 8, "29 documents; take 30 or more"),
        (20, 2, 18, 0, None),  # 90 points; so few tell that too
        (500, 400, 20, 12, "500 documents; about 1,000 would show one of this size"),
        (500, 400, 9, 0, "9 of 500 documents tell the two apart; the standard error is rough"),
    ],
)
def test_when_documents_are_too_few(documents: int, both: int, first: int, second: int, told: str | None) -> None:
    one, other = outcomes(documents, both, first, second)
    values = sum(one) / documents, sum(other) / documents
    error = scoring.difference_stderr("mean", one, values[0], other, values[1])
    apart = scoring.discordant(one, other)
    assert apart == first + second
    assert scoring.too_few(values[0] - values[1], error, documents, apart) == told


def test_as_many_documents_as_needed_would_do() -> None:
    """A difference at two standard errors is one that documents suffice for."""
    one, other = outcomes(500, 400, 20, 12)
    error = scoring.difference_stderr("mean", one, 0.84, other, 0.824)
    assert error is not None
    needed = scoring.documents_needed(0.016, error, 500)
    assert needed is not None
    assert error * math.sqrt(500 / needed) == pytest.approx(0.008, rel=1e-3)
    assert scoring.documents_needed(0.0, error, 500) is None
    assert scoring.documents_needed(math.nan, error, 500) is None
    assert scoring.too_few(0.5, None, 500) is None


def test_the_page_has_the_same_limits() -> None:
    text = "".join((STATIC / name).read_text() for name in ("compare.js", "statistics.js"))
    said = {name: int(value) for name, value in re.findall(r"const (FEW|FEW_APART|SEED) = (\d+);", text)}
    assert said == {"FEW": scoring.FEW, "FEW_APART": scoring.FEW_APART, "SEED": scoring.BOOTSTRAP_SEED}


def test_the_table_says_where_documents_are_too_few(painters: Callable[..., Outcome]) -> None:
    asked = ("run", "--plan", MEAN, "--tasks", "nano_lambada", "--limit", "60", "--quiet")
    found = painters(*asked)
    told = json.loads(painters(*asked, "--json").out)
    assert told["bootstrap"] == {"seed": 2407, "draws": 10_000}
    row = next(row for row in told["rows"] if row["metric"] == "acc")
    kept = {(r.plan, r.metric): r for r in results.read("runs/records.jsonl")}
    plan, intact = kept[MEAN, "acc"].outcomes, kept["0-11", "acc"].outcomes
    assert plan is not None
    assert intact is not None
    assert row["interval"] == list(scoring.paired_interval(plan, intact) or ())
    assert row["documents_apart"] == scoring.discordant(plan, intact)
    assert row["too_few"] == scoring.too_few(row["difference"], row["difference_stderr"], 60, row["documents_apart"])
    assert row["too_few"], "chosen so that the difference is small"
    assert f"whether there is a difference:\n  nano_lambada acc: {row['too_few']}\n" in found.out
    assert "perplexity" not in found.out.partition("Too few")[2].partition("Per cent")[0]


def test_remarks_of_what_was_not_compared() -> None:
    one = record(Plan.parse("0-11"), "fake_arc", 0.5, documents=50)
    empty = {"interval": None, "documents_apart": None, "too_few": None}
    assert remarks.comparison(one, None) == empty
    assert remarks.comparison(without_a_value(one), one) == empty
    assert list(remarks.too_few([one])) == []
    assert list(remarks.not_finite([without_a_value(one)])) == [
        "* fake_arc under the intact model: 7 answers are not finite (NaN or infinite), so there is no value"
    ]


# ---------------------------------------------------------------------------------------------- where figures come from


def test_captions_and_pictures_hold_a_digest_of_their_records(tmp_path: Path) -> None:
    all_of_them = records()
    figures.draw(2, figures.Data.of(all_of_them), tmp_path)
    caption, picture = (tmp_path / "fig02.md").read_text(), (tmp_path / "fig02.svg").read_text()
    used = [r for r in all_of_them if r.task == "fake_lambada" and r.primary]
    line = f"Drawn from {len(used)} records of these tasks (digest {results.digest(used)})."
    assert line in caption
    assert line in picture

    other = used[3].model_copy(update={"value": (used[3].value or 0) + 0.001})
    for changed in ([*used[:3], other, *used[4:]], used[1:]):
        assert results.digest(changed) != results.digest(used)
    assert results.digest(reversed(used)) == results.digest(used)
    later = [r.model_copy(update={"seconds": 3.0, "date": "2030-01-01T00:00:00+00:00"}) for r in used]
    assert results.digest(later) == results.digest(used)


def test_the_committed_captions_are_of_the_committed_records() -> None:
    """Figure 2's, that is; the others are drawn the same way."""
    found, _ = figures.read([ROOT / "results"])
    used = [r for r in found if r.task == "nano_lambada" and r.primary]
    assert f"(digest {results.digest(used)})" in (ROOT / "results/figures/fig02.md").read_text()


def test_a_picture_holds_hostile_names_as_words(tmp_path: Path) -> None:
    some = [r.model_copy(update={"model": "</dc:description><script>alert(1)</script>"}) for r in records()]
    figures.draw(2, figures.Data.of([r for r in some if r.tuning is None]), tmp_path)
    assert "<script" not in (tmp_path / "fig02.svg").read_text()


def test_a_standard_error_of_zero_gives_way_to_limits(painters: Callable[..., Outcome]) -> None:
    """All of twenty right is 83.9 to 100 %, and two plans that agree on all of them may differ by 16.1 points."""
    asked = ("run", "--plan", "0-5 7-6 8-11", "--tasks", "nano_arc,nano_lambada", "--limit", "20", "--quiet")
    shown = painters(*asked).out
    assert "100 (≥83.9)" in shown
    assert "+0.0 (±16.1)" in shown
    assert "± 0.0" not in shown
    assert "In brackets: the 95 % limit, where all documents agree." in shown
    assert max(map(len, shown.splitlines())) <= 80
    rows = {(row["task"], row["metric"]): row for row in json.loads(painters(*asked, "--json").out)["rows"]}
    arc, lambada = rows["nano_arc", "acc"], rows["nano_lambada", "acc"]
    assert [arc["low"], arc["high"]] == pytest.approx([0.838875, 1.0], abs=1e-6)
    assert 0 < lambada["low"] < lambada["value"] < lambada["high"] < 1
    assert arc["interval"] == pytest.approx([-0.161129, 0.161129], abs=1e-4)
    [same] = [row for row in json.loads(painters("run", "--plan", "0-11", *asked[3:], "--json").out)["rows"]
              if (row["task"], row["metric"]) == ("nano_arc", "acc")]  # fmt: skip
    assert same["interval"] == [0, 0]  # the intact model does not differ from itself
