"""The batches of greedy decoding: rows padded on the left, drafts among them, and forwards that give tokens."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from painters.generation.cache import add_left, cache_name, drop_left, is_flexible, join, move_right, new_cache, spread

_MIN_SHARED = 16
"""Tokens that all prompts must begin with for a forward of their own."""

_WORTH = 0.3
"""How likely a token of a draft has to be right, with all before it, for running it with the prompt to pay."""


class Choose:
    """A forward of the model in decoding: the likeliest next token of each row."""

    def __init__(self, model: Any) -> None:
        self.config, self.device = model.config, model.device
        self._model = model
        parameters = inspect.signature(model.forward).parameters
        self.takes_positions = "position_ids" in parameters
        self._cache_name = cache_name(model)
        self._takes_keep = "logits_to_keep" in parameters
        self.is_flexible = is_flexible(new_cache(self.config))
        """Whether rows can be moved in the caches that it fills."""

    def __call__(
        self, ids: Tensor, mask: Tensor, cache: DynamicCache, tokens: int = 1
    ) -> tuple[list[list[int]], list[list[bool]]]:
        """What follows each of the last `tokens` of `ids` [rows, new], which stand behind those in the cache, and
        whether its logit is a finite number; `mask` [rows, past and new].
        """
        options: dict[str, Any] = {str(self._cache_name): cache}
        if self._takes_keep:
            options["logits_to_keep"] = tokens
        if self.takes_positions:
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            options["position_ids"] = positions[:, -ids.shape[1] :]
        output = self._model(input_ids=ids, attention_mask=mask, use_cache=True, return_dict=True, **options)
        logits = output.logits[:, -tokens:].float()
        # The largest of some is NaN where one of them is.
        return logits.argmax(-1).tolist(), logits.amax(-1).isfinite().tolist()


class Drafts:
    """What the new tokens of each prompt may turn out to be, as far as they are likely to be right."""

    def __init__(self, drafts: Sequence[Sequence[int]] | None, max_new_tokens: int) -> None:
        self._drafts, self._most = drafts, max_new_tokens - 1
        self._right = self._ended = 0

    def of(self, place: int) -> list[int]:
        """The tokens to run with the prompt at `place`: what follows the last of a draft is the step after it."""
        if self._drafts is None:
            return []
        return [*self._drafts[place][:-1][: self._most][: self._length]]

    @property
    def _length(self) -> int | None:
        """Tokens that are right together often enough, if each one is as likely as the others; None for any number."""
        if not self._ended:
            return None
        return int(math.log(_WORTH) / math.log(self._right / (self._right + self._ended))) if self._right else 0

    def tell(self, batch: Batch) -> None:
        """Nothing; how many of the tokens offered to `batch` were right is known."""
        self._right += sum(len(new) - 1 for new in batch.new)
        self._ended += sum(wrong > 0 for wrong in batch.wrong)


class Shared:
    """What all prompts begin with, run once, and the forwards of what follows."""

    def __init__(self, choose: Choose, prompts: Sequence[Sequence[int]]) -> None:
        self._choose, self._prompts = choose, prompts
        self._cache: DynamicCache | None = None
        self._length = 0
        # Every prompt keeps a token of its own, whose logits its first new token is chosen from.
        length = min(_common(prompts), min(map(len, prompts), default=1) - 1)
        if len(prompts) > 1 and length >= _MIN_SHARED and choose.takes_positions and choose.is_flexible:
            cache = new_cache(choose.config)
            ids = torch.tensor([prompts[0][:length]], device=choose.device)
            choose(ids, torch.ones_like(ids), cache)
            self._cache, self._length = cache, length

    def begin(self, places: Sequence[int], drafts: Sequence[list[int]]) -> Batch:
        """The prompts at `places` and their drafts as a batch padded on the left, with the first new tokens of each.

        In shorter rows the shared tokens stand further right, and their last ones are run again with what follows. So
        the layout is the usual one, and no mask has a gap.
        """
        rows = [[*self._prompts[place], *draft] for place, draft in zip(places, drafts, strict=True)]
        columns = max(map(len, rows))
        blanks = [columns - len(row) for row in rows]
        ids = torch.tensor([[0] * blank + row for blank, row in zip(blanks, rows, strict=True)])
        ids = ids[:, self._length :].to(self._choose.device)
        cache = new_cache(self._choose.config) if self._cache is None else spread(self._cache, torch.tensor(blanks))
        batch = Batch(list(places), blanks, columns, cache)
        batch.take(*self._choose(ids, batch.mask(ids.device), cache, 1 + max(map(len, drafts))), drafts)
        return batch


def _common(prompts: Sequence[Sequence[int]]) -> int:
    """The number of tokens that all prompts begin with."""
    return sum(1 for _ in itertools.takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False)))


class Batch:
    """Rows being decoded: the place of each one's prompt, or None where it is finished, and their padding."""

    new: list[list[int]]
    """The tokens of each row that were chosen last. The very last of them is not in the cache yet."""
    finite: list[list[bool]]
    """Whether each of `new` had a finite number to be chosen by."""
    wrong: list[int]
    """How many tokens of each row's draft the model would not have chosen; they are the last ones in the cache."""

    def __init__(self, rows: list[int | None], blanks: list[int], columns: int, cache: DynamicCache) -> None:
        self.rows = rows
        self._blanks, self._columns, self._cache = blanks, columns, cache
        self.is_flexible = is_flexible(cache)
        """Whether rows can join, and columns of nothing but padding leave."""

    def mask(self, device: torch.device) -> Tensor:
        """[rows, columns]: 1 from where a row begins."""
        begins = torch.tensor(self._blanks, device=device)[:, None]
        return (torch.arange(self._columns, device=device) >= begins).long()

    def take(self, chosen: Sequence[list[int]], finite: Sequence[list[bool]], drafts: Sequence[Sequence[int]]) -> None:
        """Nothing; each row's `new` are the tokens of its draft that the model chose too, and the one it chose then.

        `chosen` is what it chose behind each of the last tokens, the last of the draft last.
        """
        self.new, self.finite, self.wrong = [], [], []
        for choices, had, draft in zip(chosen, finite, drafts, strict=True):
            said = choices[len(choices) - len(draft) - 1 :]
            right = next((i for i, token in enumerate(draft) if token != said[i]), len(draft))
            self.new.append([*draft[:right], said[right]])
            self.finite.append(had[len(had) - len(draft) - 1 :][: right + 1])
            self.wrong.append(len(draft) - right)

    def align(self) -> None:
        """Nothing; the wrong ends of drafts are out of the cache, and what is right stands at its end."""
        if self.is_running and any(self.wrong):
            move_right(self._cache, torch.tensor(self.wrong))
            self._blanks = [blank + wrong for blank, wrong in zip(self._blanks, self.wrong, strict=True)]
        self.wrong = [0] * len(self.rows)

    def step(self, choose: Choose) -> None:
        """Nothing; every row has a token more."""
        self._trim()
        self._columns += 1
        ids = torch.tensor([new[-1:] for new in self.new], device=choose.device)
        self.new, self.finite = choose(ids, self.mask(ids.device), self._cache)

    @property
    def is_running(self) -> bool:
        """Whether a row is not finished."""
        return any(row is not None for row in self.rows)

    @property
    def takes_rows(self) -> bool:
        """Whether a row is finished, and another can take its place."""
        return self.is_flexible and None in self.rows

    def join(self, reserve: Batch) -> None:
        """Nothing; rows of `reserve`, as many as there are places, go on here in the places of finished ones."""
        places = [i for i, row in enumerate(self.rows) if row is None]
        chosen = [i for i, row in enumerate(reserve.rows) if row is not None][: len(places)]
        places = places[: len(chosen)]
        if not places:
            return
        reserve._trim()
        if (missing := reserve._columns - self._columns) > 0:
            add_left(self._cache, missing)
            self._blanks, self._columns = [blank + missing for blank in self._blanks], reserve._columns
        join(self._cache, torch.tensor(places), reserve._cache, torch.tensor(chosen))
        for i, j in zip(places, chosen, strict=True):
            self.new[i] = reserve.new[j]
            self._blanks[i] = self._columns - reserve._columns + reserve._blanks[j]
            self.rows[i], reserve.rows[j] = reserve.rows[j], None

    def shrink(self) -> None:
        """Nothing; finished rows are gone, once they are enough to be worth the copy."""
        if self.rows.count(None) * 4 < len(self.rows):
            return
        index = torch.tensor([i for i, row in enumerate(self.rows) if row is not None])
        self._cache.batch_select_indices(index)
        self.new, self.finite = self._running(self.new), self._running(self.finite)
        self._blanks = self._running(self._blanks)
        self.rows = self._running(self.rows)

    def _trim(self) -> None:
        """Nothing; columns that are nothing but padding in all rows are gone."""
        if self.is_flexible and (least := min(self._running(self._blanks))):
            drop_left(self._cache, least)
            self._blanks = [max(blank - least, 0) for blank in self._blanks]
            self._columns -= least

    def _running(self, values: list[Any]) -> list[Any]:
        return [value for value, row in zip(values, self.rows, strict=True) if row is not None]
