"""The encoder in the making: its network is transformers' BERT, its tokens the decoder's, its batches reproducible."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from painters.nano import encoder, encoder_corpus, encoder_train, masking, pieces, tokenizer
from painters.nano.network import Shape


def small() -> Shape:
    return Shape(2, 32, 48, 1, len(pieces.encoder_vocabulary()))


@cache
def bert_tokenizer() -> PreTrainedTokenizerFast:
    return pieces.build_bert_tokenizer()


def test_words_of_the_decoder_keep_their_ids() -> None:
    pairs = zip(tokenizer.vocabulary(), pieces.encoder_vocabulary(), strict=True)
    assert all(old == new for old, new in pairs if not old.startswith("<unused"))


def test_pairs_are_marked_and_typed() -> None:
    found = bert_tokenizer()("Tom has a lamp.", "Anna has it.")
    words = bert_tokenizer().convert_ids_to_tokens(found["input_ids"])
    assert words == ["<cls>", " Tom", " has", " a", " lamp", ".", "<sep>", " Anna", " has", " it", ".", "<sep>"]
    assert found["token_type_ids"] == [0] * 7 + [1] * 5


@pytest.mark.parametrize("text", ["Tom has a lamp.", "One day\n\n#### 42 é", "Anna saw the crown, but Ben did not."])
def test_texts_survive_the_tokenizer(text: str) -> None:
    ids = bert_tokenizer()(text)["input_ids"]
    assert bert_tokenizer().decode(ids, skip_special_tokens=True) == text


@pytest.mark.parametrize("kind", encoder_corpus.MIXTURE)
def test_word_ids_are_the_tokenizers(kind: str) -> None:
    draw = random.Random(1)
    for _ in range(50):
        for segment in encoder_corpus.text_of(kind, draw):
            text = "".join(piece.text for piece in segment)
            assert masking.word_ids(" " + text) == bert_tokenizer()(text, add_special_tokens=False)["input_ids"]


def test_batches_depend_on_seed_and_step_alone() -> None:
    first, again, other = (masking.MaskedBatches(seed, 2, 128) for seed in (0, 0, 1))
    first.batch(0, 0.5)
    assert all(torch.equal(a, b) for a, b in zip(first.batch(5, 0.5), again.batch(5, 0.5), strict=True))
    assert not torch.equal(first.batch(5, 0.5).inputs, other.batch(5, 0.5).inputs)


def test_what_is_asked_is_hidden_spoilt_or_shown_now_and_then() -> None:
    batch = masking.MaskedBatches(0, 8, 128).batch(3, 1.0)
    asked = batch.weights > 0
    changed = batch.inputs[asked] != batch.targets[asked]
    assert 0.05 < float(asked.float().mean()) < 0.4
    assert float(changed.float().mean()) > 0.5
    assert torch.equal(batch.inputs[~asked], batch.targets[~asked])


def test_export_is_the_same_function() -> None:
    network = encoder.Encoder(small(), seed=0)
    batch = masking.MaskedBatches(0, 1, 128).batch(1, 1.0)
    inside = batch.documents[0] == 0
    alone = masking.MaskedBatch(*(field[:, inside] for field in batch))
    keep = torch.ones_like(alone.inputs, dtype=torch.bool)
    with torch.inference_mode():
        found = network.logits(alone, keep)
        expected = encoder.export(network)(alone.inputs, token_type_ids=alone.types).logits[0]
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)  # the network multiplies in bf16


def test_training_resumes_bitwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("painters.nano.encoder_train.encoder_shape", small)
    recipe = encoder_train.EncoderRecipe(steps=4, rows=2, warmup=2, decay=2)
    whole = encoder_train.EncoderTrainer(recipe, tmp_path / "whole")
    list(whole.run(compiled=False))
    part = encoder_train.EncoderTrainer(recipe, tmp_path / "part")
    for _ in range(2):
        part._one_step()
    part._save()
    resumed = encoder_train.EncoderTrainer.resume(tmp_path / "part")
    assert resumed.step == 2
    list(resumed.run(compiled=False))
    for (name, a), (_, b) in zip(whole.network.named_parameters(), resumed.network.named_parameters(), strict=True):
        assert torch.equal(a, b), name
