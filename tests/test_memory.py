"""Memory that does not suffice: batches are halved and numbers stay, or a message says what to take."""

from __future__ import annotations

import contextlib
import json
import math
import re
import subprocess
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.glue_samples import encoder, write_task
from support.glue_samples import tokenizer as encoder_tokenizer
from support.nano_samples import llama, tokenizer, write_grid
from support.outcome import Outcome
from support.sweeps import CELLS, GRID, counts

from painters import Plan, glue, harness, sweep
from painters.experiment import ScoringProtocol, load
from painters.experiment.tuning import Tuning
from painters.generation import greedy
from painters.memory import MemoryExhausted, is_exhausted, without_locals
from painters.results import Record, Store
from painters.tasks import ScoringError

PLANS = ("0-5", "0-1 {2-4}*2 5", "0-2 4-5")


@pytest.fixture(scope="module")
def model() -> Any:
    return llama()


@contextlib.contextmanager
def room_for(model: Any, tokens: int, error: Callable[[], Exception] | None = None) -> Iterator[list[int]]:
    """The positions of each forward, none of them of more than `tokens`: a larger one raises."""
    forwards: list[int] = []

    def check(_: Any, args: Any, kwargs: Any) -> None:
        ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        if ids.numel() > tokens:
            raise error() if error else torch.OutOfMemoryError(f"Tried to allocate {ids.numel()} GiB")
        forwards.append(ids.numel())

    handle = model.register_forward_pre_hook(check, with_kwargs=True)
    try:
        yield forwards
    finally:
        handle.remove()


def largest(model: Any, words: Any, task: str, **options: Any) -> int:
    """The positions of the largest forward where there is room for all."""
    with room_for(model, sys.maxsize) as forwards:
        list(harness.score_together(model, words, PLANS, task, **options))
    return max(forwards)


def outcome(records: list[Record]) -> dict[Any, Any]:
    return {(r.plan, r.metric): (r.value, r.outcomes, r.batch_size) for r in records}


def close(found: list[Record], expected: list[Record]) -> bool:
    """Whether these are the same numbers, those of log-likelihoods up to rounding."""
    one, other = outcome(found), outcome(expected)
    return one.keys() == other.keys() and all(
        size == other[key][2]
        and value == pytest.approx(other[key][0], rel=1e-4)
        and outcomes == pytest.approx(other[key][1], rel=1e-4)
        for key, (value, outcomes, size) in one.items()
    )


# ------------------------------------------------------------------------------------------------------ the kinds of it

