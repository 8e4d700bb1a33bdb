"""Figures: the numbers drawn against numbers by hand, what is missing named, the same files from the same records."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.fake_records import CORRELATED, DECODED, LAYERS, TUNED, record, records, similarities, similarity
from support.outcome import Outcome

from painters import experiment, figures, variants
from painters.experiment.tuning import Tuning
from painters.figures import FIGURES, Data, FigureError, NothingToDraw
from painters.figures.bands import Draws, Estimate, mean, median
from painters.plan import Plan
from painters.results import Record, append, intervals
from painters.results.lines import seal
from painters.results.scoring import difference_stderr
from painters.similarity import MODES

INTACT = Plan.identity(LAYERS)
BLOCKED = ("torch", "transformers", "lm_eval", "datasets", "accelerate")


@pytest.fixture(scope="module")
def measured() -> list[Record]:
    return records()


@pytest.fixture(scope="module")
def drawn(measured: list[Record], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all figures, drawn from files by a process that cannot import torch."""
    store = tmp_path_factory.mktemp("store")
    append(store / "scores.jsonl", measured)
    (store / "similarity").mkdir()
    for number, one in enumerate(similarities()):
        (store / "similarity" / f"{number}.jsonl").write_bytes(seal(one.model_dump_json()))
    folder = tmp_path_factory.mktemp("figures")
    code = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({BLOCKED!r}))
sys.argv = ["painters", "plot", "all", "--from", {str(store)!r}, "--to", {str(folder)!r}, "--json"]
runpy.run_module("painters", run_name="__main__")
"""
    run = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["figure"] for row in rows] == list(FIGURES)
    assert all(row["drawn"] and not row["missing"] for row in rows), rows
    return folder


def table(folder: Path, number: int) -> pd.DataFrame:
    return pd.read_csv(folder / f"fig{number:02d}.csv")


def caption(folder: Path, number: int) -> str:
    return (folder / f"fig{number:02d}.md").read_text()


class Scores:
    """Scores looked up in the records, for numbers by hand."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.found: dict[tuple[str, str, str, str | None], Record] = {
            (r.task, r.plan, r.kv, r.tuning.protocol if r.tuning else None): r for r in records
        }

    def value(self, task: str, plan: Plan, kv: str = "exact", protocol: str | None = None) -> float:
        value = self.found[task, str(plan), kv, protocol].value
        assert value is not None
        return value

    def median(self, plans: Sequence[Plan]) -> float:
        """The median over tasks of the normalised mean over plans."""
        scaled = []
        for task, (chance, _) in DECODED.items():
            score = statistics.mean(self.value(task, plan) for plan in plans)
            scaled.append((score - chance) / (self.value(task, INTACT) - chance))
        return statistics.median(scaled)


@pytest.fixture(scope="module")
def scores(measured: list[Record]) -> Scores:
    return Scores(measured)


# --------------------------------------------------------------------------------------------------------- every figure


@pytest.mark.parametrize("number", FIGURES)
def test_a_figure_is_four_files(drawn: Path, number: int) -> None:
    for suffix, start in ((".svg", b"<?xml"), (".png", b"\x89PNG"), (".csv", b""), (".md", b"**Figure")):
        content = (drawn / f"fig{number:02d}").with_suffix(suffix).read_bytes()
        assert len(content) > 100
        assert content.startswith(start)
    assert FIGURES[number].title in caption(drawn, number)
    assert "Nothing is missing." in caption(drawn, number)


@pytest.mark.parametrize("number", sorted(set(FIGURES) - {1, 3, 14}))
def test_the_caption_names_model_tasks_documents_seeds_protocol_and_bands(drawn: Path, number: int) -> None:
    text = caption(drawn, number)
    for word in ("fake-llama", "60 documents", "seed 1234", "float32", "95 %"):
        assert word in text
    used = {2: ["fake_lambada"], 12: ["fake_gsm8k"]}.get(number, list(DECODED))
    assert all(task in text for task in used)
    if number in (*range(4, 10), 11):
        assert "fake-bert" in text
        assert "retuned (the plan installed" in text
        assert "frozen (the plan installed" in text
        assert all(task in text for task in TUNED)
        assert "rate 2e-05" in text
        assert "rate 0.03" in text
        assert "3 epochs" in text
        assert "4000 draws" in text
        assert "vary by their standard error, unpaired: pearson" in text


@pytest.mark.parametrize("number", FIGURES)
def test_the_same_records_give_the_same_files(drawn: Path, measured: list[Record], tmp_path: Path, number: int) -> None:
    data = Data.of(measured[::-1], similarities()[::-1])
    figures.draw(number, data, tmp_path)
    for suffix in (".svg", ".png", ".csv", ".md"):
        name = f"fig{number:02d}{suffix}"
        assert (tmp_path / name).read_bytes() == (drawn / name).read_bytes(), name


@pytest.mark.parametrize("number", sorted(set(FIGURES) - {1}))
def test_a_figure_without_records_says_what_it_needs(number: int, tmp_path: Path) -> None:
    with pytest.raises(NothingToDraw) as caught:
        figures.draw(number, Data(), tmp_path)
    assert f"Figure {number} needs {FIGURES[number].needs}" in str(caught.value)
    assert not list(tmp_path.iterdir())
    [result] = figures.draw_all(Data(), tmp_path, [number])
    assert result.files == ()
    assert result.missing == (str(caught.value),)


