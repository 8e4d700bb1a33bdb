"""Prompts as conversations, drawn documents and shares of them: the numbers are lm-eval's with its own options."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lm_eval.api.task
import lm_eval.evaluator
import pytest
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from support.nano_samples import NUM_LAYERS, llama
from support.outcome import Outcome

import painters
from painters import Plan, harness
from painters import tasks as bundled_tasks
from painters.experiment import Chat, Experiment
from painters.results import Record, Store, key, read
from painters.sweep import run

IDENTITY = Plan.identity(NUM_LAYERS)
NO_INDEX = TaskManager(include_defaults=False)
BATCH = 3
TEMPLATE = (
    "{% for turn in messages %}{{ turn.role }}: {{ turn.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE


@pytest.fixture(scope="module", autouse=True)
def _no_inventory() -> Iterator[None]:
    """Keep lm-eval's simple_evaluate from running a second of subprocesses to describe the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lm_eval.evaluator, "add_env_info", lambda results: None)
        yield


@pytest.fixture(scope="module")
def model() -> Any:
    return llama()


def with_template(words: Any, template: Any) -> Any:
    tokenizer = copy.deepcopy(words)
    tokenizer.chat_template = template
    return tokenizer


def stock(
    model: Any, tokenizer: Any, yaml: str, shots: int | None, **options: Any
) -> tuple[dict[str, float], list[Any]]:
    """The values that lm-eval's own `hf` model and `simple_evaluate` give, and its answers, document by document."""
    task = lm_eval.api.task.ConfigurableTask(config=bundled_tasks.config(Path(yaml)))
    if shots is not None:
        task.set_config("num_fewshot", shots)
    lm = HFLM(pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=BATCH)
    found = simple_evaluate(lm, tasks=[task], bootstrap_iters=0, task_manager=NO_INDEX, **options)
    assert found is not None
    name = task.task_name
    values = {k.split(",")[0]: v for k, v in found["results"][name].items() if "," in k and "_stderr" not in k}
    return values, [sample["resps"] for sample in found["samples"][name]]


def scored(
    model: Any, tokenizer: Any, yaml: str, plan: Any = IDENTITY, **options: Any
) -> tuple[list[Record], list[Any]]:
    """The records, and the answers document by document, in lm-eval's batches."""
    (task,) = harness.prepare(yaml, tokenizer=tokenizer, **options)
    records = harness.score(model, tokenizer, plan, task, batch_size=BATCH)
    by_document: dict[int, list[Any]] = {}
    for request in task.requests:
        by_document.setdefault(request.doc_id, []).append(request.resps)
    return records, list(by_document.values())


CHATS = {
    "a template": {"apply_chat_template": True},
    "a system's turn": {"apply_chat_template": True, "system_instruction": "The barn is red."},
    "examples in one turn": {"apply_chat_template": True, "fewshot_as_multiturn": False},
    "an instruction alone": {"system_instruction": "The barn is red."},
}


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize(
    ("name", "shots"), [("nano_arc", None), ("nano_gsm8k", 2), ("nano_winogrande", None), ("nano_lambada", None)]
)
def test_conversations_are_lm_evals(
    name: str, shots: int | None, chat: str, model: Any, words: Any, yamls: Any
) -> None:
    options: dict[str, Any] = CHATS[chat]
    tokenizer = with_template(words, TEMPLATE)
    multiturn = {"fewshot_as_multiturn": bool(options.get("apply_chat_template")), **options}  # its command's default
    expected, answers = stock(model, tokenizer, yamls[name], shots, limit=4, **multiturn)
    records, ours = scored(model, tokenizer, yamls[name], limit=4, shots=shots, **options)
    assert {record.metric: record.value for record in records} == expected
    assert ours == answers
    plain, other = scored(model, tokenizer, yamls[name], limit=4, shots=shots)
    assert plain[0].requests != records[0].requests
    assert other != ours
    assert records[0].chat == Chat(**{"apply_chat_template": False, "system_instruction": None, **multiturn})


def test_a_template_without_a_system_turn(model: Any, words: Any, yamls: Any) -> None:
    """lm-eval leaves the system's turn out, with a warning in its log; here it is said."""
    tokenizer = with_template(words, NO_SYSTEM)
    options: dict[str, Any] = CHATS["a system's turn"]
    expected, answers = stock(model, tokenizer, yamls["nano_arc"], None, limit=2, fewshot_as_multiturn=True, **options)
    records, ours = scored(model, tokenizer, yamls["nano_arc"], limit=2, **options)
    assert {record.metric: record.value for record in records} == expected
    assert ours == answers
    with pytest.warns(UserWarning, match="nano_arc: the chat template takes no system's turn, so it was left out"):
        painters.evaluate(model, "0-2 4-5", yamls["nano_arc"], tokenizer=tokenizer, limit=2, **options)


