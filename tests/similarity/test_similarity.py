"""Similarities against plain formulas on stored states, and states against a plain loop over the layers."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from support.models import ARCHITECTURES, make_model, shared_model
from support.reference import hidden_states
from torch import Tensor, nn

import painters
from painters import Plan, PlanError
from painters import similarity as public
from painters.documents import DocumentSelection
from painters.experiment import Model
from painters.models import ModelError, load_model
from painters.results import ResultsWarning, Store
from painters.results.similarity_record import SimilarityRecord, keep, read
from painters.similarity import MODES, SimilarityError, angular_distance, block_influence, measure, norms, similarity
from painters.similarity.inputs import read_inputs, sentence_tasks
from painters.similarity.measures import FlatCosine, LastTokenAngle, StateBatch, StateProfile, error_against_flat
from painters.similarity.states import States, cosines, run_measures
from painters.sweep.similarity import Question
from painters.tasks import TaskError

STATES, HIDDEN = 5, 6
Stored = list[StateBatch]


class Characters:
    """A tokenizer: every character is a token."""

    pad_token_id = 0
    eos_token_id = None
    cls_token: str | None = None

    def encode(self, text: str, **_: Any) -> list[int]:
        return [2 + ord(letter) % 90 for letter in text]


TEXTS = ["the cat sat", "a dog", "no", "the red hen ran home", "birds"]
SHARED = {"tokenizer": Characters(), "batch_size": 2}


@pytest.fixture
def stored() -> Stored:
    """Hidden states of five documents in batches of two; tokens of one document lie on the right of padding."""
    random = np.random.default_rng(7)
    batches = []
    for lengths in ([4, 7], [7, 2], [3]):
        states = [
            torch.tensor(random.normal(1, 1, (len(lengths), 7, HIDDEN)), dtype=torch.float32) for _ in range(STATES)
        ]
        mask = torch.tensor([[place < length for place in range(7)] for length in lengths])
        batches.append(StateBatch(states, mask.flip(1) if lengths == [3] else mask))
    return batches


def documents(stored: Stored) -> list[np.ndarray]:
    """[states, tokens, hidden] of every document, in float64."""
    return [
        np.stack([state[row].double().numpy()[mask.numpy()] for state in batch.states])
        for batch in stored
        for row, mask in enumerate(batch.mask)
    ]


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def by_token(docs: list[np.ndarray]) -> np.ndarray:
    """The mean cosine of every two states over the tokens of a document, then over documents."""
    table = np.zeros((STATES, STATES))
    for i in range(STATES):
        for j in range(STATES):
            table[i, j] = np.mean([np.mean([cosine(a, b) for a, b in zip(d[i], d[j], strict=True)]) for d in docs])
    return table


def test_token_is_the_plain_formula(stored: Stored) -> None:
    docs = documents(stored)
    np.testing.assert_allclose(cosines(stored, ["token"])["token"], by_token(docs), atol=1e-12)


def test_flat_is_the_papers_formula_bitwise(stored: Stored) -> None:
    by_batch = []
    for batch in stored:
        rows = [state.view(len(batch.mask), -1) for state in batch.states]
        by_batch.append(torch.tensor([[F.cosine_similarity(a, b).mean(0) for b in rows] for a in rows]))
    assert torch.equal(cosines(stored, ["flat"])["flat"], torch.stack(by_batch).mean(0))


def test_flat_counts_padding_and_every_batch_alike(stored: Stored) -> None:
    table = np.zeros((STATES, STATES))
    for i in range(STATES):
        for j in range(STATES):
            means = [
                np.mean(
                    [
                        cosine(a.ravel(), b.ravel())
                        for a, b in zip(x.states[i].numpy(), x.states[j].numpy(), strict=True)
                    ]
                )
                for x in stored
            ]
            table[i, j] = np.mean(means)
    np.testing.assert_allclose(cosines(stored, ["flat"])["flat"], table, atol=1e-6)


def test_first_excluded_leaves_out_the_first_token_and_not_the_first_position(stored: Stored) -> None:
    expected = by_token([document[:, 1:] for document in documents(stored)])
    np.testing.assert_allclose(cosines(stored, ["first-excluded"])["first-excluded"], expected, atol=1e-12)


def test_a_document_of_one_token_has_no_second(stored: Stored) -> None:
    single = StateBatch([state[:, :1] for state in stored[0].states], torch.ones(2, 1, dtype=torch.bool))
    alone = cosines(stored, ["first-excluded"])["first-excluded"]
    assert torch.equal(cosines([*stored, single], ["first-excluded"])["first-excluded"], alone)
    with pytest.raises(SimilarityError, match=r"one token only.*longer texts"):
        cosines([single], ["first-excluded"])


def test_centred_subtracts_the_mean_over_all_tokens_of_all_documents(stored: Stored) -> None:
    docs = documents(stored)
    centre = np.concatenate(docs, axis=1).mean(1)
    expected = by_token([document - centre[:, None] for document in docs])
    np.testing.assert_allclose(cosines(stored, ["centred"])["centred"], expected, atol=1e-12)


def test_modes_together_are_the_modes_alone(stored: Stored) -> None:
    together = cosines(stored, list(MODES))
    for mode in MODES:
        assert torch.equal(together[mode], cosines(stored, [mode])[mode])


def test_long_documents_are_summed_in_parts(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = cosines(stored, ["token"])["token"]
    monkeypatch.setattr("painters.similarity.measures._TOKENS_AT_ONCE", 2)
    torch.testing.assert_close(cosines(stored, ["token"])["token"], whole, atol=1e-14, rtol=0)


def test_angles_are_those_of_the_last_token(stored: Stored) -> None:
    docs = documents(stored)
    found = run_measures(stored, {"angle": LastTokenAngle()})["angle"]
    for i in range(STATES):
        for j in range(i):
            expected = np.mean([math.acos(cosine(document[i, -1], document[j, -1])) / math.pi for document in docs])
            for place in ((i, j), (j, i)):
                assert found[place].item() == pytest.approx(expected, abs=1e-12)


def test_the_profile_is_made_of_plain_formulas(stored: Stored) -> None:
    docs = documents(stored)
    norm = np.linalg.norm
    found = dict(
        zip(StateProfile.columns, run_measures(stored, {"profile": StateProfile()})["profile"].numpy().T, strict=True)
    )
    np.testing.assert_allclose(found["norm"], np.mean([norm(d, axis=2).mean(1) for d in docs], axis=0), rtol=1e-12)
    np.testing.assert_allclose(found["first_token"], np.mean([norm(d[:, 0], axis=1) for d in docs], axis=0), rtol=1e-12)
    changes = np.mean([norm(np.diff(d, axis=0), axis=2).mean(1) for d in docs], axis=0)
    np.testing.assert_allclose(found["change"][1:], changes, rtol=1e-12)
    np.testing.assert_allclose(found["largest"], np.max([np.abs(d).max((1, 2)) for d in docs], axis=0), rtol=1e-12)
    np.testing.assert_allclose(found["influence"][1:], 1 - by_token(docs).diagonal(1), atol=1e-12)
    assert np.isnan([found["change"][0], found["influence"][0]]).all()


# --------------------------------------------------------------------------------------------------------------- states


@pytest.mark.parametrize("architecture", ["llama", "bert", "gpt2", "modernbert"])
@pytest.mark.parametrize("text", ["0-3", "0 {1 2} 3", "0 (1 2)*2 3", "3 2 0", "0 {1 2}:sum*2 3"])
def test_states_are_those_of_a_plain_loop(architecture: str, text: str) -> None:
    model, plan = make_model(architecture, 4), Plan.parse(text)
    batches = list(States.of(model, Characters(), TEXTS, plan, batch_size=2))
    for name in ("norm", "final_norm", "ln_f"):
        if hasattr(model.base_model, name):
            setattr(model.base_model, name, nn.Identity())  # the oracle's last step: states come before it
    ids = [Characters().encode(text) for text in TEXTS]
    for number, batch in enumerate(batches):
        rows = ids[2 * number : 2 * number + 2]
        longest = max(map(len, rows))
        padded = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        assert torch.equal(batch.mask, torch.tensor([[i < len(row) for i in range(longest)] for row in rows]))
        assert len(batch.states) == len(plan.steps) + 1
        with torch.no_grad():
            for taken in range(1, len(plan.steps) + 1):
                expected = hidden_states(architecture, model, Plan(plan.steps[:taken]), padded, batch.mask.long())
                assert torch.equal(batch.states[taken], expected)
    assert torch.equal(batch.states[0][0, 0], embedded(architecture, model, padded)[0, 0])


def embedded(architecture: str, model: Any, ids: Tensor) -> Tensor:
    """Return what enters layer 0."""
    with torch.no_grad():
        if architecture == "llama":
            return model.model.embed_tokens(ids)
        if architecture == "gpt2":
            return model.transformer.wte(ids) + model.transformer.wpe(torch.arange(ids.shape[1]))
        return model.base_model.embeddings(ids)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_has_its_states_measured(architecture: str) -> None:
    model = shared_model(architecture, 4)
    table = similarity(model, TEXTS, "0 {1 2} 3", **SHARED)
    assert list(table.columns) == list(table.index) == ["embeddings", "0", "{1-2}", "3"]
    np.testing.assert_allclose(np.diag(table), 1, atol=1e-6)
    assert not model.training


def test_padding_counts_in_the_papers_mode_only() -> None:
    model = shared_model("llama", 4)
    apart = {mode: similarity(model, TEXTS, mode=mode, tokenizer=Characters(), batch_size=1) for mode in MODES}
    for mode, alone in apart.items():
        together = similarity(model, TEXTS, mode=mode, tokenizer=Characters(), batch_size=5)
        same = np.allclose(alone, together, atol=1e-5)
        assert same == (mode != "flat"), mode


def test_one_massive_activation_makes_flat_see_one_block_where_token_sees_none() -> None:
    """What massive activations (arXiv 2402.17762) do to the paper's Figure 3: flattened, one number decides."""
    model = make_model("llama", 6)

    def plant(layer: nn.Module, args: Any, output: Tensor) -> Tensor:
        output[:, 0, 3] = 1e5
        return output

    plain = {record.mode: record.frame() for record in measure(model, TEXTS, **SHARED)}
    model.model.layers[1].register_forward_hook(plant)
    planted = {record.mode: record.frame() for record in measure(model, TEXTS, **SHARED)}
    block = slice(2, 7)  # the states that hold it: what left layers 1 to 5
    far = (2, 6)
    assert plain["flat"].to_numpy()[far] < 0.8
    assert planted["flat"].to_numpy()[block, block].min() > 0.9999
    assert planted["token"].to_numpy()[far] < 0.8
    assert planted["first-excluded"].to_numpy()[far] < 0.8
    # Of a document of n tokens, token gives the planted one 1/n of the say.
    rest = planted["first-excluded"].to_numpy()
    lengths = np.array([len(text) for text in TEXTS])
    assert planted["token"].to_numpy()[far] == pytest.approx(rest[far], abs=(1 / lengths).mean() * 2)
    assert np.abs(planted["flat"] - planted["token"]).to_numpy()[block, block].max() > 0.2


