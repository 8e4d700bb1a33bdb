"""`painters.reproduce` in Python: what it scores, measures and draws, what it says is missing, and how it reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.real_shapes import save_llama

import painters
from painters.experiment import ExperimentError
from painters.figures import Drawn, FigureError
from painters.progress import OnProgress
from painters.reproduction import Reproduction
from painters.results import Store
from painters.sweep import Progress, Summary
from painters.tasks import TaskError


class Display:
    """Counts what is reported, by the display that it is reported on."""

    def __init__(self) -> None:
        self.opened: Counter[str] = Counter()
        self.reports: Counter[str] = Counter()

    @contextmanager
    def cells(self) -> Iterator[Callable[[Progress], None]]:
        self.opened["cells"] += 1
        yield lambda now: self.reports.update(["cells"])

    @contextmanager
    def similarities(self) -> Iterator[OnProgress]:
        self.opened["similarities"] += 1
        yield lambda done, total, what: self.reports.update([what])


def test_what_is_missing_is_scored_and_nothing_the_second_time(tmp_path: Path) -> None:
    display = Display()
    first = painters.reproduce(["fig2", 14], limit=2, out=tmp_path, progress=display)
    assert first.forecast is not None
    assert first.summary is not None
    assert (first.forecast.missing, first.summary.done, first.failed, first.missing) == (24, 24, False, [])
    assert (first.similarities_missing, first.similarities_measured, first.similarities_failed) == (4, 4, [])
    assert [(figure.number, len(figure.files)) for figure in first.figures] == [(2, 4), (14, 4)]
    assert (
        {path.parent for figure in first.figures for path in figure.files} == {first.folder} == {tmp_path / "figures"}
    )
    assert display.opened == {"cells": 1, "similarities": 1}
    assert display.reports["cells"] >= 24
    assert display.reports["states of nano-llama on nano_lambada"] > 0
    assert len(Store(tmp_path).records()) >= 24

    silent = Display()
    second = painters.reproduce([2, "14"], limit=2, out=str(tmp_path), progress=silent)
    assert (second.summary, second.similarities_missing, second.failed) == (None, 0, False)
    assert silent.opened == {}, "nothing is shown where nothing is missing"
    checked = painters.reproduce(2, limit=2, out=tmp_path, check=True)
    assert checked.forecast is None
    assert checked.summary is not None
    assert (checked.summary.found, checked.summary.done) == (24, 0)


def test_a_forecast_scores_and_draws_nothing(tmp_path: Path) -> None:
    found = painters.reproduce(["fig3", 4], paper=True, out=tmp_path / "new", plan_only=True)
    assert found.forecast is not None
    assert found.forecast.missing == found.forecast.cells == 267
    assert (found.similarities_missing, found.summary, found.figures, found.failed) == (2, None, (), False)
    assert not (tmp_path / "new").exists()
    doubled = painters.reproduce(4, paper=True, out=tmp_path / "new", plan_only=True, tflops=624).forecast
    assert doubled is not None
    assert doubled.total.hours < found.forecast.total.hours


def test_one_models_failure_spares_the_rest(tmp_path: Path) -> None:
    save_llama(tmp_path / "llama", 4)
    (tmp_path / "llama" / "model.safetensors").write_bytes(b"")
    found = painters.reproduce([1, 3], model=str(tmp_path / "llama"), encoder="nano-bert", out=tmp_path, progress=False)
    assert found.failed
    assert found.similarities_measured == 0, "the paper's documents are not at hand"
    assert found.similarities_missing == len(found.similarities_failed) == 2
    assert any(line.startswith(f"similarity of {tmp_path}/llama: ") for line in found.missing)
    assert any(line.startswith("figure 3: ") for line in found.missing)
    assert [bool(figure.files) for figure in found.figures] == [True, False]


def test_what_is_missing_is_said_with_its_reason() -> None:
    summary = Summary(Path("here"), cells=9, untried=2, unknown={"nobody/nothing": "no such model"})
    drawn = Drawn(4, "a figure", (), ("no records",))
    found = Reproduction(Path("here"), None, 1, summary, 0, ("similarity of x: no such file",), (drawn,))
    assert found.failed
    assert found.missing == [
        "every cell of nobody/nothing: no such model",
        "2 cells: not tried after a failure",
        "similarity of x: no such file",
        "figure 4: no records",
    ]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"figures": 15}, FigureError, "there is no figure '15'"),
        ({"figures": "figs"}, FigureError, "there is no figure 'figs'"),
        ({"figures": 2, "encoder": "nano-bert"}, ExperimentError, "no encoder is scored for fig2; leave it out"),
        ({"figures": 1, "model": "nano-llama"}, ExperimentError, "no decoder is scored for these figures"),
        ({"figures": 2, "data": "nowhere"}, TaskError, "there is no such folder"),
        ({"figures": 2, "engine": "rayon", "limit": 1}, ExperimentError, "there is no such engine"),
    ],
)
def test_mistakes(options: dict[str, object], error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        painters.reproduce(**options, out=tmp_path / "new")  # type: ignore[arg-type]
    assert not list(tmp_path.glob("new/*"))
