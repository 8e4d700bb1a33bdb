"""Single sentences for the encoder: acceptable ones with a broken twin, and opinions.

Each maker draws only from the `random.Random` that it is given. The twins and opinions are balanced in their words:
counts of words hardly separate right from wrong, or praise from blame.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from painters.nano.world import (
    ANIMALS,
    COLORS,
    FOODS,
    HE,
    OBJECTS,
    PEOPLE,
    PLACES,
    PRONOUN,
    SHE,
    THINGS,
    article,
    capitalize,
    plural,
)


class Twins(NamedTuple):
    """A sentence and the same with one thing broken; `kind` names the rule."""

    kind: str
    sound: str
    broken: str


class Opinion(NamedTuple):
    """A sentence and whether it ends in praise; `kind` names how it is built."""

    kind: str
    text: str
    good: bool


# Acceptable sentences and their broken twins


def twins(draw: random.Random) -> Twins:
    """Return an acceptable sentence and its broken twin."""
    return draw.choice(_TWINS)(draw)


def _counted(draw: random.Random) -> tuple[str, int]:
    """Return a noun and its number, 0 for singular and 1 for plural."""
    noun, many = draw.choice(OBJECTS + FOODS), draw.randrange(2)
    return (plural(noun) if many else noun), many


def _agreement(draw: random.Random) -> Twins:
    """Break the agreement of the verb with the first noun, which other words separate."""
    (head, many), (near, _) = _counted(draw), _counted(draw)
    p, q = draw.choice(PEOPLE), draw.choice(PLACES)
    between = draw.choice((f"near the {near}", f"with the {near}", f"that {p} found near the {near}",
                           f"that {p} put on the {near}", f"of {p} and the {near}"))  # fmt: skip
    verbs = draw.choice((("is", "are"), ("was", "were"), ("belongs", "belong")))
    end = f"to {draw.choice(PEOPLE)}" if verbs[0] == "belongs" else draw.choice((f"in the {q}", draw.choice(COLORS), "old", "broken"))  # fmt: skip
    before = f"The {head} {between}"
    return Twins("agreement", f"{before} {verbs[many]} {end}.", f"{before} {verbs[1 - many]} {end}.")


def _support(draw: random.Random) -> Twins:
    """Break a form of "do" or its verb: the verb after it is bare, and "do" agrees with the subject."""
    (head, many), (near, _) = _counted(draw), _counted(draw)
    does, other = ("do", "does") if many else ("does", "do")
    end = f"to {draw.choice(PEOPLE)}"
    before = f"The {head} near the {near}"
    if draw.random() < 0.5:
        broken = draw.choice((f"{does} not belongs", f"{other} not belong"))
        return Twins("support", f"{before} {does} not belong {end}.", f"{before} {broken} {end}.")
    verb, wrong = ("belong", "belongs") if many else ("belongs", "belong")
    rest = f"and {does} not belong to {draw.choice(PEOPLE)}"
    return Twins("support", f"{before} {verb} {end} {rest}.", f"{before} {wrong} {end} {rest}.")


def _reflexive(draw: random.Random) -> Twins:
    """Exchange himself and herself: the verb's subject decides, not the nearest or the first name."""
    own, others = draw.sample((HE, SHE), 2)
    subject = draw.choice(own)
    selves = ("himself", "herself") if own is HE else ("herself", "himself")
    a, b = draw.choice(others), draw.choice((*own, *others))
    while b in (subject, a):
        b = draw.choice((*own, *others))
    verb = draw.choice(("hurt", "saw", "asked", "thanked", "forgot", "admired"))
    pattern = draw.choice((
        "{a} said that {s} {v} {x}.", "{s}, who met {a}, {v} {x}.", "{a} told {b} that {s} {v} {x}.", "{s} and not {a} {v} {x}.",
        "{a} knew that {s} {v} {x}.", "After {s} met {a} and {b}, {a} was sad, because {s} {v} {x}.",
    ))  # fmt: skip
    first, second = (pattern.format(a=a, b=b, s=subject, v=verb, x=x) for x in selves)
    return Twins("reflexive", first, second)


