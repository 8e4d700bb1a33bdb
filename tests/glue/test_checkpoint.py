"""A fine-tuning that is stopped at any batch goes on from its last checkpoint, to the same records bit by bit."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from support.glue_samples import NUM_LAYERS, encoder, tokenizer, write_task

from painters.experiment.tuning import Tuning, TuningProtocol
from painters.glue import Scorer
from painters.plan import Plan
from painters.results import Record, partial
from painters.results.doctor import examine
from painters.results.partial import PartialFiles, Partials

PLANS = (str(Plan.identity(NUM_LAYERS)), "0-1 3", "0 {1 2} 3")
COSTS = {"seconds", "date"}


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """States are saved after every batch, however quick."""
    monkeypatch.setattr(partial, "SHARE", 0.0)
    monkeypatch.setattr(partial, "WORTH", 0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_task(tmp_path_factory.mktemp("glue"), train=48, validation=20)


def scored(folder: Path, protocol: TuningProtocol, partials: Partials | None, stop_after: int = 10**9) -> list[Record]:
    """The records, unless the scoring is stopped after so many batches."""
    torch.manual_seed(random.randrange(1000))  # the state of this process does not count
    scorer = Scorer(encoder(), tokenizer())
    tuning = Tuning(protocol=protocol, epochs=2, batch_size=8)
    batches = iter(range(stop_after))

    def on_progress(*_: Any) -> None:
        if next(batches, None) is None:
            raise KeyboardInterrupt

    task = scorer.prepare(folder, tuning)
    return list(scorer.score_together(PLANS, task, tuning, batch_size=8, partials=partials, progress=on_progress))


def bits(records: list[Record]) -> list[str]:
    return [record.model_dump_json(exclude=COSTS) for record in records]


@pytest.mark.parametrize("protocol", ["retuned", "frozen", "operated"])
def test_stopped_again_and_again(folder: Path, tmp_path: Path, protocol: TuningProtocol) -> None:
    whole = scored(folder, protocol, None)
    moments, stopped = random.Random(1), 0
    files = PartialFiles(tmp_path)
    while True:
        partials = Partials(files, files.read())
        try:
            found = scored(folder, protocol, partials, moments.randint(12, 40))
        except KeyboardInterrupt:
            stopped += 1
            assert list(tmp_path.glob("*.checkpoint"))
            assert stopped < 40
        else:
            break
    assert stopped >= 1
    assert bits(found) == bits(whole)
    assert examine(tmp_path).partials
    partials.drop(PLANS)
    partials.close()
    assert not list(tmp_path.iterdir())
