"""Batches for the encoder: texts packed into rows, with some words hidden and some corrupted.

The encoder learns three things from a text: to restore hidden words, to judge shown ones, and to say at `<cls>` whether
anything was corrupted. A single text is corrupted in its wording: a word is replaced by another form of it or by one
that often follows the word before, or two neighbours are exchanged. A pair is corrupted in what its second text says,
statement by statement: two names are exchanged, a name is replaced by another, or a word by its opposite. Each judged
word of a statement is judged by whether that statement still agrees with the first text. Names and things that nothing
else in a text determines weigh little, as in the decoder's training.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import groupby, pairwise
from typing import NamedTuple

import torch

from painters.nano import pairs, world
from painters.nano.documents import LOOSE, TIGHT
from painters.nano.encoder.corpus import Text, text
from painters.nano.pieces import CLS, FLAWED, MASK, SEP, SOUND, encoder_vocabulary
from painters.nano.tokenizer import PAD, PATTERN

OPEN = frozenset(
    " " + word
    for word in (*world.PEOPLE, *world.PLACES, *world.OBJECTS, *world.FOODS, *world.COLORS, *world.ANIMALS,
                 *world.THINGS, *world.LANDS, *world.JOBS, *world.TOOLS, *"0123456789",
                 *(world.plural(noun) for noun in world.OBJECTS + world.FOODS))
)  # fmt: skip
"""Words that are often determined by nothing else in the text: names, things, numbers."""
KINDS = {
    " " + word: kind
    for kind, words in enumerate((world.PEOPLE, world.PLACES, world.OBJECTS, world.FOODS, world.COLORS, world.ANIMALS,
                                  world.THINGS, world.LANDS, world.JOBS, world.TOOLS, "0123456789",
                                  [world.plural(noun) for noun in world.OBJECTS + world.FOODS],
                                  pairs.CLASSES, pairs.FEED, pairs.MATERIALS))
    for word in words
}  # fmt: skip
"""The kind of thing that such a word names."""
CONTRARIES = {
    " " + word: " " + other
    for left, right in (*pairs.SCALES, ("before", "after"), ("Nobody", "Somebody"), ("never", "later"))
    for word, other in ((left, right), (right, left))
}
"""The opposite of a word."""
_FORMS = (
    "is are", "was were", "has have", "does do", "belongs belong", "himself herself", "he him", "she her", "a an",
    "good bad", "finds found", "buys bought", "gives gave", "sees saw", "taller tallest", "older oldest",
    "faster fastest", "richer richest", *(f"{noun} {world.plural(noun)}" for noun in world.OBJECTS + world.FOODS),
)  # fmt: skip
FORMS = {
    " " + word: " " + other
    for left, right in map(str.split, _FORMS)
    for word, other in ((left, right), (right, left))
    if {" " + left, " " + right} <= set(encoder_vocabulary())
}
"""Another form of a word, where grammar decides between the two, or its opposite at the end of an opinion."""
CORRUPT = 0.5
"""The share of single texts to corrupt; see `_ask_statements` for pairs."""
HIDE, HIDE_LOOSE, HIDE_ANSWER = 0.2, 0.1, 0.6
"""Shares of a single text's words to hide: of determined words, of the others, and of answers."""
HIDE_CONTENT, HIDE_GRAMMAR = 0.3, 0.05
"""Shares of a pair's words to hide: of a statement's content words (`_is_content`), and of grammar in both texts."""
JUDGE, JUDGED = 0.15, 0.4
"""Share of a single text's shown, intact words to judge, and what they weigh; a corrupted word weighs 1."""
SCALES = (0.0, 1.0, 1.0, 1.0, 1.5)
"""A text's shares are multiplied by one of these, so that some texts stay whole and others lose more words."""


class MaskedBatch(NamedTuple):
    """The rows of one training step; all fields are `[rows, length]`.

    `inputs`, `targets`, `positions` (counted from the start of each text) and `types` (0 or 1: first or second of a
    pair) are int64. `weights` are the loss weights of the targets, 0 for words that are neither restored nor judged.
    `documents` numbers the text of each word: attention stays within one.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    documents: torch.Tensor
    positions: torch.Tensor
    types: torch.Tensor


class MaskedText(NamedTuple):
    """One text with `<cls>` and `<sep>`, as lists of equal length."""

    inputs: list[int]
    targets: list[int]
    weights: list[float]
    types: list[int]


@cache
def _ids() -> dict[str, int]:
    return {token: i for i, token in enumerate(encoder_vocabulary())}


def word_ids(words: str) -> list[int]:
    """Return the ids of `words` in the encoder's vocabulary; KeyError for a word outside it."""
    ids = _ids()
    encoded: list[int] = []
    for word in re.findall(PATTERN, words):
        encoded += [ids[word]] if word in ids else [ids[" "], ids[word[1:]]]
    return encoded


