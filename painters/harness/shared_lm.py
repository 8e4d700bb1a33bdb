"""Log-likelihoods of the same requests under many plans: tokenised once, and each batch run through their trie."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch

from painters.errors import first_line
from painters.harness.batches import Answer, Batch, Batches, Part, Tokenised, as_lm_eval
from painters.harness.lm import PaintersLM
from painters.harness.trees import as_trees
from painters.memory import MemoryExhausted, free, is_exhausted, without_locals
from painters.plan import Plan
from painters.sharing import Sharing
from painters.sharing.tree_attention import attending_in_groups, takes_groups
from painters.stack import LayerStack
from painters.stack.search import text_config

TOLERANCE, HALF_TOLERANCE = 1e-3, 0.05
"""How far from lm-eval's log-likelihoods trees may lead, in nats and in the mean over answers, in float32 and in half
precision. Rounding leads 5e-5 and about 0.01 away; a model that cannot take them 0.1 and more."""
WINDOWS = ("sliding_window", "attention_chunk_size", "window_size", "attention_window")
"""Where configurations say that a layer sees no further back than so many positions."""


class SharingLM(PaintersLM):
    """lm-eval's `hf` model, which can answer log-likelihood requests under many plans at once."""

    _caught: list[Tokenised] | None = None

    def batches(self, requests: Sequence[Any], *, exact: bool) -> Batches:
        """lm-eval's log-likelihood `requests` as tokens in batches, which serve any number of plans.

        With `exact` they are lm-eval's own, row by row. Otherwise what requests have in common at their beginning
        stands once, a batch holds as many positions as lm-eval's largest, and answers differ by rounding. A model that
        does not take such trees of tokens gets lm-eval's batches.
        """
        tokenised = self._tokenised(requests)
        if not exact and self._takes_trees(tokenised):
            for one_row in (True, False) if takes_groups(self.model) else (False,):
                made = self._trees(tokenised, one_row)
                if made.trial is None or self._agrees(tokenised, made.trial):
                    return made
        return as_lm_eval(tokenised, *self._limits)

    @property
    def _limits(self) -> tuple[int, int, torch.device]:
        """The rows of lm-eval's batches, the most positions of one, and where they go."""
        return int(self.batch_size), int(self.max_length), self.device

    def log_likelihoods(
        self, plans: Iterable[Plan], requests: Sequence[Any], batches: Batches | None = None
    ) -> dict[Plan, list[Answer]]:
        """For each distinct plan the answers to `requests` in their order; `batches` are what was made of these, and
        lm-eval's own where they are left out.

        Where memory does not suffice the batches are halved, `rows_left` says to how many rows, and answers differ by
        rounding. Raises MemoryExhausted with `exact_batching`, and where one row has no room.
        """
        batches = self.batches(requests, exact=True) if batches is None else batches
        together = Sharing(self.model, plans)
        number = {plan: i for i, plan in enumerate(together.trie.plans)}

        def mine() -> tuple[list[list[tuple[int, Answer]]], int | None]:
            """For each plan, what this process's batches answer; and the rows that it had room for."""
            found: list[list[tuple[int, Answer]]] = [[] for _ in number]
            for part in batches.of(self.ranks):
                for plan, answers in self._with_room(together, batches, part):
                    for index, answer in answers:
                        found[number[plan]].append((index, answer))
                        self.cache_hook.add_partial("loglikelihood", requests[index].args, answer)
            return found, self.rows_left

        whole: dict[Plan, list[Answer]] = {plan: [(0.0, False)] * len(requests) for plan in number}
        parts = self.ranks.gathered(mine)
        for found, _ in parts:
            for plan, answers in zip(number, found, strict=True):
                for index, answer in answers:
                    whole[plan][index] = answer
        self.rows_left = min((rows for _, rows in parts if rows is not None), default=None)
        return whole

    def _with_room(
        self, together: Sharing, batches: Batches, part: Part
    ) -> Iterator[tuple[Plan, list[tuple[int, Answer]]]]:
        """What `_answers` gives for a part of the batches, cut into smaller ones as long as memory does not suffice:
        then some answers come again, and the last ones count.
        """
        waiting = deque([(batches, part)])
        while waiting:
            batches, part = waiting.popleft()
            if self.rows_left is None or batches.rows <= self.rows_left:
                try:
                    for plan, answers in self._answers(together, part.make()):
                        yield plan, list(answers)  # now, for the softmax takes memory too
                    continue
                except Exception as error:
                    if not is_exhausted(error):
                        raise
                    self._refuse_to_cut(together, batches, part, without_locals(error))
                    self.rows_left = batches.rows // 2
                free()
            smaller = batches.cut(part.requests, self.rows_left)
            waiting.extendleft((smaller, one) for one in reversed(smaller.parts))

    def _refuse_to_cut(self, together: Sharing, batches: Batches, part: Part, error: Exception) -> None:
        """Nothing; MemoryExhausted where the batches may not be smaller, or cannot."""
        if batches.rows == 1:
            raise MemoryExhausted(f"memory does not suffice for one row at a time: {first_line(error)}") from error
        if self.exact_batching:
            free()
            fits = self._rows_that_fit(together, batches, part)
            advice = f"batches of {fits} rows have it (--batch-size, or batch_size in the protocol)"
            raise MemoryExhausted(
                f"batches of {batches.rows} rows, which are to be lm-eval's own, have no room in memory: "
                f"{advice if fits else 'not even one row has it'}. Without exact batching they are halved as needed: "
                f"{first_line(error)}"
            ) from error

    def _rows_that_fit(self, together: Sharing, batches: Batches, part: Part) -> int:
        """The largest half of a half that memory suffices for, 0 where that is none; its answers are thrown away."""
        rows = batches.rows // 2
        while rows:
            try:
                for _, answers in self._answers(together, batches.cut(part.requests, rows).parts[0].make()):
                    list(answers)
                return rows
            except Exception as error:
                if not is_exhausted(error):
                    raise
                without_locals(error)
            free()
            rows //= 2
        return 0

    def _answers(self, together: Sharing, batch: Batch) -> Iterator[tuple[Plan, Iterator[tuple[int, Answer]]]]:
        mixed = self.mixed_precision_dtype
        trees = attending_in_groups(self.model, batch.groups) if batch.groups else nullcontext()
        with torch.no_grad(), torch.autocast(self.device.type, dtype=mixed, enabled=mixed is not None), trees:
            for plan, output in together.run(None if batch.exact else batch.scored, **batch.inputs):
                logits = output.logits[batch.scored] if batch.exact else output.logits[0]
                del output
                yield plan, batch.answers(logits, self.softmax_dtype)

    def _tokenised(self, requests: Sequence[Any]) -> list[Tokenised]:
        """The requests as lm-eval tokenises them."""
        self._caught = []
        try:
            self.loglikelihood(requests, disable_tqdm=True)
            return self._caught
        finally:
            self._caught = None

    def _loglikelihood_tokens(
        self, requests: list[Tokenised], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[Answer]:
        if self._caught is not None:
            self._caught += requests
            return [(0.0, False)] * len(requests)
        answers: list[Answer] = super()._loglikelihood_tokens(requests, disable_tqdm, override_bs)
        return answers

    def _takes_trees(self, tokenised: Sequence[Tokenised]) -> bool:
        """Whether the model's layers may see just what a mask shows them, as far as its form tells."""
        taken = inspect.signature(self.model.forward).parameters
        config = text_config(self.model)
        windows = [size for name in WINDOWS if isinstance(size := getattr(config, name, None), int) and size > 0]
        longest = max(len(context) + len(answer) for _, context, answer in tokenised)
        return (
            {"input_ids", "attention_mask", "position_ids"} <= taken.keys()
            and getattr(config, "_attn_implementation", None) in ("sdpa", "eager")
            and all(longest <= size for size in windows)
            and isinstance(getattr(config, "hidden_size", None), int)
        )

    def _trees(self, tokenised: Sequence[Tokenised], one_row: bool) -> Batches:
        size = text_config(self.model).hidden_size
        return as_trees(tokenised, *self._limits, hidden_size=size, dtype=self.model.dtype, one_row=one_row)

    def _agrees(self, tokenised: Sequence[Tokenised], trial: Batch) -> bool:
        """Whether the intact model gives in trees the answers that it gives to rows."""
        intact = Sharing(self.model, [Plan.identity(LayerStack.find(self.model).num_layers)])
        asked = [index for index, _, _ in trial.spans]
        rows = as_lm_eval(tokenised, *self._limits, chosen=asked)
        expected = dict(
            answer for part in rows.parts for _, some in self._with_room(intact, rows, part) for answer in some
        )
        try:
            found = dict(answer for _, some in self._answers(intact, trial) for answer in some)
        except Exception as error:
            if is_exhausted(error) or isinstance(error, (RuntimeError, ValueError, TypeError, IndexError)):
                return False  # whatever a model says that takes no such mask
            raise
        tolerance = HALF_TOLERANCE if self.model.dtype in (torch.float16, torch.bfloat16) else TOLERANCE
        return sum(abs(found[index][0] - expected[index][0]) for index in asked) <= tolerance * len(asked)
