"""Our own greedy decoding has the tokens of `model.generate` and of the plain loop, and lm-eval's texts."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from support import reference
from support.models import CACHE, DECODERS, make_model, shared_model, tokens
from support.nano_samples import NUM_LAYERS, llama, tokenizer, write_tasks
from support.plan_cases import FEW, every_plan, few_plans
from torch import Tensor, nn

from painters import Plan, generation, harness, surgery
from painters.experiment import ScoringProtocol
from painters.generation.cache import cache_name
from painters.harness import generation as harness_generation
from painters.harness.lm import PaintersLM, language_model
from painters.harness.progress import CountingCacheHook
from painters.harness.tasks import quiet

NEW_TOKENS = 12
LENGTHS = (9, 3, 9, 1, 6, 12, 5)


def some_prompts(lengths: tuple[int, ...] = LENGTHS, shared: int = 0) -> list[list[int]]:
    """Prompts of these lengths; the first `shared` tokens are the same in all."""
    rows = tokens(len(lengths), max(lengths), seed=3)
    rows[:, :shared] = rows[0, :shared]
    return [row[:length].tolist() for row, length in zip(rows, lengths, strict=True)]


def padded(prompts: list[list[int]]) -> tuple[Tensor, Tensor]:
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    blanks = torch.tensor([width - len(prompt) for prompt in prompts])[:, None]
    return ids, (torch.arange(width) >= blanks).long()


def expected(architecture: str, model: Any, plan: Plan, prompts: list[list[int]]) -> list[list[int]]:
    """The new tokens of the plain loop without a cache, NEW_TOKENS for each prompt."""
    ids, mask = padded(prompts)
    with torch.inference_mode():
        done, _ = reference.greedy(architecture, model, plan, ids, mask, NEW_TOKENS)
    return done[:, ids.shape[1] :].tolist()


def ends(row: list[int]) -> bool:
    """A rule that ends rows at different steps."""
    return sum(row) % 7 == 0


def cut(rows: list[list[int]], eos: set[int]) -> list[list[int]]:
    """Each row up to where `ends` says, or to the first of `eos`."""
    found = []
    for row in rows:
        lengths = (n for n in range(1, len(row)) if row[n - 1] in eos or ends(row[:n]))
        found.append(row[: next(lengths, len(row))])
    return found


def check(architecture: str, model: Any, plan: Plan, batch_sizes: tuple[int, ...]) -> None:
    prompts = some_prompts()
    whole = expected(architecture, model, plan, prompts)
    eos = {whole[0][0], whole[3][4]}
    shorter = cut(whole, eos)
    assert len(set(map(len, shorter))) > 1
    with surgery(model, plan):
        for batch_size in batch_sizes:
            assert generation.greedy(model, prompts, NEW_TOKENS, batch_size=batch_size) == whole
            found = generation.greedy(
                model, prompts, NEW_TOKENS, batch_size=batch_size, eos=eos, stop=lambda rows: [*map(ends, rows)]
            )
            assert found == shorter


@pytest.mark.parametrize("architecture", DECODERS)
@pytest.mark.parametrize("label", FEW)
def test_tokens_are_those_of_uncached_decoding(architecture: str, label: str) -> None:
    """Prompts of several lengths, rows that end at different steps, and others that take their places."""
    check(architecture, shared_model(architecture, 7), few_plans(7)[label], (5,))


@pytest.mark.parametrize("architecture", DECODERS)
def test_tokens_are_those_of_generate(architecture: str) -> None:
    model, prompts = shared_model(architecture, 7), some_prompts()
    ids, mask = padded(prompts)
    options = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "pad_token_id": 0}
    for plan in ("0-6", "1 3 3 {4 5}*2 6"):
        with surgery(model, plan):
            whole = model.generate(ids, attention_mask=mask, **options)[:, ids.shape[1] :].tolist()
            for batch_size in (1, 4, 50):
                assert generation.greedy(model, prompts, NEW_TOKENS, batch_size=batch_size) == whole
    assert generation.greedy(model, prompts, NEW_TOKENS, batch_size=4) != whole  # the intact model's are others


@pytest.mark.slow
@pytest.mark.parametrize("architecture", DECODERS)
def test_tokens_under_every_plan(architecture: str) -> None:
    for plan in every_plan(7).values():
        check(architecture, shared_model(architecture, 7), plan, (2, 5))


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt", "gpt_neox"])
@pytest.mark.parametrize("label", ["skip-layer-0", "middle-repeat-1", "parallel-1-3", "nested"])
def test_what_all_prompts_begin_with_runs_once(architecture: str, label: str) -> None:
    """The tokens are the same, also of prompts that differ in length by more than they share."""
    model, plan = shared_model(architecture, 7), few_plans(7)[label]
    prompts = some_prompts((20, 19, 41, 24, 20, 30), shared=18)
    widths: list[tuple[int, int]] = []
    with surgery(model, plan):
        watch = model.register_forward_pre_hook(
            lambda _, args, kwargs: widths.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
        )
        found = generation.greedy(model, prompts, NEW_TOKENS, batch_size=2)
        watch.remove()
    assert widths[:2] == [(1, 18), (2, 41 - 18)]
    assert max(width for _, width in widths[2:]) == 24 - 18
    assert found == expected(architecture, model, plan, prompts)


def test_nothing_is_shared_where_a_window_slides() -> None:
    model, prompts = shared_model("gemma3", 7), some_prompts((20, 22, 19), shared=18)
    plan = few_plans(7)["twice-in-a-group"]
    with surgery(model, plan):
        found = generation.greedy(model, prompts, NEW_TOKENS, batch_size=2)
    assert found == expected("gemma3", model, plan, prompts)


def test_stop_sees_running_rows_and_done_every_finished_one() -> None:
    model, prompts, plan = shared_model("llama", 7), some_prompts(), Plan.parse("0-6")
    shorter = cut(expected("llama", model, plan, prompts), set())
    told: dict[int, list[int]] = {}

    def stop(rows: list[list[int]]) -> list[bool]:
        assert 0 < len(rows) <= 3
        assert not any(ends(row[:-1]) for row in rows if len(row) > 1)
        return [*map(ends, rows)]

    with surgery(model, plan):
        found = generation.greedy(model, prompts, NEW_TOKENS, batch_size=3, stop=stop, done=told.__setitem__)
    assert found == shorter
    assert told == dict(enumerate(found))


@pytest.mark.parametrize(("architecture", "joins"), [("llama", True), ("gemma3", False)])
def test_rows_leave_and_others_join(architecture: str, joins: bool) -> None:
    """Where a window slides nobody joins, and the batch gets smaller all the same while others wait."""
    model, prompts = shared_model(architecture, 7), some_prompts(LENGTHS * 3)
    shapes: list[tuple[int, int]] = []
    watch = model.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    found = generation.greedy(model, prompts, 30, batch_size=4, stop=lambda rows: [*map(ends, rows)])
    watch.remove()
    steps = [rows for rows, width in shapes if width == 1]
    last_begin = max(i for i, (_, width) in enumerate(shapes) if width > 1)
    before = {rows for rows, width in shapes[:last_begin] if width == 1}
    assert before == {4} if joins else before > {4}
    assert sum(map(len, found)) - len(prompts) <= sum(steps) <= 1.4 * sum(map(len, found))


def test_one_token_and_no_prompts() -> None:
    model, prompts, plan = shared_model("llama", 7), some_prompts(), Plan.parse("6-0")
    whole = expected("llama", model, plan, prompts)
    with surgery(model, plan):
        assert generation.greedy(model, prompts, 1, batch_size=2) == [row[:1] for row in whole]
        assert generation.greedy(model, prompts, NEW_TOKENS, batch_size=2, eos=range(101)) == [r[:1] for r in whole]
        assert generation.greedy(model, [], 5, batch_size=2) == []
        with pytest.raises(ValueError, match="a prompt has no tokens: give each one or more"):
            generation.greedy(model, [[3], []], 5, batch_size=2)
        with pytest.raises(ValueError, match="0 new tokens in batches of 2: give 1 or more of both"):
            generation.greedy(model, prompts, 0, batch_size=2)


def test_a_finished_row_that_is_not_finite_spoils_no_other() -> None:
    """What stood in a row's place before must not reach it: no mask hides what is not a number."""
    model, prompts, plan = make_model("llama", 7), some_prompts(), Plan.parse("0-6")
    whole = expected("llama", model, plan, prompts)
    with torch.no_grad():
        never = min(set(range(2, 101)).difference(*whole, *prompts))
        model.model.embed_tokens.weight[never] = torch.nan
    bad, eos = [never] * 14, {0}  # what argmax makes of no numbers
    with surgery(model, plan):
        found = generation.greedy(model, [bad, *prompts], NEW_TOKENS, batch_size=2, eos=eos)
    assert found[0] == [0]
    assert found[1:] == [row[: row.index(0) + 1] if 0 in row else row for row in whole]


