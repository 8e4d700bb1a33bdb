"""Pairs of sentences for the encoder: entailment, paraphrase, and how alike two sentences are.

The wrong pairs are made of the words of the right ones (another person, roles exchanged, things exchanged), so that the
words alone do not distinguish them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from painters.nano import world
from painters.nano.world import COLORS, OBJECTS, PEOPLE, PLACES, article, capitalize


class Pair(NamedTuple):
    """Two texts and a label.

    The label is 1 if the second text follows from the first or says the same, else 0; for `likeness` it is 0 to 5.
    """

    kind: str
    first: str
    second: str
    label: float


# Entailment

HypothesisMaker: TypeAlias = Callable[[random.Random, bool], str]
"""Makes a hypothesis about a premise: one that follows from it (True), or one that contradicts it (False)."""


def entailment(draw: random.Random, holds: bool) -> Pair:
    """Return a premise and a hypothesis that follows from it (`holds`) or contradicts it."""
    rule, first, say = premise(draw)
    return Pair(rule, first, say(draw, holds), float(holds))


def premise(draw: random.Random) -> tuple[str, str, HypothesisMaker]:
    """Return the name of a rule, a premise, and a maker of hypotheses about it."""
    make = draw.choice(_ENTAILMENTS)
    return make.__name__.strip("_"), *make(draw)


def _join(draw: random.Random, lines: list[str]) -> str:
    """Return the sentences in random order."""
    draw.shuffle(lines)
    return " ".join(lines)


_VERBS = ("found", "hid", "put", "left", "lost")


def _owners(draw: random.Random) -> tuple[str, HypothesisMaker]:
    """State who did what where; a false hypothesis mixes up two of the events."""
    count = draw.choice((2, 3))
    people, objects, places = (draw.sample(pool, count) for pool in (PEOPLE, OBJECTS, PLACES))
    verb = draw.choice(_VERBS)
    lines = [f"{p} {verb} the {o} in the {q}." for p, o, q in zip(people, objects, places, strict=True)]

    def say(draw: random.Random, holds: bool) -> str:
        i, other = draw.sample(range(count), 2)
        j = i if holds else other
        return draw.choice((f"{people[i]} {verb} the {objects[j]}.", f"{people[i]} was in the {places[j]}.",
                            f"The {objects[i]} was in the {places[j]}."))  # fmt: skip

    return _join(draw, lines), say


def _stated(draw: random.Random) -> tuple[str, HypothesisMaker]:
    """State who did what where; a false hypothesis has one word that no event has."""
    pools = {"p": PEOPLE, "c": COLORS, "o": OBJECTS, "q": PLACES}
    drawn = {name: draw.sample(pool, 3) for name, pool in pools.items()}
    events = [{name: words[i] for name, words in drawn.items()} | {"v": draw.choice(_VERBS)} for i in (0, 1)]
    lines = ["{p} {v} the {c} {o} in the {q}.".format(**event) for event in events]

    def say(draw: random.Random, holds: bool) -> str:
        event = dict(draw.choice(events))
        form, names = draw.choice(_STATEMENTS)
        if not holds:
            name = draw.choice(names)
            event[name] = drawn[name][2]
        return form.format(**event)

    return _join(draw, lines), say


_STATEMENTS = (("{p} {v} the {o}.", "po"), ("{p} {v} the {c} {o}.", "pco"), ("The {c} {o} was in the {q}.", "coq"),
               ("{p} was in the {q}.", "pq"), ("The {o} was {c}.", "oc"))  # fmt: skip


def _denied(draw: random.Random) -> tuple[str, HypothesisMaker]:
    """State that something was done, or never done, or done by nobody."""
    (p, other), o, verb = draw.sample(PEOPLE, 2), draw.choice(OBJECTS), draw.choice(_VERBS)
    done, by_nobody = draw.random() < 0.5, draw.random() < 0.5
    deed = f"{verb} the {o}."
    first = f"{p} {deed}" if done else f"Nobody {deed}" if by_nobody else f"{p} never {deed}"
    other_line = f"{other} came to the {draw.choice(PLACES)}."

    def say(draw: random.Random, holds: bool) -> str:
        if not done and by_nobody:
            return draw.choice(
                (f"Nobody {deed}", f"{p} never {deed}") if holds else (f"Somebody {deed}", f"{p} {deed}")
            )
        if done:
            return draw.choice(
                (f"Somebody {deed}", f"{p} {deed}") if holds else (f"Nobody {deed}", f"{p} never {deed}")
            )
        return f"{p} never {deed}" if holds else f"{p} {deed}"

    return _join(draw, [first, other_line]), say


def _handing_on(draw: random.Random) -> tuple[str, HypothesisMaker]:
    (a, b, c), (o, other) = draw.sample(PEOPLE, 3), draw.sample(OBJECTS, 2)
    lines = [f"{a} had the {o} and {b} had the {other}.", f"Then {a} gave the {o} to {c}."]
    has = c
    if draw.random() < 0.5:
        has = draw.choice((a, b))
        lines.append(f"Then {c} gave the {o} to {has}.")

    def say(draw: random.Random, holds: bool) -> str:
        who = has if holds else draw.choice([p for p in (a, b, c) if p != has])
        return draw.choice((f"Now {who} has the {o}.", f"In the end the {o} belonged to {who}."))

    return " ".join(lines), say


SCALES = (("taller", "shorter"), ("older", "younger"), ("faster", "slower"), ("richer", "poorer"))


def _scale(draw: random.Random) -> tuple[str, HypothesisMaker]:
    people = draw.sample(PEOPLE, draw.choice((2, 2, 3)))
    more, less = draw.choice(SCALES)
    lines = [_compared(draw, a, b, more, less) for a, b in pairwise(people)]
    return _join(draw, lines), _ordered(people, lambda draw, up, down: _compared(draw, up, down, more, less))


def _compared(draw: random.Random, up: str, down: str, more: str, less: str) -> str:
    return draw.choice((f"{up} is {more} than {down}.", f"{down} is {less} than {up}."))


def _ordered(people: list[str], relate: Callable[[random.Random, str, str], str]) -> HypothesisMaker:
    """Return a maker of hypotheses about an order of two or three people.

    With three, half of the hypotheses need both sentences.
    """

    def say(draw: random.Random, holds: bool) -> str:
        i, j = draw.choice(((0, 2), (0, 2), (0, 1), (1, 2))) if len(people) == 3 else (0, 1)
        return relate(draw, people[i], people[j]) if holds else relate(draw, people[j], people[i])

    return say


def _arrivals(draw: random.Random) -> tuple[str, HypothesisMaker]:
    people, q = draw.sample(PEOPLE, draw.choice((2, 2, 3))), draw.choice(PLACES)

    def came(draw: random.Random, early: str, late: str) -> str:
        return draw.choice((f"{early} came to the {q} before {late}.", f"{late} came to the {q} after {early}."))

    return _join(draw, [came(draw, a, b) for a, b in pairwise(people)]), _ordered(people, came)


def _kinds(draw: random.Random) -> tuple[str, HypothesisMaker]:
    """State who has which animal or thing; a hypothesis needs a fact of the world."""
    (a, b), of_animals = draw.sample(PEOPLE, 2), draw.random() < 0.5
    animal, thing = draw.choice(list(world.ANIMALS)), draw.choice(list(world.THINGS))
    lines = [
        f"{a} has {article(animal if of_animals else thing)}.",
        f"{b} has {article(thing if of_animals else animal)}.",
    ]
    kind, food = world.ANIMALS[animal][:2]

    def say(draw: random.Random, holds: bool) -> str:
        if not of_animals:
            return f"What {a} has is made of {_this_or_other(draw, world.THINGS[thing], MATERIALS, holds)}."
        return draw.choice((f"The animal of {a} is {article(_this_or_other(draw, kind, CLASSES, holds))}.",
                            f"The animal of {a} eats {_this_or_other(draw, food, FEED, holds)}."))  # fmt: skip

    return _join(draw, lines), say


CLASSES, FEED = (sorted({facts[i] for facts in world.ANIMALS.values()}) for i in (0, 1))
MATERIALS = sorted(set(world.THINGS.values()))


def _this_or_other(draw: random.Random, this: str, pool: list[str], holds: bool) -> str:
    return this if holds else draw.choice([word for word in pool if word != this])


_ENTAILMENTS: tuple[Callable[[random.Random], tuple[str, HypothesisMaker]], ...] = (
    _stated, _stated, _stated, _handing_on, _handing_on, _denied, _denied, _kinds, _kinds, _scale, _arrivals, _owners,
)  # fmt: skip

# Paraphrase


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
    """Return a random event."""
    a, b = draw.sample(PEOPLE, 2)
    more, less = draw.choice(SCALES)
    roles = {"a": a, "b": b, "o": draw.choice(OBJECTS), "c": draw.choice(COLORS), "q": draw.choice(PLACES),
             "v": draw.choice(("found", "lost", "left", "bought")), "more": more, "less": less}  # fmt: skip
    return Event(draw.choice((_give, _trade, _compare, _come, _find)), roles)


def paraphrase(draw: random.Random, same: bool) -> Pair:
    """Return two renderings of two events; if not `same`, something is exchanged in the second."""
    early, late = event(draw), event(draw)
    while (late.render is early.render and early.render is _compare) or set(late.roles.values()) & {
        early.roles[k] for k in "aboc"
    }:
        late = event(draw)
    first = _rendered(draw, early, late)
    for _ in range(20):
        events = (early, late) if same else _changed(draw, early, late)
        second = _rendered(draw, *events)
        if second != first:
            break
    return Pair("same" if same else "different", first, second, float(same))


def _rendered(draw: random.Random, early: Event, late: Event) -> str:
    """Return a sentence of both events, in either order."""
    events = [early.render(draw, early.roles), late.render(draw, late.roles)]
    draw.shuffle(events)
    return capitalize(draw.choice(("{}, and {}.", "{}, but {}.", "{} while {}.")).format(*events))


def _changed(draw: random.Random, early: Event, late: Event) -> tuple[Event, Event]:
    """Return the events with one thing changed.

    The two people of one event are exchanged, or people, things or colours between the events.
    """
    with_two_people = [event for event in (early, late) if event.render is not _find]
    changes = [
        "a",
        *(["roles"] * 2 if with_two_people else []),
        *(["o", "c"] if all(e.render in _OF_THINGS for e in (early, late)) else []),
    ]
    change = draw.choice(changes)
    if change == "roles":
        turned = draw.choice(with_two_people)
        roles = turned.roles | {"a": turned.roles["b"], "b": turned.roles["a"]}
        return (early._replace(roles=roles), late) if turned is early else (early, late._replace(roles=roles))
    return (
        early._replace(roles=early.roles | {change: late.roles[change]}),
        late._replace(roles=late.roles | {change: early.roles[change]}),
    )


_OF_THINGS = (_give, _trade, _find)

# Likeness

PARTS = {"a": PEOPLE, "o": OBJECTS, "c": COLORS, "q": PLACES}
"""The parts of an event of `likeness`: who, what thing, which colour, where."""


def likeness(draw: random.Random, differing: int) -> Pair:
    """Return two versions of two events of four parts each, of which `differing` (0 to 8) differ.

    A part that differs is either new in the second version, or exchanged between its two events. The label is the share
    of equal parts, times 5.
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
    versions = []
    for events in (first, second):
        clauses = [_find(draw, event | {"v": verb}) for event, verb in zip(events, verbs, strict=True)]
        draw.shuffle(clauses)
        versions.append(capitalize(f"{clauses[0]}, and {clauses[1]}."))
    return Pair(f"differs_{differing}", versions[0], versions[1], 5 * (8 - differing) / 8)
