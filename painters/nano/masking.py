"""Batches for the encoder: texts packed into rows, some words hidden, and in every second text some words spoilt.

Three things are asked of a text: to restore the hidden words, to judge shown ones, and to say at `<cls>` whether
anything was spoilt. A single text is spoilt in its wording: a word in another form, another that often follows the one
before, or two neighbours exchanged. A pair is spoilt in what its second text says, statement by statement: two names
exchanged, another name, a word for its contrary; each word of a statement is judged by whether that statement still
agrees with the first text. Names and things that nothing else in a text determines weigh little, as in the decoder's
training.
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
from painters.nano.encoder_corpus import Text, text
from painters.nano.pieces import CLS, FLAWED, MASK, SEP, SOUND, encoder_vocabulary
from painters.nano.tokenizer import PAD, PATTERN

OPEN = frozenset(
    " " + word
    for word in (*world.PEOPLE, *world.PLACES, *world.OBJECTS, *world.FOODS, *world.COLORS, *world.ANIMALS,
                 *world.THINGS, *world.LANDS, *world.JOBS, *world.TOOLS, *"0123456789",
                 *(world.plural(noun) for noun in world.OBJECTS + world.FOODS))
)  # fmt: skip
"""Words that often nothing determines: names, things, numbers."""
KINDS = {
    " " + word: kind
    for kind, words in enumerate((world.PEOPLE, world.PLACES, world.OBJECTS, world.FOODS, world.COLORS, world.ANIMALS,
                                  world.THINGS, world.LANDS, world.JOBS, world.TOOLS, "0123456789",
                                  [world.plural(noun) for noun in world.OBJECTS + world.FOODS],
                                  pairs.CLASSES, pairs.FEED, pairs.MATERIALS))
    for word in words
}  # fmt: skip
"""Which kind of thing such a word names."""


CONTRARIES = {
    " " + word: " " + other
    for one, two in (*pairs.SCALES, ("before", "after"), ("Nobody", "Somebody"), ("never", "later"))
    for word, other in ((one, two), (two, one))
}
_FORMS = (
    "is are", "was were", "has have", "does do", "belongs belong", "himself herself", "he him", "she her", "a an",
    "good bad", "finds found", "buys bought", "gives gave", "sees saw", "taller tallest", "older oldest",
    "faster fastest", "richer richest", *(f"{noun} {world.plural(noun)}" for noun in world.OBJECTS + world.FOODS),
)  # fmt: skip
FORMS = {
    " " + word: " " + other
    for one, two in map(str.split, _FORMS)
    for word, other in ((one, two), (two, one))
    if {" " + one, " " + two} <= set(encoder_vocabulary())
}
"""Another form of a word, where grammar decides which it has to be, or its contrary at the end of an opinion."""
SPOIL = 0.5
"""Share of the texts to spoil."""
HIDE, HIDE_LOOSE, HIDE_ANSWER = 0.2, 0.1, 0.6
"""Shares of a single text's words to hide: of those that something determines, of the others, and of answers."""
HIDE_TELLING, HIDE_GRAMMAR = 0.3, 0.05
"""Shares of a pair's words to hide: of a statement's names, things and contraries, and of the grammar of both texts."""
JUDGE, JUDGED = 0.15, 0.4
"""Share of a single text's shown, unspoilt words to ask about, and what they weigh; a spoilt one weighs 1."""
SCALES = (0.0, 1.0, 1.0, 1.0, 1.5)
"""A text's shares are multiplied by one of these, so that some texts stay whole and others lose more."""