def test_every_figure_of_scores_has_its_experiment() -> None:
    shipped = {experiment.load(name).figure for name in experiment.shipped() if "/" not in name}
    assert set(FIGURES) - {1, 3, 14} <= shipped - {None}


def test_figures_and_their_experiments_have_one_title() -> None:
    for name in experiment.shipped():
        loaded = experiment.load(name)
        assert loaded.title == FIGURES[loaded.figure or 0].title, name


# ------------------------------------------------------------------------------------------------------------ by number

SERIES: dict[int, tuple[str, Callable[[int], list[Plan]]]] = {
    4: ("skip", lambda start: [variants.skip(num_layers=LAYERS, start=start)]),
    5: ("middle-repeat", lambda start: [variants.middle_repeat(num_layers=LAYERS, start=start)]),
    6: ("reverse", lambda start: [variants.reverse(num_layers=LAYERS, start=start)]),
    7: ("shuffle", lambda start: [variants.shuffle(num_layers=LAYERS, start=start, seed=seed) for seed in range(10)]),
    8: ("parallel", lambda start: [variants.parallel(num_layers=LAYERS, start=start)]),
    9: ("parallel-3", lambda start: [variants.parallel(num_layers=LAYERS, start=start, loops=3)]),
}


@pytest.mark.parametrize("number", SERIES)
def test_windows(drawn: Path, scores: Scores, number: int) -> None:
    name, plans_of = SERIES[number]
    for folder_number in (number, 11):
        found = table(drawn, folder_number)
        found = found[found.series == name].set_index(["panel", "tuning", "task", "start"], drop=False).sort_index()
        for start in variants.windows(LAYERS):
            plans = plans_of(start)
            median = found[(found.task == "median") & (found.start == start)].iloc[0]
            assert median.normalised == pytest.approx(scores.median(plans), abs=1e-5)
            assert median.affected == LAYERS - 2 * start - 1
            assert median.seeds == len(plans)
            assert median.low <= median.normalised <= median.high
            for protocol in ("retuned", "frozen"):
                by_task = {
                    task: statistics.mean(scores.value(task, plan, protocol=protocol) for plan in plans)
                    for task in TUNED
                }
                shown = found[(found.tuning == protocol) & (found.start == start)].set_index("task").score
                assert dict(shown) == pytest.approx(by_task | {"mean": statistics.mean(by_task.values())}, abs=1e-5)


def test_lines_of_the_encoder(drawn: Path, scores: Scores) -> None:
    found = table(drawn, 4)
    for protocol in ("retuned", "frozen"):
        lines = found[found.tuning == protocol].set_index("series").score
        intact = statistics.mean(scores.value(task, INTACT, protocol=protocol) for task in TUNED)
        assert lines["intact"] == pytest.approx(intact, abs=1e-5)
        assert lines["chance"] == pytest.approx(statistics.mean(chance for chance, _ in TUNED.values()), abs=1e-5)


def test_single_layers(drawn: Path, scores: Scores) -> None:
    found = table(drawn, 2)
    for name, rule, count in (("skip-layer", variants.skip_layer, LAYERS), ("swap", variants.swap, LAYERS - 1)):
        rows = found[found.series == name].set_index("layer")
        assert list(rows.index) == list(range(count))
        for layer in range(count):
            value = scores.value("fake_lambada", rule(num_layers=LAYERS, layer=layer))
            assert rows.score[layer] == pytest.approx(value, abs=1e-5)
    assert found[found.series == "intact"].score.item() == pytest.approx(scores.value("fake_lambada", INTACT), abs=1e-5)


def test_loops(drawn: Path, scores: Scores) -> None:
    found = table(drawn, 10)
    assert len(found) == 6 * 8
    for width, column in found.groupby("affected"):
        start = (LAYERS - 1 - int(str(width))) // 2
        by_hand = {n: scores.median([variants.parallel(num_layers=LAYERS, start=start, loops=n)]) for n in range(1, 9)}
        assert dict(zip(column.loops, column["median"], strict=True)) == pytest.approx(by_hand, abs=1e-5)
        [best] = column[column.best].loops
        assert by_hand[best] == max(by_hand.values())
        assert best == min(n for n in by_hand if by_hand[n] == by_hand[best])
        [framed] = column[column.best].to_dict("records")
        assert framed["best_low"] <= best <= framed["best_high"]


def test_caches(drawn: Path, scores: Scores) -> None:
    found = table(drawn, 12)
    assert len(found) == 2 * 2 * 6
    for row in found.itertuples():
        kv = row.kv if row.affected > 1 else "exact"  # one layer is no group: it is scored once
        assert row.score == pytest.approx(scores.value("fake_gsm8k", Plan.parse(row.plan), kv), abs=1e-5)
        if row.kv == "averaged":
            exact = scores.value("fake_gsm8k", Plan.parse(row.plan))
            assert row.change == pytest.approx(row.score - exact, abs=1e-5)
            assert row.change_low <= row.change + 1e-9
            assert row.change <= row.change_high + 1e-9


def test_depth_and_its_front(drawn: Path, scores: Scores) -> None:
    found = table(drawn, 13)
    assert len(found) == len(set(found.plan)) > 100
    for row in found.itertuples():
        plan = Plan.parse(row.plan)
        assert (row.depth, row.layer_runs) == (plan.depth, plan.layer_runs)
        assert row.median == pytest.approx(scores.median([plan]), abs=1e-5)
        better = found[(found.depth <= row.depth) & (found["median"] > row.median + 1e-9)]
        assert row.front == better.empty


