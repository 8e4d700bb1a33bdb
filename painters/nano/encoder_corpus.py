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

# Share of each kind of text at the start of a stage of training, and once it has settled. Copying comes first, as in
# `corpus`; it takes longer than the decoder's, because only hidden words teach it.
_START = (0.20, 0.18, 0.08, 0.07, 0.12, 0.03, 0.04, 0.01, 0.12, 0.05, 0.06, 0.04)
_SETTLED = {
    "broad": (0.01, 0.03, 0.13, 0.11, 0.14, 0.03, 0.05, 0.02, 0.16, 0.10, 0.13, 0.09),
    "copying": (0.40, 0.20, 0.02, 0.02, 0.03, 0.01, 0.01, 0.01, 0.04, 0.03, 0.18, 0.05),
    "relations": (0.24, 0.22, 0.02, 0.02, 0.02, 0.01, 0.01, 0.01, 0.03, 0.03, 0.35, 0.04),
}
KINDS = tuple(
    "repeats recall statements questions story script riddle sum sentence opinion entailment paraphrase".split()
)
MIXTURES: dict[str, dict[str, tuple[float, float]]] = {
    name: dict(zip(KINDS, zip(_START, settled, strict=True), strict=True)) for name, settled in _SETTLED.items()
}

T = TypeVar("T")
Text = tuple[list[Piece], ...]
"""One text or a pair of texts."""


def text(draw: random.Random, blend: float, mixture: str = "broad") -> Text:
    """The next training text; `blend` goes from the mixture of the start (0) to the settled one (1)."""
    weights = [start + (end - start) * blend for start, end in MIXTURES[mixture].values()]
    return text_of(draw.choices(KINDS, weights)[0], draw)


def text_of(kind: str, draw: random.Random) -> Text:
    """The next training text of one kind."""
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