def test_one_of_several_templates(words: Any, yamls: Any) -> None:
    several = with_template(
        words, {"default": TEMPLATE, "loud": TEMPLATE.replace("turn.content", "turn.content|upper")}
    )

    def prompt(tokenizer: Any, template: bool | str) -> str:
        (task,) = harness.prepare(yamls["nano_arc"], limit=1, apply_chat_template=template, tokenizer=tokenizer)
        return str(task.requests[0].args[0])

    assert prompt(several, True) == prompt(with_template(words, TEMPLATE), True)
    assert prompt(several, "loud") == prompt(several, True).upper().replace("USER:", "user:").replace(
        "ASSISTANT:", "assistant:"
    )
    for tokenizer, template, message in (
        (several, "none", "'none': the model's tokenizer has the chat templates default, loud: name one of them"),
        (with_template(words, {"loud": TEMPLATE}), True, "has the chat templates loud: name one"),
        (with_template(words, TEMPLATE), "loud", "'loud': the model's tokenizer has one chat template, without a name"),
        (words, True, "the model's tokenizer has no chat template: take a model that was trained on conversations"),
        (None, True, "the template is the tokenizer's, so give the tokenizer too"),
    ):
        with pytest.raises(harness.TaskError, match=message):
            prompt(tokenizer, template)


def test_a_template_that_fails(words: Any, yamls: Any) -> None:
    broken = with_template(words, "{{ raise_exception('only tools') }}")
    with pytest.raises(
        harness.TaskError, match="'nano_arc' raised TemplateError while its prompts were built: only tools"
    ):
        harness.prepare(yamls["nano_arc"], limit=1, apply_chat_template=True, tokenizer=broken)


@pytest.mark.parametrize("name", ["nano_arc", "nano_gsm8k"])
def test_a_share_of_the_documents_is_lm_evals(name: str, model: Any, words: Any, yamls: Any) -> None:
    total = harness.prepare(yamls[name])[0].documents
    expected, answers = stock(model, words, yamls[name], None, limit=0.3)
    records, ours = scored(model, words, yamls[name], limit=0.3)
    assert {record.metric: record.value for record in records} == expected
    assert ours == answers
    assert records[0].documents == math.ceil(total * 0.3)


@pytest.mark.parametrize("name", ["nano_arc", "nano_gsm8k", "nano_lambada"])
def test_drawn_documents(name: str, model: Any, words: Any, yamls: Any) -> None:
    """Each drawn document gets the answers that it gets among all documents."""
    _, every = scored(model, words, yamls[name])
    for seed in (0, 1):
        positions = painters.documents.DocumentSelection(sample=3, seed=seed).positions(len(every))
        expected, _ = stock(model, words, yamls[name], None, samples={name: positions})
        records, ours = scored(model, words, yamls[name], sample=3, sample_seed=seed)
        assert {record.metric: record.value for record in records} == expected
        assert [record.sample_seed for record in records] == [seed] * len(records)
        if name != "nano_gsm8k":  # a batch of other rows moves logits by rounding, and a text with them
            flat = [pytest.approx(answer[0][0], abs=1e-4) for position in positions for answer in every[position]]
            assert [answer[0][0] for document in ours for answer in document] == flat


def test_every_plan_is_asked_the_same_documents(model: Any, words: Any, yamls: Any) -> None:
    table = painters.evaluate(
        model, ["0-5", "0-2 4-5"], yamls["nano_lambada"], tokenizer=words, sample=3, sample_seed=1
    )
    assert set(table["documents"]) == {3}
    assert table["difference_stderr"].notna().all()  # the same documents: paired
    with pytest.warns(UserWarning, match="nano_lambada: a sample of 5,000 documents was asked for, and it has"):
        painters.evaluate(model, "0-5", yamls["nano_lambada"], tokenizer=words, sample=5000)


