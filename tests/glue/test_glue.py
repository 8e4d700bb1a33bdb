"""Encoders are fine-tuned as a plain loop fine-tunes them, and each protocol does what its name says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import reference
from support.glue_samples import (
    NUM_LAYERS,
    bert_without_dropout,
    encoder,
    save,
    tokenizer,
    untrained_bert,
    weights,
    write_task,
)
from support.models import ENCODERS
from torch.nn import functional as F
from transformers import AlbertConfig, AlbertForSequenceClassification, GPT2Config, GPT2LMHeadModel

from painters import Plan, glue, models, surgery
from painters.engine import SurgeryError
from painters.experiment.tuning import PROTOCOLS, Tuning
from painters.glue import ModelError, Prepared, Scorer, protocols, training
from painters.glue.protocols import ScoringJob
from painters.plan import PlanError
from painters.results import Record

IDENTITY = str(Plan.identity(NUM_LAYERS))
SKIP = "0 3"
FAST = {"rate": 3e-3, "epochs": 2, "batch_size": 10}  # divides neither split: last batches are short


def tuning(protocol: str, **fields: Any) -> Tuning:
    return Tuning.model_validate({"protocol": protocol, **FAST, **fields})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tasks")


@pytest.fixture(scope="module")
def cola(folder: Path) -> Prepared:
    return glue.prepare(write_task(folder, "cola", train=64, validation=24), tokenizer())


@pytest.fixture(scope="module")
def stsb(folder: Path) -> Prepared:
    return glue.prepare(write_task(folder, "stsb", train=64, validation=24), tokenizer())


def values(records: list[Record]) -> dict[str, float | None]:
    return {record.metric: record.value for record in records}


def same(records: list[Record], others: list[Record]) -> bool:
    """Whether the records agree in all but time."""
    apart = {"seconds", "date"}
    return [r.model_dump(exclude=apart) for r in records] == [r.model_dump(exclude=apart) for r in others]


def tuned(scorer: Scorer, plan: str, task: Prepared, how: Tuning, seed: int = 42) -> Any:
    """The model that `retuned` scores."""
    model = scorer._fine_tuner.classifier(task.task, seed)
    with training.seeded(seed, model.device), surgery(model, plan):
        training.fine_tune(model, task.train, how, seed, lambda _: None)
    return model


def plain_loop(model: Any, plan: str, task: Prepared, how: Tuning, seed: int) -> None:
    """The oracle: `model` fine-tuned on the reference's own forward, with the schedule written out."""
    train = task.train
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": how.weight_decay}, {"params": others, "weight_decay": 0.0}], fused=True
    )
    order = torch.Generator().manual_seed(seed)
    steps, step = how.epochs * math.ceil(len(train) / how.batch_size), 0
    warmup = math.ceil(how.warmup * steps)
    model.train()
    for _ in range(how.epochs):
        for chosen in torch.randperm(len(train), generator=order).split(how.batch_size):
            for group in optimizer.param_groups:
                group["lr"] = how.rate * (step / warmup if step < warmup else (steps - step) / (steps - warmup))
            mask = train.inputs["attention_mask"][chosen]
            ids = train.inputs["input_ids"][chosen][:, : mask.sum(1).max()]
            logits = reference.classes("bert", model, Plan.parse(plan), ids, mask[:, : ids.shape[1]])
            labels = train.labels[chosen]
            loss = F.mse_loss(logits[:, 0], labels) if task.task.labels == 1 else F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
    model.eval()