def _articles(draw: random.Random) -> Twins:
    """Exchange the articles of two things, of which one begins with a vowel."""
    pool = list(dict.fromkeys(OBJECTS + FOODS + tuple(ANIMALS)))
    vowel = draw.choice([word for word in pool if word[0] in "aeiou"] + ["old " + draw.choice(OBJECTS), "orange hat"])
    plain = draw.choice([word for word in pool if word[0] not in "aeiou"])
    pair = draw.sample((vowel, plain), 2)
    p, q = draw.choice(PEOPLE), draw.choice(PLACES)
    pattern = draw.choice((f"{p} saw %s and %s in the {q}.", f"In the {q} {p} found %s and %s.",
                           f"{p} had %s, but {draw.choice(PEOPLE)} wanted %s."))  # fmt: skip
    right = tuple(article(word) for word in pair)
    wrong = tuple(("a " if word[0] in "aeiou" else "an ") + word for word in pair)
    return Twins("articles", pattern % right, pattern % wrong)


def _order(draw: random.Random) -> Twins:
    """Exchange two neighbouring words."""
    p, r = draw.sample(PEOPLE, 2)
    o, q, c = draw.choice(OBJECTS), draw.choice(PLACES), draw.choice(COLORS)
    verb = draw.choice(("found", "hid", "put", "left", "lost", "saw", "wanted"))
    words, cuts = draw.choice((
        (f"{p} {verb} the {c} {o} in the {q}", (1, 2, 3, 5, 6)),
        (f"In the {q} {p} {verb} the {c} {o} of {r}", (0, 1, 4, 5, 6, 7)),
        (f"{p} gave the {c} {o} to {r} in the {q}", (1, 2, 3, 4, 7, 8)),
        (f"{p} went to the {q} because {r} {verb} the {o}", (1, 2, 3, 7, 8)),
    ))  # fmt: skip
    sound = words.split()
    broken, i = list(sound), draw.choice(cuts)
    broken[i], broken[i + 1] = broken[i + 1], broken[i]
    if i == 0:
        broken[0], broken[1] = broken[0].capitalize(), broken[1].lower()
    return Twins("order", " ".join(sound) + ".", " ".join(broken) + ".")


_TENSES = (
    ("finds", "found"), ("loses", "lost"), ("buys", "bought"), ("keeps", "kept"), ("gives", "gave"), ("needs", "needed"),
)  # fmt: skip


def _tense(draw: random.Random) -> Twins:
    """Break the tense, which the adverb at the start or the end determines."""
    p, o, q = draw.choice(PEOPLE), draw.choice(OBJECTS + FOODS), draw.choice(PLACES)
    past = draw.randrange(2)
    when = draw.choice(("last week", "long ago", "one day") if past else ("every day", "every week", "every morning"))
    verbs = draw.choice(_TENSES)
    rest = f"{article(o)} to {draw.choice(PEOPLE)}" if verbs[0] == "gives" else f"{article(o)} in the {q}"

    ahead = draw.random() < 0.5

    def sentence(verb: str) -> str:
        return f"{capitalize(when)} {p} {verb} {rest}." if ahead else f"{p} {verb} {rest} {when}."

    return Twins("tense", sentence(verbs[past]), sentence(verbs[1 - past]))


def _case(draw: random.Random) -> Twins:
    """Exchange the cases of two pronouns, a subject and an object."""
    a, b = draw.sample(PEOPLE, 2)
    (he, him, _), (she, her, _) = PRONOUN[a], PRONOUN[b]
    o, q = draw.choice(OBJECTS), draw.choice(PLACES)
    pattern = draw.choice((
        f"{a} met {b} in the {q} because %s asked %s for the {o}.", f"{a} and {b} went to the {q}, where %s gave %s the {o}.",
        f"When {a} saw {b}, %s thanked %s for the {o}.", f"{a} knew {b} because %s taught %s in the {q}.",
    ))  # fmt: skip
    if draw.random() < 0.5:
        return Twins("case", pattern % (he, her), pattern % (him, she))
    return Twins("case", pattern % (she, him), pattern % (her, he))