def test_maps(drawn: Path) -> None:
    by_hand = {(one.model, one.mode): np.array(one.cosines, dtype=float) for one in similarities()}
    modes = sorted(MODES, key=lambda mode: mode != "flat")  # the others are drawn as differences from it
    shown = {3: [("fake-llama", "flat"), ("fake-bert", "flat")], 14: [("fake-llama", mode) for mode in modes]}
    for number, maps in shown.items():
        found = table(drawn, number)
        assert list(dict.fromkeys(zip(found.model, found["mode"], strict=True))) == maps
        for (model, mode), rows in found.groupby(["model", "mode"]):
            drawn_map = rows.pivot(index="state", columns="other", values="cosine").to_numpy()
            assert drawn_map == pytest.approx(by_hand[model, mode], abs=1e-5)
        text = caption(drawn, number)
        assert "100 documents of fake_lambada" in text
        assert all(f"Mode {mode}" in text for _, mode in maps)


def test_modes_are_drawn_as_differences_from_flat_with_their_errors(drawn: Path) -> None:
    found = table(drawn, 14)
    by_hand = {one.mode: np.array(one.cosines, dtype=float) for one in similarities() if one.model == "fake-llama"}
    assert found[found["mode"] == "flat"].difference.isna().all()
    for mode, rows in found[found["mode"] != "flat"].groupby("mode"):
        differences = rows.pivot(index="state", columns="other", values="difference").to_numpy()
        assert differences == pytest.approx(by_hand[mode] - by_hand["flat"], abs=1e-5)
        assert set(rows.stderr) == {0.0, 0.01}
    without = [one.model_copy(update={"flat_error": None}) for one in similarities()]
    finished = figures.drawing(14, Data.of([], without))
    assert [text.split(" (")[0] for text in finished.missing] == [
        f"the errors of {mode} - flat" for mode in ("token", "first-excluded", "centred")
    ]
    assert "stderr" not in {name for row in finished.rows for name in row}


# ------------------------------------------------------------------------------------------------------------- pictures


def panels(number: int, data: Data) -> list[Any]:
    """The panels of a figure, without its colour bars."""
    return [axes for axes in figures.drawing(number, data).figure.axes if axes.get_subplotspec() is not None]


def words(axes: Any) -> list[str]:
    """The words and numbers inside a panel."""
    return [text.get_text() for text in axes.texts]


def test_titles_name_model_and_variant(measured: list[Record]) -> None:
    data = Data.of(measured, similarities())
    expected = {
        2: ["fake-llama, one layer skipped or swapped"],
        3: ["fake-llama, states in mode flat", "fake-bert, states in mode flat"],
        8: [
            f"{model}, middle layers in parallel" for model in ("fake-llama", "fake-bert, retuned", "fake-bert, frozen")
        ],
        9: ["fake-llama, middle layers in parallel ×3"],
        11: ["fake-llama, every variant"],
        12: ["fake-llama, middle layers in parallel", "fake-llama, middle layers in parallel ×3"],
    }
    for number, titles in expected.items():
        found = [axes.get_title() for axes in panels(number, data)]
        assert [title.replace("\n", ", ") for title in found[: len(titles)]] == titles
    for number in range(4, 10):
        assert len({axes.get_title().partition(",")[2] for axes in panels(number, data)} & {""}) == 0


def test_chance_is_called_chance_and_nothing_else(measured: list[Record], drawn: Path) -> None:
    data = Data.of(measured, similarities())
    for number in sorted(set(FIGURES) - {1}):
        assert not any("random" in text for axes in panels(number, data) for text in words(axes))
        assert "random" not in caption(drawn, number).replace(FIGURES[7].title, "").replace("drawn at random", "")
    for number in (2, 4, 11, 13):
        assert "chance" in words(panels(number, data)[0])


def test_points_near_the_intact_model_have_a_panel_of_their_own() -> None:
    plans = {layer: variants.skip_layer(num_layers=LAYERS, layer=layer) for layer in range(LAYERS)}
    plans |= {LAYERS + layer: variants.swap(num_layers=LAYERS, layer=layer) for layer in range(LAYERS - 1)}
    left = {layer: 0.1 if layer in (0, LAYERS) else 0.93 - 0.002 * layer for layer in plans}
    some = [record(plan, "fake_lambada", left[layer], documents=2000) for layer, plan in plans.items()]
    whole, near = panels(2, Data.of([*some, record(INTACT, "fake_lambada", 1.0, documents=2000)]))
    assert near.get_title() == "the same, near the intact model"
    heights = [y for line in whole.lines[:2] for y in line.get_ydata()]
    low, high = near.get_ylim()
    assert high - low < 0.5 * (max(heights) - min(heights))
    assert min(heights) < low < sorted(heights)[2] < max(heights) < high  # all but the first layer, skipped and swapped


def test_no_second_panel_where_the_first_shows_all(measured: list[Record]) -> None:
    spread = [
        r.model_copy(update={"value": 0.3 + 0.04 * (len(r.plan) % 9), "outcomes": None})
        for r in measured
        if r.task == "fake_lambada" and r.variant in ("skip-layer", "swap", "identity")
    ]
    assert len(panels(2, Data.of(spread))) == 1