@pytest.mark.parametrize("plan", [IDENTITY, SKIP, "0 {1-2}*2 3", "3-0"])
@pytest.mark.parametrize("name", ["cola", "stsb"])
def test_retuned_is_a_plain_loop(name: str, plan: str, cola: Prepared, stsb: Prepared) -> None:
    """The same weights bit by bit: gradients, schedule, order, decay and clipping are those of the loop."""
    task, scorer = {"cola": cola, "stsb": stsb}[name], Scorer(bert_without_dropout(), tokenizer())
    how = tuning("retuned", warmup=0.2, weight_decay=0.1)
    expected = scorer._fine_tuner.classifier(task.task, 7)
    plain_loop(expected, plan, task, how, seed=7)
    found = tuned(scorer, plan, task, how, seed=7)
    for key, weight in expected.state_dict().items():
        assert torch.equal(found.state_dict()[key], weight), key
    with torch.no_grad():
        ids, mask = task.validation.inputs["input_ids"], task.validation.inputs["attention_mask"]
        logits = reference.classes("bert", expected, Plan.parse(plan), ids, mask)
    record = scorer.score(plan, task, how, seed=7)[-1]
    if name == "cola":
        right = (logits.argmax(-1) == task.validation.labels).float().tolist()
        assert list(record.outcomes or ()) == right
    else:
        assert record.metric == "spearman"
        pearson = np.corrcoef(logits[:, 0], task.validation.labels)[0, 1]
        assert values(scorer.score(plan, task, how, seed=7))["pearson"] == pytest.approx(pearson, abs=1e-6)


def test_bfloat16_is_for_the_products_of_training_alone(cola: Prepared) -> None:
    scorer, kinds = Scorer(bert_without_dropout(), tokenizer()), {True: set(), False: set()}
    build = scorer._fine_tuner.classifier

    def classifier(*args: Any) -> Any:
        model = build(*args)
        model.bert.encoder.layer[0].intermediate.dense.register_forward_hook(
            lambda _, __, output: kinds[model.training].add(output.dtype)
        )
        return model

    scorer._fine_tuner.classifier = classifier  # type: ignore[method-assign]
    how = tuning("retuned", precision="bfloat16")
    scorer.score(SKIP, cola, how)
    assert kinds == {True: {torch.bfloat16}, False: {torch.float32}}
    narrow, wide = tuned(scorer, SKIP, cola, how), tuned(scorer, SKIP, cola, tuning("retuned"))
    assert {weight.dtype for weight in narrow.parameters()} == {torch.float32}
    away = [(one - other).abs().max() for one, other in zip(narrow.parameters(), wide.parameters(), strict=True)]
    assert 0 < max(away) < 0.05


def test_retuned_leaves_skipped_layers_alone(cola: Prepared) -> None:
    scorer = Scorer(encoder(), tokenizer())
    before = weights(scorer._fine_tuner.classifier(cola.task, 42))
    after = weights(tuned(scorer, SKIP, cola, tuning("retuned", weight_decay=0.1)))
    moved = {key for key, weight in after.items() if not torch.equal(weight, before[key])}
    assert any(".layer.0." in key for key in moved)
    assert any(".layer.3." in key for key in moved)
    assert not [key for key in moved if ".layer.1." in key or ".layer.2." in key]


def count_calls(layer: Any, counted: list[int]) -> Any:
    return layer.register_forward_hook(lambda *_: counted.append(1))