def test_the_model_is_left_as_it_was() -> None:
    model = make_model("bert", 3)
    model.train()
    model.bert.embeddings.eval()
    before = [module.training for module in model.modules()]
    similarity(model, TEXTS, tokenizer=Characters())
    assert [module.training for module in model.modules()] == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


# --------------------------------------------------------------------------------------------------------------- public


def test_labels_name_the_steps_and_number_those_that_come_again() -> None:
    table = similarity(shared_model("llama", 4), TEXTS, "0 {1 2}*3 3 0", **SHARED)
    assert list(table.columns) == ["embeddings", "0", "{1-2}", "{1-2} (2)", "{1-2} (3)", "3", "0 (2)"]
    assert table.attrs["plan"] == "0 {1-2}*3 3 0"
    assert (table.attrs["documents"], table.attrs["inputs"]) == (5, "texts")
    assert table.attrs["tokens"] == sum(map(len, TEXTS))


def test_block_influence_is_one_minus_the_cosine_with_the_next_state() -> None:
    model = shared_model("llama", 4)
    table = similarity(model, TEXTS, **SHARED)
    found = block_influence(model, TEXTS, **SHARED)
    assert list(found.index) == ["0", "1", "2", "3"]
    np.testing.assert_allclose(found, 1 - table.to_numpy().diagonal(1), atol=1e-12)