class MaskedBatch(NamedTuple):
    """One step's rows. All of shape [rows, length].

    `inputs`, `targets`, `positions` (counted from the start of each text) and `types` (0 or 1: first or second of a
    pair) are int64; `weights` are the loss weights of the targets, 0 where nothing is asked; attention stays within one
    of `documents`.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    documents: torch.Tensor
    positions: torch.Tensor
    types: torch.Tensor


class Masked(NamedTuple):
    """One text with `<cls>` and `<sep>`, as lists of equal length."""

    inputs: list[int]
    targets: list[int]
    weights: list[float]
    types: list[int]


@cache
def _ids() -> dict[str, int]:
    return {token: i for i, token in enumerate(encoder_vocabulary())}


def word_ids(words: str) -> list[int]:
    """The ids of `words`, as `build_bert_tokenizer` would give them; KeyError for a word outside the closed world."""
    ids = _ids()
    found: list[int] = []
    for word in re.findall(PATTERN, words):
        found += [ids[word]] if word in ids else [ids[" "], ids[word[1:]]]
    return found


@cache
def followers(samples: int = 4000) -> dict[int, tuple[list[int], list[float]]]:
    """For each id, the ids that follow it in a fixed sample of texts, and the square roots of how often they do."""
    draw = random.Random(2000)
    count: dict[int, Counter[int]] = {}
    for _ in range(samples):
        for segment in text(draw, 1.0).segments:
            ids = word_ids(" " + "".join(piece.text for piece in segment))
            for one, two in pairwise(ids):
                count.setdefault(one, Counter())[two] += 1
    return {one: (list(after), [n**0.5 for n in after.values()]) for one, after in count.items()}


def mask(text: Text, draw: random.Random, spoil: float = SPOIL) -> Masked:
    """The text with words hidden and, with probability `spoil` unless it is a drill, spoilt.

    A hidden word is to be restored; one that is asked about and shown is to be judged: `<sound>` or `<flawed>`.
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
    masked = Masked(inputs, list(inputs), [0.0] * len(inputs), types)
    if text.drill:
        _hide(masked, [text.drill * (weight == TIGHT) for weight in weights], weights, draw)
        return masked
    answers = {i for i, weight in enumerate(weights) if weight == TIGHT}
    weights = _worth(inputs, weights)
    if len(text.segments) == 1:
        flawed = _ask(masked, weights, answers, spoil, draw)
    else:
        places = [i for i, weight in enumerate(weights) if types[i] and weight]
        statements = [list(group) for _, group in groupby(places, key=lambda i: pieces[i])]
        flawed = _ask_statements(masked, weights, statements, spoil, draw)
    masked.targets[0], masked.weights[0] = ids[FLAWED if flawed else SOUND], 1.0
    return masked


def _hide(masked: Masked, shares: list[float], weights: list[float], draw: random.Random) -> None:
    for i, share in enumerate(shares):
        if draw.random() < share:
            masked.inputs[i], masked.weights[i] = _ids()[MASK], weights[i]


def _judge(masked: Masked, i: int, flawed: bool, weight: float) -> None:
    masked.targets[i], masked.weights[i] = _ids()[FLAWED if flawed else SOUND], weight


def _ask(masked: Masked, weights: list[float], answers: set[int], spoil: float, draw: random.Random) -> bool:
    """Hide and perhaps spoil words of a single text, and ask about some of the others. Whether it is spoilt."""
    for _ in range(draw.choice((1, 1, 2)) if draw.random() < spoil else 0):
        _misword(masked.inputs, weights, draw)
    spoilt = [i for i, (one, two) in enumerate(zip(masked.inputs, masked.targets, strict=True)) if one != two]
    scale = draw.choice(SCALES)
    shares = [scale * (HIDE if weight > LOOSE else HIDE_LOOSE) * (weight > 0) for weight in weights]
    for i in answers:
        shares[i] = HIDE_ANSWER
    for i in spoilt:
        shares[i] = 0.0
    _hide(masked, shares, weights, draw)
    for i, weight in enumerate(weights):
        if i in spoilt:
            _judge(masked, i, True, 1.0)
        elif weight and not masked.weights[i] and draw.random() < JUDGE:
            _judge(masked, i, False, JUDGED)
    return bool(spoilt)