def test_frozen_runs_the_encoder_once_and_moves_the_classifier_alone(
    cola: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer, made, calls = Scorer(encoder(), tokenizer()), [], []
    build = scorer._fine_tuner.classifier

    def classifier(*args: Any) -> Any:
        made.append((model := build(*args), weights(model)))
        for layer in model.bert.encoder.layer:
            count_calls(layer, calls)
        return model

    monkeypatch.setattr(scorer._fine_tuner, "classifier", classifier)
    scorer.score("0 1*3 3", cola, tuning("frozen"), batch_size=7)
    (model, before), batches = made[0], math.ceil(64 / 7) + math.ceil(24 / 7)
    assert len(calls) == 5 * batches  # whatever the number of epochs
    moved = {key for key, weight in weights(model).items() if not torch.equal(weight, before[key])}
    assert moved == {"classifier.weight", "classifier.bias"}


def logits(scorer: Scorer, task: Prepared, how: Tuning, seed: int, plan: str = SKIP) -> torch.Tensor:
    return scorer._fine_tuner.logits(Plan.parse(plan), ScoringJob(task, how, seed, 32), lambda _: None)


@pytest.mark.parametrize("architecture", ENCODERS)
def test_frozen_equals_training_with_the_encoder_frozen(architecture: str, cola: Prepared) -> None:
    """Up to rounding, for the direct way runs other batches: every epoch the whole model, all of it but the classifier
    in evaluation mode and without gradients. The classifier's dropout is active in both."""
    scorer, how, plan = Scorer(encoder(architecture), tokenizer()), tuning("frozen", rate=0.05), "0 2 1 3"
    model = scorer._fine_tuner.classifier(cola.task, 3).eval().requires_grad_(False)
    model.classifier.requires_grad_(True)
    for module in (model.classifier, *(child for child in model.children() if isinstance(child, torch.nn.Dropout))):
        module.train()
    model.train = lambda mode=True: model
    with training.seeded(3, model.device), surgery(model, plan):
        parameters, train = list(model.classifier.parameters()), cola.train

        def loss(chosen: torch.Tensor) -> torch.Tensor:
            inputs = {key: value for key, value in train.batch(chosen).items() if key != "token_type_ids"}
            found: torch.Tensor = model(**inputs, labels=train.labels[chosen]).loss
            return found

        training._minimize(loss, parameters, len(train), how, 3, lambda _: None)
    del model.train
    with surgery(model.eval(), plan):
        expected = training.logits_of(model, cola.validation, 32, lambda _: None)
    found = logits(scorer, cola, how, 3, plan)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)
    assert found.std(0).min() > 1e-3  # documents differ


def test_frozen_refuses_a_classifier_that_reads_on(cola: Prepared) -> None:
    scorer = Scorer(encoder("roberta"), tokenizer())
    model = scorer._fine_tuner.classifier(cola.task, 0)
    model.classifier.forward = lambda features, **_: features.mean(1)[:, :2]
    with pytest.raises(ModelError, match=r"'frozen': its classifier reads more than the first position; use 'retuned'"):
        training.states_of(model, cola.train, 8, lambda _: None)


