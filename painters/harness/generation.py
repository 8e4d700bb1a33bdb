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
from painters.harness.kept import KeptTexts
from painters.tasks import ScoringError

_GREEDY: dict[str, Any] = {"do_sample": False, "temperature": 0.0, "num_beams": 1}
"""What requests may say about decoding, besides where a text ends."""

GenerateUntil: TypeAlias = Callable[..., list[str]]
"""lm-eval's method `generate_until`."""
KnownAnswers: TypeAlias = dict[tuple[int, ...], list[int]]
"""The tokens of a prompt -> the tokens of the first answer to it, a draft for other plans (speculative decoding)."""


GROUPS = 20
"""Groups of prompts that a half-precision model decodes one after the other; an interruption loses one at most."""
GROUP = 8
"""Batches of such a group at least: where a group ends, rows run out and batches are not full."""


def can_answer(lm: HFLM, requests: Sequence[Any]) -> bool:
    """Return whether the requests ask for greedy decoding alone, and `painters.generation` supports the model."""
    if lm.backend != "causal" or not isinstance(lm.batch_size, int) or lm.think_end_token is not None:
        return False
    if lm.eot_token_id is None or not is_supported(lm.model):
        return False
    if any(request.request_type != "generate_until" for request in requests):
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


def refuse_lengths(lm: HFLM, task: str, requests: Sequence[Any]) -> None:
    """Raise ScoringError where lm-eval could not generate the texts of `requests` with this model and tokenizer."""
    if lm.tokenizer.eos_token_id is None:
        raise ScoringError(
            f"task {task!r} generates texts, and the model's tokenizer names no EOS token, at which they end: set "
            "tokenizer.eos_token, or eos_token in tokenizer_config.json"
        )
    distinct_settings = {repr(request.args[1]): request.args[1] for request in requests}
    longest = max(
        normalize_gen_kwargs(settings, lm.max_gen_toks)["max_gen_toks"] for settings in distinct_settings.values()
    )
    if longest >= lm.max_length and lm.backend == "causal":  # a decoder beside an encoder has no prompt
        raise ScoringError(
            f"task {task!r} generates up to {longest:,} tokens (max_gen_toks), and the model takes {lm.max_length:,}, "
            "with those of the prompt: set a smaller max_gen_toks in the task's generation_kwargs, or take a model of "
            "a longer context"
        )


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
    kept: KeptTexts | None = None,
) -> list[str]:
    """Return lm-eval's answers to the requests, in their order.

    Args:
        lm: The model, for which `can_answer` is true of the requests.
        requests: lm-eval's requests to generate a text.
        by_lm_eval: Its own `generate_until`. It answers where a row ends at a stop string that is not in its text, such
            as a special token: lm-eval ends the rows of a batch together, and keeps what follows.
        disable_tqdm: Whether to show no progress bar.
        known_answers: The answers of earlier plans, which are drafts for this one. Answers to new prompts are added.
        kept: Texts that are known from before, and where others are kept as soon as they are there.
    """
    order = batches(lm, requests)
    known_answers = {} if known_answers is None else known_answers
    by_position: dict[int, str] = {}
    with tqdm(total=len(requests), disable=disable_tqdm or lm.rank != 0, desc="Generating") as bar:
        for _, group in itertools.groupby(order, key=lambda batch: requests[batch[0]].args[1]):
            equal = _EqualRequests(lm, requests, list(group), by_lm_eval, bar, known_answers, kept)
            by_position.update(equal.answers())
    return [by_position[position] for position in range(len(requests))]


def answer_by_batches(lm: HFLM, requests: Sequence[Any], by_lm_eval: GenerateUntil, kept: KeptTexts) -> list[str]:
    """Return lm-eval's answers to the requests, asked for in its own batches one by one.

    Args:
        lm: The model.
        requests: lm-eval's requests to generate a text.
        by_lm_eval: Its own `generate_until`.
        kept: Texts that are known from before, and where those of each batch are kept.
    """
    texts = dict(kept.known)
    for batch in batches(lm, requests):
        if not all(position in kept.known for position in batch):
            not_finite_before = lm.not_finite
            found = by_lm_eval([requests[position] for position in batch], disable_tqdm=True)
            answered = dict(zip(batch, found, strict=True))
            kept.add(answered, lm.not_finite - not_finite_before)
            texts |= answered
    return [texts[position] for position in range(len(requests))]


