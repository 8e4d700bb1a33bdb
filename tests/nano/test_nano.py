"""The bundled model, its tasks and their recipe: reproducible, disjoint from training, and what the card says."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from painters.nano import batches, corpus, documents, make_tasks, network, publish, tokenizer, world
from painters.nano.train import Recipe, Trainer

LLAMA = publish.FOLDER
SHOWN = ("question", "ctx", "sentence", "text")


def bundled(task: str, name: str = "test.jsonl") -> list[dict[str, object]]:
    return [json.loads(line) for line in (make_tasks.FOLDER / task / name).read_text().splitlines()]


# ------------------------------------------------------------------------------------------------------------ the world


def test_facts_are_unambiguous() -> None:
    """One answer to every (relation, subject), and it is in the pool."""
    facts = world.facts()
    assert len({(fact.relation, fact.subject) for fact in facts}) == len(facts)
    assert all(fact.answer in fact.pool and len(set(fact.pool)) == len(fact.pool) for fact in facts)


def test_two_hop_facts_follow_from_two_stated_ones() -> None:
    answer = {(fact.relation, fact.subject): fact.answer for fact in world.facts()}
    for fact in world.facts():
        if fact.relation == "thing_water":
            assert fact.answer == answer["water", answer["made", fact.subject]]
        if fact.relation == "land_river":
            assert fact.answer == answer["river", answer["capital", fact.subject]]
        if fact.relation == "job_use":
            assert fact.answer == answer["use", answer["needs", fact.subject]]


def test_about_a_fifth_of_the_facts_is_held_out() -> None:
    assert 0.18 < len(world.held_out()) / len(world.facts()) < 0.26


# ----------------------------------------------------------------------------------------------------------- the corpus


@pytest.fixture(scope="module")
def sample() -> str:
    draw = random.Random(7)
    return "\n\n\n".join(corpus.text_of(corpus.document(draw, i % 2)) for i in range(8000))


def test_held_out_facts_are_stated_but_never_asked(sample: str) -> None:
    facts = world.facts()
    kept = [facts[i] for i in world.held_out()]
    assert not [q for fact in kept for q in fact.questions if q in sample]
    stated = [fact for fact in kept if fact.hops == 1]
    draw = random.Random(8)
    said = " ".join(corpus.text_of(documents.statements(draw)) for _ in range(6000))
    assert all(any(world.capitalize(s) in said for s in fact.statements) for fact in stated)


def test_no_task_document_occurs_in_training_text(sample: str) -> None:
    for task in make_tasks.FILES:
        for document in bundled(task):
            shown = str(next(document[key] for key in SHOWN if key in document))
            if task == "nano_winogrande":
                shown = shown.replace("_", str(document[f"option{document['answer']}"]))
            if task == "nano_hellaswag":
                shown += " " + document["endings"][document["label"]]  # type: ignore[index]
            assert shown not in sample, task


@pytest.mark.parametrize("kind", corpus.MIXTURE)
def test_pieces_tokenize_like_their_text(kind: str) -> None:
    """Weights are set piece by piece: cutting a document into pieces must not change its tokens."""
    draw = random.Random(3)
    known = set(tokenizer.vocabulary())
    for _ in range(200):
        pieces = corpus.document_of(kind, draw)
        words = re.findall(tokenizer.PATTERN, corpus.text_of(pieces))
        assert words == [word for piece in pieces for word in re.findall(tokenizer.PATTERN, piece.text)]
        assert set(words) <= known


def test_sums_are_right() -> None:
    draw = random.Random(4)
    for _ in range(500):
        answer = documents_answer(draw)
        steps = re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)\.", answer)
        for a, operation, b, c in steps:
            x, y = int(a), int(b)
            assert {"+": x + y, "-": x - y, "*": x * y, "/": x / y}[operation] == int(c)
        assert answer.endswith(f"#### {steps[-1][3]}")


def documents_answer(draw: random.Random) -> str:
    from painters.nano.problems import sum_problem

    return sum_problem(draw).options[0]


# ------------------------------------------------------------------------------------------------------------ the tasks


def test_bundled_documents_are_what_the_seed_gives(tmp_path: Path) -> None:
    written = list(make_tasks.write_tasks(tmp_path))
    assert written
    for path in written:
        assert path.read_bytes() == (make_tasks.FOLDER / path.relative_to(tmp_path)).read_bytes(), path.name


@pytest.mark.parametrize("task", make_tasks.FILES)
def test_tasks_have_500_different_documents_that_need_depth(task: str) -> None:
    found = bundled(task)
    assert len(found) == 500
    assert len({json.dumps({k: d[k] for k in SHOWN if k in d}) for d in found}) == 500
    assert sum(int(str(d["hops"])) >= 2 for d in found) >= 0.45 * len(found)


def test_half_of_lambada_has_its_cue_over_30_tokens_back() -> None:
    found = bundled("nano_lambada")
    assert sum(int(str(d["cue_distance"])) > 30 for d in found) >= 250
    copied = sum(str(d["text"]).split()[-1] in re.findall(r"\w+", str(d["text"]))[:-1] for d in found)
    assert 0.4 < copied / len(found) < 0.9, "partly copied, partly described"


def test_shots_are_not_among_the_questions() -> None:
    asked = {d["question"] for d in bundled("nano_gsm8k")}
    assert not asked & {d["question"] for d in bundled("nano_gsm8k", "train.jsonl")}


# -------------------------------------------------------------------------------------------------------- the tokenizer


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=80))
def test_every_text_survives_the_tokenizer(text: str) -> None:
    ids = built().encode(text)
    assert built().decode(ids) == text


def built():  # type: ignore[no-untyped-def]
    if not hasattr(built, "made"):
        built.made = tokenizer.build_tokenizer()  # type: ignore[attr-defined]
    return built.made  # type: ignore[attr-defined]


def test_words_and_digits_are_single_tokens() -> None:
    ids = built().encode("Question: Sam has 42 lamps.")
    assert built().convert_ids_to_tokens(ids) == ["Question", ":", " Sam", " has", " 4", "2", " lamps", "."]


def test_the_bundled_tokenizer_is_the_built_one() -> None:
    loaded = AutoTokenizer.from_pretrained(LLAMA)
    assert loaded.get_vocab() == built().get_vocab()
    text = "One day, Anna hid the lamp in the barn.\n\n#### 42 é"
    assert loaded.encode(text) == built().encode(text)
    assert loaded.decode(loaded.encode(text)) == text


# ------------------------------------------------------------------------------------------------------------- training


def test_batches_depend_on_seed_and_step_alone() -> None:
    first, again, other = (batches.Batches(seed, 3, 112) for seed in (0, 0, 1))
    first.batch(0, 0.5)
    assert all(torch.equal(a, b) for a, b in zip(first.batch(5, 0.5), again.batch(5, 0.5), strict=True))
    assert not torch.equal(first.batch(5, 0.5).inputs, other.batch(5, 0.5).inputs)


def test_documents_in_a_row_do_not_see_each_other() -> None:
    small = network.Network(network.Shape(2, 32, 48, 1, len(tokenizer.vocabulary())), seed=0)
    packed = batches.Batches(0, 1, 112).batch(1, 1.0)
    starts = sorted(set(packed.documents[0].tolist()) - {-1})
    assert len(starts) > 1
    total = torch.zeros(())
    for start in starts:
        inside = packed.documents[0] == start
        alone = batches.PackedBatch(*(field[:, inside] for field in packed))
        total += small.loss(alone).detach() * alone.weights.sum()
    assert torch.allclose(total / packed.weights.sum(), small.loss(packed).detach(), rtol=1e-3)


def test_export_is_the_same_function() -> None:
    small = network.Network(network.Shape(3, 64, 96, 2, len(tokenizer.vocabulary())), seed=0)
    batch = batches.Batches(0, 1, 112).batch(1, 1.0)
    inside = batch.documents[0] == 0
    alone = batches.PackedBatch(*(field[:, inside] for field in batch))
    with torch.inference_mode():
        logits = network.export(small)(alone.inputs).logits
        losses = torch.nn.functional.cross_entropy(logits[0], alone.targets[0], reduction="none")
    expected = (losses * alone.weights[0]).sum() / alone.weights.sum()
    assert torch.allclose(small.loss(alone).detach(), expected, rtol=5e-3)


def test_training_resumes_bitwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "painters.nano.train.nano_shape", lambda: network.Shape(2, 32, 48, 1, len(tokenizer.vocabulary()))
    )
    recipe = Recipe(steps=6, rows=2, warmup=2, decay=3)
    whole = Trainer(recipe, tmp_path / "whole")
    list(whole.run(compiled=False))
    part = Trainer(recipe, tmp_path / "part")
    for _ in range(3):
        part._one_step()
    part._save()
    resumed = Trainer.resume(tmp_path / "part")
    assert resumed.step == 3
    list(resumed.run(compiled=False))
    for (name, a), (_, b) in zip(whole.network.named_parameters(), resumed.network.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_a_run_of_another_recipe_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "painters.nano.train.nano_shape", lambda: network.Shape(1, 32, 48, 1, len(tokenizer.vocabulary()))
    )
    Trainer(Recipe(steps=6), tmp_path)._save()
    with pytest.raises(ValueError, match="another recipe"):
        Trainer(Recipe(steps=7), tmp_path)
    with pytest.raises(FileNotFoundError, match="no training run"):
        Trainer.resume(tmp_path / "nowhere")


def test_the_learning_rate_rises_stays_and_falls_to_zero() -> None:
    recipe = Recipe(steps=1000, warmup=100, decay=400)
    rates = [recipe.rate_at(step) for step in range(1000)]
    assert rates[0] == 0.01
    assert rates[99:600] == [1.0] * 501
    assert rates[800] == pytest.approx(0.5)
    assert 0 < rates[999] < 0.01


# ------------------------------------------------------------------------------------------------------------ the model


def test_the_bundled_weights_are_small_and_safe() -> None:
    assert (LLAMA / "model.safetensors").stat().st_size <= 8_000_000
    assert not [path for path in LLAMA.iterdir() if path.suffix in (".bin", ".pt", ".pkl")]


def test_the_bundled_model_loads_and_works_out_a_sum() -> None:
    model = AutoModelForCausalLM.from_pretrained(LLAMA, dtype=torch.float32)
    loaded = AutoTokenizer.from_pretrained(LLAMA)
    assert 12 <= model.config.num_hidden_layers <= 16
    asked = loaded(
        "Question: Tom has 5 lamps. Then he buys 3 lamps. How many lamps does Tom have now?\nAnswer:",
        return_tensors="pt",
    )
    out = model.generate(**asked, max_new_tokens=12, do_sample=False)
    assert "#### 8" in loaded.decode(out[0])


def test_the_card_states_tokens_seeds_and_scores() -> None:
    card = (LLAMA / "README.md").read_text()
    training = json.loads((LLAMA / "training.json").read_text())
    assert f"{training['tokens'] / 1e6:.1f} million" in card
    assert f"seed {training['recipe']['seed']}" in card
    assert all(f"| {task} |" in card for task in make_tasks.FILES)
    assert card.count("±") == len(make_tasks.FILES)
