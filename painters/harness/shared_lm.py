"""Log-likelihoods of the same requests under many plans, which run each batch through their trie."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from lm_eval.api.model import CacheHook

from painters import _compat
from painters.errors import first_line
from painters.harness.batches import (
    Answer,
    BatchLimits,
    LikelihoodBatch,
    LikelihoodBatches,
    PlannedBatch,
    Tokenised,
    as_lm_eval,
)
from painters.harness.kept import KeptLikelihoods
from painters.harness.lm import PaintersLM
from painters.harness.trees import TreeLayout, as_trees
from painters.memory import MemoryExhausted, free, is_exhausted, without_locals
from painters.plan import Plan
from painters.results.partial import Kept, Partials
from painters.sharing import Sharing
from painters.sharing.tree_attention import attending_in_groups, takes_groups
from painters.sharing.trie import Trie
from painters.stack import LayerStack
from painters.stack.search import text_config

TOLERANCE, HALF_TOLERANCE = 1e-3, 0.05
"""How far the log-likelihoods of trees may be from lm-eval's, in nats, as the mean over answers, in float32 and in half
precision. Rounding makes differences of 5e-5 and about 0.01; a model that cannot process trees, of 0.1 and more."""
WINDOWS = ("sliding_window", "attention_chunk_size", "window_size", "attention_window")
"""The settings in configurations that limit how many positions back a layer sees."""


class SharingLM(PaintersLM):
    """lm-eval's `hf` model, which can answer log-likelihood requests under many plans at once."""

    checked_stack: LayerStack | None = None
    """The stack that all plans were checked against. None: it is found, and they are checked, at every use."""
    cache_hook: CacheHook
    """What is offered every answer."""
    _caught: list[Tokenised] | None = None
    """While requests are tokenised, what lm-eval made of them so far; otherwise None."""

    def batches(self, requests: Sequence[Any], *, exact: bool) -> LikelihoodBatches:
        """Return lm-eval's log-likelihood `requests` as batches of tokens, which serve any number of plans.

        A request for the rolling log-likelihood of a text is one for each window of it, the context of which is as long
        as the model's.

        With `exact` they are lm-eval's own, row by row. Otherwise common beginnings of requests stand once, a batch
        holds as many positions as lm-eval's largest, and answers differ by rounding. A model that cannot process such
        trees of tokens gets lm-eval's batches.
        """
        tokenised, owners = self._tokenised(requests)
        batches = self._batches(tokenised, exact=exact, in_order=owners is not None)
        return dataclasses.replace(batches, owners=owners)

    def _batches(self, tokenised: Sequence[Tokenised], *, exact: bool, in_order: bool) -> LikelihoodBatches:
        """Return batches of tokenised requests; `in_order` is as in `as_lm_eval`."""
        if not exact and self._takes_trees(tokenised):
            for one_row in (True, False) if takes_groups(self.model) else (False,):
                trees = self._trees(tokenised, one_row)
                if trees.trial is None or self._agrees(tokenised, trees.trial):
                    return trees
        return as_lm_eval(tokenised, self._limits, in_order=in_order)

    @property
    def _limits(self) -> BatchLimits:
        """The size of lm-eval's batches, and the model's device."""
        return BatchLimits(int(self.batch_size), int(self.max_length), self.device)

    def log_likelihoods(
        self,
        plans: Iterable[Plan],
        requests: Sequence[Any],
        batches: LikelihoodBatches | None = None,
        kept: Kept | None = None,
    ) -> dict[Plan, list[Any]]:
        """Return, for each distinct plan, the answers to `requests` in their order.

        They are of the type `Answer`, or rolling log-likelihoods: the sums over the windows of each text.

        Where memory does not suffice, the batches are halved, and answers differ by rounding; `rows_left` is then the
        number of rows that fitted.

        Args:
            plans: The plans.
            requests: lm-eval's log-likelihood requests.
            batches: The batches that `self.batches` made of them. None: lm-eval's own.
            kept: Answers that are known from before, and where others are kept, batch by batch. The batches are the
                same either way, and a plan's answers do not depend on the other plans, so no bit changes.

        Raises:
            MemoryExhausted: One row is too large for the memory; or, with `exact_batching`, a batch is.
        """
        batches = self.batches(requests, exact=True) if batches is None else batches
        plans = Trie.of(plans).plans
        found_before = KeptLikelihoods(kept or Partials(None).scoring("", "", {}), plans)
        owners = batches.owners or tuple(range(len(requests)))
        by_plan: dict[Plan, list[Answer]] = {plan: [(0.0, False)] * len(owners) for plan in plans}
        for plan, answers in found_before.known.items():
            for index, answer in answers.items():
                by_plan[plan][index] = answer
        shares = self.ranks.gathered(lambda: (self._own_share(plans, requests, batches, found_before), self.rows_left))
        for answered, _ in shares:
            for plan, pairs in zip(plans, answered, strict=True):
                for index, answer in pairs:
                    by_plan[plan][index] = answer
        self.rows_left = min((rows for _, rows in shares if rows is not None), default=None)
        return by_plan if batches.owners is None else _summed(by_plan, owners, len(requests))

    def _own_share(
        self, plans: Sequence[Plan], requests: Sequence[Any], batches: LikelihoodBatches, kept: KeptLikelihoods
    ) -> list[list[tuple[int, Answer]]]:
        """Return, plan by plan, the answers to this process's batches that are not known from before."""

        @functools.lru_cache(maxsize=2)
        def sharing(some: tuple[Plan, ...]) -> Sharing:
            return Sharing(self.model, some, stack=self.checked_stack, checked=self.checked_stack is not None)

        answered: dict[Plan, list[tuple[int, Answer]]] = {plan: [] for plan in plans}
        count = _AnswerCounter(self.cache_hook, requests, batches.owners)
        if self.ranks.is_main:
            count.empty_texts(len(plans))
        for part in batches.of(self.ranks):
            if not (lacking := kept.lacking(part.requests)):
                continue
            found: dict[Plan, list[tuple[int, Answer]]] = {plan: [] for plan in lacking}
            for plan, answers in self._answers_within_memory(sharing(lacking), batches, part):
                for index, answer in answers:
                    found[plan].append((index, answer))
                    count(plan, index, answer)
            for plan in lacking:
                answered[plan] += found[plan]
            kept.add(found, part.requests, self.rows_left)
        return list(answered.values())

    def _answers_within_memory(
        self, sharing: Sharing, batches: LikelihoodBatches, part: PlannedBatch
    ) -> Iterator[tuple[Plan, list[tuple[int, Answer]]]]:
        """Yield each plan with its answers to `part`, a batch of `batches`, within the memory at hand.

        Where memory does not suffice, the batch is halved. Some answers then come again, and the last ones count.
        """
        if self.rows_left is None or batches.rows <= self.rows_left:
            with _catching_exhaustion() as exhaustion:
                for plan, answers in self._answers(sharing, part.make()):
                    yield plan, list(answers)  # now, because the softmax takes memory too
            if exhaustion.error is None:
                return
            self._refuse_to_halve(sharing, batches, part, exhaustion.error)
            self.rows_left = batches.rows // 2
            free()
        smaller = batches.cut(part.requests, self.rows_left)
        for smaller_part in smaller.parts:
            yield from self._answers_within_memory(sharing, smaller, smaller_part)

    def _refuse_to_halve(
        self, sharing: Sharing, batches: LikelihoodBatches, part: PlannedBatch, error: Exception
    ) -> None:
        """Raise MemoryExhausted where the batches may not be smaller, or cannot."""
        if batches.rows == 1:
            raise MemoryExhausted(f"memory does not suffice for one row at a time: {first_line(error)}") from error
        if self.exact_batching:
            free()
            rows = self._rows_that_fit(sharing, batches, part)
            advice = f"batches of {rows} rows do (--batch-size, or batch_size in the protocol)"
            raise MemoryExhausted(
                f"exact batches of {batches.rows} rows do not fit into memory: "
                f"{advice if rows else 'not even one row does'}. Without exact batching they are halved until they "
                f"fit: {first_line(error)}"
            ) from error

    def _rows_that_fit(self, sharing: Sharing, batches: LikelihoodBatches, part: PlannedBatch) -> int:
        """Halve the rows until memory suffices and return their number, or 0 if one row is too many."""
        rows = batches.rows // 2
        while rows:
            with _catching_exhaustion() as exhaustion:
                for _, answers in self._answers(sharing, batches.cut(part.requests, rows).parts[0].make()):
                    list(answers)
            if exhaustion.error is None:
                return rows
            free()
            rows //= 2
        return 0

    def _answers(self, sharing: Sharing, batch: LikelihoodBatch) -> Iterator[tuple[Plan, Iterator[tuple[int, Answer]]]]:
        """Yield each plan with its answers to a batch, which are computed as they are read."""
        mixed = self.mixed_precision_dtype
        trees = attending_in_groups(self.model, batch.groups) if batch.groups else nullcontext()
        with torch.no_grad(), torch.autocast(self.device.type, dtype=mixed, enabled=mixed is not None), trees:
            # lm-eval lets the model fill a cache that nobody reads, which can change the last bits.
            runs = sharing.run(None if batch.exact else batch.scored, fill_caches=batch.exact, **batch.inputs)
            for plan, output in runs:
                logits = output.logits[batch.scored] if batch.exact else output.logits[0]
                del output
                yield plan, batch.answers(logits, self.softmax_dtype)

    def _tokenised(self, requests: Sequence[Any]) -> tuple[list[Tokenised], tuple[int, ...] | None]:
        """Return the requests as lm-eval tokenises them, and of windows the index of the request of each."""
        hook = self.cache_hook
        self.cache_hook, self._caught = CacheHook(None), []
        try:
            if {request.request_type for request in requests} != {"loglikelihood_rolling"}:
                self.loglikelihood(requests, disable_tqdm=True)
                return self._caught, None
            owners: list[int] = []
            for index, request in enumerate(requests):
                super().loglikelihood_rolling([request], disable_tqdm=True)
                owners += [index] * (len(self._caught) - len(owners))
            return self._caught, tuple(owners)
        finally:
            self.cache_hook, self._caught = hook, None

    def _loglikelihood_tokens(
        self, requests: list[Tokenised], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[Answer]:
        """Answer tokenised requests as lm-eval does, or only keep them while `_tokenised` asks for them."""
        if self._caught is not None:
            self.refuse_missing_prefix(requests)
            self._caught += requests
            return [(0.0, False)] * len(requests)
        silent = disable_tqdm or override_bs is not None  # the bar of each batch of windows, which lm-eval always shows
        answers: list[Answer] = super()._loglikelihood_tokens(requests, silent, override_bs)
        return answers

    def _takes_trees(self, tokenised: Sequence[Tokenised]) -> bool:
        """Return whether, by its configuration, the model's layers see exactly what a mask shows them."""
        parameters = inspect.signature(self.model.forward).parameters
        config = text_config(self.model)
        windows = [size for name in WINDOWS if isinstance(size := getattr(config, name, None), int) and size > 0]
        longest = max((len(context) + len(answer) for _, context, answer in tokenised), default=0)
        return (
            {"input_ids", "attention_mask", "position_ids"} <= parameters.keys()
            and _compat.attention_implementation(config) in ("sdpa", "eager")
            and all(longest <= size for size in windows)
            and isinstance(getattr(config, "hidden_size", None), int)
        )

    def _trees(self, tokenised: Sequence[Tokenised], one_row: bool) -> LikelihoodBatches:
        """Return the requests as batches of trees, all in one row or each in its own."""
        layout = TreeLayout(text_config(self.model).hidden_size, self.model.dtype, one_row)
        return as_trees(tokenised, self._limits, layout)

    def _agrees(self, tokenised: Sequence[Tokenised], trial: LikelihoodBatch) -> bool:
        """Return whether the intact model gives the same answers in trees as in rows, up to rounding."""
        stack = self.checked_stack or LayerStack.find(self.model)
        intact = Sharing(self.model, [Plan.identity(stack.num_layers)], stack=stack, checked=True)
        indices = [index for index, _, _ in trial.spans]
        rows = as_lm_eval(tokenised, self._limits, indices)
        expected = dict(
            answer
            for part in rows.parts
            for _, answers in self._answers_within_memory(intact, rows, part)
            for answer in answers
        )
        try:
            actual = dict(answer for _, answers in self._answers(intact, trial) for answer in answers)
        except Exception as error:
            if is_exhausted(error) or isinstance(error, (RuntimeError, ValueError, TypeError, IndexError)):
                return False  # what models raise that cannot process such a mask
            raise
        tolerance = HALF_TOLERANCE if self.model.dtype in (torch.float16, torch.bfloat16) else TOLERANCE
        return sum(abs(actual[index][0] - expected[index][0]) for index in indices) <= tolerance * len(indices)


class _AnswerCounter:
    """Offers each answer to the cache hook; that to a text of several windows when the last window is answered."""

    def __init__(self, hook: CacheHook, requests: Sequence[Any], owners: Sequence[int] | None) -> None:
        self._hook, self._requests, self._owners = hook, requests, owners
        self._windows = Counter(owners or ())
        self._left: dict[Plan, Counter[int]] = {}

    def empty_texts(self, plans: int) -> None:
        """Offer the answers of so many plans to texts of nothing, which have no window."""
        for _ in range(plans * (len(self._requests) - len(self._windows)) if self._owners is not None else 0):
            self._hook.add_partial("loglikelihood", (), 0.0)

    def __call__(self, plan: Plan, index: int, answer: Answer) -> None:
        if self._owners is None:
            self._hook.add_partial("loglikelihood", self._requests[index].args, answer)
            return
        owner = self._owners[index]
        left = self._left.setdefault(plan, self._windows.copy())
        left[owner] -= 1
        if not left[owner]:
            self._hook.add_partial("loglikelihood", self._requests[owner].args, answer)


def _summed(by_plan: dict[Plan, list[Answer]], owners: Sequence[int], count: int) -> dict[Plan, list[float]]:
    """Return the sums of the log-likelihoods of the windows of each of `count` texts, added up in their order."""
    sums = {}
    for plan, answers in by_plan.items():
        totals = [0.0] * count
        for owner, (log_likelihood, _) in zip(owners, answers, strict=True):
            totals[owner] += log_likelihood
        sums[plan] = totals
    return sums


@dataclass(slots=True)
class _Exhaustion:
    """The error of a forward that memory did not suffice for, if there was one."""

    error: Exception | None = None


@contextmanager
def _catching_exhaustion() -> Iterator[_Exhaustion]:
    """Catch the error of memory that does not suffice, and free what its frames held."""
    exhaustion = _Exhaustion()
    try:
        yield exhaustion
    except Exception as error:
        if not is_exhausted(error):
            raise
        exhaustion.error = without_locals(error)
