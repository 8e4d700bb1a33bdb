"""Greedy decoding of many prompts: rows leave the batch when they are finished, and waiting prompts take their places.

What another plan has answered can be given as a draft: one forward says how much of it this plan would have answered
too, token by token, and decoding goes on from there (speculative decoding, arXiv 2211.17192, where the draft costs
nothing and every token is the likeliest).

The tokens are those of `model.generate`, except where two tokens are likeliest within rounding: sums over batches
and widths of other shapes differ in the last digits, as they do between two batch sizes of `generate`. In bfloat16
such ties are not rare.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import DynamicCache

from painters._generation_cache import (
    KINDS,
    add_left,
    cache_name,
    drop_left,
    is_flexible,
    join,
    move_right,
    new_cache,
    spread,
)
from painters.memory import MemoryExhausted, first_line, free, is_exhausted, without_locals

__all__ = ["eos_tokens", "greedy", "is_supported"]

Stop = Callable[[list[list[int]]], list[bool]]

_PLAIN: Final = {
    *("bos_token_id", "eos_token_id", "pad_token_id", "max_length", "use_cache"),
    *("do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p"),  # of sampling, which greedy decoding is not
    *("output_attentions", "output_hidden_states", "transformers_version", "_from_model_config"),
}
"""Settings in a model's generation_config that greedy decoding can ignore; another one may alter the logits."""

_MIN_SHARED = 16
"""Tokens that all prompts must begin with for a forward of their own."""

_WORTH = 4
"""Drafts are given up once fewer than one of so many of their tokens is what the model says itself."""


def is_supported(model: Any) -> bool:
    """Whether `greedy` is known to do what `model.generate` does with the model's own settings.

    Not for models that prepare their inputs in a way of their own, that keep something else than keys and values,
    whose positions depend on the longest row, or whose generation_config alters the logits.
    """
    if not isinstance(model, PreTrainedModel) or not isinstance(model, GenerationMixin):
        return False
    kind, config = type(model), model.config
    for method in ("generate", "_sample", "prepare_inputs_for_generation", "_prepare_cache_for_generation"):
        if getattr(kind, method) is not getattr(GenerationMixin, method):
            return False
    parameters = inspect.signature(model.forward).parameters
    if config.is_encoder_decoder or not {"attention_mask", "use_cache"} <= set(parameters) or cache_name(model) is None:
        return False
    if any(rope in str(getattr(config, "rope_parameters", None)) for rope in ("'dynamic'", "'longrope'")):
        return False
    settings = model.generation_config
    if settings.use_cache is False or not set(settings.to_diff_dict()) <= _PLAIN:
        return False
    return all(type(slot) in KINDS for slot in new_cache(config).layers)


def eos_tokens(model: Any) -> frozenset[int]:
    """The tokens at which `model.generate` ends a row."""
    found = model.generation_config.eos_token_id
    return frozenset([found] if isinstance(found, int) else found or ())


