"""The encoder in the making: its network is transformers' BERT, its tokens the decoder's, its batches reproducible."""

from __future__ import annotations

import random
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from painters.nano import pieces, tokenizer
from painters.nano.encoder import corpus as encoder_corpus
from painters.nano.encoder import masking
from painters.nano.encoder import network as encoder
from painters.nano.encoder import train as encoder_train
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
        for segment in encoder_corpus.text_of(kind, draw).segments:
            text = "".join(piece.text for piece in segment)
            assert masking.word_ids(" " + text) == bert_tokenizer()(text, add_special_tokens=False)["input_ids"]


def test_batches_depend_on_seed_and_step_alone() -> None:
    first, again, other = (masking.MaskedBatches(seed, 2, 128) for seed in (0, 0, 1))
    first.batch(0, 0.5)
    assert all(torch.equal(a, b) for a, b in zip(first.batch(5, 0.5), again.batch(5, 0.5), strict=True))
    assert not torch.equal(first.batch(5, 0.5).inputs, other.batch(5, 0.5).inputs)


def test_most_words_in_the_loss_are_hidden_or_corrupted() -> None:
    batch = masking.MaskedBatches(0, 8, 128).batch(3, 1.0)
    in_loss = batch.weights > 0
    changed = batch.inputs[in_loss] != batch.targets[in_loss]
    assert 0.05 < float(in_loss.float().mean()) < 0.4
    assert float(changed.float().mean()) > 0.5
    assert torch.equal(batch.inputs[~in_loss], batch.targets[~in_loss])


def test_the_mixture_is_one_at_both_ends() -> None:
    assert all(sum(column) == pytest.approx(1) for column in zip(*encoder_corpus.MIXTURE.values(), strict=True))


def test_half_of_the_texts_are_corrupted() -> None:
    batch = masking.MaskedBatches(0, 64, 128).batch(3, 1.0)
    first = (batch.positions == 0) & (batch.weights > 0)
    flawed = masking._ids()[pieces.FLAWED]
    share = float((batch.targets[first] == flawed).float().mean())
    assert abs(share - masking.CORRUPT) < 0.15  # a word put in another's place is now and then the same


def masked(kind: str, count: int, corrupt: float = masking.CORRUPT) -> list[masking.MaskedText]:
    """`count` texts of a kind, masked."""
    draw = random.Random(kind)
    return [masking.mask(encoder_corpus.text_of(kind, draw), draw, corrupt) for _ in range(count)]


@pytest.mark.parametrize("kind", encoder_corpus.DRILLS)
def test_a_drill_hides_answers_alone(kind: str) -> None:
    hidden, shown = 0, 0
    ids = masking._ids()
    for text in masked(kind, 40):
        assert text.inputs[0] == text.targets[0] == ids[pieces.CLS]
        assert text.weights[0] == 0
        hidden_here = {i for i, word in enumerate(text.inputs) if word == ids[pieces.MASK]}
        assert hidden_here == {i for i, weight in enumerate(text.weights) if weight}
        for i in hidden_here:  # what is hidden stands elsewhere, before it
            assert text.targets[i] in text.targets[:i]
        hidden += len(hidden_here)
        shown += len(text.inputs)
    assert 0.05 < hidden / shown < 0.5
    assert {len(set(text.types)) for text in masked(kind, 40)} == {1, 2}


def statements(text: masking.MaskedTextText, words: list[int]) -> list[list[int]]:
    """The positions of each statement of the second text; `words` are the true ones."""
    positions = [i for i, kind in enumerate(text.types) if kind]
    ends = [n for n, i in enumerate(positions) if words[i] == masking._ids()["."]]
    return [positions[start + 1 : end + 1] for start, end in pairwise([-1, *ends])]