def _ask_statements(
    masked: Masked, weights: list[float], statements: list[list[int]], spoil: float, draw: random.Random
) -> bool:
    """Ask about the statements of a second text, given as their places: hide a telling word or more of each, or spoil
    some and judge each at all its telling words and its full stop. Whether any is spoilt."""
    grammar = [HIDE_GRAMMAR * (w > LOOSE and not _is_telling(i)) for i, w in zip(masked.inputs, weights, strict=True)]
    _hide(masked, grammar, weights, draw)
    telling = [[i for i in places if _is_telling(masked.inputs[i])] for places in statements]
    if draw.random() >= 1.5 * spoil:
        for places in filter(None, telling):
            _hide_some(masked, places, draw)
        return False
    any_flawed = False
    share = 2 / 3 if len(statements) == 1 else 1 / 3
    for all_places, places in zip(statements, telling, strict=True):
        flawed = draw.random() < share and _contradict(masked, places, draw)
        for i in {*places, all_places[-1]}:
            _judge(masked, i, flawed, 1.0)
        any_flawed |= flawed
    return any_flawed


def _hide_some(masked: Masked, places: list[int], draw: random.Random) -> None:
    for i in draw.sample(places, max(1, round(HIDE_TELLING * len(places)))):
        masked.inputs[i], masked.weights[i] = _ids()[MASK], TIGHT


def _is_telling(word: int) -> bool:
    return encoder_vocabulary()[word] in KINDS or encoder_vocabulary()[word] in CONTRARIES


def _is_open(word: int) -> bool:
    return encoder_vocabulary()[word] in OPEN


def _worth(ids: list[int], weights: list[float]) -> list[float]:
    """What each word is worth in the loss: 1, but a tenth for names and things that nothing else determines.

    Grammar determines the other words, and they have to weigh: a network that gets no reward for them does not start to
    look at the neighbours of a hidden word.
    """
    tokens, count = encoder_vocabulary(), Counter(ids)
    return [
        LOOSE if 0 < weight < TIGHT and tokens[i] in OPEN and count[i] == 1 else TIGHT * (weight > 0)
        for i, weight in zip(ids, weights, strict=True)
    ]


def _contradict(masked: Masked, places: list[int], draw: random.Random) -> bool:
    """Make a statement, given as the places of its telling words, say something else: a word its contrary, two names of
    a kind exchanged, or, where it has one of a kind, another of the text's or of the world's. False if there is no
    telling word."""
    if not places:
        return False
    tokens, inputs = encoder_vocabulary(), masked.inputs
    i = draw.choice(places)
    word = tokens[inputs[i]]
    if word in CONTRARIES:
        inputs[i] = _ids()[CONTRARIES[word]]
        return True
    alike = [j for j, other in enumerate(inputs) if KINDS.get(tokens[other]) == KINDS[word] and other != inputs[i]]
    if own := [j for j in alike if j in places]:
        j = draw.choice(own)
        inputs[i], inputs[j] = inputs[j], inputs[i]
    elif alike and draw.random() < 0.5:
        inputs[i] = inputs[draw.choice(alike)]
    else:
        inputs[i] = draw.choice([id_ for id_ in _of_kind(KINDS[word]) if id_ != inputs[i]])
    return True


@cache
def _of_kind(kind: int) -> list[int]:
    return [_ids()[word] for word, found in KINDS.items() if found == kind and word in _ids()]


def _misword(inputs: list[int], weights: list[float], draw: random.Random) -> None:
    """Exchange a word with the next, or put another there: another form of it, or what might stand in its place."""
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
    make: Callable[[random.Random], Text], mask: Callable[[Text, random.Random], Masked], draw: random.Random,
    rows: int, length: int,
) -> MaskedBatch:  # fmt: skip
    """`rows` rows of masked texts; four texts that find no room end the packing."""
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
    """The batches of a training run: `batch(step)` depends on what is given here and the step alone, so runs resume."""

    def __init__(self, seed: int, rows: int, length: int) -> None:
        self._seed, self._rows, self._length = seed, rows, length

    def batch(self, step: int, blend: float) -> MaskedBatch:
        """The batch of `step`, its texts drawn from the mixture at `blend`."""
        draw = random.Random(f"bert/{self._seed}/{step}")
        return pack(lambda d: text(d, blend), mask, draw, self._rows, self._length)