def test_rows_of_loops_are_equally_far_apart_and_hold_their_numbers(measured: list[Record]) -> None:
    some = [r for r in measured if r.tuning is None and (r.params or {}).get("loops") not in (5, 6)]
    finished = figures.drawing(10, Data.of(some))
    left, right = [axes for axes in finished.figure.axes if axes.get_subplotspec() is not None]
    assert list(left.get_yticks()) == list(right.get_yticks()) == list(range(1, 9))
    assert left.get_ylim() == right.get_ylim()
    table = left.images[0].get_array()
    assert table.shape == (8, 6)
    assert np.ma.getmaskarray(table).any(axis=1).tolist() == [row in (4, 5) for row in range(8)]
    shown = {(text.get_position(), text.get_text()) for text in left.texts}
    widths = sorted({row["affected"] for row in finished.rows})
    assert shown == {((widths.index(row["affected"]), row["loops"]), f"{row['median']:.2f}") for row in finished.rows}
    assert "Hatched numbers of loops were not scored." in finished.about


@pytest.mark.parametrize("number", FIGURES)
def test_no_figure_is_higher_than_a_slide_is_wide(measured: list[Record], number: int) -> None:
    width, height = figures.drawing(number, Data.of(measured, similarities())).figure.get_size_inches()
    assert width >= height


@pytest.mark.parametrize("layers", [12, 32])
@pytest.mark.parametrize("number", [3, 14])
def test_heat_maps_of_any_depth_are_legible(number: int, layers: int) -> None:
    """Numbers at the axes do not touch: at most 13 of them, in a panel that grows with the model."""
    places = np.arange(layers + 1)
    near = np.exp(-np.abs(places[:, None] - places[None]) / 9)
    fields = {
        "num_layers": layers,
        "plan": str(Plan.identity(layers)),
        "labels": tuple(map(str, places)),
        "cosines": tuple(map(tuple, near.tolist())),
        "flat_error": None,
    }
    some = [one.model_copy(update=fields) for one in similarities()]
    for axes in panels(number, Data(similarities=tuple(some))):
        assert len(axes.get_xticks()) <= 13
        assert axes.get_window_extent().width / axes.figure.dpi / (layers + 1) > 0.09


# ---------------------------------------------------------------------------------------------------------------- names

FOLDER = "/data/me/pruned/fake-llama/checkpoint-500"


def test_a_model_in_a_folder_is_shown_by_a_short_name(measured: list[Record], tmp_path: Path) -> None:
    moved = [r.model_copy(update={"model": FOLDER}) if r.model == "fake-llama" else r for r in measured]
    maps = [s.model_copy(update={"model": FOLDER}) if s.model == "fake-llama" else s for s in similarities()]
    data = Data.of(moved, maps)
    for number in sorted(set(FIGURES) - {1}):
        drawn = figures.draw(number, data, tmp_path)
        for path in drawn.files:
            if path.suffix != ".png":
                assert "/data/me" not in path.read_text(), path
        assert set(table(tmp_path, number).model) <= {"fake-llama/checkpoint-500", "fake-bert"}
        assert "fake-llama/checkpoint-500" in caption(tmp_path, number)
    assert data.decoder is not None
    assert {r.model for r in data.decoder.records} == {FOLDER}


def test_a_chosen_name_is_shown(measured: list[Record], tmp_path: Path) -> None:
    moved = [r.model_copy(update={"model": FOLDER, "name": "older"}) for r in measured if r.tuning is None]
    moved[3] = moved[3].model_copy(update={"name": "half a llama", "date": "2027-01-01T00:00:00+00:00"})
    for names, expected in ((None, "half a llama"), ({FOLDER: "mine"}, "mine")):
        finished = figures.drawing(4, Data.of(moved, names=names))
        assert {row["model"] for row in finished.rows} == {expected}
        assert panels(4, Data.of(moved, names=names))[0].get_title().startswith(f"{expected}, ")
    assert Data.of(moved, model="half a llama").decoder is not None


def test_two_models_of_one_last_part_are_told_apart() -> None:
    two = [similarity(f"/data/{user}/llama", "flat") for user in ("me", "you")]
    assert [axes.get_title().split(",")[0] for axes in panels(3, Data.of([], two))] == ["me/llama", "you/llama"]


# ---------------------------------------------------------------------------------------------------------------- bands


def width(estimate: Estimate) -> float:
    low, high = estimate.band or (math.nan, math.nan)
    assert low < estimate.value < high
    return (high - low) / (2 * 1.96)


def test_draws_are_of_paired_documents() -> None:
    """The draws of a difference vary as the paired one does: far less than those of two scores apart."""
    intact = record(INTACT, "fake_arc", 1.0, documents=400)
    plan = variants.skip(num_layers=LAYERS, start=4)
    skipped = record(plan, "fake_arc", 0.8, documents=400)
    draws = Draws()
    one, two = draws.estimate(skipped), draws.estimate(intact)
    assert skipped.outcomes
    assert intact.outcomes
    assert one.samples is not None
    assert two.samples is not None
    assert skipped.stderr
    assert intact.stderr
    paired = difference_stderr("mean", skipped.outcomes, one.value, intact.outcomes, two.value)
    assert paired
    assert (one.samples - two.samples).std() == pytest.approx(paired, rel=0.12)
    assert width(one) == pytest.approx(skipped.stderr, rel=0.12)
    assert paired < 0.7 * math.hypot(skipped.stderr, intact.stderr)