ERRORS = [
    MemoryError("no"), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("[enforce fail] . DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
]  # fmt: skip


def test_which_errors_are_of_memory() -> None:
    assert all(map(is_exhausted, ERRORS))
    for other in (
        RuntimeError("shapes do not fit"),
        ValueError("out of memory"),
        OSError(28, "No space left"),
        KeyError(),
    ):
        assert not is_exhausted(other)


def test_an_error_that_is_kept_holds_nothing() -> None:
    class Held:
        pass

    held: list[weakref.ref[Held]] = []

    def work() -> None:
        states = Held()
        held.append(weakref.ref(states))
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise RuntimeError("outer") from inner

    with pytest.raises(RuntimeError) as caught:
        work()
    assert held[0]() is not None
    assert without_locals(caught.value) is caught.value
    assert held[0]() is None


# ------------------------------------------------------------------------------------------------------ log-likelihoods


@pytest.mark.parametrize("error", [None, lambda: ERRORS[2], lambda: ERRORS[0]], ids=["device", "cpu", "python"])
@pytest.mark.parametrize("task", ["nano_hellaswag", "nano_winogrande"])
def test_batches_are_halved_and_the_numbers_stay(
    task: str, error: Any, model: Any, words: Any, yamls: dict[str, str]
) -> None:
    options: dict[str, Any] = {"batch_size": 8, "limit": 12}
    whole = list(harness.score_together(model, words, PLANS, yamls[task], **options))
    notes: Counter[str] = Counter()
    with room_for(model, largest(model, words, yamls[task], **options) // 2, error) as forwards:
        found = list(harness.score_together(model, words, PLANS, yamls[task], notes=notes, **options))
    assert close(found, whole)
    assert [r.batching for r in found] == ["shared"] * len(found)
    assert notes == {
        f"{task}: batches of 8 rows did not fit into memory, so they were halved, to 4 rows in the end; the numbers "
        f"are the same up to rounding": 1
    }
    assert forwards


def test_every_batch_is_made_smaller_after_the_first_failed(model: Any, words: Any, yamls: dict[str, str]) -> None:
    """A failing forward costs time: the first plan meets the limit at each halving, and the next plans do not."""
    (task,) = harness.prepare(yamls["nano_hellaswag"], limit=12)
    scorer, failed = harness.Scorer(model, words), 0
    limit = largest(model, words, yamls["nano_hellaswag"], batch_size=16, limit=12) // 4

    def failing() -> Exception:
        nonlocal failed
        failed += 1
        return torch.OutOfMemoryError("no")

    with room_for(model, limit, failing):
        list(scorer.score([Plan.parse(PLANS[0])], task, ScoringProtocol(batch_size=16)))
        assert failed == 3  # 16 and 8 rows, and the trial of trees
        for plan in PLANS[1:]:
            list(scorer.score([Plan.parse(plan)], task, ScoringProtocol(batch_size=16)))
    assert failed == 3
    assert sum(scorer.notes.values()) == 1


def test_rows_of_models_that_take_no_trees_are_halved_too(
    model: Any, words: Any, yamls: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In lm-eval's batches, whose records say so, but no longer once they are smaller than asked for."""
    monkeypatch.setattr("painters.harness.shared_lm.SharingLM._takes_trees", lambda *_: False)
    options: dict[str, Any] = {"batch_size": 8, "limit": 12}
    whole = list(harness.score_together(model, words, PLANS, yamls["nano_hellaswag"], **options))
    limit = largest(model, words, yamls["nano_hellaswag"], **options) // 2
    with (
        room_for(model, limit),
        pytest.warns(UserWarning, match="batches of 8 rows did not fit .* to 4 rows in the end"),
    ):
        found = list(harness.score_together(model, words, PLANS, yamls["nano_hellaswag"], **options))
    assert close(found, whole)
    assert ({r.batching for r in whole}, {r.batching for r in found}) == ({"lm-eval"}, {"shared"})


def test_exact_batches_are_not_halved_and_the_message_says_which_have_room(
    model: Any, words: Any, yamls: dict[str, str]
) -> None:
    options: dict[str, Any] = {"limit": 12, "exact_batching": True}
    limit = largest(model, words, yamls["nano_hellaswag"], batch_size=8, **options) // 3
    with room_for(model, limit):
        with pytest.raises(MemoryExhausted, match=r"nano_hellaswag: .* batches of (\d) rows do \(--batch-size") as told:
            list(harness.score_together(model, words, PLANS, yamls["nano_hellaswag"], batch_size=8, **options))
        (rows,) = re.findall(r"batches of (\d) rows do \(", str(told.value))
        found = list(
            harness.score_together(model, words, PLANS, yamls["nano_hellaswag"], batch_size=int(rows), **options)
        )
    assert rows == "2"
    assert {(r.batch_size, r.batching) for r in found} == {(2, "lm-eval")}
    with room_for(model, 3), pytest.raises(MemoryExhausted, match="not even one row does"):
        list(harness.score_together(model, words, PLANS, yamls["nano_hellaswag"], batch_size=8, **options))


def test_one_row_without_room_is_an_error(model: Any, words: Any, yamls: dict[str, str]) -> None:
    with (
        room_for(model, 5),
        pytest.raises(MemoryExhausted, match="nano_hellaswag: memory does not suffice for one row"),
    ):
        list(harness.score_together(model, words, PLANS, yamls["nano_hellaswag"], batch_size=8, limit=12))


def test_other_errors_are_not_taken_for_memory(model: Any, words: Any, yamls: dict[str, str]) -> None:
    def other() -> Exception:
        return RuntimeError("a kernel that is not there")

    limit = largest(model, words, yamls["nano_hellaswag"], batch_size=8, limit=12) // 3
    with (
        room_for(model, limit, other),
        pytest.raises(ScoringError, match=r"raised RuntimeError while .*: a kernel that is not there"),
    ):
        list(harness.score_together(model, words, PLANS, yamls["nano_hellaswag"], batch_size=8, limit=12))


# ---------------------------------------------------------------------------------------------------------------- texts


def test_texts_are_the_same_in_half_the_rows(model: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    prompts = [
        torch.randint(3, 60, (int(length),), generator=generator).tolist()
        for length in torch.randint(2, 9, (11,), generator=generator)
    ]
    told: list[int] = []
    done: list[int] = []
    whole = greedy(model, prompts, 5, batch_size=8)
    with room_for(model, 20) as forwards:
        found = greedy(model, prompts, 5, batch_size=8, halved=told.append, done=lambda place, _: done.append(place))
    assert found == whole
    assert told == [4, 2]
    assert sorted(done) == list(range(11))
    assert max(forwards) <= 20
    with room_for(model, 1), pytest.raises(MemoryExhausted, match="one row at a time"):
        greedy(model, prompts, 5, batch_size=8)


def test_texts_that_were_begun_begin_again(model: Any) -> None:
    """Memory may run out some tokens on, as the cache grows: nothing of a text comes twice."""
    prompts = [[5, 6, 7], [8, 9, 10, 11], [12, 13]]
    whole = greedy(model, prompts, 6, batch_size=2)
    forwards = 0

    def check(*_: Any) -> None:
        nonlocal forwards
        forwards += 1
        if forwards == 4:
            raise torch.OutOfMemoryError("no")

    handle = model.register_forward_pre_hook(check)
    told: list[int] = []
    try:
        assert greedy(model, prompts, 6, batch_size=2, halved=told.append) == whole
    finally:
        handle.remove()
    assert told == [1]


def test_generated_scores_stay_and_say_so_once(model: Any, words: Any, yamls: dict[str, str]) -> None:
    options: dict[str, Any] = {"batch_size": 4, "limit": 6}
    whole = list(harness.score_together(model, words, PLANS, yamls["nano_gsm8k"], **options))
    notes: Counter[str] = Counter()
    limit = largest(model, words, yamls["nano_gsm8k"], **options)
    with room_for(model, limit - 1):
        found = list(harness.score_together(model, words, PLANS, yamls["nano_gsm8k"], notes=notes, **options))
    assert outcome(found) == outcome(whole)
    assert [(note.split(",")[0], count) for note, count in notes.items()] == [
        ("nano_gsm8k: batches of 4 rows did not fit into memory", 1)
    ]


def test_lm_evals_own_loop_is_left_alone(model: Any, words: Any, yamls: dict[str, str]) -> None:
    with room_for(model, 60), pytest.raises(MemoryExhausted, match=r"nano_gsm8k: .* take fewer, such as 4"):
        list(
            harness.score_together(model, words, PLANS, yamls["nano_gsm8k"], batch_size=8, limit=8, exact_batching=True)
        )


# -------------------------------------------------------------------------------------------------- encoders and sweeps


def test_fine_tuning_says_what_to_make_smaller(tmp_path: Path) -> None:
    model = encoder()
    scorer = glue.Scorer(model, encoder_tokenizer())
    tuning = Tuning(protocol="operated", epochs=1, batch_size=8)
    task = scorer.prepare(write_task(tmp_path, "cola", train=16, validation=9), tuning)

    def broken(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model), "forward", broken)
        with pytest.raises(MemoryExhausted, match=r"batches of 8 and scoring in batches of 4 .*max_length, now \d+\)"):
            scorer.score(Plan.identity(scorer.num_layers), task, tuning, batch_size=4)


def loading_with_room_for(monkeypatch: pytest.MonkeyPatch, tokens: int) -> contextlib.ExitStack:
    """A context in which no forward of a model that is loaded has room for more than so many tokens."""
    whole, limits = harness.load_model, contextlib.ExitStack()

    def tight(*args: Any, **options: Any) -> Any:
        model, words = whole(*args, **options)
        limits.enter_context(room_for(model, tokens))
        return model, words

    monkeypatch.setattr(harness, "load_model", tight)
    return limits


def test_a_cell_without_room_is_missing_and_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its longest prompt has none, of 18 tokens; the other task's have."""
    write_grid(tmp_path, GRID.replace("nano_lambada", "nano_gsm8k"))
    with loading_with_room_for(monkeypatch, 17):
        found = sweep.run(load(tmp_path / "grid.yaml"), Store(tmp_path / "store"))
    assert counts(found) == (CELLS, 0, CELLS // 2, CELLS // 2), found.reasons
    (reason,) = found.reasons
    assert "memory does not suffice for one row at a time: Tried to allocate" in reason
    assert len(found.notes) == 1


@pytest.mark.slow
def test_a_machine_that_has_no_more(tmp_path: Path) -> None:
    """The operating system refuses memory (RLIMIT_AS): the sweep goes on in smaller batches, with the same numbers."""
    script = """
import collections, json, resource, sys
from painters import harness
model, words = harness.load_model("nano-llama")
plans = ["0-11", "0-3 {4-8}*3 9-11"]
task = harness.prepare("nano_hellaswag", limit=256)
harness.evaluate(model, plans, ["nano_arc"], tokenizer=words, limit=2)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
if sys.argv[1] != "0":
    resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]) * 2**20,) * 2)
notes = collections.Counter()
found = list(harness.score_together(model, words, plans, task, batch_size=1024, notes=notes))
print(json.dumps([[(r.plan, r.metric, r.value) for r in found], list(notes)]))
"""

    def score(mebibytes: int) -> Any:
        done = subprocess.run(
            [sys.executable, "-c", script, str(mebibytes)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    whole, silent = score(0)
    found, notes = score(20)
    assert silent == []
    assert [note.split(",")[0] for note in notes] == ["nano_hellaswag: batches of 1024 rows did not fit into memory"]
    assert [name for *name, _ in found] == [name for *name, _ in whole]
    assert all(math.isclose(one[2], other[2]) for one, other in zip(found, whole, strict=True))


@pytest.mark.filterwarnings("error")
def test_the_command_says_so(
    painters: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, yamls: dict[str, str]
) -> None:
    llama().save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    asked = ("run", "--model", f"{tmp_path}/model", "--plan", "0-2 4-5", "--tasks", yamls["nano_hellaswag"], "--quiet")
    with loading_with_room_for(monkeypatch, 100):
        table = painters(*asked)
        told = json.loads(painters(*asked, "--json").out)
    assert "nano_hellaswag: batches of 32 rows did not fit into memory" in table.out
    assert [note.split(",")[0] for note in told["notes"]] == [
        "nano_hellaswag: batches of 32 rows did not fit into memory"
    ]
