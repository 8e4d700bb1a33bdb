"""Pairs of sentences for the encoder: entailment, paraphrase, and how alike two sentences are.

The wrong pairs are made of the words of the right ones (another person, roles exchanged, things exchanged), so that the words
alone do not tell them apart.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from painters.nano import world
from painters.nano.world import COLORS, OBJECTS, PEOPLE, PLACES, article, capitalize


class Pair(NamedTuple):
    """Two texts and a label: 1 if the second follows from the first (or says the same), 0 if not; for `likeness`, 0 to 5."""

    kind: str
    first: str
    second: str
    label: float


# entailment


def entailment(draw: random.Random, holds: bool) -> Pair:
    """A premise of a few sentences, and a hypothesis that follows from it or (`holds` False) contradicts it."""
    make = draw.choice(_ENTAILMENTS)
    first, second = make(draw, holds)
    return Pair(make.__name__.strip("_"), first, second, float(holds))


def _join(draw: random.Random, lines: list[str]) -> str:
    draw.shuffle(lines)
    return " ".join(lines)


def _owners(draw: random.Random, holds: bool) -> tuple[str, str]:
    count = draw.choice((2, 3))
    people, objects, places = (draw.sample(pool, count) for pool in (PEOPLE, OBJECTS, PLACES))
    verb = draw.choice(("found", "hid", "put", "left", "lost"))
    lines = [f"{p} {verb} the {o} in the {q}." for p, o, q in zip(people, objects, places, strict=True)]
    i = 0 if holds else 1
    p, o, q = people[0], objects[0], places[0]
    other = draw.choice((f"{p} {verb} the {objects[i]}.", f"{p} was in the {places[i]}.", f"The {o} was in the {places[i]}.",
                         f"{people[i]} was in the {q}."))  # fmt: skip
    return _join(draw, lines), other


def _handing_on(draw: random.Random, holds: bool) -> tuple[str, str]:
    (a, b, c), (o, other) = draw.sample(PEOPLE, 3), draw.sample(OBJECTS, 2)
    lines = [f"{a} had the {o} and {b} had the {other}.", f"Then {a} gave the {o} to {c}."]
    owners = {a: None, b: other, c: o}
    if draw.random() < 0.5:
        to = draw.choice((a, b))
        lines.append(f"Then {c} gave the {o} to {to}.")
        owners = {a: None, b: None, c: None} | {to: o}
    has = next(p for p, thing in owners.items() if thing == o)
    who = has if holds else draw.choice([p for p in (a, b, c) if p != has])
    return " ".join(lines), draw.choice((f"Now {who} has the {o}.", f"In the end the {o} belonged to {who}."))


_SCALES = (("taller", "shorter"), ("older", "younger"), ("faster", "slower"), ("richer", "poorer"))


def _scale(draw: random.Random, holds: bool) -> tuple[str, str]:
    people = draw.sample(PEOPLE, 3)
    more, less = draw.choice(_SCALES)
    lines = [_compared(draw, a, b, more, less) for a, b in pairwise(people)]
    i, j = draw.choice(((0, 2), (0, 2), (0, 1), (1, 2)))
    up, down = (people[i], people[j]) if holds else (people[j], people[i])
    return _join(draw, lines), _compared(draw, up, down, more, less)


def _compared(draw: random.Random, up: str, down: str, more: str, less: str) -> str:
    return draw.choice((f"{up} is {more} than {down}.", f"{down} is {less} than {up}."))


def _arrivals(draw: random.Random, holds: bool) -> tuple[str, str]:
    people, q = draw.sample(PEOPLE, 3), draw.choice(PLACES)

    def came(early: str, late: str) -> str:
        return draw.choice((f"{early} came to the {q} before {late}.", f"{late} came to the {q} after {early}."))

    lines = [came(people[0], people[1]), came(people[1], people[2])]
    i, j = draw.choice(((0, 2), (0, 2), (0, 1), (1, 2)))
    return _join(draw, lines), came(people[i], people[j]) if holds else came(people[j], people[i])


def _lacks(draw: random.Random, holds: bool) -> tuple[str, str]:
    (a, b), (o, p) = draw.sample(PEOPLE, 2), draw.sample(OBJECTS, 2)
    has, lacks = {a: o, b: p}, {a: p, b: o}
    first = draw.choice((f"{a} has {article(o)} but no {p}, and {b} has {article(p)} but no {o}.",
                         f"{a} has {article(o)}, but {b} has no {o}. {b} has {article(p)}, but {a} has no {p}."))  # fmt: skip
    who = draw.choice((a, b))
    if draw.random() < 0.5:
        return first, f"{who} has {article((has if holds else lacks)[who])}."
    return first, f"{who} has no {(lacks if holds else has)[who]}."


def _kinds(draw: random.Random, holds: bool) -> tuple[str, str]:
    """Two people and their animals or things: what follows needs a fact of the world."""
    (a, b), of_animals = draw.sample(PEOPLE, 2), draw.random() < 0.5
    while True:
        x, y = draw.sample(list(world.ANIMALS if of_animals else world.THINGS), 2)
        if of_animals:
            (kind, food, _, _), (kind2, food2, _, _) = world.ANIMALS[x], world.ANIMALS[y]
            if kind != kind2 and food != food2:
                break
        elif world.THINGS[x] != world.THINGS[y]:
            break
    lines = [f"{a} has {article(x)}.", f"{b} has {article(y)}."]
    if not of_animals:
        material = world.THINGS[x] if holds else world.THINGS[y]
        return _join(draw, lines), f"What {a} has is made of {material}."
    kind, food = (kind, food) if holds else (kind2, food2)
    return _join(draw, lines), draw.choice(
        (f"The animal of {a} is {article(kind)}.", f"The animal of {a} eats {food}.")
    )


_ENTAILMENTS: tuple[Callable[[random.Random, bool], tuple[str, str]], ...] = (
    _owners, _owners, _handing_on, _scale, _arrivals, _lacks, _kinds,
)  # fmt: skip

# paraphrase


class Event(NamedTuple):
    """Something that happened: `render` writes it in one of several ways that mean the same."""

    render: Callable[[random.Random, dict[str, str]], str]
    roles: dict[str, str]


def _give(draw: random.Random, r: dict[str, str]) -> str:
    return draw.choice(("{a} gave the {c} {o} to {b}", "{b} got the {c} {o} from {a}", "it was {a} who gave {b} the {c} {o}",
                        "it was {b} who got the {c} {o} from {a}", "the {c} {o} came to {b} from {a}")).format(**r)  # fmt: skip


def _trade(draw: random.Random, r: dict[str, str]) -> str:
    return draw.choice(("{a} sells the {c} {o} to {b}", "{b} buys the {c} {o} from {a}", "it is {a} who sells {b} the {c} {o}",
                        "it is {b} who buys the {c} {o} from {a}")).format(**r)  # fmt: skip


def _compare(draw: random.Random, r: dict[str, str]) -> str:
    return draw.choice(("{a} is {more} than {b}", "{b} is {less} than {a}", "it is {a} who is {more} than {b}",
                        "it is {b} who is {less} than {a}")).format(**r)  # fmt: skip


def _come(draw: random.Random, r: dict[str, str]) -> str:
    return draw.choice(("{a} came to the {q} before {b}", "{b} came to the {q} after {a}", "before {b}, {a} came to the {q}",
                        "after {a}, {b} came to the {q}")).format(**r)  # fmt: skip


def _find(draw: random.Random, r: dict[str, str]) -> str:
    return draw.choice(("{a} {v} the {c} {o} in the {q}", "in the {q} {a} {v} the {c} {o}",
                        "the {c} {o} was {v} by {a} in the {q}", "it was {a} who {v} the {c} {o} in the {q}")).format(**r)  # fmt: skip


def event(draw: random.Random) -> Event:
    """A random event."""
    a, b = draw.sample(PEOPLE, 2)
    more, less = draw.choice(_SCALES)
    roles = {"a": a, "b": b, "o": draw.choice(OBJECTS), "c": draw.choice(COLORS), "q": draw.choice(PLACES),
             "v": draw.choice(("found", "lost", "left", "bought")), "more": more, "less": less}  # fmt: skip
    return Event(draw.choice((_give, _trade, _compare, _come, _find)), roles)


def paraphrase(draw: random.Random, same: bool) -> Pair:
    """Two tellings of two events; if not `same`, something changed places in the second."""
    one, two = event(draw), event(draw)
    while (two.render is one.render and one.render is _compare) or set(two.roles.values()) & {
        one.roles[k] for k in "aboc"
    }:
        two = event(draw)
    first = _told(draw, one, two)
    for _ in range(20):
        one_, two_ = (one, two) if same else _changed(draw, one, two)
        second = _told(draw, one_, two_)
        if second != first:
            break
    return Pair("same" if same else "different", first, second, float(same))


def _told(draw: random.Random, one: Event, two: Event) -> str:
    events = [one.render(draw, one.roles), two.render(draw, two.roles)]
    draw.shuffle(events)
    return capitalize(draw.choice(("{}, and {}.", "{}, but {}.", "{} while {}.")).format(*events))


def _changed(draw: random.Random, one: Event, two: Event) -> tuple[Event, Event]:
    """The events with the roles of one exchanged, or with people, things or colours exchanged between the two."""
    able = [event for event in (one, two) if event.render is not _find]
    ways = [
        "a",
        *(["roles"] * 2 if able else []),
        *(["o", "c"] if all(e.render in _OF_THINGS for e in (one, two)) else []),
    ]
    way = draw.choice(ways)
    if way == "roles":
        turned = draw.choice(able)
        roles = turned.roles | {"a": turned.roles["b"], "b": turned.roles["a"]}
        return (one._replace(roles=roles), two) if turned is one else (one, two._replace(roles=roles))
    return (
        one._replace(roles=one.roles | {way: two.roles[way]}),
        two._replace(roles=two.roles | {way: one.roles[way]}),
    )


_OF_THINGS = (_give, _trade, _find)

# likeness

PARTS = {"a": PEOPLE, "o": OBJECTS, "c": COLORS, "q": PLACES}
"""What a telling of `likeness` consists of, twice: who, what thing, which colour, where."""


def likeness(draw: random.Random, differing: int) -> Pair:
    """Two tellings of two events of four parts each, of which `differing` (0 to 8) are not the same.

    A part is either new, or the two events of the second telling have exchanged it. The label is the share of equal
    parts, times 5.
    """
    verbs = draw.sample(("found", "lost", "left", "bought"), 2)
    drawn = {part: draw.sample(pool, 4) for part, pool in PARTS.items()}
    first = [{part: words[i] for part, words in drawn.items()} for i in (0, 1)]
    second = [dict(event) for event in first]
    left, free = differing, [(i, part) for i in (0, 1) for part in PARTS]
    while left:
        i, part = draw.choice(free)
        if left >= 2 and (1 - i, part) in free and draw.random() < 0.6:
            second[0][part], second[1][part] = first[1][part], first[0][part]
            free.remove((1 - i, part))
            left -= 1
        else:
            second[i][part] = drawn[part][2 + i]
        free.remove((i, part))
        left -= 1
    tellings = []
    for events in (first, second):
        said = [_find(draw, event | {"v": verb}) for event, verb in zip(events, verbs, strict=True)]
        draw.shuffle(said)
        tellings.append(capitalize(f"{said[0]}, and {said[1]}."))
    return Pair(f"differs_{differing}", tellings[0], tellings[1], 5 * (8 - differing) / 8)