class _EqualRequests:
    """Requests with the same settings, in lm-eval's batches of positions in `requests`."""

    def __init__(
        self,
        lm: HFLM,
        requests: Sequence[Any],
        batches: list[list[int]],
        by_lm_eval: GenerateUntil,
        bar: Any,
        known_answers: KnownAnswers,
        kept: KeptTexts | None,
    ) -> None:
        self._lm, self._requests, self._batches, self._generate_until, self._bar = (
            lm,
            requests,
            batches,
            by_lm_eval,
            bar,
        )
        self._known_answers, self._kept = known_answers, kept
        kwargs = normalize_gen_kwargs(requests[batches[0][0]].args[1], lm.max_gen_toks)
        eos = lm.tok_decode(lm.eot_token_id, skip_special_tokens=False)
        self._until: list[str] = handle_stop_sequences(kwargs["until"], eos=eos)
        self._max_new_tokens: int = kwargs["max_gen_toks"]
        self._eos = eos_tokens(lm.model)
        # As many tokens as lm-eval looks back: a stop string may be spelt in more of them than its own encoding.
        longest = max(len(lm.tokenizer.encode(string, add_special_tokens=False)) for string in self._until)
        self._window = longest + 2
        known = {} if kept is None else kept.known
        self._texts = {position: known[position] for batch in batches for position in batch if position in known}
        self._not_finite: set[int] = set()  # positions of the group that is decoded

    def answers(self) -> dict[int, str]:
        """Return the answers by the position of the request.

        In half precision, where the likeliest token can depend on the other rows, prompts are decoded in groups that
        never change, and an interrupted scoring goes on with a whole group. In single precision all prompts are one
        group, and it goes on with those that have no answer.
        """
        is_half = self._lm.model.dtype.itemsize < 4
        size = max(GROUP, -(-len(self._batches) // GROUPS)) if is_half else len(self._batches)
        for begin in range(0, len(self._batches), size):
            group = self._batches[begin : begin + size]
            positions = [position for batch in group for position in batch]
            if all(position in self._texts for position in positions):
                continue
            if is_half:
                self._texts = {position: text for position, text in self._texts.items() if position not in positions}
            self._answer(group, keeps_each=not is_half)
        return self._texts

    def _answer(self, group: list[list[int]], *, keeps_each: bool) -> None:
        """Answer the requests of some batches that have no text yet.

        Each text is kept as soon as it is there, or else all of them at the end.
        """
        found: dict[int, str] = {}  # that are not kept yet
        not_finite = 0

        def set_text(position: int, text: str, is_finite: bool = True) -> None:
            nonlocal not_finite
            self._texts[position] = found[position] = text
            not_finite += not is_finite
            self._lm.cache_hook.add_partial("generate_until", self._requests[position].args, text)
            self._bar.update(1)
            if keeps_each:
                keep()

        def keep() -> None:
            nonlocal not_finite
            if self._kept is not None and found:
                self._kept.add(dict(found), not_finite, self._lm.rows_left)
            found.clear()
            not_finite = 0

        self._decode(group, set_text)
        for batch in group:
            if any(position not in self._texts for position in batch):
                for position, text in zip(batch, self._answers_by_lm_eval(batch), strict=True):
                    if position not in self._texts:
                        set_text(position, text, position not in self._not_finite)
        keep()

    def _decode(self, group: list[list[int]], set_text: Callable[[int, str, bool], None]) -> None:
        """Set the texts of all prompts whose end is the same in our decoding as in lm-eval's."""
        lm = self._lm
        asked = [(position, prompt) for position, prompt in self._prompts(group) if position not in self._texts]
        prompts = [prompt for _, prompt in asked]
        drafts = [self._known_answers.get(tuple(prompt), []) for prompt in prompts]
        without_finite_logit: set[int] = set()  # prompts for which a token was chosen from no finite number

        def halved(rows: int) -> None:
            lm.rows_left = rows

        def done(number: int, tokens: list[int]) -> None:
            self._known_answers.setdefault(tuple(prompts[number]), tokens)
            text = lm.tok_decode(tokens)
            ended = tokens[-1] in self._eos or len(tokens) == self._max_new_tokens
            if ended or any(string in text for string in self._until):
                text = postprocess_generated_text(text, self._until, None)
                set_text(asked[number][0], text, number not in without_finite_logit)

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
        self._not_finite = {asked[number][0] for number in without_finite_logit}
        lm.not_finite += len(without_finite_logit)

    def _prompts(self, group: list[list[int]]) -> Iterator[tuple[int, list[int]]]:
        """Yield the position and tokens of each prompt as lm-eval encodes and truncates them, without its padding."""
        lm = self._lm
        for batch in group:
            ids, mask = lm.tok_batch_encode(
                [self._requests[position].args[0] for position in batch],
                left_truncate_len=lm.max_length - self._max_new_tokens,
                truncation=lm.truncation,
            )
            for position, row, seen in zip(batch, ids, mask, strict=True):
                yield position, row[seen.bool()].tolist()

    def _stopped(self, rows: list[list[int]]) -> list[bool]:
        """Return for each row of tokens whether its end contains a stop string."""
        tails = self._lm.tokenizer.batch_decode([row[-self._window :] for row in rows])
        return [any(string in tail for string in self._until) for tail in tails]

    def _answers_by_lm_eval(self, batch: list[int]) -> list[str]:
        """Return lm-eval's own answers to a batch, which neither count as progress nor in `not_finite` again."""
        lm = self._lm
        hook, lm.cache_hook, not_finite = lm.cache_hook, CacheHook(None), lm.not_finite
        try:
            some = [_Request(self._requests[position].args) for position in batch]
            return self._generate_until(some, disable_tqdm=True)
        finally:
            lm.cache_hook, lm.not_finite = hook, not_finite


class _Request:
    """What lm-eval reads of a request."""

    def __init__(self, args: Any) -> None:
        self.args = args
