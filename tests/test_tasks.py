"""The bundled tasks and models: complete, well formed, and clear about what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.nano_samples import documents, llama, tokenizer, write_tasks
from transformers import BertConfig, BertForMaskedLM

from painters import harness, models, tasks
from painters.harness import records as harness_records
from painters.models import ModelError
from painters.tasks import TaskError

NAMES = ("nano_arc", "nano_gsm8k", "nano_hellaswag", "nano_lambada", "nano_winogrande")
bundled_data = pytest.mark.skipif(
    not any(tasks.FOLDER.glob("*/test.jsonl")), reason="the documents of the bundled tasks are not made yet"
)


def test_the_five_of_the_paper_are_bundled() -> None:
    assert set(NAMES) <= set(tasks.bundled())


@bundled_data
@pytest.mark.parametrize("name", tasks.bundled())
def test_bundled_tasks_build_and_ask_about_every_document(name: str) -> None:
    (task,) = harness.prepare(name)
    about = tasks.describe(tasks.bundled()[name])
    assert task.documents == about["documents"] >= 100
    assert task.version == str(about["version"])
    assert about["about"]
    kind = {request.request_type for request in task.requests}
    assert kind == {"loglikelihood" if about["answer"] == "multiple_choice" else about["answer"]}
    for request in task.requests:
        context, answer = request.args[0], request.args[1]
        assert context.strip() == context != "", "a space at either end would change the tokens of the answer"
        assert isinstance(answer, dict) or (answer.startswith(" ") and answer.strip()), "answers follow a space"


def test_requests_read_as_intended(tmp_path: Path) -> None:
    paths = write_tasks(tmp_path)
    first = {name: harness.prepare(path, limit=1)[0].requests for name, path in paths.items()}
    asked = {name: [request.args for request in requests] for name, requests in first.items()}
    question = "Question: What does a cat eat?\nAnswer:"
    assert asked["nano_arc"] == [(question, f" {food}") for food in ("milk", "bones", "seeds")]
    assert asked["nano_hellaswag"][1] == ("The cat found milk. Then it", " went to the milk")
    assert asked["nano_winogrande"] == [
        ("Anna gave the book to Ben because Anna", " was kind."),
        ("Anna gave the book to Ben because Ben", " was kind."),
    ]
    assert asked["nano_lambada"] == [("On Monday Anna lost a cat. Then Ben found the cat and gave it to", " Anna")]
    ((prompt, options),) = asked["nano_gsm8k"]
    assert prompt == "Question: Anna has 0 apples and buys 1 more. How many now?\nAnswer:"
    assert options == {"until": ["\n\n", "Question:"], "do_sample": False, "max_gen_toks": 48}


def right_answers(task: harness.Prepared, name: str) -> None:
    """Answer every request as a model would that knows."""
    for request in task.requests:
        doc = request.doc
        if name == "nano_gsm8k":
            request.resps = [f" {doc['answer']}"]
        elif name == "nano_lambada":
            request.resps = [(-0.5, True)]
        else:
            gold = {"nano_arc": "answer", "nano_hellaswag": "label", "nano_winogrande": "answer"}[name]
            right = int(doc[gold]) - (name == "nano_winogrande")
            request.resps = [(0.0 if request.idx == right else -1.0, False)]


@pytest.mark.parametrize("name", NAMES)
def test_knowing_everything_scores_one(name: str, tmp_path: Path) -> None:
    (task,) = harness.prepare(write_tasks(tmp_path)[name])
    right_answers(task, name)
    task.task.apply_filters()
    outcomes = harness_records.outcomes_of(task)
    for (metric, _), values in outcomes.items():
        assert values == [-0.5 if metric == "perplexity" else 1] * task.documents


@pytest.mark.parametrize(
    ("answer", "right"),
    [(" 1 + 1 = 2.\n#### 2", 1), ("#### 3", 0), (" 2", 0), ("#### 2.", 1), ("#### 1\n#### 2", 0), ("", 0)],
)
def test_sums_are_read_off_behind_the_marks(answer: str, right: int, tmp_path: Path) -> None:
    write_tasks(tmp_path)
    (tmp_path / "nano_gsm8k" / "test.jsonl").write_text(json.dumps({"question": "?", "answer": "1 + 1 = 2.\n#### 2"}))
    (task,) = harness.prepare(str(tmp_path / "nano_gsm8k" / "nano_gsm8k.yaml"))
    task.requests[0].resps = [answer]
    task.task.apply_filters()
    assert harness_records.outcomes_of(task)["exact_match", "strict-match"] == [right]


def test_tasks_resolve_from_any_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_tasks(tmp_path / "tasks")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for name, path in paths.items():
        (task,) = harness.prepare(path)
        assert task.documents == len(documents()[name]["test.jsonl"])
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_task_of_the_hub_without_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    with pytest.raises(
        TaskError, match=r"'arc_challenge' is in lm-eval, and its documents cannot be loaded.*be online"
    ):
        harness.prepare("arc_challenge")


def test_an_unknown_task_names_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    from painters.harness import task_index

    monkeypatch.setattr(task_index, "index", None)  # it takes many seconds, and such a name does not need it
    with pytest.raises(TaskError, match=r"neither bundled .*; did you mean nano_winogrande or .*winogrande"):
        harness.prepare("nano_winograd")
    with pytest.raises(TaskError, match="`lm_eval ls tasks` lists"):
        harness.prepare("qqqqqq")


def test_task_messages(tmp_path: Path) -> None:
    yaml = tmp_path / "mine.yaml"
    with pytest.raises(TaskError, match=r"task in mine.yaml: mine.yaml cannot be read: FileNotFoundError"):
        harness.prepare(str(yaml))
    yaml.write_text("task: mine\n")
    with pytest.raises(TaskError, match=r"task 'mine' names no documents: give dataset_path: json.*data_files:"):
        harness.prepare(str(yaml))
    yaml.write_text(tasks.bundled()["nano_arc"].read_text())
    with pytest.raises(TaskError, match=r"'nano_arc' needs test\.jsonl beside its YAML"):
        harness.prepare(str(yaml))
    (tmp_path / "test.jsonl").write_text('{"question": 1}\n{"question"')
    with pytest.raises(TaskError, match=r"line 2 of test.jsonl is not JSON"):
        harness.prepare(str(yaml))
    (tmp_path / "test.jsonl").write_text("\n")
    with pytest.raises(TaskError, match="holds no documents"):
        harness.prepare(str(yaml))


# --------------------------------------------------------------------------------------------------- models


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    llama(num_layers=2).to(torch.bfloat16).save_pretrained(tmp_path / "tiny")
    tokenizer().save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_a_folder_loads(folder: Path) -> None:
    model, words = models.load_model(str(folder), device="cpu")
    assert (model.dtype, model.training, len(words)) == (torch.bfloat16, False, len(tokenizer()))
    assert models.load_model(str(folder), dtype="float32", device="cpu")[0].dtype == torch.float32
    assert models.num_layers(str(folder)) == 2
    assert models.describe(model)[0] == str(folder)


def test_bundled_models_load_in_float32_and_keep_their_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.BUNDLED, "nano-llama", folder)
    model, _ = models.load_model("nano-llama", device="cpu")
    assert model.dtype == torch.float32
    assert models.describe(model) == ("nano-llama", None)


def test_the_digest_of_weights_follows_them(folder: Path) -> None:
    model, _ = models.load_model(str(folder), device="cpu")
    digest = models.weights_digest(model)
    assert digest == models.weights_digest(models.load_model(str(folder), device="cpu")[0])
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[17, 11] += 0.5  # one number, in the middle
    assert models.weights_digest(model) != digest


def test_model_messages(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: Any, **options: Any) -> None:
        models.load_model(str(name), **options)

    with pytest.raises(ModelError, match="in dtype 'float8': choose one of auto, float32"):
        load(folder, dtype="float8")
    with pytest.raises(ModelError, match="device 'gpu': torch knows no such device"):
        load(folder, device="gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ModelError, match="device 'cuda': torch finds no CUDA device here"):
        load(folder, device="cuda")
    with pytest.raises(ModelError, match="give one of the two"):
        load(folder, device="cpu", device_map="auto")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"is a folder without config\.json"):
        load(tmp_path / "empty")
    monkeypatch.setitem(models.BUNDLED, "nano-none", tmp_path / "gone")
    with pytest.raises(ModelError, match="bundled model 'nano-none' is not in this installation"):
        load("nano-none")
    with pytest.raises(ModelError, match=r"'someone/something': it is not bundled \(nano-bert, .*hf download someone"):
        load("someone/something")
    with pytest.raises(ModelError, match="there is no such file or folder; check the path"):
        load("./no/such/folder")
    (folder / "model.safetensors").rename(folder / "elsewhere")
    with pytest.raises(ModelError, match="its config is there, and the rest cannot be read"):
        load(folder, device="cpu")


def test_encoders_do_not_load(tmp_path: Path) -> None:
    config = BertConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    BertForMaskedLM(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"is an encoder \(bert\)"):
        models.load_model(str(tmp_path), device="cpu")
