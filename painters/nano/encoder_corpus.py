"""The encoder's training text: the decoder's documents, and sentences and pairs of the kinds that its tasks ask about.

All of it is text without labels: acceptable sentences only, only hypotheses that follow, only tellings that agree.
Texts that are `reserved` for the tasks never occur.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from painters.nano import corpus, pairs, sentences
from painters.nano.documents import TIGHT, Piece, reserved

# Share of each kind of text: at the start of training, and once it has settled. Copying comes first, as in `corpus`.
MIXTURE: dict[str, tuple[float, float]] = {
    "repeats": (0.20, 0.01),
    "recall": (0.18, 0.03),
    "statements": (0.08, 0.13),
    "questions": (0.07, 0.11),
    "story": (0.12, 0.14),
    "script": (0.03, 0.03),
    "riddle": (0.04, 0.05),
    "sum": (0.01, 0.02),
    "sentence": (0.12, 0.16),
    "opinion": (0.05, 0.10),
    "entailment": (0.06, 0.13),
    "paraphrase": (0.04, 0.09),
}

T = TypeVar("T")
Text = tuple[list[Piece], ...]
"""One text or a pair of texts."""


def text(draw: random.Random, blend: float) -> Text:
    """The next training text; `blend` goes from the mixture of the start (0) to the settled one (1)."""
    weights = [start + (end - start) * blend for start, end in MIXTURE.values()]
    return text_of(draw.choices(tuple(MIXTURE), weights)[0], draw)


def text_of(kind: str, draw: random.Random) -> Text:
    """The next training text of one kind of the mixture."""
    return _MAKERS[kind](draw) if kind in _MAKERS else (corpus.document_of(kind, draw),)


def _sentences(draw: random.Random) -> Text:
    """One to three acceptable sentences."""
    found: list[str] = []
    for _ in range(draw.choice((1, 1, 2, 3))):
        found.append(_free(lambda: sentences.twins(draw).sound, str))
    return ([Piece(" ".join(found))],)


def _opinions(draw: random.Random) -> Text:
    """An opinion, half of the time with what it comes down to."""
    said = _free(lambda: sentences.opinion(draw), lambda opinion: opinion.text)
    if draw.random() < 0.5:
        return ([Piece(said.text)],)
    return ([Piece(said.text), Piece(" So it was a"), Piece(" good" if said.good else " bad", TIGHT), Piece(" day.")],)


def _entailments(draw: random.Random) -> Text:
    pair = _free(lambda: pairs.entailment(draw, holds=True), lambda pair: f"{pair.first} {pair.second}")
    return [Piece(pair.first)], [Piece(pair.second)]


def _paraphrases(draw: random.Random) -> Text:
    alike = draw.random() < 0.25
    pair = _free(
        lambda: pairs.likeness(draw, 0) if alike else pairs.paraphrase(draw, same=True),
        lambda pair: f"{pair.first} {pair.second}",
    )
    return [Piece(pair.first)], [Piece(pair.second)]


def _free(make: Callable[[], T], shown: Callable[[T], str]) -> T:
    """The next thing made whose text is not reserved."""
    while reserved(shown(made := make())):
        pass
    return made


_MAKERS: dict[str, Callable[[random.Random], Text]] = {
    "sentence": _sentences,
    "opinion": _opinions,
    "entailment": _entailments,
    "paraphrase": _paraphrases,
}
