"""Our own greedy decoding for lm-eval's generation requests, with its prompts, stop strings and texts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

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
"""What requests may say about decoding, besides where a text ends."""

GenerateUntil: TypeAlias = Callable[..., list[str]]
"""lm-eval's method `generate_until`."""
KnownAnswers: TypeAlias = dict[tuple[int, ...], list[int]]
"""The tokens of a prompt -> the tokens of the first answer to it, a draft for other plans (speculative decoding)."""


def can_answer(lm: HFLM, requests: Sequence[Any]) -> bool:
    """Return whether the requests ask for greedy decoding alone, and `painters.generation` supports the model."""
    if lm.backend != "causal" or not isinstance(lm.batch_size, int) or lm.think_end_token is not None:
        return False
    if lm.eot_token_id is None or not is_supported(lm.model):
        return False
    distinct_settings = {repr(request.args[1]): request.args[1] for request in requests}
    return all(_is_greedy(lm, settings) for settings in distinct_settings.values())


def _is_greedy(lm: HFLM, settings: Any) -> bool:
    """Return whether the settings of a request ask for greedy decoding of a text that fits the model."""
    if not isinstance(settings, dict):
        return False
    kwargs = normalize_gen_kwargs(settings, lm.max_gen_toks)
    others = {name: value for name, value in kwargs.items() if name not in ("until", "max_gen_toks")}
    if any(name not in _GREEDY or value != _GREEDY[name] for name, value in others.items()):
        return False
    return bool(1 <= kwargs["max_gen_toks"] < lm.max_length)


def batches(lm: HFLM, requests: Sequence[Any]) -> list[list[int]]:
    """Return the positions of the requests in each of lm-eval's batches."""

    def by_length(arguments: tuple[str, Any, int]) -> tuple[int, str]:
        return -len(lm.tok_encode(arguments[0])), arguments[0]

    order = Collator(
        [(*request.args, position) for position, request in enumerate(requests)],
        sort_fn=by_length,
        group_by="gen_kwargs",
        group_fn=lambda args: args[1],
    )
    return [[position for _, _, position in batch] for batch in order.get_batched(n=lm.batch_size)]


def answer(
    lm: HFLM,
    requests: Sequence[Any],
    by_lm_eval: GenerateUntil,
    disable_tqdm: bool = False,
    known_answers: KnownAnswers | None = None,
) -> list[str]:
    """Return lm-eval's answers to the requests, in their order.

    Args:
        lm: The model, for which `can_answer` is true of the requests.
        requests: lm-eval's requests to generate a text.
        by_lm_eval: Its own `generate_until`. It answers where a row ends at a stop string that is not in its text, such
            as a special token: lm-eval ends the rows of a batch together, and keeps what follows.
        disable_tqdm: Whether to show no progress bar.
        known_answers: The answers of earlier plans, which are drafts for this one. Answers to new prompts are added.
    """
    order = batches(lm, requests)
    arguments = [[requests[position].args for position in batch] for batch in order]
    known_answers = {} if known_answers is None else known_answers
    texts: list[str] = []
    with tqdm(total=len(requests), disable=disable_tqdm or lm.rank != 0, desc="Generating") as bar:
        for _, group in itertools.groupby(arguments, key=lambda batch: batch[0][1]):
            texts += _EqualRequests(lm, list(group), by_lm_eval, bar, known_answers).answers()
    by_position = dict(zip(itertools.chain.from_iterable(order), texts, strict=True))
    return [by_position[position] for position in range(len(requests))]


class _EqualRequests:
    """Requests with the same settings, in lm-eval's batches of (prompt, settings)."""

    def __init__(
        self, lm: HFLM, batches: list[list[Any]], by_lm_eval: GenerateUntil, bar: Any, known_answers: KnownAnswers
    ) -> None:
        self._lm, self._batches, self._generate_until, self._bar = lm, batches, by_lm_eval, bar
        self._known_answers = known_answers
        kwargs = normalize_gen_kwargs(batches[0][0][1], lm.max_gen_toks)
        eos = lm.tok_decode(lm.eot_token_id, skip_special_tokens=False)
        self._until: list[str] = handle_stop_sequences(kwargs["until"], eos=eos)
        self._max_new_tokens: int = kwargs["max_gen_toks"]
        self._eos = eos_tokens(lm.model)
        # As many tokens as lm-eval looks back: a stop string may be spelt in more of them than its own encoding.
        longest = max(len(lm.tokenizer.encode(string, add_special_tokens=False)) for string in self._until)
        self._window = longest + 2
        self._requests = [request for batch in batches for request in batch]
        self._texts: list[str | None] = [None] * len(self._requests)

    def answers(self) -> list[str]:
        """Return the answers in the order of the batches."""
        self._decode()
        first = 0
        for batch in self._batches:
            positions = range(first, first + len(batch))
            first += len(batch)
            if any(self._texts[position] is None for position in positions):
                for position, text in zip(positions, self._answers_by_lm_eval(batch), strict=True):
                    if self._texts[position] is None:
                        self._set(position, text)
        return [text for text in self._texts if text is not None]

    def _decode(self) -> None:
        """Set the texts of all prompts whose end is the same in our decoding as in lm-eval's."""
        lm = self._lm
        prompts = list(self._prompts())
        drafts = [self._known_answers.get(tuple(prompt), []) for prompt in prompts]
        without_finite_logit: set[int] = set()  # prompts for which a token was chosen from no finite number

        def halved(rows: int) -> None:
            lm.rows_left = rows

        def done(position: int, tokens: list[int]) -> None:
            self._known_answers.setdefault(tuple(prompts[position]), tokens)
            text = lm.tok_decode(tokens)
            ended = tokens[-1] in self._eos or len(tokens) == self._max_new_tokens
            if ended or any(string in text for string in self._until):
                self._set(position, postprocess_generated_text(text, self._until, None))

        mixed = lm.mixed_precision_dtype
        with torch.autocast(lm.device.type, dtype=mixed, enabled=mixed is not None):
            greedy(
                lm.model,
                prompts if all(prompts) else [],  # lm-eval answers an empty prompt too, by its padding
                self._max_new_tokens,
                batch_size=lm.rows_left or lm.batch_size,
                eos=self._eos,
                stop=self._stopped,
                drafts=drafts,
                done=done,
                halved=halved,
                not_finite=without_finite_logit.add,
            )
        lm.not_finite += len(without_finite_logit)

    def _prompts(self) -> Iterator[list[int]]:
        """Yield the tokens of each prompt as lm-eval encodes and truncates them, without its padding."""
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
        """Return for each row of tokens whether its end contains a stop string."""
        tails = self._lm.tokenizer.batch_decode([row[-self._window :] for row in rows])
        return [any(string in tail for string in self._until) for tail in tails]

    def _answers_by_lm_eval(self, batch: list[Any]) -> list[str]:
        """Return lm-eval's own answers to a batch, which neither count as progress nor in `not_finite` again."""
        lm = self._lm
        hook, lm.cache_hook, not_finite = lm.cache_hook, CacheHook(None), lm.not_finite
        try:
            return self._generate_until([_Request(args) for args in batch], disable_tqdm=True)
        finally:
            lm.cache_hook, lm.not_finite = hook, not_finite

    def _set(self, position: int, text: str) -> None:
        """Set the text of a request and count it as progress."""
        self._texts[position] = text
        self._lm.cache_hook.add_partial("generate_until", self._requests[position], text)
        self._bar.update(1)


class _Request:
    """What lm-eval reads of a request."""

    def __init__(self, args: Any) -> None:
        self.args = args
