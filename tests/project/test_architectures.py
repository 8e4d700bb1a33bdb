"""The survey of all model types: that its page is its table, that it can fail, and what it relies on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from architectures.check import check, examine, plans, ready
from architectures.configs import LAYERS, VOCABULARY, of_every_kind, tiny_config
from architectures.page import PAGE, SUMMARIES, outcomes, page, read, summary
from architectures.replay import difference, replayed
from torch import Tensor, nn

from painters import Plan
from painters.engine.recording import Recording


def test_the_page_is_what_the_table_says() -> None:
    assert PAGE.read_text() == page(*read()), "run `PYTHONPATH=tests python -m architectures.page`"


def test_the_readme_says_what_the_table_says() -> None:
    for path in SUMMARIES:
        assert f"<!-- survey -->{summary(read()[0])}<!-- /survey -->" in path.read_text()


def test_nothing_in_the_table_is_wrong() -> None:
    rows, _ = read()
    assert len(outcomes(rows)) > 100
    assert not [row for row in rows if row["outcome"] == "WRONG"]


@pytest.mark.parametrize("model_type", ["llama", "gemma3_text", "vit", "falcon"])
def test_a_tiny_model_is_examined(model_type: str) -> None:
    (row,) = examine(model_type)
    assert row["outcome"] == "exact", row
    assert row["plans"] == "exact"
    assert row["layers"] == LAYERS


DEPTHS = {"resnet": [3, 4, 6, 3], "convnext": [3, 3, 9, 3], "segformer": [3, 4, 6, 3], "swin": [2, 2, 6, 2]}
"""The layers of every stage as the models are published."""


# ResNet calls the layers of a stage in a Sequential; ConvNeXt, SegFormer and Swin in a ModuleList.
@pytest.mark.parametrize("model_type", ["resnet", "regnet", "convnext", "segformer", "swin"])
def test_every_stage_of_a_backbone_is_exact(model_type: str) -> None:
    whole, *stages = examine(model_type)
    assert whole["outcome"] == "refused"
    assert "holds stages" in whole["reason"]
    assert len(stages) == 4, "some stage has no plan of its own"
    assert {stage["outcome"] for stage in stages} == {"exact"}, stages
    if model_type != "regnet":
        assert [stage["layers"] for stage in stages] == DEPTHS[model_type]


@pytest.mark.parametrize("model_type", ["m2m_100"])
def test_both_stacks_of_an_encoder_decoder_are_exact(model_type: str) -> None:
    model, given = ready(model_type)
    for stack in ("encoder", "decoder"):
        row = check(model, stack, given)
        assert row["outcome"] == "exact", row
        assert row["cached"] == row["generation"] == "exact"


def test_the_survey_sees_a_wrong_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that gives every layer the arguments of layer 0."""
    right = Recording.visit

    def wrong(self: Recording, index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return right(self, index, args, self.calls[0].kwargs if self.calls else kwargs)

    monkeypatch.setattr(Recording, "visit", wrong)
    (row,) = examine("gemma3_text")
    assert row["outcome"] == "refused"
    assert "under the identity logits is off by" in row["reason"]
    monkeypatch.setattr("painters.engine.verify._compare", lambda *_: True)
    (row,) = examine("gemma3_text")
    assert row["outcome"] == "WRONG"


class Halver(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, stream: Tensor) -> Tensor:
        return stream * self.by + 1


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Halver(0.5), Halver(0.25), Halver(2.0)])

    def forward(self, stream: Tensor) -> Tensor:
        for layer in self.layers:
            stream = layer(stream)
        return stream


def test_the_replay_by_hand() -> None:
    model, x = Toy(), torch.full((1, 1), 8.0)
    assert replayed(model, model.layers, Plan.parse("0-2"), {"stream": x}).item() == ((8 * 0.5 + 1) * 0.25 + 1) * 2 + 1
    assert replayed(model, model.layers, Plan.parse("2 2 0"), {"stream": x}).item() == ((8 * 2 + 1) * 2 + 1) * 0.5 + 1
    assert replayed(model, model.layers, Plan.parse("{0 2}"), {"stream": x}).item() == (5 + 17) / 2
    assert replayed(model, model.layers, Plan.parse("{0 2}:sum"), {"stream": x}).item() == 8 + (5 - 8) + (17 - 8)


def test_a_difference_is_seen() -> None:
    one = {"logits": torch.ones(2), "past_key_values": None}
    assert difference(one, {"logits": torch.ones(2)}) is None
    assert "off by" in (difference(one, {"logits": torch.tensor([1.0, 1.0 + 1e-7])}) or "")
    assert difference(one, {"logits": torch.ones(3)})
    assert difference({}, {})


@pytest.mark.parametrize("num_layers", [2, 3, 4, 5, 8])
def test_the_plans_fit_and_move(num_layers: int) -> None:
    found = plans(num_layers)
    for plan in found.values():
        plan.check(num_layers, "a stack")
    assert found["identity"] == Plan.identity(num_layers)
    assert list(found.values()).count(found["identity"]) == 1


def test_a_configuration_becomes_tiny() -> None:
    config = tiny_config("llava")
    text = config.get_text_config()
    assert (text.num_hidden_layers, text.vocab_size) == (LAYERS, VOCABULARY)
    assert config.vision_config.hidden_size <= 64
    assert of_every_kind(["a", "b", "a", "c", "a", "a"]) == ["a", "b", "c", "a", "b"]


def test_outcomes_are_the_best_unless_wrong() -> None:
    rows = [
        {"type": "staged", "outcome": "refused"},
        {"type": "staged", "outcome": "exact"},
        {"type": "bad", "outcome": "exact"},
        {"type": "bad", "outcome": "WRONG"},
    ]
    assert outcomes(rows) == {"staged": "exact", "bad": "WRONG"}