def test_angular_distance_and_norms_are_labelled_by_steps() -> None:
    model = shared_model("llama", 4)
    angles = angular_distance(model, TEXTS, n=3, **SHARED)
    assert list(angles.index) == ["0", "1"]
    [record] = measure(model, TEXTS, modes=["flat"], **SHARED)
    assert record.angles is not None
    assert angles.tolist() == [record.angles[0][3], record.angles[1][4]]
    table = norms(model, TEXTS, **SHARED)
    assert list(table.index) == ["embeddings", "0", "1", "2", "3"]
    assert list(table.columns) == ["norm", "first_token", "change", "largest"]
    assert record.table().drop(columns="influence").equals(table)


def test_a_task_gives_its_documents_with_their_right_answers() -> None:
    from painters.harness import texts

    for task, ends in {
        "nano_arc": None,
        "nano_winogrande": None,
        "nano_lambada": None,
        "nano_hellaswag": None,
        "nano_gsm8k": "####",
    }.items():
        found = texts(task, limit=3)
        assert len(found) == 3
        if ends:
            assert all(ends in text for text in found)
    table = similarity("nano-llama", "nano_lambada", limit=3, mode="flat")
    assert table.shape == (13, 13)
    assert (table.attrs["model"], table.attrs["inputs"], table.attrs["documents"]) == ("nano-llama", "nano_lambada", 3)