@cache
def followers(samples: int = 4000) -> dict[int, tuple[list[int], list[float]]]:
    """Return for each id its followers in a fixed sample of texts, and the square roots of their counts."""
    draw = random.Random(2000)
    count: dict[int, Counter[int]] = {}
    for _ in range(samples):
        for segment in text(draw, 1.0).segments:
            ids = word_ids(" " + "".join(piece.text for piece in segment))
            for word, follower in pairwise(ids):
                count.setdefault(word, Counter())[follower] += 1
    return {word: (list(after), [n**0.5 for n in after.values()]) for word, after in count.items()}


def mask(text: Text, draw: random.Random, corrupt: float = CORRUPT) -> MaskedText:
    """Return the text with words hidden and perhaps corrupted.

    `corrupt` is the probability of corrupting a single text (`_ask_statements` says how pairs use it); drills never
    are. The target of a hidden word is that word; the target of a judged one is `<sound>` or `<flawed>`.
    """
    ids = _ids()
    inputs, weights, types, pieces = [ids[CLS]], [0.0], [0], [0]
    for kind, segment in enumerate(text.segments):
        for i, (piece, weight) in enumerate(segment):
            words = word_ids(piece if i else " " + piece.lstrip())
            inputs += words
            weights += [weight] * len(words)
            pieces += [pieces[-1] + 1] * len(words)
        inputs.append(ids[SEP])
        weights.append(0.0)
        types += [kind] * (len(inputs) - len(types))
        pieces.append(pieces[-1])
    masked = MaskedText(inputs, list(inputs), [0.0] * len(inputs), types)
    if text.drill:
        _hide(masked, [text.drill * (weight == TIGHT) for weight in weights], weights, draw)
        return masked
    answers = {i for i, weight in enumerate(weights) if weight == TIGHT}
    weights = _loss_weights(inputs, weights)
    if len(text.segments) == 1:
        flawed = _ask_single(masked, weights, answers, corrupt, draw)
    else:
        second = [i for i, weight in enumerate(weights) if types[i] and weight]
        statements = [list(group) for _, group in groupby(second, key=lambda i: pieces[i])]
        flawed = _ask_statements(masked, weights, statements, corrupt, draw)
    masked.targets[0], masked.weights[0] = ids[FLAWED if flawed else SOUND], 1.0
    return masked


def _hide(masked: MaskedText, shares: list[float], weights: list[float], draw: random.Random) -> None:
    """Hide each word with the probability that `shares` holds for it."""
    for i, share in enumerate(shares):
        if draw.random() < share:
            masked.inputs[i], masked.weights[i] = _ids()[MASK], weights[i]


def _judge(masked: MaskedText, i: int, flawed: bool, weight: float) -> None:
    """Make the verdict on word `i` its target."""
    masked.targets[i], masked.weights[i] = _ids()[FLAWED if flawed else SOUND], weight


def _ask_single(
    masked: MaskedText, weights: list[float], answers: set[int], corrupt: float, draw: random.Random
) -> bool:
    """Hide, corrupt and judge words of a single text; return whether any is corrupted."""
    for _ in range(draw.choice((1, 1, 2)) if draw.random() < corrupt else 0):
        _corrupt_word(masked.inputs, weights, draw)
    corrupted = [i for i, (now, was) in enumerate(zip(masked.inputs, masked.targets, strict=True)) if now != was]
    scale = draw.choice(SCALES)
    shares = [scale * (HIDE if weight > LOOSE else HIDE_LOOSE) * (weight > 0) for weight in weights]
    for i in answers:
        shares[i] = HIDE_ANSWER
    for i in corrupted:
        shares[i] = 0.0
    _hide(masked, shares, weights, draw)
    for i, weight in enumerate(weights):
        if i in corrupted:
            _judge(masked, i, True, 1.0)
        elif weight and not masked.weights[i] and draw.random() < JUDGE:
            _judge(masked, i, False, JUDGED)
    return bool(corrupted)


def _ask_statements(
    masked: MaskedText, weights: list[float], statements: list[list[int]], corrupt: float, draw: random.Random
) -> bool:
    """Hide words of a second text's statements, or judge these; return whether any is corrupted.

    `statements` are the positions of their words. With probability 1.5 x `corrupt` statements are judged: some are
    corrupted, and each is judged at all its content words and at its full stop. Otherwise one or more content words of
    each are hidden.
    """
    grammar = [HIDE_GRAMMAR * (w > LOOSE and not _is_content(i)) for i, w in zip(masked.inputs, weights, strict=True)]
    _hide(masked, grammar, weights, draw)
    content = [[i for i in positions if _is_content(masked.inputs[i])] for positions in statements]
    if draw.random() >= 1.5 * corrupt:
        for positions in filter(None, content):
            _hide_some(masked, positions, draw)
        return False
    any_flawed = False
    share = 2 / 3 if len(statements) == 1 else 1 / 3
    for statement, positions in zip(statements, content, strict=True):
        flawed = draw.random() < share and _contradict(masked, positions, draw)
        for i in {*positions, statement[-1]}:
            _judge(masked, i, flawed, 1.0)
        any_flawed |= flawed
    return any_flawed


def _hide_some(masked: MaskedText, positions: list[int], draw: random.Random) -> None:
    """Hide the share `HIDE_CONTENT` of the words at these positions, and one at least."""
    for i in draw.sample(positions, max(1, round(HIDE_CONTENT * len(positions)))):
        masked.inputs[i], masked.weights[i] = _ids()[MASK], TIGHT