def _degree(draw: random.Random) -> Twins:
    """Exchange a comparative, which "than" asks for, and a superlative."""
    a, b = draw.sample(PEOPLE, 2)
    more, most = draw.choice((("taller", "tallest"), ("older", "oldest"), ("faster", "fastest"), ("richer", "richest"),
                              ("slower", "slowest")))  # fmt: skip
    pattern = draw.choice((
        f"{a} is %s than {b} and the %s of the three.", f"Everybody knows that {a} is %s than {b} but not the %s of all.",
        f"{a} is %s than {b}, who is not the %s in the {draw.choice(PLACES)}.",
    ))  # fmt: skip
    return Twins("degree", pattern % (more, most), pattern % (most, more))


_TWINS = (_agreement, _agreement, _support, _reflexive, _reflexive, _articles, _order, _tense, _case, _degree)

# Opinions

# Blame first, then praise.
_ADJECTIVES = (("bad", "awful", "broken", "weak", "scary"), ("good", "lovely", "bright", "strong", "new"))
_VERBS = (("hated", "feared", "never liked"), ("loved", "liked", "admired"))


def opinion(draw: random.Random, good: bool | None = None) -> Opinion:
    """Return a sentence with words of praise and of blame; its build decides which of them it ends in.

    `good` True asks for praise, False for blame, None for either.
    """
    build = draw.choice(tuple(_BUILDS))
    ends = draw.random() < 0.5 if good is None else good
    return Opinion(build, capitalize(_BUILDS[build](draw, ends)) + ".", ends)


def _thing(draw: random.Random) -> str:
    return "the " + draw.choice(OBJECTS + FOODS + tuple(THINGS))


def _plain(draw: random.Random, good: bool) -> str:
    """Return a statement about a thing, as often denied as not."""
    denied = draw.random() < 0.5
    return f"{_thing(draw)} was {'not ' if denied else ''}{draw.choice(_ADJECTIVES[good != denied])}"


def _clause(draw: random.Random, good: bool) -> str:
    if draw.random() < 0.6:
        return _plain(draw, good)
    return f"{draw.choice(PEOPLE)} {draw.choice(_VERBS[good])} {_thing(draw)}"


def _side_verdict(draw: random.Random, good: bool) -> bool:
    """Return the verdict of the side clause: mostly the opposite of the main clause's `good`."""
    return good != (draw.random() < 0.85)


def _but(draw: random.Random, good: bool) -> str:
    return f"{_clause(draw, _side_verdict(draw, good))}, but {_clause(draw, good)}"


def _although(draw: random.Random, good: bool) -> str:
    side = _clause(draw, _side_verdict(draw, good))
    main = _clause(draw, good)
    return f"although {side}, {main}" if draw.random() < 0.5 else f"{main}, although {side}"


def _who(draw: random.Random, good: bool) -> str:
    p, side_good = draw.choice(PEOPLE), _side_verdict(draw, good)
    return f"{p}, who {draw.choice(_VERBS[side_good])} {_thing(draw)}, {draw.choice(_VERBS[good])} {_thing(draw)}"


def _that(draw: random.Random, good: bool) -> str:
    (p, q), side_good = draw.sample(PEOPLE, 2), _side_verdict(draw, good)
    if draw.random() < 0.5:
        return f"{p} {draw.choice(_VERBS[good])} {_thing(draw)} that {q} {draw.choice(_VERBS[side_good])}"
    denied = draw.random() < 0.5
    verdict = f"was {'not ' if denied else ''}{draw.choice(_ADJECTIVES[good != denied])}"
    return f"{_thing(draw)} that {q} {draw.choice(_VERBS[side_good])} {verdict}"


def _not_true(draw: random.Random, good: bool) -> str:
    """Return the denial of a whole sentence that says the opposite."""
    inner = draw.choice((_plain, _clause, _that))(draw, not good)
    return f"{draw.choice(('it is not true that', 'nobody said that'))} {inner}"


def _denied_side(draw: random.Random, good: bool) -> str:
    side_good = _side_verdict(draw, good)
    return f"although it is not true that {_clause(draw, not side_good)}, {_clause(draw, good)}"


_BUILDS = {
    "but": _but,
    "although": _although,
    "who": _who,
    "that": _that,
    "not_true": _not_true,
    "denied_aside": _denied_side,
}