def test_right_answers_are_those_that_lm_eval_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    from painters.harness import prepare, texts

    for task in ("nano_arc", "nano_winogrande", "nano_hellaswag"):
        [prepared] = prepare(task, limit=4)
        for text, (number, document) in zip(texts(task, limit=4), prepared.task.doc_iterator(limit=4), strict=True):
            requests = [request for request in prepared.requests if request.doc_id == number]
            answers = [(float("".join(request.args) == text), False) for request in requests]
            scored = prepared.task.process_results(document, answers)
            assert scored["acc"] == 1, (task, text)


def test_a_text_file_has_a_document_on_each_line(tmp_path: Path) -> None:
    file = tmp_path / "some.txt"
    file.write_text("the cat sat\n\n  \na dog\nno\n")
    table = similarity(shared_model("llama", 4), file, limit=2, **SHARED)
    assert table.equals(similarity(shared_model("llama", 4), TEXTS[:2], **SHARED))
    assert table.attrs["inputs"] == "some.txt"


@pytest.mark.parametrize("task", sentence_tasks())
def test_documents_of_the_tasks_for_encoders(task: str) -> None:
    read = read_inputs(task, DocumentSelection(limit=3))
    name, found = read.name, read.texts
    assert name == task
    assert len(found) == 3
    pair = task in {"nano_rte", "nano_paraphrase", "nano_sts"}
    assert all(isinstance(text, tuple) == pair for text in found)