@torch.inference_mode()
def greedy(
    model: Any,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    batch_size: int,
    eos: Collection[int] = (),
    stop: Stop | None = None,
    drafts: Sequence[Sequence[int]] | None = None,
    done: Callable[[int, list[int]], None] | None = None,
    halved: Callable[[int], None] | None = None,
    not_finite: Callable[[int], None] | None = None,
) -> list[list[int]]:
    """The new tokens of each prompt, 1 to `max_new_tokens`, up to and with the first of `eos`.

    `batch_size` rows at most are decoded at once, those of longer prompts first, while the keys and values of half as
    many further prompts may wait. `stop` is given the new tokens of running rows after each step, and says which of
    these end there. `drafts` holds for each prompt what its new tokens may turn out to be, or nothing; they change the
    time and not the tokens. `done` is called with the index and the tokens of each prompt when it is finished.

    Where memory does not suffice, prompts that are not finished begin again in half as many rows; `halved` is told how
    many. Raises MemoryExhausted where one row has no room. `not_finite` is told the index of a prompt for each token
    that no finite number led to.
    """
    if any(not prompt for prompt in prompts):
        raise ValueError("a prompt has no tokens: give each one or more")
    if max_new_tokens < 1 or batch_size < 1:
        raise ValueError(f"{max_new_tokens} new tokens in batches of {batch_size}: give 1 or more of both")
    found: list[list[int]] = [[] for _ in prompts]
    unfinished = set(range(len(prompts)))

    def take(batch: _Batch) -> None:
        """Nothing; the batch's new tokens are noted, and its rows that end with them leave."""
        for step in range(max(map(len, batch.new))):
            running = []
            for place, new, finite in zip(batch.rows, batch.new, batch.finite, strict=True):
                if place is not None and step < len(new):
                    found[place].append(new[step])
                    running.append(place)
                    if not_finite is not None and not finite[step]:
                        not_finite(place)
            stopped = [False] * len(running) if stop is None else stop([found[place] for place in running])
            for place, ends in zip(running, stopped, strict=True):
                new = found[place]
                if ends or len(new) == max_new_tokens or new[-1] in eos:
                    batch.rows[batch.rows.index(place)] = None
                    unfinished.discard(place)
                    if done is not None:
                        done(place, new)

    choose = _Choose(model)
    shared = _Shared(choose, prompts)
    offered = _Drafts(drafts if is_flexible(new_cache(choose.config)) else None, max_new_tokens)

    def decode(rows: int) -> None:
        """Nothing; what was unfinished is finished, at most so many rows at once."""
        waiting = sorted(sorted(unfinished), key=lambda place: len(prompts[place]))  # the next one last

        def begin(count: int) -> _Batch:
            places = [waiting.pop() for _ in range(min(count, len(waiting)))]
            begun = shared.begin(places, [offered.of(place) for place in places])
            offered.tell(begun)
            take(begun)
            begun.align()
            return begun

        batch: _Batch | None = None
        reserve: _Batch | None = None  # rows that begin together, cheaper than one by one, and step in when others end
        while waiting or batch is not None:
            if batch is None:
                batch = begin(rows)
            while batch.takes_rows and (waiting or reserve is not None):
                reserve = reserve or begin(max(1, rows // 2))
                batch.join(reserve)
                if not reserve.is_running:
                    reserve = None
            if batch.is_running:
                if not waiting or not batch.is_flexible:
                    batch.shrink()
                batch.step(choose)
                take(batch)
            else:
                batch = None

    while unfinished:
        try:
            decode(batch_size)
        except Exception as error:
            if not is_exhausted(error):
                raise
            if batch_size == 1:
                raise MemoryExhausted(f"memory does not suffice for one row at a time: {first_line(error)}") from error
            without_locals(error)
            batch_size //= 2
            for place in unfinished:
                found[place].clear()
            if halved is not None:
                halved(batch_size)
        if unfinished:
            free()
    return found


class _Choose:
    """A forward of the model in decoding: the likeliest next token of each row."""

    def __init__(self, model: Any) -> None:
        self.config, self.device = model.config, model.device
        self._model = model
        parameters = inspect.signature(model.forward).parameters
        self.takes_positions = "position_ids" in parameters
        self._cache_name = cache_name(model)
        self._takes_keep = "logits_to_keep" in parameters

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


class _Drafts:
    """What the new tokens of each prompt may turn out to be, for as long as enough of them are right."""

    def __init__(self, drafts: Sequence[Sequence[int]] | None, max_new_tokens: int) -> None:
        self._drafts, self._most = drafts, max_new_tokens - 1
        self._offered = self._right = 0

    def of(self, place: int) -> list[int]:
        """The tokens to run with the prompt at `place`: what follows the last of a draft is the step after it."""
        if self._drafts is None or self._right * _WORTH < self._offered:
            return []
        return [*self._drafts[place][:-1][: self._most]]

    def tell(self, batch: _Batch) -> None:
        """Nothing; how many of the tokens offered to `batch` were right is known."""
        self._right += sum(len(new) - 1 for new in batch.new)
        self._offered += sum(len(new) - 1 for new in batch.new) + sum(batch.wrong)


class _Shared:
    """What all prompts begin with, run once, and the forwards of what follows."""

    def __init__(self, choose: _Choose, prompts: Sequence[Sequence[int]]) -> None:
        self._choose, self._prompts = choose, prompts
        self._cache: DynamicCache | None = None
        self._length = 0
        # Every prompt keeps a token of its own, whose logits its first new token is chosen from.
        length = min(_common(prompts), min(map(len, prompts), default=1) - 1)
        cache = new_cache(choose.config)
        if len(prompts) > 1 and length >= _MIN_SHARED and choose.takes_positions and is_flexible(cache):
            ids = torch.tensor([prompts[0][:length]], device=choose.device)
            choose(ids, torch.ones_like(ids), cache)
            self._cache, self._length = cache, length

    def begin(self, places: Sequence[int], drafts: Sequence[list[int]]) -> _Batch:
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
        batch = _Batch(list(places), blanks, columns, cache)
        batch.take(*self._choose(ids, batch.mask(ids.device), cache, 1 + max(map(len, drafts))), drafts)
        return batch


def _common(prompts: Sequence[Sequence[int]]) -> int:
    """The number of tokens that all prompts begin with."""
    return sum(1 for _ in itertools.takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False)))


class _Batch:
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

    def step(self, choose: _Choose) -> None:
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

    def join(self, reserve: _Batch) -> None:
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
