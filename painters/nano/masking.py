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
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import torch

from painters.nano import world
from painters.nano.documents import LOOSE, TIGHT
from painters.nano.encoder_corpus import Text, text
from painters.nano.pieces import CLS, FLAWED, MASK, SEP, SOUND, encoder_vocabulary
from painters.nano.tokenizer import PAD, PATTERN

SPOIL = 0.5
HIDE = {TIGHT: 0.22, LOOSE: 0.1}
"""Share of the words to hide, by their weight; some texts are left whole, others lose more."""
OPEN = frozenset(
    " " + word
    for word in (*world.PEOPLE, *world.PLACES, *world.OBJECTS, *world.FOODS, *world.COLORS, *world.ANIMALS,
                 *world.THINGS, *world.LANDS, *world.JOBS, *world.TOOLS, *"0123456789",
                 *(world.plural(noun) for noun in world.OBJECTS + world.FOODS))
)  # fmt: skip
"""Words that often nothing determines: names, things, numbers."""


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
        for segment in text(draw, 1.0):
            ids = word_ids(" " + "".join(piece.text for piece in segment))
            for one, two in pairwise(ids):
                count.setdefault(one, Counter())[two] += 1
    return {one: (list(after), [n**0.5 for n in after.values()]) for one, after in count.items()}


def mask(segments: Text, draw: random.Random, spoil: float = SPOIL) -> Masked:
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
        _spoil(inputs, weights, draw)
    spoilt = {i for i, (one, two) in enumerate(zip(inputs, targets, strict=True)) if one != two}
    asked[0] = 1.0
    targets[0] = ids[FLAWED if spoilt else SOUND]
    scale = draw.choice((0.0, 1.0, 1.0, 1.0, 1.5))
    for i, weight in enumerate(weights):
        if i in spoilt:
            asked[i] = 1.0
        elif weight and draw.random() < scale * HIDE[weight]:
            asked[i] = weight
            if draw.random() < 0.85:
                inputs[i] = ids[MASK]
    return Masked(inputs, targets, asked, types)


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


def _spoil(inputs: list[int], weights: list[float], draw: random.Random) -> None:
    """Spoil one place of `inputs`: exchange it with the next, or put another word there that might stand in it."""
    tokens = encoder_vocabulary()
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
    make: Callable[[random.Random], Text], draw: random.Random, rows: int, length: int, spoil: float = SPOIL
) -> MaskedBatch:
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
        made = mask(make(draw), draw, spoil)
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
    """The batches of a training run: `batch(step)` depends on the seed and the step alone, so that runs resume."""

    def __init__(self, seed: int, rows: int, length: int) -> None:
        self._seed, self._rows, self._length = seed, rows, length

    def batch(self, step: int, blend: float) -> MaskedBatch:
        """The batch of `step`, its texts drawn from the mixture at `blend`."""
        draw = random.Random(f"bert/{self._seed}/{step}")
        return pack(lambda d: text(d, blend), draw, self._rows, self._length, SPOIL * blend)
