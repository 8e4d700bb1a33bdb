"""Several threads and one model: every call is right or refused, and afterwards the model is what it was."""

from __future__ import annotations

import asyncio
import copy
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from support.models import make_model, tokens
from torch import Tensor, nn

from painters import SurgeryError, surgery
from painters.engine.scopes import LOCK, site_of
from painters.sharing import Sharing

PLANS = ("0-1", "3-2", "0 {1-2} 3", "1*3")
IDS = tokens(2, 7)
UNCLEAR = "not clear whether"


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    """Let threads alternate after every few operations, which makes races frequent."""
    before, threads = sys.getswitchinterval(), torch.get_num_threads()
    sys.setswitchinterval(1e-5)
    torch.set_num_threads(1)
    yield
    sys.setswitchinterval(before)
    torch.set_num_threads(threads)


@pytest.fixture
def model() -> Any:
    return make_model("llama", 4)


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        result: Tensor = model(IDS).logits
    return result


def under(model: Any, plan: str, **options: Any) -> Tensor:
    with surgery(model, plan, **options):
        return logits(model)


def answers(model: Any) -> dict[str, Tensor]:
    """What each plan gives on a model of its own."""
    return {plan: under(copy.deepcopy(model), plan) for plan in PLANS}


def run(functions: Sequence[Callable[[], object]]) -> list[BaseException]:
    """Run each function in a thread of its own, and return what they raised."""
    errors: list[BaseException] = []

    def call(function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def assert_untouched(model: Any, intact: Tensor) -> None:
    assert torch.equal(logits(model), intact)
    assert type(model.model.layers) is nn.ModuleList
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert "get_compiled_call" not in vars(model)
    assert not site_of(model.model.layers).scopes


def test_one_surgery_for_many_threads(model: Any) -> None:
    intact, right = logits(model), answers(model)[PLANS[2]]
    outputs: list[Tensor] = []
    with surgery(model, PLANS[2]):
        errors = run([lambda: outputs.extend(logits(model) for _ in range(15))] * 4)
    assert not errors
    assert len(outputs) == 60
    assert all(torch.equal(output, right) for output in outputs)
    assert_untouched(model, intact)


@pytest.mark.parametrize("is_checked", [True, False], ids=["checked before", "checked by the threads"])
def test_a_surgery_for_each_thread(model: Any, is_checked: bool) -> None:
    intact, right = logits(copy.deepcopy(model)), answers(model)
    if is_checked:
        under(model, "0")
    outputs: list[tuple[str, Tensor]] = []
    errors = run([lambda plan=plan: outputs.extend((plan, under(model, plan)) for _ in range(15)) for plan in PLANS])  # type: ignore[misc]
    assert not errors
    assert len(outputs) == 60
    assert all(torch.equal(output, right[plan]) for plan, output in outputs)
    assert_untouched(model, intact)


def test_a_thread_that_has_no_plan_is_intact(model: Any) -> None:
    """Where it begins while another thread already operates, calls may be refused until that is over."""
    intact, right = logits(model), answers(model)[PLANS[0]]
    planned: list[Tensor] = []
    outputs: list[Tensor] = []
    refused: list[str] = []

    def without() -> None:
        for _ in range(60):
            try:
                outputs.append(logits(model))
            except SurgeryError as error:
                refused.append(str(error))

    assert not run([lambda: planned.extend(under(model, PLANS[0]) for _ in range(30)), without])
    assert len(planned) == 30
    assert all(torch.equal(output, right) for output in planned)
    assert len(outputs) + len(refused) == 60
    assert len(outputs) > 30
    assert all(torch.equal(output, intact) for output in outputs)
    assert all(UNCLEAR in text for text in refused)
    assert_untouched(model, intact)


def test_threads_that_generate(model: Any) -> None:
    """Decoding with a cache of its own in each thread, one of them intact."""
    prompt = IDS[:, :4]

    def texts() -> Tensor:
        result: Tensor = model.generate(prompt, max_new_tokens=4, min_new_tokens=4, do_sample=False, pad_token_id=0)
        return result

    def planned(plan: str) -> Tensor:
        with surgery(model, plan):
            return texts()

    right = {plan: planned(plan) for plan in PLANS} | {"": texts()}
    found: list[tuple[str, Tensor]] = []
    begun = threading.Barrier(len(right))

    def own(plan: str) -> None:
        begun.wait()
        found.extend((plan, planned(plan) if plan else texts()) for _ in range(3))

    assert not run([lambda plan=plan: own(plan) for plan in right])  # type: ignore[misc]
    assert len(found) == 15
    assert all(torch.equal(output, right[plan]) for plan, output in found)


def test_sharing_in_threads(model: Any) -> None:
    right, intact = answers(model), logits(model)
    found: list[tuple[str, Tensor]] = []
    rows, columns = torch.tensor([0, 1]), torch.tensor([2, 5])
    full: list[Tensor] = []

    def shared() -> None:
        sharing = Sharing(model, PLANS)
        with torch.no_grad():
            for _ in range(4):
                found.extend((str(plan), output.logits) for plan, output in sharing.run(input_ids=IDS))
                for plan, output in sharing.run((rows, columns), input_ids=IDS):
                    assert torch.allclose(output.logits[0], right[str(plan)][rows, columns], atol=1e-5)

    begun = threading.Event()

    def without() -> None:
        begun.set()
        full.extend(logits(model) for _ in range(60))

    def sharing() -> None:
        begun.wait()
        shared()

    assert not run([without, sharing, sharing])
    assert len(found) == 2 * 4 * len(PLANS)
    assert all(torch.equal(output, right[plan]) for plan, output in found)
    assert all(torch.equal(output, intact) for output in full)
    assert_untouched(model, intact)


def test_to_thread_and_tasks_take_the_plan_along(model: Any) -> None:
    right, intact = answers(model), logits(model)

    async def handler(plan: str | None) -> None:
        for _ in range(4):
            with ExitStack() as stack:
                if plan is not None:
                    stack.enter_context(surgery(model, plan))
                await asyncio.sleep(0)
                expected = intact if plan is None else right[plan]
                if plan is not None:
                    assert torch.equal(logits(model), expected)
                    assert torch.equal(await asyncio.create_task(asyncio.to_thread(logits, model)), expected)

    async def all_of_them() -> None:
        await asyncio.gather(*map(handler, PLANS))

    asyncio.run(all_of_them())
    assert_untouched(model, intact)


def test_another_task_of_the_same_thread_is_asked_to_say_so(model: Any) -> None:
    right, intact = answers(model), logits(model)

    async def other(entered: asyncio.Event, results: list[Any]) -> None:
        await entered.wait()
        try:
            results.append(logits(model))
        except SurgeryError as error:
            results.append(str(error))

    async def both(threads: str) -> Any:
        entered, results = asyncio.Event(), list[Any]()
        task = asyncio.create_task(other(entered, results))
        with surgery(model, PLANS[1], threads=threads):  # type: ignore[arg-type]
            entered.set()
            await task
        return results[0]

    assert UNCLEAR in asyncio.run(both("auto"))
    assert "in another task" in asyncio.run(both("auto"))
    assert torch.equal(asyncio.run(both("own")), intact)
    assert torch.equal(asyncio.run(both("all")), right[PLANS[1]])
    assert_untouched(model, intact)


def test_a_plan_entered_in_a_task_that_is_over_holds_in_its_thread(model: Any) -> None:
    """So it is in the cells of a notebook."""
    right, intact = answers(model), logits(model)
    stack = ExitStack()

    async def first_cell() -> None:
        stack.enter_context(surgery(model, PLANS[1]))

    async def second_cell() -> Tensor:
        return logits(model)

    asyncio.run(first_cell())
    assert torch.equal(asyncio.run(second_cell()), right[PLANS[1]])
    assert torch.equal(logits(model), right[PLANS[1]])
    stack.close()
    assert_untouched(model, intact)


@pytest.mark.parametrize(
    ("enters", "begins", "outcome"),
    [("main", "within", "plan"), ("main", "before", None), ("other", "within", None), ("other", "before", "intact")],
)
@pytest.mark.parametrize("threads", ["auto", "own", "all"])
def test_what_holds_in_a_thread_without_a_plan(
    model: Any, enters: str, begins: str, outcome: str | None, threads: Any
) -> None:
    right, intact = answers(model)[PLANS[3]], logits(model)
    expected = {"auto": outcome, "own": "intact", "all": "plan"}[threads]
    with ThreadPoolExecutor(1) as asked, ThreadPoolExecutor(1) as other, ExitStack() as stack:
        if begins == "before":
            asked.submit(int).result()

        def enter() -> None:
            stack.enter_context(surgery(model, PLANS[3], threads=threads))

        enter() if enters == "main" else other.submit(enter).result()
        call = asked.submit(logits, model)
        if expected is None:
            with pytest.raises(SurgeryError, match=UNCLEAR):
                call.result()
        else:
            assert torch.equal(call.result(), right if expected == "plan" else intact)
        # who enters a plan has it, whatever others do
        assert torch.equal(asked.submit(under, model, PLANS[0]).result(), answers_of(model, PLANS[0]))
        other.submit(stack.close).result() if enters == "other" else stack.close()
    assert_untouched(model, intact)


def answers_of(model: Any, plan: str) -> Tensor:
    fresh = make_model("llama", 4)
    fresh.load_state_dict(model.state_dict())
    return under(fresh, plan)


def test_two_plans_for_all_are_refused_where_neither_is_meant(model: Any) -> None:
    intact = logits(model)
    with surgery(model, PLANS[0], threads="all"), ThreadPoolExecutor(1) as other, ExitStack() as stack:
        other.submit(lambda: stack.enter_context(surgery(model, PLANS[1], threads="all"))).result()
        with ThreadPoolExecutor(1) as third, pytest.raises(SurgeryError, match="MainThread"):
            third.submit(logits, model).result()
        other.submit(stack.close).result()
        with ThreadPoolExecutor(1) as third:
            assert not torch.equal(third.submit(logits, model).result(), intact)
    assert_untouched(model, intact)


def test_a_forward_that_outlasts_the_context_is_finished(model: Any) -> None:
    right, intact = answers(model)[PLANS[2]], logits(model)
    inside, leave = threading.Event(), threading.Event()

    def wait(*_: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            inside.set()
            leave.wait(20)

    handle = model.model.layers[1].register_forward_pre_hook(wait)
    with ThreadPoolExecutor(1) as pool:
        with surgery(model, PLANS[2]):
            call = pool.submit(logits, model)
            assert inside.wait(20)
        assert torch.equal(logits(model), intact)  # meanwhile, the next call is intact
        assert torch.equal(under(model, PLANS[2]), right)
        leave.set()
        assert torch.equal(call.result(), right)
        handle.remove()
        assert_untouched(model, intact)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["embedding", "layer"])
def test_a_thread_whose_forward_breaks_leaves_the_model_usable(
    model: Any, where: str, error: type[BaseException]
) -> None:
    """After the context is over, and the hooks of torch do not run for a KeyboardInterrupt."""
    intact = logits(model)
    inside, leave = threading.Event(), threading.Event()

    def fail(*_: Any) -> None:
        if threading.current_thread() is not threading.main_thread() and not leave.is_set():
            inside.set()
            leave.wait(20)
            raise error

    module = model.model.embed_tokens if where == "embedding" else model.model.layers[2]
    handle = module.register_forward_pre_hook(fail)
    with ThreadPoolExecutor(1) as pool:
        with surgery(model, PLANS[2]):
            call = pool.submit(logits, model)
            assert inside.wait(20)
        leave.set()
        with pytest.raises(error):
            call.result()
        handle.remove()
        assert torch.equal(logits(model), intact)
        assert torch.equal(pool.submit(logits, model).result(), intact)
        assert_untouched(model, intact)


def test_a_user_s_hooks_run_in_other_threads_during_the_check(model: Any) -> None:
    seen, calls = [], 100
    model.model.register_forward_hook(lambda *_: seen.append(threading.current_thread()))

    def without() -> None:
        for _ in range(calls):
            logits(model)

    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(without)
        for _ in range(5):
            with surgery(model, "0-3", threads="own"):
                pass
            model.model.layers = nn.ModuleList(model.model.layers)  # a new list is checked again
        job.result()
    assert len(seen) == calls


def test_nested_calls_within_a_forward(model: Any) -> None:
    """A callback between the steps may call the model itself, under the same plan or another one."""
    right, intact = answers(model), logits(model)
    inner: list[Tensor] = []

    def observe(step: int, _: Tensor) -> None:
        if step == 1 and not inner:
            inner.append(under(model, PLANS[1]))
            inner.append(logits(model))

    with surgery(model, PLANS[2], observe=observe):
        assert torch.equal(logits(model), right[PLANS[2]])
    assert torch.equal(inner[0], right[PLANS[1]])
    assert torch.equal(inner[1], right[PLANS[2]])
    assert_untouched(model, intact)


def test_unknown_threads(model: Any) -> None:
    with pytest.raises(ValueError, match="threads is 'mine'"), surgery(model, "0", threads="mine"):  # type: ignore[arg-type]
        pass


def test_the_lock_is_free_afterwards() -> None:
    assert LOCK.acquire(timeout=1)
    LOCK.release()