def spoilt(row: list[int], place: int) -> list[int]:
    """The row with another token at `place`."""
    return [*row[:place], (row[place] + 1) % 101, *row[place + 1 :]]


@pytest.mark.parametrize("architecture", DECODERS)
@pytest.mark.parametrize("label", ["skip-layer-0", "parallel-1-3", "twice-in-a-group"])
def test_drafts_change_no_token(architecture: str, label: str) -> None:
    """Right, wrong from any place on, too short, too long, and missing ones, side by side and in every order."""
    model, plan, prompts = shared_model(architecture, 7), few_plans(7)[label], some_prompts()
    whole = expected(architecture, model, plan, prompts)
    eos = {whole[0][0], whole[3][4]}
    shorter = cut(whole, eos)
    kinds = [
        lambda row: row,
        lambda row: spoilt(row, 0),
        lambda row: spoilt(row, len(row) // 2),
        lambda row: row[: len(row) // 2],
        lambda row: [*row, 5, 6, 7] * 4,
        lambda row: [],
        lambda row: spoilt(row, len(row) - 1),
    ]
    with surgery(model, plan):
        for turn in (0, 2, 5):
            drafts = [kinds[(i + turn) % len(kinds)](row) for i, row in enumerate(whole)]
            for batch_size in (2, 5):
                options = {"batch_size": batch_size, "drafts": drafts}
                assert generation.greedy(model, prompts, NEW_TOKENS, **options) == whole
                found = generation.greedy(
                    model, prompts, NEW_TOKENS, eos=eos, stop=lambda rows: [*map(ends, rows)], **options
                )
                assert found == shorter
            assert generation.greedy(model, prompts, 1, batch_size=3, drafts=drafts) == [row[:1] for row in whole]


def forwards(model: Any, drafts: list[list[int]], prompts: list[list[int]]) -> list[tuple[int, int]]:
    """The rows and new tokens of each forward that greedy decoding takes, two rows at once."""
    shapes: list[tuple[int, int]] = []
    watch = model.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    generation.greedy(model, prompts, NEW_TOKENS, batch_size=2, drafts=drafts)
    watch.remove()
    return shapes


def test_what_drafts_cost_and_save() -> None:
    """A right one leaves no step, a wrong one those from its mistake on; many wrong ones are given up."""
    model, prompts = shared_model("llama", 7), some_prompts((9, 9, 8, 8, 7, 7))
    whole = expected("llama", model, Plan.parse("0-6"), prompts)
    more = NEW_TOKENS - 1  # the last token of a draft is no input of anything
    right = forwards(model, whole, prompts)
    assert sum(rows for rows, _ in right) == 6
    assert max(right) == (2, 9 + more)
    late = forwards(model, [*whole[:1], spoilt(whole[1], 8), *whole[2:]], prompts)
    assert [width for _, width in late if width == 1] == [1] * 3  # 8 right, one in their forward, three to come
    wrong = forwards(model, [spoilt(row, 0) for row in whole], prompts)
    assert wrong[0] == (2, 9 + more)
    assert {width for _, width in wrong[1:]} == {1, 8, 7}


def test_as_much_is_run_of_a_draft_as_is_likely_to_be_right() -> None:
    """Two rows begin, then one at a time. Of 6 tokens tried 4 were right: two together are so more often than 3 times
    of 10, three are not. Then 6 of 8 were right, which makes four, 8 of 11 and 10 of 14, which makes three."""
    model, prompts = shared_model("llama", 7), some_prompts((9, 9, 8, 8, 7, 7))
    whole = expected("llama", model, Plan.parse("0-6"), prompts)
    found = forwards(model, [spoilt(row, 2) for row in whole], prompts)
    assert [width for _, width in found if width > 1] == [9 + NEW_TOKENS - 1, 8 + 2, 8 + 4, 7 + 3, 7 + 3]


def test_rows_that_begin_together_are_as_long_with_their_drafts() -> None:
    model, prompts = shared_model("llama", 7), some_prompts((4, 9, 4, 9))
    whole = expected("llama", model, Plan.parse("0-6"), prompts)
    drafts = [whole[0][:8], whole[1][:3], whole[2][:2], whole[3][:1]]
    begun = [width for _, width in forwards(model, drafts, prompts) if width > 1]
    assert begun == [11, 9, 5]


def test_nothing_is_drafted_where_a_window_slides() -> None:
    model, prompts = shared_model("gemma3", 7), some_prompts()
    whole = expected("gemma3", model, Plan.parse("0-6"), prompts)
    assert forwards(model, whole, prompts)[0] == (2, 12)


def test_what_is_supported() -> None:
    supported = {name for name in DECODERS if generation.is_supported(shared_model(name, 7))}
    assert supported == set(DECODERS) - {"phi3"}  # it begins anew where its rotary table changes
    for setting, value in (("repetition_penalty", 1.2), ("num_beams", 2), ("max_new_tokens", 3), ("use_cache", False)):
        model = make_model("llama", 7)
        setattr(model.generation_config, setting, value)
        assert not generation.is_supported(model), setting
    model = make_model("llama", 7)
    model.generation_config.eos_token_id = [3, 4]
    assert generation.is_supported(model)
    assert generation.eos_tokens(model) == {3, 4}
    model.config.rope_parameters = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    assert not generation.is_supported(model)
    assert not generation.is_supported(model.model)


PLANS = ("0-5", "1-5", "0 {1-4}*2 5", "0-2 2-5 2")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return harness.prepare(write_tasks(tmp_path_factory.mktemp("tasks"))["nano_gsm8k"], shots=1)[0]


@pytest.fixture(scope="module")
def bundled() -> tuple[Any, Any]:
    return harness.load_model("nano-llama", device="cpu")


def same_texts(model: Any, words: Any, plan: str, requests: list[Any], batch_size: int) -> list[str]:
    """The texts, which are those of lm-eval's own `hf` model; every answer was counted once."""
    stock = HFLM(pretrained=model, tokenizer=copy.deepcopy(words), batch_size=batch_size)
    count: list[int] = []
    with quiet(), language_model(PaintersLM, model, words, batch_size) as lm, surgery(model, plan):
        lm.exact_batching = False
        assert harness_generation.can_answer(lm, requests)
        lm.set_cache_hook(CountingCacheHook(lambda: count.append(1)))
        found = lm.generate_until(requests, disable_tqdm=True)
        assert found == stock.generate_until(requests, disable_tqdm=True)
    assert len(count) == len(requests)
    return found


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("batch_size", [3, 64])
def test_texts_are_those_of_lm_eval(plan: str, batch_size: int, task: Any) -> None:
    same_texts(llama(), tokenizer(), plan, task.requests, batch_size)


@pytest.mark.parametrize("plan", ["0-11", "0-3 8-11", "0-3 {4-7}*3 8-11"])
def test_texts_of_the_bundled_model(plan: str, bundled: Any) -> None:
    (task,) = harness.prepare("nano_gsm8k", limit=24)
    texts = same_texts(*bundled, plan, task.requests, 8)
    assert sum("####" in text for text in texts) > 12


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["0-11", "0-3 8-11", "0-3 {4-7}*3 8-11"])
@pytest.mark.parametrize("shots", [0, 3])
def test_texts_of_all_bundled_documents(plan: str, shots: int, bundled: Any) -> None:
    (task,) = harness.prepare("nano_gsm8k", shots=shots)
    assert len(task.requests) == 500
    same_texts(*bundled, plan, task.requests, 32)


def test_answers_of_the_intact_model_are_drafts(bundled: Any) -> None:
    """The records are those of the plan alone, and the model runs less often."""
    model, words = bundled
    (task,) = harness.prepare("nano_gsm8k", limit=12)
    scorer, calls = harness.Scorer(model, words), [0]
    identity, plan = Plan.parse("0-11"), Plan.parse("0-3 {4-7}*3 8-11")

    def score(*plans: Plan) -> list[Any]:
        calls[0] = 0
        records = list(scorer.score(plans, task, ScoringProtocol(batch_size=6)))
        return [(record.plan, record.metric, record.outcomes) for record in records]

    watch = model.register_forward_pre_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))
    intact, alone = score(identity), calls[0]
    changed, drafted = score(plan), calls[0]
    scorer = harness.Scorer(model, words)
    assert sorted(score(plan, identity)) == sorted(intact + changed)  # the intact model is the first
    assert calls[0] == alone + drafted
    scorer = harness.Scorer(model, words)
    assert score(plan) == changed
    assert drafted < 0.8 * calls[0]
    watch.remove()


