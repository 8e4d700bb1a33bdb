"""lm-eval's generation requests answered by our own greedy decoding, with its prompts, stop strings and texts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from lm_eval.api.model import CacheHook
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import (
    Collator,
    handle_stop_sequences,
    normalize_gen_kwargs,
    postprocess_generated_text,
)
from tqdm import tqdm  # type: ignore[import-untyped]

from painters.generation import eos_tokens, greedy, is_supported

_GREEDY: dict[str, Any] = {"do_sample": False, "temperature": 0.0, "num_beams": 1}
"""What requests may say of decoding besides where it ends."""

Own = Callable[..., list[str]]


def can_answer(lm: HFLM, requests: Sequence[Any]) -> bool:
    """Whether these requests are greedy decoding and nothing else, of a model that `painters.generation` supports."""
    if lm.backend != "causal" or not isinstance(lm.batch_size, int) or lm.think_end_token is not None:
        return False
    if lm.eot_token_id is None or not is_supported(lm.model):
        return False
    for _, settings in {repr(request.args[1]): request.args for request in requests}.values():
        if not isinstance(settings, dict):
            return False
        kwargs = normalize_gen_kwargs(settings, lm.max_gen_toks)
        rest = {name: value for name, value in kwargs.items() if name not in ("until", "max_gen_toks")}
        if any(name not in _GREEDY or value != _GREEDY[name] for name, value in rest.items()):
            return False
        if not 1 <= kwargs["max_gen_toks"] < lm.max_length:
            return False
    return True


def batches(lm: HFLM, requests: Sequence[Any]) -> list[list[int]]:
    """The places of the requests that are in each of lm-eval's batches."""

    def by_length(arguments: tuple[str, Any, int]) -> tuple[int, str]:
        return -len(lm.tok_encode(arguments[0])), arguments[0]

    order = Collator(
        [(*request.args, place) for place, request in enumerate(requests)],
        sort_fn=by_length,
        group_by="gen_kwargs",
        group_fn=lambda args: args[1],
    )
    return [[place for _, _, place in batch] for batch in order.get_batched(n=lm.batch_size)]


Answered = dict[tuple[int, ...], list[int]]
"""The tokens of a prompt -> those of the first answer that was found to it."""


def answer(
    lm: HFLM, requests: Sequence[Any], own: Own, disable_tqdm: bool = False, answered: Answered | None = None
) -> list[str]:
    """lm-eval's answers to the requests, in their order.

    `answered` are the answers of earlier plans, drafts of this one's; new prompts are added.

    `own` is lm-eval's `generate_until`. It answers where a row ends at a stop string that is not in its text, such as
    a special token: lm-eval ends the rows of a batch together, and keeps what comes behind.
    """

    order = batches(lm, requests)
    asked = [[requests[place].args for place in batch] for batch in order]
    answers: list[str] = []
    with tqdm(total=len(requests), disable=disable_tqdm or lm.rank != 0, desc="Generating") as bar:
        for _, group in itertools.groupby(asked, key=lambda batch: batch[0][1]):
            answers += _Group(lm, list(group), own, bar, {} if answered is None else answered).answers()
    found = dict(zip(itertools.chain.from_iterable(order), answers, strict=True))
    return [found[place] for place in range(len(requests))]


class _Group:
    """Requests with the same settings, in lm-eval's batches of (prompt, settings)."""

    def __init__(self, lm: HFLM, batches: list[list[Any]], own: Own, bar: Any, answered: Answered) -> None:
        self._lm, self._batches, self._own, self._bar, self._answered = lm, batches, own, bar, answered
        kwargs = normalize_gen_kwargs(batches[0][0][1], lm.max_gen_toks)
        eos = lm.tok_decode(lm.eot_token_id, skip_special_tokens=False)
        self._until: list[str] = handle_stop_sequences(kwargs["until"], eos=eos)
        self._max_new_tokens: int = kwargs["max_gen_toks"]
        self._eos = eos_tokens(lm.model)
        # As many tokens as lm-eval looks back: a stop string may be spelt in more of them than its own encoding.
        longest = max(len(lm.tokenizer.encode(string, add_special_tokens=False)) for string in self._until)
        self._window = longest + 2
        self._requests = [request for batch in batches for request in batch]

    def answers(self) -> list[str]:
        """The answers in the order of the batches."""
        lm = self._lm
        prompts = list(self._prompts())
        drafts = [self._answered.get(tuple(prompt), []) for prompt in prompts]
        texts: list[str | None] = [None] * len(prompts)
        odd: set[int] = set()  # prompts that were not always answered by a finite number

        def halved(rows: int) -> None:
            lm.rows_left = rows

        def done(place: int, tokens: list[int]) -> None:
            self._answered.setdefault(tuple(prompts[place]), tokens)
            text = lm.tok_decode(tokens)
            ended = tokens[-1] in self._eos or len(tokens) == self._max_new_tokens
            if ended or any(string in text for string in self._until):
                texts[place] = postprocess_generated_text(text, self._until, None)
                self._tell(place, texts[place])

        mixed = lm.mixed_precision_dtype
        with torch.autocast(lm.device.type, dtype=mixed, enabled=mixed is not None):
            greedy(
                lm.model,
                prompts if all(prompts) else [],  # lm-eval makes something of an empty prompt, by its padding
                self._max_new_tokens,
                batch_size=lm.rows_left or lm.batch_size,
                eos=self._eos,
                stop=self._stopped,
                drafts=drafts,
                done=done,
                halved=halved,
                not_finite=odd.add,
            )
        lm.not_finite += len(odd)
        first = 0
        for batch in self._batches:
            places = range(first, first + len(batch))
            first += len(batch)
            if any(texts[place] is None for place in places):
                again = self._by_lm_eval(batch)
                for place, text in zip(places, again, strict=True):
                    if texts[place] is None:
                        texts[place] = text
                        self._tell(place, text)
        return [text for text in texts if text is not None]

    def _prompts(self) -> Iterator[list[int]]:
        """The tokens of each prompt as lm-eval encodes and truncates them, without its padding."""
        lm = self._lm
        for batch in self._batches:
            ids, mask = lm.tok_batch_encode(
                [prompt for prompt, _ in batch],
                left_truncate_len=lm.max_length - self._max_new_tokens,
                truncation=lm.truncation,
            )
            for row, seen in zip(ids, mask, strict=True):
                yield row[seen.bool()].tolist()

    def _stopped(self, rows: list[list[int]]) -> list[bool]:
        tails = self._lm.tokenizer.batch_decode([row[-self._window :] for row in rows])
        return [any(string in tail for string in self._until) for tail in tails]

    def _by_lm_eval(self, batch: list[Any]) -> list[str]:
        """Its own answers; nobody is told of them, and none is counted twice."""
        lm = self._lm
        hook, lm.cache_hook, not_finite = lm.cache_hook, CacheHook(None), lm.not_finite
        try:
            return self._own([_Request(args) for args in batch], disable_tqdm=True)
        finally:
            lm.cache_hook, lm.not_finite = hook, not_finite

    def _tell(self, place: int, text: str | None) -> None:
        self._lm.cache_hook.add_partial("generate_until", self._requests[place], text)
        self._bar.update(1)


class _Request:
    """What lm-eval reads of a request."""

    def __init__(self, args: Any) -> None:
        self.args = args
