"""How an encoder is fine-tuned: the paper's defaults, and what is refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from painters.experiment.tuning import PROTOCOLS, Tuning


def test_defaults_are_the_papers() -> None:
    assert [Tuning(protocol=protocol).rate for protocol in PROTOCOLS] == [2e-5, 3e-2, 2e-5]
    tuning = Tuning(protocol="retuned")
    assert (tuning.epochs, tuning.batch_size, tuning.max_length, tuning.documents) == (3, 32, 128, None)
    assert (tuning.warmup, tuning.weight_decay, tuning.precision) == (0.0, 0.0, "float32")
    assert Tuning.model_validate(tuning.model_dump()) == tuning
    assert Tuning(protocol="frozen", rate=0.5).rate == 0.5


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"protocol": "melted"},
        {"protocol": "frozen", "rate": 0},
        {"protocol": "frozen", "rate": float("nan")},
        {"protocol": "frozen", "epochs": 0},
        {"protocol": "frozen", "epochs": 1.5},
        {"protocol": "frozen", "warmup": 1.0},
        {"protocol": "frozen", "epoch": 3},
        {"protocol": "retuned", "precision": "float16"},
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Tuning.model_validate(fields)