def test_operated_fine_tunes_once_for_all_plans(cola: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer, runs = Scorer(encoder(), tokenizer()), []
    learn = training.fine_tune
    monkeypatch.setattr(protocols, "fine_tune", lambda *args: (runs.append(args), learn(*args)))
    how = tuning("operated")
    plans = [SKIP, IDENTITY, "3-0"]
    found = {plan: scorer.score(plan, cola, how) for plan in plans}
    assert len(runs) == 1
    scorer.score(SKIP, cola, how, seed=1)
    scorer.score(SKIP, cola, tuning("operated", epochs=1))
    assert len(runs) == 3
    monkeypatch.undo()
    model = tuned(scorer, IDENTITY, cola, how)
    for plan, records in found.items():
        with surgery(model, plan):
            logits = training.logits_of(model, cola.validation, 32, lambda _: None)
        assert values(records)["accuracy"] == (logits.argmax(-1) == cola.validation.labels).double().mean()
    # on the intact model the two protocols are one
    retuned = scorer.score(IDENTITY, cola, tuning("retuned"))
    assert values(retuned) == values(found[IDENTITY])
    assert [record.outcomes for record in retuned] == [record.outcomes for record in found[IDENTITY]]


@pytest.mark.parametrize("name", ["cola", "stsb"])
def test_a_separable_task_is_learned(folder: Path, name: str) -> None:
    """All but perfectly by the whole encoder (no ranking within a class can be known); in part by a classifier alone,
    on the states of an encoder that has learned nothing.
    """
    scorer = Scorer(untrained_bert(), tokenizer())
    task = glue.prepare(write_task(folder / "large", name, train=200, validation=60), tokenizer())
    least = {"retuned": {"cola": 0.9, "stsb": 0.8}[name], "frozen": 0.35}
    for how in (tuning("retuned", epochs=6), tuning("frozen", rate=0.1, epochs=60)):
        first = scorer.score(IDENTITY, task, how)[0]
        assert first.primary
        assert first.value is not None
        assert first.value > least[how.protocol]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("architecture", ENCODERS)
def test_every_encoder_follows_every_protocol(architecture: str, protocol: str, cola: Prepared) -> None:
    records = Scorer(encoder(architecture), tokenizer()).score(SKIP, cola, tuning(protocol, epochs=1))
    assert [record.metric for record in records] == ["matthews", "accuracy"]
    assert all(record.value is not None and record.not_finite == 0 for record in records)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_same_request_gives_the_same_records(protocol: str, cola: Prepared) -> None:
    how, model = tuning(protocol), encoder()
    state = torch.get_rng_state()
    first = Scorer(model, tokenizer()).score(SKIP, cola, how)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    scorer = Scorer(model, tokenizer())
    scorer.score("3-0", cola, how)
    assert same(scorer.score(SKIP, cola, how), first)
    assert not same(scorer.score(SKIP, cola, how, seed=43), first)


def test_the_seed_changes_weights_order_and_dropout(cola: Prepared) -> None:
    scorer, how = Scorer(encoder(), tokenizer()), tuning("retuned")
    assert not torch.equal(logits(scorer, cola, how, 1), logits(scorer, cola, how, 2))
    heads = [scorer._fine_tuner.classifier(cola.task, seed).classifier.weight for seed in (1, 1, 2)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_model_stays_as_it_was(protocol: str, cola: Prepared) -> None:
    model = encoder()
    before = weights(model)

    def stop(done: int, total: int, what: str) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    state = torch.get_rng_state()
    scorer = Scorer(model, tokenizer())
    scorer.score(SKIP, cola, tuning(protocol))
    complete = scorer.score("3-0", cola, tuning(protocol))
    other = Scorer(model, tokenizer())
    with pytest.raises(KeyboardInterrupt):
        other.score("3-0", cola, tuning(protocol), progress=stop)
    assert not model.training
    assert all(torch.equal(weight, before[key]) for key, weight in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert same(other.score("3-0", cola, tuning(protocol)), complete)  # nothing half-trained is kept


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_progress_counts_every_document(protocol: str, cola: Prepared) -> None:
    calls: list[tuple[int, int, str]] = []
    scorer = Scorer(encoder(), tokenizer())
    for plan in (SKIP, IDENTITY):
        calls.clear()
        scorer.score(plan, cola, tuning(protocol), progress=lambda *args: calls.append(args))
        done, total, what = calls[-1]
        assert (done, what) == (total, f"{plan} on cola")


def test_records_are_complete(cola: Prepared, stsb: Prepared) -> None:
    how, scorer = tuning("retuned", epochs=1), Scorer(encoder(), tokenizer())
    matthews, accuracy = scorer.score("0 {1 2} 3", cola, how, seed=5, batch_size=9)
    assert (matthews.primary, accuracy.primary) == (True, False)
    assert (accuracy.task, accuracy.documents, accuracy.requests) == ("cola", 24, cola.digest)
    assert (accuracy.plan, accuracy.layer_runs, accuracy.depth, accuracy.num_layers) == ("0 {1-2} 3", 4, 3, 4)
    assert (accuracy.seed, accuracy.batch_size, accuracy.shots, accuracy.kv) == (5, 9, 0, "exact")
    assert (accuracy.tuning, accuracy.dtype, accuracy.device) == (how, "float32", "cpu")
    assert (accuracy.aggregation, matthews.aggregation) == ("mean", "matthews")
    share = cola.validation.labels.double().mean()
    assert (accuracy.chance, matthews.chance) == (max(share, 1 - share), 0)
    assert accuracy.value == np.mean(accuracy.outcomes or ())
    assert matthews.outcomes is None
    assert accuracy.stderr is not None
    assert matthews.stderr is not None
    combined, pearson, spearman = scorer.score(SKIP, stsb, how)
    assert combined.primary
    assert combined.value == pytest.approx(((pearson.value or 0) + (spearman.value or 0)) / 2)
    assert {record.outcomes for record in (combined, pearson, spearman)} == {None}


@pytest.mark.parametrize("name", ["cola", "stsb"])
def test_a_number_that_is_none_is_absent(name: str, cola: Prepared, stsb: Prepared) -> None:
    model = encoder()
    with torch.no_grad():
        model.bert.encoder.layer[0].output.dense.bias[0] = math.nan
    for record in Scorer(model, tokenizer()).score(SKIP, {"cola": cola, "stsb": stsb}[name], tuning("retuned")):
        assert (record.value, record.stderr, record.outcomes, record.not_finite) == (None, None, None, 24)


def test_the_digest_of_weights_leaves_the_classifier_out() -> None:
    model = encoder()
    digest = Scorer(model, tokenizer()).weights
    with torch.no_grad():
        model.classifier.weight += 1
    assert Scorer(model, tokenizer()).weights == digest
    with torch.no_grad():
        model.bert.encoder.layer[2].output.dense.weight += 1
    assert Scorer(model, tokenizer()).weights != digest


@pytest.mark.parametrize("head", ["bare", "lm", "classifier"])
def test_any_head_will_do(head: Any, cola: Prepared) -> None:
    model = encoder(head=head)
    made = Scorer(model, tokenizer())._fine_tuner.classifier(cola.task, 0)
    for mine, given in zip(made.base_model.encoder.parameters(), model.base_model.encoder.parameters(), strict=True):
        assert torch.equal(mine, given)
        assert mine.data_ptr() != given.data_ptr()


def test_a_saved_encoder_brings_what_its_checkpoint_holds(tmp_path: Path, cola: Prepared) -> None:
    """A pooler that was not saved is as fresh as the classifier: both follow from the seed of the fine-tuning."""
    model = encoder(head="lm")
    state = torch.get_rng_state()
    found, words = glue.load_encoder(str(save(model.bfloat16(), tmp_path)), device="cpu")
    assert torch.equal(torch.get_rng_state(), state)
    assert found.dtype == torch.float32
    empty = {name for name, parameter in found.named_parameters() if parameter.is_meta}
    fresh = {"bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias"}
    assert empty == fresh
    scorer = Scorer(found, words)
    one, two = (scorer._fine_tuner.classifier(cola.task, seed) for seed in (1, 2))
    assert {name for name, p in one.named_parameters() if not torch.equal(p, two.get_parameter(name))} == {
        name for name in fresh if name.endswith("weight")
    }
    assert torch.equal(one.bert.embeddings.word_embeddings.weight, model.bert.embeddings.word_embeddings.weight.float())
    record = scorer.score(SKIP, cola, tuning("frozen"))[0]
    assert (record.model, record.revision, record.dtype) == (str(tmp_path), None, "float32")


def test_the_bundled_encoder_goes_by_its_name(tmp_path: Path, cola: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.BUNDLED, "nano-bert", save(encoder(), tmp_path))
    table = glue.evaluate("nano-bert", [SKIP], cola, tuning=tuning("frozen"))
    assert table["model"].tolist() == ["nano-bert"] * 2


def test_names_that_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="in dtype 'float16': choose one of auto, float32, bfloat16"):
        glue.load_encoder("nano-bert", dtype="float16")
    with pytest.raises(ModelError, match=r"folder without config\.json"):
        glue.load_encoder(str(tmp_path))
    with pytest.raises(ModelError, match="not bundled"):
        glue.load_encoder("nobody/nothing")
    save(encoder(), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"describes 36,546 parameters, and its \*\.safetensors have 7 bytes"):
        glue.load_encoder(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"nothing" * 10_000)
    with pytest.raises(ModelError, match=r"its config is there, and it cannot be read as an encoder: .*no pickled"):
        glue.load_encoder(str(tmp_path))


def test_decoders_are_refused(tmp_path: Path, cola: Prepared) -> None:
    model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=101, bos_token_id=2, eos_token_id=3))
    with pytest.raises(ModelError, match=r"read as GPT2ForSequenceClassification, which has no classifier.*evaluate"):
        glue.load_encoder(str(save(model, tmp_path)))
    with pytest.raises(ModelError, match="which has no classifier"):
        Scorer(model, tokenizer()).score("0", cola, tuning("retuned"))