def test_plans_that_agree_on_every_document_are_not_taken_for_equal() -> None:
    """Only the difference of a plan from itself is zero in every draw."""
    one, two = (record(Plan.parse(plan), "fake_arc", 1.0, documents=400) for plan in ("0-11", "0-10"))
    assert one.outcomes == two.outcomes
    draws = Draws()
    first, second, again = (draws.estimate(found).samples for found in (one, two, one))
    assert first is not None
    assert second is not None
    assert (first == again).all()
    low, high = np.percentile(first - second, [2.5, 97.5])
    assert -0.02 < low < -0.002
    assert 0.002 < high < 0.02


def test_the_intact_model_has_no_band_against_itself(drawn: Path) -> None:
    """A window of one layer in reverse is the intact model: 1 in every draw."""
    found = table(drawn, 6)
    rows = found[(found.panel == "decoder") & (found.affected == 1)]
    assert len(rows) == len(DECODED) + 1
    assert (rows[["normalised", "low", "high"]] == 1).all(axis=None)


def test_documents_share_weights_where_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a million documents do not take gigabytes: the same for every plan, and as wide."""
    one = record(Plan.parse("0-3"), "fake_arc", 0.5)
    alone = Draws().estimate(one)
    monkeypatch.setattr("painters.figures.bands.MOST_BLOCKS", 7)
    shared = Draws().estimate(one)
    assert alone.samples is not None
    assert shared.samples is not None
    assert len(shared.samples) == len(alone.samples)
    assert shared.samples.std() == pytest.approx(alone.samples.std(), rel=0.05)
    assert np.median(shared.samples) == pytest.approx(one.value, abs=0.01)
    again = Draws().estimate(one).samples
    assert again is not None
    assert (again == shared.samples).all()


def with_outcomes(of: Record, outcomes: Sequence[float], **fields: object) -> Record:
    value = statistics.mean(outcomes)
    error = statistics.stdev(outcomes) / math.sqrt(len(outcomes))
    return of.model_copy(update={"outcomes": tuple(outcomes), "value": value, "stderr": error, **fields})


def test_a_few_orders_have_the_t_distribution() -> None:
    """Three orders that differ far more than documents do: the mean and 4.3 standard errors, within 0 and 1."""
    shares = (0.48, 0.5, 0.52)
    several = {}
    for seed, share in enumerate(shares):
        plan = variants.shuffle(num_layers=LAYERS, start=1, seed=seed)
        right = round(share * 20_000)
        outcomes = [1.0] * (right // 2) + [0.0] * (20_000 - right) + [1.0] * (right - right // 2)
        several[seed] = with_outcomes(record(plan, "fake_arc", 0.5, documents=20_000), outcomes)
    estimate = Draws().over_orders(several, 1)
    low, high = estimate.band or (0.0, 0.0)
    reach = 4.303 * statistics.stdev(shares) / math.sqrt(3)
    assert estimate.is_over_orders
    assert low == pytest.approx(0.5 - reach, abs=0.007)
    assert high == pytest.approx(0.5 + reach, abs=0.007)


def test_orders_that_came_to_one_plan_are_one_score() -> None:
    only = [record(INTACT, "fake_arc", 1.0)]
    table_of_scores = Data.of(only).decoder
    assert table_of_scores is not None
    estimate = table_of_scores.over_orders("fake_arc", dict.fromkeys(range(3), INTACT), 5)
    assert estimate is not None
    assert not estimate.is_over_orders
    assert estimate.band == intervals.interval(only[0])


def test_a_score_without_outcomes_varies_by_its_standard_error() -> None:
    one = record(INTACT, "fake_sts", 1.0, protocol="retuned")
    assert one.outcomes is None
    assert one.stderr is not None
    assert width(Draws().estimate(one)) == pytest.approx(one.stderr, rel=0.12)
    assert Draws().estimate(one.model_copy(update={"stderr": None})).band is None


# name: (outcomes, fields of the record, the interval)
INTERVALS: dict[str, tuple[Sequence[float], dict[str, object], tuple[float, float] | None]] = {
    "all right": ([1.0] * 100, {}, (0.963005, 1.0)),
    "all wrong": ([0.0] * 100, {}, (0.0, 0.0369935)),
    "half": ([0.0, 1.0] * 50, {}, (0.403832, 0.596168)),
    "an accuracy of another name": ([1.0] * 100, {"metric": "contains"}, (0.963005, 1.0)),
    "f1 of documents": ([0.5, 0.7] * 50, {"metric": "f1"}, (0.580256, 0.619425)),
    "a score from 0 to 100": ([50.0, 70.0] * 50, {"metric": "rouge1"}, (58.0058, 61.9942)),
    "no spread": ([50.0] * 100, {"metric": "rouge1"}, None),
    "a perplexity": ([-1.0, -3.0] * 50, {"metric": "perplexity", "aggregation": "perplexity"}, (6.05315, 9.01979)),
}


@pytest.mark.parametrize("name", INTERVALS)
def test_intervals_of_scores(name: str) -> None:
    outcomes, fields, expected = INTERVALS[name]
    one = with_outcomes(record(INTACT, "fake_arc", 1.0, documents=100), outcomes, **fields)
    if fields.get("aggregation") == "perplexity":
        one = one.model_copy(update={"value": math.exp(2)})
    limits = intervals.interval(one)
    assert limits is None if expected is None else limits == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("value", "error"), [(0.98, 0.02), (-0.99, 0.02), (1.0, 0.0), (0.0, 0.06)])
def test_intervals_of_correlations_stay_in_their_range(value: float, error: float) -> None:
    one = record(INTACT, "fake_sts", 1.0, protocol="retuned").model_copy(update={"value": value, "stderr": error})
    low, high = intervals.interval(one) or (math.nan, math.nan)
    assert -1 <= low <= value <= high <= 1
    assert high - low > error
    drawn = Draws().estimate(one).samples
    assert drawn is not None
    assert -1 <= drawn.min() <= drawn.max() <= 1


@pytest.mark.parametrize("number", [2, *range(4, 14)])
def test_bands_stay_within_the_range(drawn: Path, number: int) -> None:
    """Of scores between 0 and 1, and of normalised ones between those of a score of 0 and of 1."""
    found = table(drawn, number)
    if number == 12 or number == 2:
        assert found.low.min() >= 0
        assert found.high.max() <= 1
        changes = found[[name for name in found.columns if name.startswith(("change_", "difference_"))]]
        assert changes.abs().max(axis=None) <= 1
    elif "score_low" in found.columns:
        known = found[found.task != CORRELATED]
        assert known.score_low.min() >= 0
        assert known.score_high.max() <= 1
    # Chance is at most 10/18 of the intact score here, and normalised scores of 0 and 1 are -1.25 and 1.43 at the most.
    assert found.filter(regex="^low$").min(axis=None) >= -1.7
    assert found.filter(regex="^high$").max(axis=None) <= 1.7


# -------------------------------------------------------------------------------------------------------------- missing


def test_what_is_missing_is_named_and_left_out(measured: list[Record], tmp_path: Path) -> None:
    gap = str(variants.skip(num_layers=LAYERS, start=2))
    some = [r for r in measured if r.tuning is None and (r.task, r.plan) != ("fake_arc", gap)]
    drawn = figures.draw(4, Data.of(some), tmp_path)
    assert list(drawn.missing) == [
        "the encoder's panel retuned",
        "the encoder's panel frozen",
        "skip: fake_arc at M = 7",
    ]
    assert f"Missing, and left out of the picture: {'; '.join(drawn.missing)}." in caption(tmp_path, 4)
    found = table(tmp_path, 4)
    assert set(found.panel) == {"decoder"}
    assert set(found[found.start == 2].task) == set(DECODED) - {"fake_arc"}  # and no median of four tasks


def test_missing_seeds_are_named_and_counted(measured: list[Record], tmp_path: Path) -> None:
    wanted = str(variants.shuffle(num_layers=LAYERS, start=1, seed=0))
    drawn = figures.draw(7, Data.of([r for r in measured if r.plan != wanted]), tmp_path)
    assert list(drawn.missing) == [
        "shuffle: 1 of 10 seeds of all tasks at M = 9",
        "shuffle, retuned: 1 of 10 seeds of all tasks at M = 9",
        "shuffle, frozen: 1 of 10 seeds of all tasks at M = 9",
    ]
    found = table(tmp_path, 7)
    assert set(found[found.start == 1].seeds) == {9}


def test_seeds_that_nobody_asked_of_a_model_are_not_missing(measured: list[Record], tmp_path: Path) -> None:
    gone = {str(variants.shuffle(num_layers=LAYERS, start=start, seed=s)) for start in range(5) for s in range(3, 10)}
    gone -= {str(variants.shuffle(num_layers=LAYERS, start=start, seed=s)) for start in range(6) for s in range(3)}
    drawn = figures.draw(7, Data.of([r for r in measured if r.tuning is None or r.plan not in gone]), tmp_path)
    assert not drawn.missing
    found = table(tmp_path, 7)
    assert set(found[(found.start == 1) & (found.panel == "decoder")].seeds) == {10}
    assert set(found[(found.start == 1) & (found.panel != "decoder")].seeds) == {3}
    assert "decoder 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; retuned 0, 1, 2; frozen 0, 1, 2." in caption(tmp_path, 7)


def test_records_batched_in_two_ways_are_one_protocol(measured: list[Record], tmp_path: Path) -> None:
    mixed = [r.model_copy(update={"batching": "shared"}) if i % 2 else r for i, r in enumerate(measured)]
    assert not figures.draw(4, Data.of(mixed), tmp_path).missing


def test_without_the_intact_model_nothing_is_normalised(measured: list[Record], tmp_path: Path) -> None:
    some = [r for r in measured if r.tuning is None and not r.is_intact]
    with pytest.raises(NothingToDraw, match=r"fake_arc, .*: the intact model is no better than chance, or was not"):
        figures.draw(4, Data.of(some), tmp_path)
    drawn = figures.draw(2, Data.of(some), tmp_path)
    assert drawn.missing == ["the intact model, and with it the differences"]


def test_an_encoder_alone_has_its_panels(measured: list[Record], tmp_path: Path) -> None:
    drawn = figures.draw(8, Data.of([r for r in measured if r.tuning and r.tuning.protocol == "frozen"]), tmp_path)
    assert list(drawn.missing) == ["the decoder's panel", "the encoder's panel retuned"]
    assert set(table(tmp_path, 8).tuning) == {"frozen"}


def test_a_deep_model_and_a_third_protocol_fit(measured: list[Record], tmp_path: Path) -> None:
    """`operated` gets a panel of its own, in a second row."""
    operated = Tuning(protocol="operated")
    more = [r.model_copy(update={"tuning": operated}) for r in measured if r.tuning and r.tuning.protocol == "retuned"]
    figures.draw(4, Data.of([*measured, *more]), tmp_path)
    assert set(table(tmp_path, 4).tuning.dropna()) == {"retuned", "frozen", "operated"}


def test_one_order_is_said_to_be_one(measured: list[Record], tmp_path: Path) -> None:
    first = {str(variants.shuffle(num_layers=LAYERS, start=start, seed=0)) for start in variants.windows(LAYERS)}
    some = [r for r in measured if r.variant != "shuffle" or (r.tuning is None and r.plan in first)]
    figures.draw(7, Data.of(some), tmp_path)
    found = table(tmp_path, 7)
    assert set(found.panel) == {"decoder"}
    assert set(found.seeds) == {1}
    assert set(found.band) == {"documents"}
    assert "One order only (decoder): its band is of documents, and says nothing of other orders." in caption(
        tmp_path, 7
    )
    figures.draw(7, Data.of(measured), tmp_path)
    found = table(tmp_path, 7)
    assert set(found[found.affected > 1].band) == {"documents and orders"}
    assert set(found[found.affected == 1].band) == {"documents"}  # every order is the intact model
    assert "One order" not in caption(tmp_path, 7)


# What was swept: (the variants of the records, layers, the figures that have something to show of it)
SWEPT: dict[str, tuple[str, int, set[int]]] = {
    "skip-layer": ("skip-layer", LAYERS, {2}),
    "swap": ("swap", LAYERS, {2}),
    "swap of layers that are a window": ("swap", 13, {2}),
    "skip": ("skip", LAYERS, {4, 11}),
    "reverse": ("reverse", 13, {6, 11}),
    "middle-repeat": ("middle-repeat", LAYERS, {5, 11}),
    "parallel": ("parallel", LAYERS, {8, 11}),
    "loop": ("loop", LAYERS, set()),
    "shuffle": ("shuffle", 5, {7, 11}),
}


@pytest.mark.parametrize("name", SWEPT)
def test_figures_show_what_was_asked_for_alone(name: str, tmp_path: Path) -> None:
    """Variants build equal plans: orders of shuffle are the intact model, or swaps; a loop of one layer is parallel."""
    variant, layers, expected = SWEPT[name]
    takes = variants.find(variant).parameters
    asked = variants.windows(layers) if "start" in takes else range(layers - (variant == "swap"))
    plans = {str(Plan.identity(layers)): record(Plan.identity(layers), "fake_lambada", 1.0, num_layers=layers)}
    for number in asked:
        for seed in range(10 if "seed" in takes else 1):
            params = {"start" if "start" in takes else "layer": number} | ({"seed": seed} if "seed" in takes else {})
            plan = variants.build(variant, layers, **params)
            fields: dict[str, object] = {"variant": variant, "params": params, "num_layers": layers}
            plans.setdefault(str(plan), record(plan, "fake_lambada", 0.8, **fields))  # type: ignore[arg-type]
    data = Data.of(list(plans.values()))
    drawn = {number for number in (2, *range(4, 12)) if figures.draw_all(data, tmp_path, [number])[0].files}
    assert drawn == expected
    if 11 in drawn:
        shown = table(tmp_path, 11)
        assert set(shown[shown.affected > 1].series) == {variant}
        assert set(shown.series) == {variant}


def test_equal_scores_share_the_front(tmp_path: Path) -> None:
    plans = {"0-3": 0.5, "0-4": 0.5, "0-3 5": 0.5, "0-5": 0.4, "0-6": 0.9, "0-7": 0.9, "0-8": 0.6, "0-11": 1.0}
    right = {plan: [1.0] * round(60 * share) + [0.0] * round(60 * (1 - share)) for plan, share in plans.items()}
    made = [with_outcomes(record(Plan.parse(plan), "fake_lambada", 1.0), right[plan]) for plan in plans]
    figures.draw(13, Data.of(made), tmp_path)
    found = table(tmp_path, 13)
    assert set(found[found.front].plan) == {"0-3", "0-4", "0-3 5", "0-6", "0-7", "0-11"}


# ---------------------------------------------------------------------------------------------------------- never mixed

PLANS = [INTACT, variants.skip(num_layers=LAYERS, start=2)]


def scored(**fields: object) -> list[Record]:
    return [record(plan, "fake_arc", 1.0, **fields) for plan in PLANS]  # type: ignore[arg-type]


def tuned(tuning: Tuning) -> list[Record]:
    return [record(plan, "fake_rte", 1.0, protocol="retuned").model_copy(update={"tuning": tuning}) for plan in PLANS]


MIXED: dict[str, tuple[list[Record], tuple[str, ...]]] = {
    "two rates of fine-tuning": (
        [*tuned(Tuning(protocol="retuned")), *tuned(Tuning(protocol="retuned", rate=5e-4))],
        ("fake-bert on fake_rte", "tuning rate 2e-05 (2 plans)", "tuning rate 0.0005 (2 plans)"),
    ),
    "two seeds": ([*scored(), *scored(seed=1)], ("fake-llama on fake_arc", "seed 1234 (2 plans) or seed 1 (2 plans)")),
    "two numbers of shots": ([*scored(), *scored(shots=5, requests="x")], ("shots 0 (2 plans) or shots 5 (2 plans)",)),
    "two sets of requests": ([*scored(), *scored(requests="x")], ("requests fake_arc 60 (2", "requests x (2 plans)")),
    "two models of one name": (
        [*scored(), record(INTACT, "fake_lambada", 1.0, weights="0" * 12)],
        ("2 models that are all called fake-llama", "weights ffffffffffff", "weights 000000000000"),
    ),
    "two decoders": ([*scored(), *scored(model="other")], ("records of 2 models (fake-llama, other)", "--model")),
}


@pytest.mark.parametrize("name", MIXED)
def test_protocols_are_not_mixed(name: str) -> None:
    some, words = MIXED[name]
    with pytest.raises(FigureError) as caught:
        Data.of(some)
    assert caught.value.exit_code == 2
    assert all(word in str(caught.value) for word in words), caught.value


def test_most_documents_count_and_the_others_are_named(measured: list[Record], tmp_path: Path) -> None:
    quick = [r for r in records(documents=20) if r.task == "fake_arc"]
    figures.draw(4, Data.of([*quick, *measured]), tmp_path)
    assert set(table(tmp_path, 4).task) > {"fake_arc"}
    left_out = f"{len(quick)} records of fake_arc with 20 documents"
    assert f"Not drawn, because other records of the task have more documents: {left_out}" in caption(tmp_path, 4)


def test_the_latest_of_equal_cells_counts() -> None:
    later = record(INTACT, "fake_arc", 0.5, date="2026-02-01T00:00:00+00:00", versions={"lm_eval": "1"})
    for order in (1, -1):
        scores = Data.of([*scored(), later][::order]).decoder
        assert scores is not None
        estimate = scores.raw("fake_arc", INTACT)
        assert estimate is not None
        assert estimate.value == later.value


def test_similarities_measured_in_two_ways_are_not_mixed(tmp_path: Path) -> None:
    two = (similarity("m", "flat"), similarity("m", "flat", batch_size=4))
    with pytest.raises(FigureError, match=r"m measured in 2 ways over 100 documents each: .*size 8 or .*size 4"):
        figures.draw(3, Data(similarities=two), tmp_path)
    more = similarity("m", "token", documents=200)
    drawn = figures.draw(14, Data(similarities=(two[0], more)), tmp_path)
    assert list(drawn.missing) == ["mode flat", "mode first-excluded", "mode centred"]


# -------------------------------------------------------------------------------------------------------------- command


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a few records of a decoder on LAMBADA."""
    folder = tmp_path_factory.mktemp("small")
    plans = [INTACT, *(variants.skip_layer(num_layers=LAYERS, layer=layer) for layer in range(LAYERS))]
    append(folder / "scores.jsonl", [record(plan, "fake_lambada", 0.9) for plan in plans])
    return folder


