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


@pytest.mark.parametrize("kind", encoder_corpus.KINDS)
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


@pytest.mark.parametrize("masking_name", masking.MASKINGS)
@pytest.mark.parametrize("mixture", encoder_corpus.MIXTURES)
def test_every_stage_has_its_shares(mixture: str, masking_name: str) -> None:
    assert all(
        sum(column) == pytest.approx(1) for column in zip(*encoder_corpus.MIXTURES[mixture].values(), strict=True)
    )
    how = masking.MASKINGS[masking_name]
    batch = masking.MaskedBatches(0, 16, 128, mixture, masking_name).batch(3, 1.0)
    flawed = encoder_train.mask.__globals__["_ids"]()[pieces.FLAWED]
    first = (batch.positions == 0) & (batch.documents >= 0)
    share = float((batch.targets[first] == flawed).float().mean())
    assert abs(share - how.spoil) < 0.2  # a spoilt word is now and then the right one
    second = (batch.types == 1) & (batch.weights >= 1)
    assert second.any()


def test_relations_are_spoilt_within_their_kind() -> None:
    how, ids = masking.MASKINGS["pairs"], masking._ids()
    words = {i: word for word, i in ids.items()}
    seen = 0
    for seed in range(60):
        draw = random.Random(seed)
        found = masking.mask(encoder_corpus.text_of("entailment", draw), draw, how, 1.0)
        for one, two, kind in zip(found.inputs, found.targets, found.types, strict=True):
            told = masking.KINDS.get(words[one]), masking.KINDS.get(words[two])
            if kind and one != two and None not in told and words[one] != pieces.MASK:
                seen += told[0] == told[1]
    assert seen > 20


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


def test_a_stage_starts_from_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("painters.nano.encoder_train.encoder_shape", small)
    recipes = [encoder_train.EncoderRecipe(seed=seed, steps=2, rows=2, warmup=2, decay=2) for seed in (0, 1)]
    monkeypatch.setattr(encoder_train, "STAGES", tuple(recipes))
    last: dict[str, torch.Tensor] = {}
    for trainer in encoder_train.stages(tmp_path):
        now = dict(trainer.network.named_parameters())
        assert all(torch.equal(now[name], weight) for name, weight in last.items())
        list(trainer.run(compiled=False))
        last = {name: weight.detach().clone() for name, weight in now.items()}
    again = list(encoder_train.stages(tmp_path))
    assert [trainer.step for trainer in again] == [2, 2]
    assert all(torch.equal(weight, last[name]) for name, weight in again[1].network.named_parameters())