def _is_content(word: int) -> bool:
    """Return whether the word is a name, a thing, a number or one with an opposite."""
    return encoder_vocabulary()[word] in KINDS or encoder_vocabulary()[word] in CONTRARIES


def _is_open(word: int) -> bool:
    return encoder_vocabulary()[word] in OPEN


def _loss_weights(ids: list[int], weights: list[float]) -> list[float]:
    """Return each word's weight in the loss: 1, or 0.1 for names and things that nothing determines.

    Grammar determines the other words, and they have to weigh: without a reward for them a network does not learn to
    look at the neighbours of a hidden word.
    """
    tokens, count = encoder_vocabulary(), Counter(ids)
    return [
        LOOSE if 0 < weight < TIGHT and tokens[i] in OPEN and count[i] == 1 else TIGHT * (weight > 0)
        for i, weight in zip(ids, weights, strict=True)
    ]


def _contradict(masked: MaskedText, positions: list[int], draw: random.Random) -> bool:
    """Change what a statement says at one of its content words; return False if it has none.

    `positions` are those of its content words.

    A word with an opposite becomes that. Another is exchanged with one of its kind in the statement; where there is
    none, it becomes another of its kind, from the text or from the world.
    """
    if not positions:
        return False
    tokens, inputs = encoder_vocabulary(), masked.inputs
    i = draw.choice(positions)
    word = tokens[inputs[i]]
    if word in CONTRARIES:
        inputs[i] = _ids()[CONTRARIES[word]]
        return True
    alike = [j for j, other in enumerate(inputs) if KINDS.get(tokens[other]) == KINDS[word] and other != inputs[i]]
    if own := [j for j in alike if j in positions]:
        j = draw.choice(own)
        inputs[i], inputs[j] = inputs[j], inputs[i]
    elif alike and draw.random() < 0.5:
        inputs[i] = inputs[draw.choice(alike)]
    else:
        inputs[i] = draw.choice([id_ for id_ in _of_kind(KINDS[word]) if id_ != inputs[i]])
    return True


@cache
def _of_kind(kind: int) -> list[int]:
    """Return the ids of all words of a kind."""
    return [_ids()[word] for word, kind_of_word in KINDS.items() if kind_of_word == kind and word in _ids()]


def _corrupt_word(inputs: list[int], weights: list[float], draw: random.Random) -> None:
    """Exchange a word with the next, or replace it by another form of it or by one that might stand there."""
    tokens = encoder_vocabulary()
    formed = [i for i, word in enumerate(inputs) if tokens[word] in FORMS]
    if formed and draw.random() < 0.5:
        i = draw.choice(formed)
        inputs[i] = _ids()[FORMS[tokens[inputs[i]]]]
        return
    i = draw.choice([i for i in range(1, len(inputs) - 1) if weights[i] > LOOSE])
    if weights[i + 1] and draw.random() < 0.25:
        inputs[i], inputs[i + 1] = inputs[i + 1], inputs[i]
        return
    others = sorted({word for word in inputs if tokens[word] in OPEN} - {inputs[i]})
    if tokens[inputs[i]] in OPEN and others and draw.random() < 0.7:
        inputs[i] = draw.choice(others)
    elif inputs[i - 1] in followers():
        words, counts = followers()[inputs[i - 1]]
        inputs[i] = draw.choices(words, counts)[0]


def pack(
    make: Callable[[random.Random], Text], mask: Callable[[Text, random.Random], MaskedText], draw: random.Random,
    rows: int, length: int,
) -> MaskedBatch:  # fmt: skip
    """Return `rows` rows of masked texts; four texts that find no room end the packing."""
    shape = rows, length
    inputs = torch.full(shape, _ids()[PAD])
    batch = MaskedBatch(
        inputs,
        inputs.clone(),
        torch.zeros(shape),
        torch.full(shape, -1),
        torch.zeros_like(inputs),
        torch.zeros_like(inputs),
    )
    room = [0] * rows
    misses = 0
    while misses < 4:
        made = mask(make(draw), draw)
        n = len(made.inputs)
        row = next((r for r in range(rows) if room[r] + n <= length), None)
        if row is None:
            misses += 1
            continue
        start, end = room[row], room[row] + n
        fields = (made.inputs, made.targets, made.weights, [start] * n, list(range(n)), made.types)
        for field, values in zip(batch, fields, strict=True):
            field[row, start:end] = torch.tensor(values)
        room[row] = end
    return batch


class MaskedBatches:
    """The batches of a training run; they depend on seed and step alone, so that runs can resume."""

    def __init__(self, seed: int, rows: int, length: int) -> None:
        self._seed, self._rows, self._length = seed, rows, length

    def batch(self, step: int, blend: float) -> MaskedBatch:
        """Return the batch of `step`, its texts drawn from the mixture at `blend`."""
        draw = random.Random(f"bert/{self._seed}/{step}")
        return pack(lambda d: text(d, blend), mask, draw, self._rows, self._length)
