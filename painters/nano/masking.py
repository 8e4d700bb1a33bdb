"""Batches for the encoder: texts packed into rows, some words hidden, and in every second text some words spoilt.

Three things are asked of a text: the hidden words, the true words where others were put (a word that often follows the
one before, or two neighbours exchanged), and, at `<cls>`, whether anything was spoilt. Names and things that nothing
else in the text determines weigh little, as in the decoder's training.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import torch

from painters.nano import world
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
                                  [world.plural(noun) for noun in world.OBJECTS + world.FOODS]))
    for word in words
}  # fmt: skip
"""Which kind of thing such a word names."""


@dataclass(frozen=True, slots=True)
class Masking:
    """How texts are masked: the shares of words to hide, by what they weigh, and of texts to spoil.

    `named` is for names and things in the second of a pair. A text's shares are multiplied by one of `scales`, so some
    texts stay whole and others lose more. With `relations`, a pair is mostly spoilt in a name or thing of its second
    text, so that it says something else than the first.
    """

    spoil: float = 0.5
    hide: float = 0.22
    named: float = 0.22
    loose: float = 0.1
    scales: tuple[float, ...] = (0.0, 1.0, 1.0, 1.0, 1.5)
    relations: bool = True


MASKINGS = {
    "sparse": Masking(relations=False),
    "pairs": Masking(),
    "dense": Masking(spoil=0.35, hide=0.33, named=0.45, scales=(0.0, 0.5, 1.0, 1.0, 1.5)),
}


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
def followers(mixture: str, samples: int = 4000) -> dict[int, tuple[list[int], list[float]]]:
    """For each id, the ids that follow it in a fixed sample of texts, and the square roots of how often they do."""
    draw = random.Random(2000)
    count: dict[int, Counter[int]] = {}
    for _ in range(samples):
        for segment in text(draw, 1.0, mixture):
            ids = word_ids(" " + "".join(piece.text for piece in segment))
            for one, two in pairwise(ids):
                count.setdefault(one, Counter())[two] += 1
    return {one: (list(after), [n**0.5 for n in after.values()]) for one, after in count.items()}


def mask(segments: Text, draw: random.Random, how: Masking, spoil: float, mixture: str = "broad") -> Masked:
    """The text with words hidden and, with probability `spoil`, one or two places spoilt."""
    ids = _ids()
    inputs, weights, types = [ids[CLS]], [0.0], [0]
    for kind, segment in enumerate(segments):
        for i, (piece, weight) in enumerate(segment):
            words = word_ids(piece if i else " " + piece)
            inputs += words
            weights += [weight] * len(words)
        inputs.append(ids[SEP])
        weights.append(0.0)
        types += [kind] * (len(inputs) - len(types))
    targets = list(inputs)
    weights = _worth(targets, weights)
    asked = [0.0] * len(targets)
    for _ in range(draw.choice((1, 1, 2)) if draw.random() < spoil else 0):
        _spoil(inputs, weights, types if how.relations else [0] * len(types), draw, mixture)
    spoilt = {i for i, (one, two) in enumerate(zip(inputs, targets, strict=True)) if one != two}
    asked[0] = 1.0
    targets[0] = ids[FLAWED if spoilt else SOUND]
    scale = draw.choice(how.scales)
    for i, weight in enumerate(weights):
        if i in spoilt:
            asked[i] = 1.0
        elif weight and draw.random() < scale * _share(how, weight, bool(types[i]) and _is_open(targets[i])):
            asked[i] = weight
            if draw.random() < 0.85:
                inputs[i] = ids[MASK]
    return Masked(inputs, targets, asked, types)


def _share(how: Masking, weight: float, is_named: bool) -> float:
    if weight <= LOOSE:
        return how.loose
    return how.named if is_named else how.hide


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


def _spoil(inputs: list[int], weights: list[float], types: list[int], draw: random.Random, mixture: str) -> None:
    """Spoil one place of `inputs`: exchange it with the next, or put another word there that might stand in it.

    In the second text of a pair (type 1) it is, two times in three, a name or thing exchanged for another of the two.
    """
    tokens = encoder_vocabulary()
    places = [i for i in range(1, len(inputs) - 1) if weights[i] > LOOSE]
    named = [i for i in places if types[i] and _is_open(inputs[i])]
    if named and draw.random() < 2 / 3:
        i = draw.choice(named)
        alike = sorted({word for word in inputs if KINDS.get(tokens[word]) == KINDS[tokens[inputs[i]]]} - {inputs[i]})
        if alike:
            inputs[i] = draw.choice(alike)
            return
    i = draw.choice(places)
    if weights[i + 1] and draw.random() < 0.25:
        inputs[i], inputs[i + 1] = inputs[i + 1], inputs[i]
        return
    others = sorted({word for word in inputs if tokens[word] in OPEN} - {inputs[i]})
    if tokens[inputs[i]] in OPEN and others and draw.random() < 0.7:
        inputs[i] = draw.choice(others)
    elif inputs[i - 1] in followers(mixture):
        words, counts = followers(mixture)[inputs[i - 1]]
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

    def __init__(self, seed: int, rows: int, length: int, mixture: str = "broad", masking: str = "sparse") -> None:
        self._seed, self._rows, self._length = seed, rows, length
        self._mixture, self._masking = mixture, MASKINGS[masking]

    def batch(self, step: int, blend: float) -> MaskedBatch:
        """The batch of `step`, its texts drawn from the mixture at `blend`."""
        how, mixture = self._masking, self._mixture

        def masked(segments: Text, draw: random.Random) -> Masked:
            return mask(segments, draw, how, how.spoil * blend, mixture)

        draw = random.Random(f"bert/{self._seed}/{step}")
        return pack(lambda d: text(d, blend, mixture), masked, draw, self._rows, self._length)