def test_plot_prints_what_it_drew(painters: Callable[..., Outcome], small: Path, tmp_path: Path) -> None:
    outcome = painters("plot", "2", "--from", str(small), "--to", str(tmp_path / "new"))
    assert outcome.code == 0
    assert "fig02.{svg,png,csv,md}" in outcome.out
    assert "layer swapped" in outcome.out
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        f"fig02.{suffix}" for suffix in ("csv", "md", "png", "svg")
    ]


def test_plot_fails_where_a_figure_that_was_asked_for_has_no_records(
    painters: Callable[..., Outcome], small: Path, tmp_path: Path
) -> None:
    outcome = painters("plot", "2", "4", "--from", str(small), "--to", str(tmp_path), "--json")
    assert outcome.code == 1
    rows = {row["figure"]: row for row in json.loads(outcome.out)}
    assert rows[2]["drawn"]
    assert not rows[4]["drawn"]
    assert "Figure 4 needs skip" in rows[4]["missing"][0]


# name: (arguments after `plot`, exit code, what the message must say)
MISTAKES: dict[str, tuple[tuple[str, ...], int, tuple[str, ...]]] = {
    "no such figure": (("15", "--from", "{small}"), 2, ("no figure '15'", "1 to 14, or all")),
    "no number": (("four", "--from", "{small}"), 2, ("no figure 'four'", "1 to 14, or all")),
    "no such folder": (("4", "--from", "{tmp}/none"), 2, ("none", "no such file or folder", "painters sweep")),
    "an empty folder": (("4", "--from", "{tmp}"), 2, ("holds no .jsonl file", "painters sweep")),
    "no such decoder": (
        ("4", "--from", "{small}", "--model", "x"),
        2,
        ("model 'x'", "hold records of fake-llama"),
    ),
    "no such encoder": (("4", "--from", "{small}", "--encoder", "x"), 2, ("encoder 'x'", "records of no encoder")),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_message(painters: Callable[..., Outcome], small: Path, tmp_path: Path, name: str) -> None:
    arguments, code, words = MISTAKES[name]
    outcome = painters(
        "plot", *(word.format(small=small, tmp=tmp_path) for word in arguments), "--to", str(tmp_path / "to")
    )
    assert outcome.code == code
    assert outcome.out == ""
    assert all(word in outcome.err for word in words), outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "to").exists()


def test_draws_without_a_scale_give_no_band_and_no_warning() -> None:
    """Where the intact model scores chance in a draw, nothing is known of what is normalised by it."""
    apart = [Estimate(0.5, np.array([np.nan, 1.0])), Estimate(0.5, np.array([np.inf, 1.0]))]
    assert mean(apart).band is None
    assert median(apart).band is None
    assert apart[0].band is None
    some = np.append(np.linspace(0, 1, 1000), [np.nan] * 10)  # they may be anything: the band is wider
    low, high = Estimate(0.5, some).band or (0.0, 0.0)
    assert 0.01 < low < 0.025
    assert 0.975 < high < 0.99
