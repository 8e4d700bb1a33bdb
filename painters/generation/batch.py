"""The parts of greedy decoding: one forward, draft answers, the shared prefix, a batch of rows.

Rows are padded on the left, so their newest tokens stand below one another.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from painters.generation.cache import (
    cache_name,
    can_move_rows,
    drop_first_tokens,
    drop_last_tokens,
    new_cache,
    pad_left,
    repeat_shifted,
    replace_rows,
)

_MIN_PREFIX = 16
"""The fewest tokens in a shared prefix that are worth a forward of their own."""

_MIN_LIKELIHOOD = 0.3
"""Run a drafted token with the prompt only if it and all before it are at least this likely to be accepted."""


class GreedyStep:
    """One forward of the model in greedy decoding: the likeliest next token of each row."""

    def __init__(self, model: Any) -> None:
        self.config, self.device = model.config, model.device
        self._model = model
        parameters = inspect.signature(model.forward).parameters
        self.takes_positions = "position_ids" in parameters
        self._cache_name = cache_name(model)
        self._takes_keep = "logits_to_keep" in parameters
        self.can_move_rows = can_move_rows(new_cache(self.config))
        """Whether rows can be moved in the caches that the model fills."""

    def __call__(
        self, ids: Tensor, mask: Tensor, cache: DynamicCache, positions: int = 1
    ) -> tuple[list[list[int]], list[list[bool]]]:
        """Run the model on new tokens, and choose what follows each of the last few.

        Args:
            ids: The new tokens `[rows, new]`. They stand behind the tokens in `cache`.
            mask: The attention mask `[rows, past + new]`.
            cache: The cache of the batch; the new tokens are added to it.
            positions: How many of the last tokens a next token is chosen for.

        Returns:
            The likeliest next token behind each of these `[rows][positions]`, and whether its logit is finite.
        """
        options: dict[str, Any] = {str(self._cache_name): cache}
        if self._takes_keep:
            options["logits_to_keep"] = positions
        if self.takes_positions:
            position_ids = (mask.cumsum(-1) - 1).clamp(min=0)
            options["position_ids"] = position_ids[:, -ids.shape[1] :]
        output = self._model(input_ids=ids, attention_mask=mask, use_cache=True, return_dict=True, **options)
        logits = output.logits[:, -positions:].float()
        # If one logit is NaN, amax is NaN.
        return logits.argmax(-1).tolist(), logits.amax(-1).isfinite().tolist()


class DraftAnswers:
    """The draft of each prompt's answer for speculative decoding, cut to what is likely to be accepted."""

    def __init__(self, drafts: Sequence[Sequence[int]] | None, max_new_tokens: int) -> None:
        self._drafts, self._max_length = drafts, max_new_tokens - 1
        self._accepted = self._rejected = 0

    def tokens_for(self, prompt: int) -> list[int]:
        """Return the drafted tokens to run with the prompt of this index.

        The last token of a draft is left out: the forward that accepts those before it chooses it anyway.
        """
        if self._drafts is None:
            return []
        return [*self._drafts[prompt][:-1][: self._max_length][: self._worthwhile_length]]

    @property
    def _worthwhile_length(self) -> int | None:
        """The longest draft that is likely enough to be accepted whole; None for any length.

        Every token counts as equally likely, by the drafts so far: accepted tokens against drafts that failed. There is
        no limit before one failed.
        """
        if not self._rejected:
            return None
        if not self._accepted:
            return 0
        likelihood = self._accepted / (self._accepted + self._rejected)
        return int(math.log(_MIN_LIKELIHOOD) / math.log(likelihood))

    def record(self, batch: DecodingBatch) -> None:
        """Count how many of the drafted tokens run with `batch` were accepted, and how many drafts failed."""
        self._accepted += sum(len(tokens) - 1 for tokens in batch.new_tokens)
        self._rejected += sum(count > 0 for count in batch.num_rejected)


class SharedPrefix:
    """Prefix caching: run the tokens that all prompts begin with once, and continue from their cache."""

    def __init__(self, step: GreedyStep, prompts: Sequence[Sequence[int]]) -> None:
        self._step, self._prompts = step, prompts
        self._cache: DynamicCache | None = None
        self._length = 0
        # Every prompt keeps a token of its own: the logits behind it give the first new token.
        length = min(_common_length(prompts), min(map(len, prompts), default=1) - 1)
        if len(prompts) > 1 and length >= _MIN_PREFIX and step.takes_positions and step.can_move_rows:
            cache = new_cache(step.config)
            ids = torch.tensor([prompts[0][:length]], device=step.device)
            step(ids, torch.ones_like(ids), cache)
            self._cache, self._length = cache, length

    def prefill(self, indices: Sequence[int], drafts: Sequence[list[int]]) -> DecodingBatch:
        """Run the prompts of these indices with their drafts, as a batch that has its first new tokens.

        The batch is padded on the left in the usual way, without gaps in its mask. In shorter rows the prefix therefore
        stands further right, and its last tokens are run again with what follows.
        """
        rows = [[*self._prompts[index], *draft] for index, draft in zip(indices, drafts, strict=True)]
        width = max(map(len, rows))
        padding = [width - len(row) for row in rows]
        ids = torch.tensor([[0] * blank + row for blank, row in zip(padding, rows, strict=True)])
        ids = ids[:, self._length :].to(self._step.device)
        if self._cache is None:
            cache = new_cache(self._step.config)
        else:
            cache = repeat_shifted(self._cache, torch.tensor(padding))
        batch = DecodingBatch(list(indices), padding, width, cache)
        chosen, is_finite = self._step(ids, batch.mask(ids.device), cache, 1 + max(map(len, drafts)))
        batch.accept_drafts(chosen, is_finite, drafts)
        return batch