def test_what_was_drawn_and_asked_is_in_the_key_and_what_was_not_is_in_none(model: Any, words: Any, yamls: Any) -> None:
    tokenizer = with_template(words, TEMPLATE)

    def record(**options: Any) -> Record:
        return scored(model, tokenizer, yamls["nano_lambada"], **options)[0][0]

    keys = [
        key(record(**options))
        for options in (
            {"limit": 3},
            {"sample": 3},
            {"sample": 3, "sample_seed": 1},
            *({"limit": 3, **c} for c in CHATS.values()),
        )
    ]
    assert len(set(keys[:6])) == 6
    fields = json.loads(record(limit=3).model_dump_json())
    assert (
        not {"sample_seed", "chat"} & fields.keys()
    )  # so lines, keys and digests of older records stay what they were
    drawn = record(sample=3, sample_seed=1)
    assert Record.model_validate_json(drawn.model_dump_json()) == drawn
    asked = record(limit=3, **CHATS["a system's turn"])
    assert Record.model_validate_json(asked.model_dump_json()) == asked


def test_a_sweep_of_drawn_documents_is_found_again(tmp_path: Path) -> None:
    def experiment(**protocol: Any) -> Experiment:
        fields = {"title": "x", "models": "nano-llama", "tasks": ["nano_lambada"], "variants": [{"plan": "0-4 6-11"}]}
        return Experiment.model_validate({**fields, "protocol": protocol})

    store = Store(tmp_path)
    drawn = experiment(sample=3)
    assert run(drawn, store).done == 2
    assert run(drawn, store).found == 2
    assert run(experiment(sample=3, sample_seed=1), store).done == 2
    assert run(experiment(limit=3), store).done == 2
    assert run(experiment(limit=0.006), store).done == 2  # three documents too: the same scores, for another cell
    assert run(experiment(limit=0.006), store).found == 2
    prompted = experiment(limit=3, system_instruction="Hello.")
    assert run(prompted, store).done == 2
    assert run(prompted, store).found == 2
    assert len({record.cell_key for record in store.records()}) == 10


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--limit", "3", "--sample", "3"), 2, "--limit takes the first documents and --sample draws some at random"),
        (("--sample-seed", "3"), 2, "--sample-seed is the seed of --sample: give --sample too"),
        (("--sample", "0"), 2, "--sample 0: Input should be greater than or equal to 1"),
        (("--limit", "1.5"), 2, "'1.5' is neither a whole number of documents, 1 or more, nor a share of them"),
        (("--limit", "0"), 2, "'0' is neither a whole number"),
        (("--fewshot-as-multiturn", "true"), 2, "--fewshot-as-multiturn is for a chat template"),
        (("--apply-chat-template",), 2, "the model's tokenizer has no chat template"),
        (("--chat-template", "x"), 2, "the model's tokenizer has no chat template"),
    ],
)
def test_options_that_do_not_go_together(
    painters: Callable[..., Outcome], arguments: tuple[str, ...], code: int, message: str
) -> None:
    outcome = painters("run", "--plan", "0-4 6-11", "--tasks", "nano_lambada", "--quiet", *arguments)
    assert outcome.code == code
    assert message in " ".join(outcome.err.split())


def test_run_says_what_was_drawn(painters: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = painters(
        *("run", "--plan", "0-4 6-11", "--tasks", "nano_lambada", "--sample", "4", "--sample-seed", "2", "--quiet"),
        *("--system-instruction", "Hello.", "--out", "r.jsonl"),
    )
    assert outcome.out.startswith("nano-llama under 0-4 6-11, 4 drawn documents a task, seed 2\n")
    intact, *_ = read(tmp_path / "r.jsonl")
    assert intact.sample_seed == 2
    assert intact.chat == Chat(system_instruction="Hello.")


def test_sweep_takes_the_same_options(painters: Callable[..., Outcome], tmp_path: Path) -> None:
    fields = {"title": "x", "models": "nano-llama", "tasks": "nano_lambada", "variants": [{"plan": "0-4 6-11"}]}
    (tmp_path / "x.yaml").write_text(json.dumps({**fields, "protocol": {"limit": 9}}))
    options = ("--sample", "2", "--sample-seed", "5", "--system-instruction", "Hello.", "--out", "runs", "--quiet")
    assert painters("sweep", "x.yaml", *options).code == 0
    records = Store(tmp_path / "runs").records()
    assert {(r.documents, r.sample_seed, r.chat) for r in records} == {(2, 5, Chat(system_instruction="Hello."))}
    assert painters("sweep", "x.yaml", "--limit", "0.004", "--out", "shares", "--quiet").code == 0
    assert {record.documents for record in Store(tmp_path / "shares").records()} == {2}
    outcome = painters("sweep", "x.yaml", "--sample-seed", "5")
    assert (outcome.code, "draws no documents" in outcome.err) == (2, True)
    outcome = painters("sweep", "x.yaml", "--sample", "5", "--limit", "5")
    assert (outcome.code, "give one of the two" in outcome.err) == (2, True)
