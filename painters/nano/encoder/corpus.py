"""The encoder's training text: the decoder's documents, and sentences and pairs as in its tasks.

All of it is text without labels: only acceptable sentences, only hypotheses that follow, only paraphrases that agree.
Texts that are `reserved` for the tasks never occur.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from painters.nano import corpus, pairs, sentences
from painters.nano.documents import TIGHT, Piece, reserved
from painters.nano.world import COLORS, FOODS, OBJECTS, PEOPLE, PLACES

# Share of each kind of text at the start of training, and once it has settled. Looking up words comes first, as in
# `corpus`, and almost alone: a network that can also guess by grammar and elimination does not learn to look up.
MIXTURE: dict[str, tuple[float, float]] = {
    "repeats": (0.15, 0.01),
    "lists": (0.35, 0.03),
    "statements": (0.02, 0.07),
    "questions": (0.02, 0.06),
    "story": (0.01, 0.03),
    "script": (0.00, 0.02),
    "riddle": (0.02, 0.03),
    "sum": (0.00, 0.01),
    "sentence": (0.05, 0.17),
    "opinion": (0.03, 0.13),
    "entailment": (0.30, 0.29),
    "paraphrase": (0.05, 0.15),
}
KINDS = tuple(MIXTURE)
DRILLS = {"lists": 0.9, "repeats": 0.5}
"""Kinds of text that drill looking up words, and the share of their answers that is hidden at once.

Nearly all have to be hidden: one answer hidden among many shown ones could be found by elimination.
"""

T = TypeVar("T")


class Text(NamedTuple):
    """A text of one or two segments; `drill` is the share of its answers to hide, 0 where it is no drill."""

    segments: tuple[list[Piece], ...]
    drill: float = 0.0


def text(draw: random.Random, blend: float) -> Text:
    """Return the next training text; `blend` is 0 for the initial mixture, 1 for the settled one."""
    weights = [start + (end - start) * blend for start, end in MIXTURE.values()]
    return text_of(draw.choices(KINDS, weights)[0], draw)


def text_of(kind: str, draw: random.Random) -> Text:
    """Return the next training text of one kind."""
    if kind in _MAKERS:
        return Text(_MAKERS[kind](draw))
    pieces = _lists(draw) if kind == "lists" else corpus.document_of(kind, draw)
    if kind in DRILLS:
        # Half of the drills look up across two segments, as pairs of texts ask for.
        return Text(((pieces[:1], pieces[1:]) if draw.random() < 0.5 else (pieces,)), DRILLS[kind])
    return Text((pieces,))


def _lists(draw: random.Random) -> list[Piece]:
    """Return pairs of words, then questions that show one word of a pair and ask for the other.

    The first or the second word of each pair is asked for. All pairs of a text have the same words in between: from
    none, which is as easy to learn as `repeats`, to the words of a sentence.
    """
    pools = draw.sample((PEOPLE, OBJECTS, FOODS, PLACES, COLORS), 2)
    count = draw.randint(3, 8)
    lefts, rights = (draw.sample(pool, count) for pool in pools)
    between = draw.choice(_BETWEEN)
    made = list(zip(lefts, rights, strict=True))
    pieces = [Piece("Pairs:" + "".join(f" {left}{between} {right}." for left, right in made), 0.0)]
    backwards = draw.random() < 0.5
    for left, right in draw.choices(made, k=draw.randint(3, 9)):
        if backwards:
            pieces += [Piece(f" {left}", TIGHT), Piece(f"{between} {right}.", 0.0)]
        else:
            pieces += [Piece(f" {left}{between}", 0.0), Piece(f" {right}", TIGHT), Piece(".", 0.0)]
    return pieces


_BETWEEN = ("", "", "", ":", " and", " has the", " in the", " and the", " put the", " gave it to")


def _sentences(draw: random.Random) -> tuple[list[Piece], ...]:
    """Return one to three acceptable sentences."""
    texts: list[str] = []
    for _ in range(draw.choice((1, 1, 2, 3))):
        texts.append(_unreserved(lambda: sentences.twins(draw).sound, str))
    return ([Piece(" ".join(texts))],)


def _opinions(draw: random.Random) -> tuple[list[Piece], ...]:
    """Return one to four opinions, most of them followed by whether the day was good or bad."""
    pieces: list[Piece] = []
    for i in range(draw.choice((1, 1, 2, 3, 4))):
        opinion = _unreserved(lambda: sentences.opinion(draw), lambda opinion: opinion.text)
        pieces.append(Piece(f" {opinion.text}" if i else opinion.text))
        if draw.random() < 0.8:
            pieces += [Piece(" So it was a"), Piece(" good" if opinion.good else " bad", TIGHT), Piece(" day.")]
    return (pieces,)


def _entailments(draw: random.Random) -> tuple[list[Piece], ...]:
    """Return a premise and hypotheses that follow from it: one, as in the task, or several."""
    count = 1 if draw.random() < 0.5 else draw.randint(3, 8)
    first, second = _unreserved(lambda: _entailed(draw, count), lambda made: f"{made[0]} {made[1][0]}")
    return [Piece(first)], [Piece(f" {statement}") for statement in second]


def _entailed(draw: random.Random, count: int) -> tuple[str, list[str]]:
    """Return a premise and up to `count` distinct hypotheses that follow from it."""
    _, first, say = pairs.premise(draw)
    return first, list(dict.fromkeys(say(draw, True) for _ in range(count)))


def _paraphrases(draw: random.Random) -> tuple[list[Piece], ...]:
    """Return two texts that say the same."""
    alike = draw.random() < 0.25
    pair = _unreserved(
        lambda: pairs.likeness(draw, 0) if alike else pairs.paraphrase(draw, same=True),
        lambda pair: f"{pair.first} {pair.second}",
    )
    return [Piece(pair.first)], [Piece(pair.second)]


def _unreserved(make: Callable[[], T], text_of: Callable[[T], str]) -> T:
    """Return the next thing that `make` makes whose text is not reserved."""
    while reserved(text_of(made := make())):
        pass
    return made


_MAKERS: dict[str, Callable[[random.Random], tuple[list[Piece], ...]]] = {
    "sentence": _sentences,
    "opinion": _opinions,
    "entailment": _entailments,
    "paraphrase": _paraphrases,
}