def test_weights_under_no_known_name_are_refused(cola: Prepared) -> None:
    scorer = Scorer(encoder(), tokenizer())
    del scorer._fine_tuner.pretrained["bert.encoder.layer.0.output.dense.weight"]
    with pytest.raises(ModelError, match=r"holds 1 of its encoder's weights under no known name, such as bert\.enc"):
        scorer.score(SKIP, cola, tuning("frozen"))


def test_shared_layers_are_refused() -> None:
    config = AlbertConfig(
        vocab_size=101, hidden_size=32, intermediate_size=48, num_attention_heads=4, embedding_size=16
    )
    with pytest.raises(SurgeryError, match="shared layer"):
        Scorer(AlbertForSequenceClassification(config), tokenizer())


def test_what_does_not_fit_is_refused(cola: Prepared) -> None:
    scorer = Scorer(encoder(), tokenizer())
    with pytest.raises(PlanError, match="runs layer 9"):
        scorer.score("0 9", cola, tuning("retuned"))
    with pytest.raises(ValueError, match=r"prepared with documents=None, and the tuning says documents=5"):
        scorer.score(SKIP, cola, tuning("retuned", documents=5))
    with pytest.raises(ValueError, match=r"prepared with max_length=128, and the tuning says max_length=9"):
        scorer.score(SKIP, cola, tuning("retuned", max_length=9))
    with pytest.raises(ValueError, match="batch_size 0: give a number of documents"):
        scorer.score(SKIP, cola, tuning("retuned"), batch_size=0)