def test_a_judged_statement_is_flawed_where_its_words_were_changed() -> None:
    """Restored or judged, never both; flawed statements differ in names of one kind or in a contrary."""
    ids = masking._ids()
    words = {i: word for word, i in ids.items()}
    verdicts = {ids[pieces.FLAWED]: True, ids[pieces.SOUND]: False}
    seen = {True: 0, False: 0}
    draw = random.Random(5)
    for _ in range(200):
        made = encoder_corpus.text_of("entailment", draw)
        plain = masking.mask(made, random.Random(0), corrupt=0.0)
        true = [target if word == ids[pieces.MASK] else word
                for word, target in zip(plain.inputs, plain.targets, strict=True)]  # fmt: skip
        text = masking.mask(made, draw, corrupt=1.0)
        marks = []
        for positions in statements(text, true):
            judged = {verdicts[text.targets[i]] for i in positions if text.targets[i] in verdicts}
            changed = [i for i in positions if text.inputs[i] not in (true[i], ids[pieces.MASK])]
            assert judged <= {bool(changed)}
            for i in changed:
                was, now = words[true[i]], words[text.inputs[i]]
                assert masking.CONTRARIES.get(was) == now or masking.KINDS[was] == masking.KINDS[now]
            marks.append(bool(changed))
            seen[bool(changed)] += bool(judged)
        assert verdicts[text.targets[0]] == any(marks)
    assert min(seen.values()) > 50


def test_half_of_the_pairs_hide_a_word_of_each_statement() -> None:
    mask = masking._ids()[pieces.MASK]
    hiding = [text for text in masked("entailment", 200) if not any(
        text.targets[i] in (masking._ids()[pieces.SOUND], masking._ids()[pieces.FLAWED])
        for i in range(1, len(text.inputs)))]  # fmt: skip
    assert 20 < len(hiding) < 120
    hidden = [
        any(text.inputs[i] == mask for i in positions)
        for text in hiding
        for positions in statements(text, text.targets)
    ]
    assert sum(hidden) > 0.9 * len(hidden)


@pytest.mark.parametrize(
    ("layer", "head", "offset"),
    [(layer, head, offset) for layer, heads in enumerate(encoder.LOOKING) for head, offset in enumerate(heads)],
)
def test_heads_start_out_by_looking_at_their_neighbours(layer: int, head: int, offset: int) -> None:
    shape = encoder.encoder_shape()
    network, size = encoder.EncoderNetwork(shape, seed=0), shape.hidden // shape.heads
    words = network.embedding[torch.randint(0, shape.vocabulary, (48,), generator=torch.Generator().manual_seed(0))]
    stream = encoder.layer_norm(words + network.positions[:48] + network.types[0], network.embedding_norm)
    query, key, _ = (stream @ network.qkv[layer].T).split(shape.hidden, -1)
    rows = slice(head * size, (head + 1) * size)
    seen = (query[:, rows] @ key[:, rows].T)[4:-4].argmax(-1)
    assert (seen == torch.arange(4, 44) + offset).float().mean() > 0.85


def test_export_is_the_same_function() -> None:
    network = encoder.EncoderNetwork(small(), seed=0)
    batch = masking.MaskedBatches(0, 1, 128).batch(1, 1.0)
    inside = batch.documents[0] == 0
    alone = masking.MaskedBatch(*(field[:, inside] for field in batch))
    keep = torch.ones_like(alone.inputs, dtype=torch.bool)
    with torch.inference_mode():
        found = network.logits(alone, keep)
        expected = encoder.export(network)(alone.inputs, token_type_ids=alone.types).logits[0]
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.1)  # the network multiplies in bf16


def test_training_resumes_bitwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("painters.nano.encoder.train.encoder_shape", small)
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


def test_the_mixture_is_held_and_then_settles() -> None:
    recipe = encoder_train.EncoderRecipe(hold=10, settle=30)
    assert [recipe.blend_at(step) for step in (0, 10, 20, 30, 40)] == [0, 0, 0.5, 1, 1]


def test_the_probe_reports_kinds_and_rules_separately() -> None:
    shares = encoder_train.probe_encoder(encoder.EncoderNetwork(small(), seed=0), rows=1)
    assert {*encoder_corpus.KINDS, *encoder_train.RULES} <= set(shares)
    assert "recall?" not in shares
    assert "owners?" in shares
    assert all(0 <= share <= 1 for share in shares.values())