@pytest.mark.parametrize("inputs", ["nano_lambada", "nano_cola", "some.txt", "texts"])
def test_drawn_documents(inputs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("some.txt").write_text("\n".join(f"document {number}" for number in range(50)))
    source: Any = [f"text {number}" for number in range(50)] if inputs == "texts" else inputs
    every = read_inputs(source).texts
    selection = DocumentSelection(sample=5, seed=3)
    read = read_inputs(source, selection)
    assert read.texts == [every[position] for position in selection.positions(len(every))]
    assert (read.sample_seed, read.asked) == (3, None)
    share = read_inputs(source, DocumentSelection(limit=0.1))
    assert share.texts == every[: math.ceil(len(every) / 10)]
    assert (share.sample_seed, share.asked) == (None, 0.1)
    with pytest.warns(UserWarning, match=f"{inputs}: a sample of 100,000 documents was asked for, and it has"):
        whole = read_inputs(source, DocumentSelection(sample=100_000))
    assert (whole.texts, whole.sample_seed, whole.asked) == (every, None, 100_000)


def test_records_state_what_was_drawn() -> None:
    model = shared_model("llama", 4)
    [drawn] = measure(model, TEXTS, modes=["token"], sample=2, sample_seed=3, **SHARED)
    [first] = measure(model, TEXTS, modes=["token"], limit=2, **SHARED)
    assert (drawn.documents, drawn.sample_seed) == (2, 3)
    assert SimilarityRecord.model_validate_json(drawn.model_dump_json()) == drawn
    assert not {"sample_seed", "asked"} & first.model_dump().keys()  # as in older records
    model_record = {"model": "m", "inputs": "texts", "weights": None}
    question = Question(
        Model(name="m"), "texts", "token", DocumentSelection(sample=2, seed=3), drawn.batch_size, "auto"
    )
    records = [record.model_copy(update=model_record) for record in (drawn, first)]
    assert [question.is_answered_by(record) for record in records] == [True, False]
    limited = replace(question, selection=DocumentSelection(limit=2))
    assert [limited.is_answered_by(record) for record in records] == [False, True]
    with pytest.warns(UserWarning, match="a sample of 99"):
        [whole] = measure(model, TEXTS, modes=["token"], sample=99, **SHARED)
    assert replace(question, selection=DocumentSelection(sample=99)).is_answered_by(
        whole.model_copy(update=model_record)
    )
    with pytest.raises(SimilarityError, match="limit takes the first documents and sample draws some at random"):
        similarity(model, TEXTS, limit=2, sample=2, **SHARED)


def test_an_encoder_reads_a_pair_as_two_segments(encoder: Path) -> None:
    """By name from a folder, with its own tokenizer, against the model called by hand."""
    pairs = [("the cat sat", "a dog"), ("no", "the red hen ran home")]
    model, tokenizer = load_model(str(encoder), encoders=True)
    [batch] = States.of(model, tokenizer, pairs, None, batch_size=2)
    encoded = tokenizer(*map(list, zip(*pairs, strict=True)), padding=True, return_tensors="pt")
    assert set(encoded["token_type_ids"].unique().tolist()) == {0, 1}
    with torch.no_grad():
        assert torch.equal(batch.states[-1], model.bert(**encoded).last_hidden_state)
    table = similarity(str(encoder), "nano_rte", limit=3, mode="centred")
    assert table.shape == (4, 4)
    joined = similarity(str(encoder), [" ".join(pair) for pair in pairs])
    assert not joined.equals(similarity(str(encoder), pairs))


def test_a_decoder_reads_a_pair_as_one_text() -> None:
    model = shared_model("llama", 4)
    assert similarity(model, [("a", "b")], **SHARED).equals(similarity(model, ["a b"], **SHARED))


@pytest.mark.parametrize("architecture", ["BertForMaskedLM", "BertForSequenceClassification", "BertModel"])
def test_no_weight_of_an_encoder_is_drawn_at_random(architecture: str, tmp_path: Path) -> None:
    """So two measurements have one key, whichever head the encoder was saved with."""
    save_encoder(tmp_path, getattr(transformers, architecture))
    first, again = (measure(str(tmp_path), TEXTS, modes=["token"])[0] for _ in range(2))
    assert first.key == again.key
    with pytest.raises(ModelError, match="is an encoder"):
        load_model(str(tmp_path))


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A folder with a small random BERT of three layers."""
    save_encoder(tmp_path, transformers.BertForMaskedLM)
    return tmp_path


def save_encoder(folder: Path, kind: Any) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({word for text in TEXTS for word in text.split()})]
    (folder / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}
    kind(transformers.BertConfig(vocab_size=len(words), initializer_range=0.5, **sizes)).save_pretrained(folder)


def test_limit_and_length_cut_the_texts() -> None:
    model = shared_model("llama", 4)
    options = {"tokenizer": Characters(), "batch_size": 8}
    assert similarity(model, TEXTS, limit=2, **options).equals(similarity(model, TEXTS[:2], **options))
    short = [text[:4] for text in TEXTS]
    assert similarity(model, TEXTS, max_length=4, **options).equals(similarity(model, short, **options))
    assert similarity(model, ["x" * 500], **options).attrs["tokens"] == 64, "what the model takes"


def test_progress_counts_documents_of_both_passes() -> None:
    calls: list[tuple[int, int]] = []
    measure(shared_model("llama", 4), TEXTS, progress=lambda done, total: calls.append((done, total)), **SHARED)
    assert calls[-1] == (10, 10)
    assert len(calls) == 6


def test_records_survive_the_disk(tmp_path: Path) -> None:
    made = measure(shared_model("llama", 4), TEXTS, modes=["flat", "token"], **SHARED)
    files = keep(tmp_path / "deep", made)
    assert [read(file) for file in files] == [[made[0]], [made[1]]]
    assert sorted((tmp_path / "deep").rglob("*")) == sorted([tmp_path / "deep" / "similarity", *files])
    assert made[0].frame().to_numpy().tolist() == [list(row) for row in made[0].cosines]


def test_a_measurement_is_kept_once(tmp_path: Path) -> None:
    model = shared_model("llama", 4)
    [first] = measure(model, TEXTS, modes=["token"], **SHARED)
    [again] = measure(model, TEXTS, modes=["token"], **SHARED)
    later = again.model_copy(update={"date": "2099-01-01T00:00:00+00:00"})
    assert first.key == later.key
    assert keep(tmp_path, [first]) == keep(tmp_path, [later])
    assert [read(file) for file in tmp_path.rglob("*.jsonl")] == [[first]]
    others = [
        *measure(model, TEXTS, modes=["flat"], **SHARED),
        *measure(model, TEXTS, "0-2", modes=["token"], **SHARED),
        *measure(model, TEXTS[:4], modes=["token"], **SHARED),
        *measure(model, TEXTS, modes=["token"], tokenizer=Characters(), batch_size=3),
        *measure(make_model("llama", 4, seed=1), TEXTS, modes=["token"], **SHARED),
    ]
    assert len({first.key, *(record.key for record in others)}) == 6
    assert len(set(keep(tmp_path, others))) == 5


def test_scores_and_similarities_share_a_folder(tmp_path: Path) -> None:
    keep(tmp_path, measure(shared_model("llama", 4), TEXTS, modes=["token"], **SHARED))
    assert Store(tmp_path).records() == []


def test_files_that_hold_something_else_are_named(tmp_path: Path) -> None:
    [record] = measure(shared_model("llama", 4), TEXTS, modes=["token"], **SHARED)
    [file] = keep(tmp_path, [record])
    [one] = read(file)
    assert one == record
    with file.open("a") as more:
        more.write('{"kind": "similarity"}\n')
    with pytest.warns(ResultsWarning, match=r"1 line is damaged and left out \(.*jsonl: 2\)"):
        assert read(file) == [one]
    file.write_bytes(file.read_bytes()[:-200])
    assert keep(tmp_path, [record]) == [file], "what was damaged is measured again"
    assert read(file) == [one]
    with pytest.raises(SimilarityError, match="no such file"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(SimilarityError, match="a file is there"):
        keep(file, [record])
    whole = record.model_dump()
    for wrong in ({"labels": ("a",)}, {"angles": ((0.0,),)}):
        with pytest.raises(ValueError, match="rows of as many numbers"):
            SimilarityRecord.model_validate(whole | wrong)
    with pytest.raises(ValueError, match="columns of 5 numbers"):
        SimilarityRecord.model_validate(whole | {"profile": {"norm": (1.0,)}})
    without = SimilarityRecord.model_validate(whole | {"angles": None, "profile": None})
    assert without.table().shape == (5, 0)
    with pytest.raises(SimilarityError, match="holds none"):
        without.angle()


def test_states_that_are_not_finite_are_absent() -> None:
    model = make_model("llama", 3)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.fill_(torch.nan)
    [record] = measure(model, TEXTS, modes=["flat"], tokenizer=Characters())
    assert record.cosines[0][1] is not None
    assert record.cosines[0][2] is None
    assert record.frame().isna().iloc[0, 2]


MISTAKES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "mode": ({"mode": "cosine"}, SimilarityError, "'cosine'.*token, flat, first-excluded, centred"),
    "batch_size": ({"batch_size": 0}, SimilarityError, "batch_size 0.*1 or more"),
    "limit": ({"limit": 0}, SimilarityError, "limit 0.*1 or more"),
    "max_length": ({"max_length": 2.5}, SimilarityError, r"max_length 2\.5.*1 or more"),
    "tokenizer": ({"tokenizer": None}, ModelError, "without its tokenizer"),
    "a tokenizer too many": ({"model": "nano-llama"}, ModelError, "leave the tokenizer out"),
    "plan": ({"plan": "0-4"}, PlanError, "layer 4.*4 layers"),
    "empty text": ({"inputs": ["a", ""]}, SimilarityError, "text 2 of 2.*no tokens"),
    "no texts": ({"inputs": []}, SimilarityError, "no inputs"),
    "numbers": ({"inputs": ["a", 3]}, SimilarityError, "text 2 is 3: give a text"),
    "three segments": ({"inputs": [("a", "b", "c")]}, SimilarityError, "text 1 is .*: give a text, or two"),
    "no file": ({"inputs": "nowhere.txt"}, SimilarityError, r"nowhere\.txt: there is no such file"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake: str) -> None:
    options, kind, message = MISTAKES[mistake]
    arguments: dict[str, Any] = {
        "model": shared_model("llama", 4),
        "inputs": TEXTS,
        "tokenizer": Characters(),
    } | options
    with pytest.raises(kind, match=message):
        similarity(**arguments)


@pytest.mark.parametrize(("written", "message"), [(b" \n\n", "every line is blank"), (b"a\xff", "byte 1 is not UTF-8")])
def test_text_files_without_text(tmp_path: Path, written: bytes, message: str) -> None:
    (tmp_path / "x.txt").write_bytes(written)
    with pytest.raises(SimilarityError, match=message):
        similarity(shared_model("llama", 4), tmp_path / "x.txt", **SHARED)


def test_an_unknown_task_is_told_of_all_kinds_of_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    from painters.harness import task_texts

    def unknown(name: str, selection: DocumentSelection) -> Any:
        raise TaskError(f"task {name!r}: not in lm-eval")  # which takes long to look for it

    monkeypatch.setattr(task_texts, "selected_texts", unknown)
    with pytest.raises(SimilarityError, match=r"'nano_colla': not in lm-eval.*nano_cola.*\.txt file"):
        read_inputs("nano_colla")


def test_modes_are_measured_in_the_order_asked_and_once() -> None:
    model = shared_model("llama", 4)
    assert [r.mode for r in measure(model, TEXTS, modes=["flat", "token", "flat"], **SHARED)] == ["flat", "token"]
    with pytest.raises(SimilarityError, match="no mode given"):
        measure(model, TEXTS, modes=[], **SHARED)


def test_angle_over_more_steps_than_there_are() -> None:
    with pytest.raises(SimilarityError, match="n is 1 to 4"):
        angular_distance(shared_model("llama", 4), TEXTS, n=5, **SHARED)


def test_flat_keeps_no_states(stored: Stored) -> None:
    flat = FlatCosine()
    flat.add(stored[0])
    assert sum(table.numel() for table in flat._by_batch) == STATES**2


@pytest.mark.parametrize(
    "code",
    [
        "from painters import similarity; from painters.similarity import block_influence",
        "from painters.similarity import block_influence; from painters import similarity",
        "import painters.similarity; from painters import similarity",
        "import painters; similarity = painters.similarity; import painters.similarity",
        "import painters.similarity as similarity; import painters",
    ],
)
def test_module_and_function_share_a_name(code: str) -> None:
    """In any order of imports the same object is called, and has the module's other names."""
    code += """
import sys, painters
from painters.similarity import measure
assert painters.similarity is similarity is sys.modules["painters.similarity"]
assert painters.similarity.measure is measure
assert "torch" not in sys.modules
try:
    similarity("nano-llama", "nano_lambada", mode="none")
except painters.PaintersError as error:
    assert "'none'" in str(error)
else:
    raise AssertionError
"""
    root = Path(painters.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


def test_the_function_is_public() -> None:
    assert public(shared_model("llama", 4), TEXTS, "0-3", "token", **SHARED).equals(
        similarity(shared_model("llama", 4), TEXTS, **SHARED)
    )


# ------------------------------------------------------------------------------------------- differences from mode flat


def test_errors_against_flat_are_those_of_paired_differences(stored: Stored) -> None:
    """With batches of one size every document weighs the same, so that the plain paired error is the answer."""
    batches = [StateBatch(batch.states, torch.ones_like(batch.mask)) for batch in stored]
    size = min(len(batch.mask) for batch in batches)
    even = [StateBatch([state[:size] for state in batch.states], batch.mask[:size]) for batch in batches]
    found = cosines(even, list(MODES), errors=True)
    for mode in ("token", "first-excluded"):
        differences = []
        for batch in even:
            for row in range(size):
                one = StateBatch([state[row : row + 1] for state in batch.states], batch.mask[row : row + 1])
                each = cosines([one], [mode, "flat"])
                differences.append((each[mode] - each["flat"]).numpy())
        expected = np.std(differences, axis=0, ddof=1) / math.sqrt(len(differences))
        np.testing.assert_allclose(found[f"{mode} less flat"], expected, atol=1e-6)
    assert found["centred less flat"].shape == (STATES, STATES)
    assert not any("less" in name for name in cosines(even, list(MODES)))
    assert not any("less" in name for name in cosines(even, ["token", "centred"], errors=True))


def test_errors_against_flat_weigh_documents_as_flat_does() -> None:
    """Ten documents of a smaller last batch weigh as much as thirty of the first."""
    random = np.random.default_rng(0)
    token, flat = random.normal(0.5, 0.1, (2, 40))
    batches = [flat[:30], flat[30:]]
    error = error_against_flat(
        [torch.tensor([[value]]) for value in token],
        [[torch.tensor([[value]]) for value in batch] for batch in batches],
    ).item()
    weights = np.repeat([1 / 60, 1 / 20], [30, 10])
    apart = (token - token.mean()) / 40 - weights * (flat - (flat[:30].mean() + flat[30:].mean()) / 2)
    assert error == pytest.approx(math.sqrt((apart**2).sum() * 40 / 39))
    if_independent = math.sqrt(token.var() / 40 + flat.var() * (weights**2).sum())
    assert error == pytest.approx(if_independent, rel=0.15)  # the two have nothing in common here
    nothing = error_against_flat([torch.ones(1, 1), None], [[torch.ones(1, 1), torch.ones(1, 1)]])
    assert math.isnan(nothing.item())


def test_a_measurement_with_more_fields_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    texts = ["The cat sat.", "A dog ran.", "A bird sang."]
    both = measure("nano-llama", texts, "0-2", modes=["token", "flat"])
    assert [record.flat_error is None for record in both] == [False, True]
    [alone] = measure("nano-llama", texts, "0-2", modes=["token"])
    assert alone.flat_error is None
    [path] = keep(tmp_path, [alone])
    assert keep(tmp_path, both)[0] == path
    assert read(path) == [both[0]]
    keep(tmp_path, [alone])  # it lacks the errors: the richer one stays
    assert read(path) == [both[0]]
