"""How the bundled models and tasks came to be: their folders and pages can be written again from what they say."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from painters.nano import make_glue, network, pieces, probe, publish, tokenizer
from painters.nano.corpus import MIXTURE
from painters.nano.encoder import card as encoder_card
from painters.nano.encoder.train import EncoderRecipe, EncoderTrainer
from painters.nano.train import Recipe, Trainer


def small(words: int) -> network.Shape:
    return network.Shape(2, 32, 48, 1, words)


def copied(folder: Path, to: Path) -> Path:
    """A folder with what the page is written from, and without the page."""
    to.mkdir()
    for name in ("config.json", "training.json"):
        shutil.copy(folder / name, to)
    return to


def cells(page: str) -> list[list[str]]:
    """The rows of the page's table of scores."""
    return [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| nano_")]


def test_the_encoders_documents_are_what_the_seed_gives(tmp_path: Path) -> None:
    written = list(make_glue.write_glue(tmp_path))
    assert len(written) == 2 * len(make_glue.TASKS)
    for path in written:
        assert path.read_bytes() == (make_glue.FOLDER / path.relative_to(tmp_path)).read_bytes(), path


def test_the_models_page_is_what_its_training_and_scores_say(tmp_path: Path) -> None:
    page = (publish.FOLDER / "README.md").read_text()
    scores = {}
    for task, metric, score, chance, documents in cells(page):
        value, stderr = (float(number) / 100 for number in score.split(" ± "))
        scores[task] = publish.Score(metric, value, stderr, float(chance) / 100, int(documents))
    environment = re.search(r"standard error over documents.\n(.+)\n", page)
    assert environment is not None
    path = publish.write_card(scores, environment[1], copied(publish.FOLDER, tmp_path / "llama"))
    assert path.read_text() == page


def test_the_encoders_page_is_what_its_training_and_scores_say(tmp_path: Path) -> None:
    page = (publish.ENCODER_FOLDER / "README.md").read_text()
    scores = {}
    for task, _metric, intact, cut, _chance in cells(page):
        pairs = zip(intact.split(), cut.split(), strict=True)
        scores[task] = [(float(whole) / 100, float(less) / 100) for whole, less in pairs]
    assert scores.keys() == make_glue.TASKS.keys()
    path = encoder_card.write_encoder_card(scores, copied(publish.ENCODER_FOLDER, tmp_path / "bert"))
    assert path.read_text() == page


@pytest.fixture
def decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    monkeypatch.setattr("painters.nano.train.nano_shape", lambda: small(len(tokenizer.vocabulary())))
    trainer = Trainer(Recipe(steps=2, rows=1, warmup=1, decay=1), tmp_path / "run")
    list(trainer.run(compiled=False))
    return trainer


def test_a_trained_network_becomes_a_folder(decoder: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = publish.publish(decoder, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    assert AutoTokenizer.from_pretrained(folder).get_vocab() == tokenizer.build_tokenizer().get_vocab()
    expected = network.export(decoder.network).state_dict()
    assert model.state_dict().keys() == expected.keys()
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, expected[name].bfloat16()), name
    training = json.loads((folder / "training.json").read_text())
    assert training["recipe"]["steps"] == 2
    assert training["tokens"] == decoder.recipe.tokens
    assert training["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert training["weights_bytes"] == (folder / "model.safetensors").stat().st_size
    last = (decoder.folder / "log.csv").read_text().splitlines()[-1]
    assert str(training["final_loss"]) in last
    monkeypatch.setattr(publish, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match=r"may take 1,000 bytes, these take [0-9,]+: make the shape smaller"):
        publish.publish(decoder, tmp_path / "large")


def test_a_trained_encoder_becomes_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = pieces.encoder_vocabulary()
    monkeypatch.setattr("painters.nano.encoder.train.encoder_shape", lambda: small(len(words)))
    trainer = EncoderTrainer(EncoderRecipe(steps=2, rows=1, warmup=1, decay=1), tmp_path / "run")
    list(trainer.run(compiled=False))
    folder = publish.publish_encoder(trainer, tmp_path / "out")
    model: Any = AutoModelForMaskedLM.from_pretrained(folder)
    assert model.config.num_hidden_layers == 2
    assert len(AutoTokenizer.from_pretrained(folder)) == len(words)
    assert json.loads((folder / "training.json").read_text())["recipe"]["steps"] == 2


def test_a_probe_looks_at_every_kind_of_document(decoder: Trainer) -> None:
    shares = probe.probe(decoder.network, documents=2)
    assert shares.keys() == MIXTURE.keys()
    assert all(0 <= share <= 1 for share in shares.values())
    assert probe.report({"sums": 0.5, "facts": 1.0}) == "sums 0.50  facts 1.00"