def _common_length(prompts: Sequence[Sequence[int]]) -> int:
    """Return the number of tokens that all prompts begin with."""
    return sum(1 for _ in itertools.takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False)))


class DecodingBatch:
    """The rows that are decoded together, and their cache.

    A finished row stays until another takes its place (`admit`) or the batch is made smaller (`drop_finished`).
    """

    new_tokens: list[list[int]]
    """The tokens that each row got last. The very last of them is not in the cache yet."""
    is_finite: list[list[bool]]
    """Whether the logit of each of `new_tokens` was finite."""
    num_rejected: list[int]
    """How many tokens of each row's draft were rejected. They are the last ones in the cache."""

    def __init__(self, prompts: list[int | None], padding: list[int], width: int, cache: DynamicCache) -> None:
        self.prompts = prompts
        """The index of each row's prompt; None for a finished row."""
        self._padding, self._width, self._cache = padding, width, cache
        self.can_move_rows = can_move_rows(cache)
        """Whether rows can join the batch, and columns of padding alone can leave it."""

    def mask(self, device: torch.device) -> Tensor:
        """Return the attention mask `[rows, width]`: 0 for the padding of each row, then 1."""
        starts = torch.tensor(self._padding, device=device)[:, None]
        return (torch.arange(self._width, device=device) >= starts).long()

    def accept_drafts(
        self, chosen: Sequence[list[int]], is_finite: Sequence[list[bool]], drafts: Sequence[Sequence[int]]
    ) -> None:
        """Accept the longest prefix of each draft that is what the model chose, and the token it chose next.

        Args:
            chosen: What the model chose behind each of the last tokens of each row, the end of the draft last.
            is_finite: Whether the logits of these choices are finite.
            drafts: The drafted tokens of each row, no more than there are choices, less one.
        """
        self.new_tokens, self.is_finite, self.num_rejected = [], [], []
        for row_chosen, row_finite, draft in zip(chosen, is_finite, drafts, strict=True):
            first = len(row_chosen) - len(draft) - 1  # the choice at the end of the prompt
            choices = row_chosen[first:]
            accepted = next((i for i, token in enumerate(draft) if token != choices[i]), len(draft))
            self.new_tokens.append([*draft[:accepted], choices[accepted]])
            self.is_finite.append(row_finite[first:][: accepted + 1])
            self.num_rejected.append(len(draft) - accepted)

    def drop_rejected(self) -> None:
        """Remove the rejected tokens of drafts from the cache, and move what was accepted to its end."""
        if self.is_running and any(self.num_rejected):
            drop_last_tokens(self._cache, torch.tensor(self.num_rejected))
            self._padding = [blank + count for blank, count in zip(self._padding, self.num_rejected, strict=True)]
        self.num_rejected = [0] * len(self.prompts)

    def decode_step(self, step: GreedyStep) -> None:
        """Give every row one more token."""
        self._trim_padding()
        self._width += 1
        ids = torch.tensor([tokens[-1:] for tokens in self.new_tokens], device=step.device)
        self.new_tokens, self.is_finite = step(ids, self.mask(ids.device), self._cache)

    @property
    def is_running(self) -> bool:
        """Whether a row is not finished."""
        return any(prompt is not None for prompt in self.prompts)

    @property
    def has_room(self) -> bool:
        """Whether a row is finished and another one can take its place."""
        return self.can_move_rows and None in self.prompts

    def admit(self, reserve: DecodingBatch) -> None:
        """Move rows of `reserve` into the places of finished rows (continuous batching).

        As many move as there are of both; `reserve` keeps the others.
        """
        rows = [row for row, prompt in enumerate(self.prompts) if prompt is None]
        admitted = [row for row, prompt in enumerate(reserve.prompts) if prompt is not None][: len(rows)]
        rows = rows[: len(admitted)]
        if not rows:
            return
        reserve._trim_padding()
        if (missing := reserve._width - self._width) > 0:
            pad_left(self._cache, missing)
            self._padding, self._width = [blank + missing for blank in self._padding], reserve._width
        replace_rows(self._cache, torch.tensor(rows), reserve._cache, torch.tensor(admitted))
        for row, other in zip(rows, admitted, strict=True):
            self.new_tokens[row] = reserve.new_tokens[other]
            self._padding[row] = self._width - reserve._width + reserve._padding[other]
            self.prompts[row], reserve.prompts[other] = reserve.prompts[other], None

    def drop_finished(self) -> None:
        """Remove finished rows, once they are a quarter of the batch: fewer are not worth copying the cache."""
        if self.prompts.count(None) * 4 < len(self.prompts):
            return
        rows = torch.tensor([row for row, prompt in enumerate(self.prompts) if prompt is not None])
        self._cache.batch_select_indices(rows)
        self.new_tokens, self.is_finite = self._running(self.new_tokens), self._running(self.is_finite)
        self._padding = self._running(self._padding)
        self.prompts = self._running(self.prompts)

    def _trim_padding(self) -> None:
        """Remove the columns that are padding in all running rows."""
        if self.can_move_rows and (least := min(self._running(self._padding))):
            drop_first_tokens(self._cache, least)
            self._padding = [max(blank - least, 0) for blank in self._padding]
            self._width -= least

    def _running(self, values: list[Any]) -> list[Any]:
        """Return those of `values`, one for each row, that belong to running rows."""
        return [value for value, prompt in zip(values, self.prompts, strict=True) if prompt is not None]