def test_no_drafts_in_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rounding decides between tokens, an answer must not depend on what was scored before."""
    model, words = harness.load_model("nano-llama", device="cpu", dtype="bfloat16")
    (task,) = harness.prepare("nano_gsm8k", limit=2)
    given: list[Any] = []
    own = harness_generation.greedy

    def greedy(*args: Any, **options: Any) -> Any:
        given.append(options["drafts"])
        return own(*args, **options)

    monkeypatch.setattr(harness_generation, "greedy", greedy)
    protocol = ScoringProtocol(batch_size=2)
    list(harness.Scorer(model, words).score([Plan.parse("0-11"), Plan.parse("0-10")], task, protocol))
    assert given == [[[], []]] * 2
    given.clear()
    list(harness.Scorer(model.float(), words).score([Plan.parse("0-11"), Plan.parse("0-10")], task, protocol))
    assert given[0] == [[], []]
    assert all(given[1])


def ask(contexts: list[str], **settings: Any) -> list[Any]:
    return [SimpleNamespace(request_type="generate_until", args=(context, settings)) for context in contexts]


QUESTIONS = [
    "Question: Sara has 3 apples. She buys 4 more. How many apples does Sara have now?\nAnswer:",
    "Question: Carl has 26 bells. Then he loses 12 bells. How many bells has Carl in the end?\nAnswer:",
    "The cat",
    "Question: Nina has 9 hats and finds 2 more. How many hats has she?\nAnswer:",
    "1 + 1 =",
]


@pytest.mark.parametrize(
    "until",
    [["\n####"], ["###", " ="], [" "], ["."], ["nowhere"], [], ["</s>"], "\n", ["=", "\n"], ["1 = 3", "+ 4 = 7."]],
    ids=str,
)
@pytest.mark.parametrize("max_gen_toks", [1, 2, 24])
def test_where_texts_end(until: Any, max_gen_toks: int, bundled: Any) -> None:
    """At strings of several tokens, of a part of one, at the first token, and at none."""
    requests = ask(QUESTIONS, until=until, max_gen_toks=max_gen_toks, do_sample=False)
    same_texts(*bundled, "0-11", requests, 3)


@pytest.mark.parametrize("length", [1, 4, 9])
def test_a_row_ends_with_the_token_that_completes_a_stop_string(length: int, bundled: Any) -> None:
    """Wherever in the text it stands, and over however many tokens."""
    model, words = bundled
    prompt = words(QUESTIONS[0])["input_ids"]
    (row,) = generation.greedy(model, [prompt], 9, batch_size=1)
    assert not set(row) & generation.eos_tokens(model)
    text = words.decode(row)
    calls: list[int] = []
    watch = model.register_forward_pre_hook(lambda *_: calls.append(1))
    with quiet(), language_model(PaintersLM, model, words, 1) as lm:
        lm.exact_batching = False
        for begin in range(0, len(text) - length, 3):
            string = text[begin : begin + length]
            needed = next(n for n in range(1, 10) if string in words.decode(row[:n]))
            calls.clear()
            lm.generate_until(ask(QUESTIONS[:1], until=[string], max_gen_toks=20), disable_tqdm=True)
            assert len(calls) == needed, string
    watch.remove()


def test_a_stop_string_that_is_not_in_the_text(bundled: Any) -> None:
    """lm-eval ends a batch there when all its rows have it, and leaves in the text what comes behind."""
    model, words = bundled
    words = copy.deepcopy(words)
    full_stop = words(".", add_special_tokens=False)["input_ids"]
    word = words.convert_ids_to_tokens(full_stop)[-1]
    words.add_special_tokens({"additional_special_tokens": [word]})
    assert words.decode(full_stop, skip_special_tokens=True) == ""
    requests = ask(QUESTIONS, until=[word], max_gen_toks=24)
    same_texts(model, words, "0-11", requests, 2)
    same_texts(model, words, "0-11", requests, 1)


def test_prompts_that_are_too_long_and_several_settings(bundled: Any) -> None:
    """The last tokens of a prompt are kept, as many as leave room; each setting makes its own batches."""
    long = ["apples and pears " * 300 + question for question in QUESTIONS]
    requests = ask(long, until=["\n"], max_gen_toks=40) + ask(QUESTIONS, until=["."], max_gen_toks=7)
    same_texts(*bundled, "0-11", requests[::2] + requests[1::2], 4)


def test_an_empty_prompt_and_no_request(bundled: Any) -> None:
    model, words = bundled
    with language_model(PaintersLM, model, words, 2) as lm, quiet():
        lm.exact_batching = False
        assert lm.generate_until([], disable_tqdm=True) == []
    same_texts(model, words, "0-11", ask(["", "The cat", "A"], until=["."], max_gen_toks=5), 3)


def test_shots_that_all_prompts_share(bundled: Any) -> None:
    shots = "".join(f"{question} 3 + 4 = 7.\n#### 7\n\n" for question in QUESTIONS[:2])
    requests = ask([shots + question for question in QUESTIONS], until=["\n\n"], max_gen_toks=24)
    for plan in ("0-11", "0-3 {4-7}*2 8-11"):
        same_texts(*bundled, plan, requests, 2)


def test_what_lm_eval_answers_itself(task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples, beams, penalties, averaged caches, and batches that must be its own."""
    model, words = llama(), tokenizer()
    greedy = {"until": ["\n"], "max_gen_toks": 4}

    def refuse(*args: Any) -> Any:
        raise AssertionError("not lm-eval's own loop")

    monkeypatch.setattr(harness_generation, "answer", refuse)
    with language_model(PaintersLM, model, words, 2) as lm, quiet(), surgery(model, "0-5"):
        lm.exact_batching = False
        with pytest.raises(AssertionError, match="not lm-eval's own loop"):
            lm.generate_until(ask(QUESTIONS, **greedy), disable_tqdm=True)
        for more in ({"do_sample": True, "temperature": 0.7}, {"num_beams": 2}, {"repetition_penalty": 1.5}):
            assert len(lm.generate_until(ask(QUESTIONS, **greedy, **more), disable_tqdm=True)) == len(QUESTIONS)
        lm.exact_batching = True
        lm.generate_until(ask(QUESTIONS, **greedy), disable_tqdm=True)
    records = list(harness.score_all(model, words, f"0-{NUM_LAYERS - 1}", task, kv="averaged"))
    assert records[0].kv == "averaged"


def test_what_a_forward_calls_the_cache() -> None:
    class Older(nn.Module):
        def forward(self, ids: Tensor, past_key_values: Any = None) -> None: ...

    class Newer(nn.Module):
        def forward(self, ids: Tensor, cache: Any = None) -> None: ...

    assert [cache_name(module) for module in (Older(), Newer(), nn.Linear(1, 1))] == ["past_key_values", "cache", None]
    assert cache_name(make_model("llama", 2)) == CACHE
