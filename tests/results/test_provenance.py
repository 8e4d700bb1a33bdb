"""The fields that all records share."""

from __future__ import annotations

import datetime
import importlib.metadata
from typing import Any

import pytest
import torch
from support.models import make_model
from support.records import record

import painters
from painters.models import describe, weights_digest
from painters.results.provenance import LIBRARIES, model_fields, timestamp


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", ["llama", "bert"])
def test_the_fields_describe_the_model(architecture: str, dtype: torch.dtype) -> None:
    model = make_model(architecture, 3).to(dtype)
    name, revision = describe(model)
    assert model_fields(model, 3) == {
        "model": name,
        "revision": revision,
        "weights": weights_digest(model),
        "num_layers": 3,
        "dtype": str(dtype).split(".")[1],
        "device": "cpu",
        "attention": model.config._attn_implementation,
        "versions": {"painters": painters.__version__}
        | {library: importlib.metadata.version(library) for library in ("torch", "transformers", "tokenizers")},
    }


def test_versions_are_in_a_fixed_order() -> None:
    versions = model_fields(make_model("llama", 2), 2, libraries=(*LIBRARIES, "lm_eval"))["versions"]
    assert list(versions) == ["painters", "torch", "transformers", "tokenizers", "lm_eval"]


def test_known_weights_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = make_model("llama", 2)
    monkeypatch.setattr(model, "state_dict", lambda: pytest.fail("the weights were read"))
    assert model_fields(model, 2, weights="0" * 12)["weights"] == "0" * 12


def test_an_unknown_library_is_an_error() -> None:
    with pytest.raises(importlib.metadata.PackageNotFoundError, match="no-such-library"):
        model_fields(make_model("llama", 2), 2, libraries=["no-such-library"])


def test_a_record_takes_the_fields_as_they_are() -> None:
    fields = model_fields(make_model("llama", 6), 6) | {"date": timestamp()}
    kept = record(**fields)
    assert {name: getattr(kept, name) for name in fields} == fields


def test_the_timestamp_is_utc_to_the_second() -> None:
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    written = datetime.datetime.fromisoformat(timestamp())
    assert written.tzname() == "UTC"
    assert written.microsecond == 0
    assert before <= written <= datetime.datetime.now(datetime.UTC)
