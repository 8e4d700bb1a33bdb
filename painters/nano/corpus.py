"""The training text: an endless seeded stream of documents, mixed by kind as training proceeds."""

from __future__ import annotations

import random
from collections.abc import Callable

from painters.nano.documents import (
    LOOSE,
    TIGHT,
    Item,
    Piece,
    question,
    recall,
    repeats,
    reserved,
    statements,
    story,
)
from painters.nano.problems import riddle, script, sum_problem

# Share of each kind of document: at the start of training, and once it has settled. Plain copying comes first: without
# it the heads that look up words in the passage form late or never.
MIXTURE: dict[str, tuple[float, float]] = {
    "repeats": (0.40, 0.02),
    "recall": (0.25, 0.04),
    "statements": (0.05, 0.10),
    "questions": (0.05, 0.17),
    "story": (0.15, 0.27),
    "script": (0.03, 0.10),
    "riddle": (0.02, 0.10),
    "sum": (0.05, 0.20),
}


def document(draw: random.Random, blend: float) -> list[Piece]:
    """Return the next training document; `blend` is 0 for the initial mixture, 1 for the settled one."""
    weights = [start + (end - start) * blend for start, end in MIXTURE.values()]
    return document_of(draw.choices(tuple(MIXTURE), weights)[0], draw)


def document_of(kind: str, draw: random.Random) -> list[Piece]:
    """Return the next training document of one kind of the mixture."""
    return _MAKERS[kind](draw)


def text_of(pieces: list[Piece]) -> str:
    """Return the document as one string."""
    return "".join(piece.text for piece in pieces)


def _unreserved(make: Callable[[random.Random], Item], draw: random.Random) -> Item:
    """Return the next item of `make` that training may contain."""
    while True:
        item = make(draw)
        if not reserved(item.text):
            return item


def _questions(draw: random.Random) -> list[Piece]:
    pieces: list[Piece] = []
    for i in range(draw.randint(1, 3)):
        item = _unreserved(lambda d: question(d, held_out=False), draw)
        pieces += [Piece(("\n\n" if i else "") + item.context), Piece(item.options[item.answer], TIGHT)]
    return pieces


def _script(draw: random.Random) -> list[Piece]:
    item = _unreserved(script, draw)
    return [Piece(item.context, 0.3), Piece(item.options[item.answer], TIGHT)]


def _riddle(draw: random.Random) -> list[Piece]:
    pieces: list[Piece] = []
    for i in range(draw.randint(1, 3)):
        item = _unreserved(riddle, draw)
        lead = " " if i else ""
        pieces += [
            Piece(lead + item.context),
            Piece(item.options[item.answer], 0.3),
            Piece(item.suffix, TIGHT),
        ]
    return pieces


def _sum(draw: random.Random) -> list[Piece]:
    item = _unreserved(sum_problem, draw)
    return [Piece(item.context, LOOSE), Piece(item.options[0], TIGHT)]


_MAKERS: dict[str, Callable[[random.Random], list[Piece]]] = {
    "repeats": repeats,
    "recall": recall,
    "statements": statements,
    "questions": _questions,
    "story": story,
    "script": _script,
    "riddle": _riddle,
    "sum": _sum,
}