def test_evaluate_compares_with_the_intact_model(cola: Prepared, folder: Path) -> None:
    model, words = encoder(), tokenizer()
    table = glue.evaluate(model, [SKIP, SKIP, "3-0"], [cola], tokenizer=words, tuning=tuning("frozen"))
    assert table["plan"].tolist() == [SKIP, SKIP, "3-0", "3-0"]
    accuracy = table[table["metric"] == "accuracy"]
    assert accuracy["difference_stderr"].notna().all()
    record = Scorer(model, words).score(IDENTITY, cola, tuning("frozen"))[1]
    assert accuracy["intact"].tolist() == [record.value] * 2
    alone = glue.evaluate(model, SKIP, folder / "cola", tokenizer=words, tuning="frozen", intact=False, limit=4)
    assert alone["documents"].tolist() == [4, 4]
    assert alone["intact"].isna().all()


def test_evaluate_says_what_it_misses(cola: Prepared) -> None:
    with pytest.raises(ModelError, match="without its tokenizer"):
        glue.evaluate(encoder(), SKIP, cola)
    with pytest.raises(ModelError, match="by name with a tokenizer"):
        glue.evaluate("nano-bert", SKIP, cola, tokenizer=tokenizer())
    with pytest.raises(ValueError, match="tuning 'melted': give a Tuning, or one of retuned, frozen, operated"):
        glue.evaluate(encoder(), SKIP, cola, tokenizer=tokenizer(), tuning="melted")
    with pytest.raises(ValueError, match="no plan given"):
        glue.evaluate(encoder(), [], cola, tokenizer=tokenizer())
