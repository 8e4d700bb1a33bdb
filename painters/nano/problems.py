"""Scripts, riddles of reference and sums: items of nano_hellaswag, nano_winogrande and nano_gsm8k."""

from __future__ import annotations

import random
from typing import NamedTuple

from painters.nano.documents import MAX_SUM, Item
from painters.nano.world import COLORS, FOODS, OBJECTS, PEOPLE, PLACES, PRONOUN, article, capitalize, plural


class Script(NamedTuple):
    """An everyday event: what somebody wants, the steps in order, how it ends."""

    goal: str
    steps: tuple[str, ...]
    ending: str


SCRIPTS = (
    Script("bake a cake", ("mixed flour and eggs", "lit the oven", "put the pan inside"), "took out the warm cake"),
    Script("catch a fish", ("picked up the net", "walked to the water", "waited in the boat"), "pulled out a big fish"),
    Script("paint the wall", ("opened the paint", "climbed the ladder", "moved the roller"), "looked at the bright wall"),
    Script("plant a tree", ("dug a deep hole", "set the tree inside", "filled up the hole"), "watered the young tree"),
    Script("send a letter", ("sat at the desk", "filled a page", "closed the envelope"), "dropped it at the post"),
    Script("see the stars", ("waited for the night", "climbed the hill", "raised the telescope"), "counted many stars"),
    Script("make a fire", ("gathered dry wood", "built a ring of stones", "struck a match"), "sat near the flames"),
    Script("wash the dog", ("filled the tub", "called the dog", "rubbed in the soap"), "dried the wet dog"),
    Script("fix the chair", ("found the broken leg", "cut a new piece", "hit the nails"), "sat on the strong chair"),
    Script("sew a shirt", ("cut the cloth", "threaded the needle", "closed the sleeves"), "wore the new shirt"),
    Script("milk the cow", ("rinsed the bucket", "went to the cow", "sat on a low stool"), "carried home the milk"),
    Script("fly a kite", ("tied a long tail", "waited for wind", "ran over the grass"), "watched it rise high"),
    Script("buy a book", ("counted the coins", "looked along the shelf", "chose a story"), "paid and started to read"),
    Script("clean the floor", ("moved the table", "swept the dust", "wrung out the mop"), "admired the shining floor"),
    Script("cook soup", ("peeled the carrots", "boiled some water", "stirred the pot"), "ate a bowl of soup"),
    Script("build a wall", ("brought the bricks", "mixed the mortar", "set the first row"), "laid the last brick"),
    Script("ride the train", ("bought a seat", "stood on the platform", "heard the engine"), "left through the window side"),
    Script("learn a song", ("tuned the flute", "read the notes", "practised slowly"), "played without a mistake"),
    Script("find gold", ("took the lantern", "went down the shaft", "broke the rock"), "saw a yellow vein"),
    Script("cross the river", ("tied some logs", "pushed the raft", "held the pole"), "stepped on the other bank"),
    Script("win the race", ("put on fast shoes", "stood at the line", "heard the shot"), "was first at the finish"),
    Script("see the doctor", ("had a bad cough", "sat in the hall", "opened the mouth"), "swallowed the medicine"),
    Script("guard the gate", ("put on the armor", "stood at the bars", "watched the road"), "locked it at dusk"),
    Script("pick apples", ("leaned the ladder", "climbed the trunk", "filled the basket"), "carried down the harvest"),
)  # fmt: skip

_ORDER = ("First", "Then", "After that", "Next")
_LAST = ("At last", "In the end", "Finally")


def script(draw: random.Random) -> Item:
    """Return a script up to its last sentence, with four endings of which one fits.

    A false ending is that of another script, an earlier step, that of the other person, or has the other person's
    thing: knowing the script is not enough, the passage has to be followed.
    """
    return draw.choice((_plain_script, _two_people, _two_people, _keepsake))(draw)


def _beginning(draw: random.Random, name: str, event: Script, steps: int) -> str:
    """Return the script's goal and its first `steps` steps, as text."""
    he = PRONOUN[name][0]
    lines = [f"{word} {he} {step}." for word, step in zip(_ORDER, event.steps[:steps], strict=False)]
    return " ".join([draw.choice((f"One day {name} wanted to {event.goal}.", f"It was time for {name} to {event.goal}.",
                                  f"This morning {name} decided to {event.goal}.")), *lines])  # fmt: skip


def _endings(draw: random.Random, kind: str, context: str, right: str, wrong: list[str], hops: int, cue: str) -> Item:
    endings = [right, *wrong]
    draw.shuffle(endings)
    return Item(kind, context, tuple(" " + e for e in endings), endings.index(right), hops, cue=cue)


def _plain_script(draw: random.Random) -> Item:
    event, *others = draw.sample(SCRIPTS, 3)
    name = draw.choice(PEOPLE)
    he = PRONOUN[name][0]
    context = f"{_beginning(draw, name, event, draw.randint(1, 3))} {draw.choice(_LAST)}"
    wrong = [f"{he} {other.ending}." for other in others] + [f"{he} {event.steps[0]}."]
    return _endings(draw, "ending", context, f"{he} {event.ending}.", wrong, 1, event.goal)


def _two_people(draw: random.Random) -> Item:
    """Interleave the scripts of two people; the right ending is that of the person whom it names."""
    (a, b), (first, second, other) = draw.sample(PEOPLE, 2), draw.sample(SCRIPTS, 3)
    k = draw.randint(1, 2)
    lines = [f"This morning {a} wanted to {first.goal} and {b} wanted to {second.goal}."]
    lines += [f"{a} {first.steps[0]}.", f"{b} {second.steps[0]}."]
    if k == 2:
        lines += [f"Then {a} {first.steps[1]}.", f"Then {b} {second.steps[1]}."]
    who, mine, theirs = draw.choice(((a, first, second), (b, second, first)))
    context = f"{' '.join(lines)} {draw.choice(_LAST)}"
    wrong = [f"{who} {theirs.ending}.", f"{who} {other.ending}.", f"{who} {mine.steps[0]}."]
    return _endings(draw, "two_people", context, f"{who} {mine.ending}.", wrong, 2, lines[0])


def _keepsake(draw: random.Random) -> Item:
    """Give two people a coloured thing each, then a script; the ending names one person's thing."""
    (a, b), event = draw.sample(PEOPLE, 2), draw.choice(SCRIPTS)
    (o, p), (c, d) = draw.sample(OBJECTS, 2), draw.sample(COLORS, 2)
    lines = [f"This morning {a} carried {article(c)} {o} and {b} carried {article(d)} {p}."]
    lines.append(f"They met to {event.goal}. {draw.choice((a, b))} {event.steps[0]}.")
    who, thing, color, their, shade = draw.choice(((a, o, c, p, d), (b, p, d, o, c)))
    context = f"{' '.join(lines)} {draw.choice(_LAST)}"
    right = f"{who} took home the {color} {thing}."
    wrong = [f"{who} took home the {shade} {their}.", f"{who} took home the {shade} {thing}.",
             f"{who} took home the {color} {their}."]  # fmt: skip
    return _endings(draw, "keepsake", context, right, wrong, 2, lines[0])


# -------------------------------------------------------------------------------------------------------------- riddles

# {A} did something to {B}; what follows "because" speaks of the one or the other.
_CAUSES = (
    ("{A} gave the {o} to {B}", ("did not need it", "had too many"), ("really needed it", "had asked for it")),
    ("{A} beat {B} in the race", ("was faster", "trained every day"), ("was slower", "fell down")),
    ("{A} paid {B} for the {o}", ("wanted to own it", "was the buyer"), ("was the seller", "wanted to sell it")),
    ("{A} asked {B} for help", ("was in trouble", "could not do it alone"), ("was very strong", "knew the answer")),
    ("{A} could not see past {B}", ("was too short",), ("was too tall",)),
    ("{A} thanked {B}", ("got the {o}", "was so grateful"), ("brought the {o}", "had been so kind")),
    ("{A} said sorry to {B}", ("broke the {o}", "was late"), ("was hurt", "was angry")),
    ("{A} carried the {o} for {B}", ("was strong", "wanted to help"), ("was tired", "had a weak arm")),
    ("{A} taught {B} to swim", ("was a good teacher", "swam well"), ("was a beginner", "feared the water")),
    ("{A} visited {B} in the hospital", ("was worried", "had free time"), ("was sick", "had a broken leg")),
    ("{A} followed {B} through the {p}", ("did not know the way", "was lost"), ("knew the way", "had the map")),
    ("{A} hid from {B} in the {p}", ("was afraid", "stole the {o}"), ("was scary", "hunted the thief")),
    ("{A} woke {B}", ("heard a noise", "could not sleep"), ("slept too long", "was snoring")),
    ("{A} hired {B}", ("needed a worker", "had too much to do"), ("needed work", "had no job")),
)  # fmt: skip
_SCALES = (("taller", "tallest", "shortest"), ("older", "oldest", "youngest"), ("faster", "fastest", "slowest"),
           ("richer", "richest", "poorest"))  # fmt: skip


def riddle(draw: random.Random) -> Item:
    """Return a sentence with a blank and two names for it; `suffix` is what follows the blank."""
    return draw.choice((_because, _because, _chain, _scale))(draw)


def _named(draw: random.Random, kind: str, before: str, right: str, wrong: str, after: str, hops: int) -> Item:
    names = [right, wrong]
    draw.shuffle(names)
    return Item(kind, before, tuple(" " + n for n in names), names.index(right), hops, suffix=after)


def _because(draw: random.Random) -> Item:
    pattern, of_first, of_second = draw.choice(_CAUSES)
    a, b = draw.sample(PEOPLE, 2)
    thing, place = draw.choice(OBJECTS), draw.choice(PLACES)
    who, other, reasons = draw.choice(((a, b, of_first), (b, a, of_second)))
    fill = {"A": a, "B": b, "o": thing, "p": place}
    before = f"Yesterday {pattern.format(**fill)} because"
    return _named(draw, "because", before, who, other, f" {draw.choice(reasons).format(**fill)}.", 1)


def _chain(draw: random.Random) -> Item:
    """Let three people hand a thing on; the sentence after the blank fits only one of them."""
    a, b, c = draw.sample(PEOPLE, 3)
    thing = draw.choice(OBJECTS)
    before = f"Yesterday {a} handed the {thing} to {b} and {b} handed it to {c}. Now"
    who, other, after = draw.choice((
        (c, b, f" has the {thing}."), (b, c, f" misses the {thing}."), (a, c, f" was the first to have the {thing}."),
        (c, a, f" has the {thing}."), (b, a, f" was the second to have the {thing}."),
    ))  # fmt: skip
    return _named(draw, "chain", before, who, other, after, 3)


def _scale(draw: random.Random) -> Item:
    """Compare three people in two sentences; the blank is the one at an end of the scale."""
    a, b, c = draw.sample(PEOPLE, 3)
    more, most, least = draw.choice(_SCALES)
    lines = [f"{a} is {more} than {b}", f"{b} is {more} than {c}"]
    draw.shuffle(lines)
    who, other, end = draw.choice(((a, c, most), (c, a, least), (a, b, most), (c, b, least)))
    before = f"Everybody knows that {lines[0]} and that {lines[1]}. Of the three,"
    return _named(draw, "scale", before, who, other, f" is the {end}.", 3)


# ----------------------------------------------------------------------------------------------------------------- sums


def sum_problem(draw: random.Random, steps: int | None = None) -> Item:
    """Return a word problem of one to three operations.

    The answer shows each step and ends in `#### n`, 0 <= n <= 99.
    """
    count = steps or draw.choices((1, 2, 3), (0.2, 0.45, 0.35))[0]
    while True:
        made = _sum_of(draw, count)
        if made is not None:
            return made


def _sum_of(draw: random.Random, steps: int) -> Item | None:
    """Return a problem of `steps` operations, or None where the drawn numbers do not work out."""
    name, friend = draw.sample(PEOPLE, 2)
    he, him, _ = PRONOUN[name]
    noun = plural(draw.choice(OBJECTS + FOODS))
    lines, worked = [], []
    if draw.random() < 0.3:
        bags, each = draw.randint(2, 9), draw.randint(2, 9)
        value = bags * each
        lines.append(f"{name} has {bags} {draw.choice(('boxes', 'bags', 'baskets'))} with {each} {noun} in each.")
        worked.append(f"{bags} * {each} = {value}.")
    else:
        value = draw.randint(3, 40)
        lines.append(
            draw.choice((f"{name} has {value} {noun}.", f"{name} found {value} {noun} in the {draw.choice(PLACES)}."))
        )
    while len(worked) < steps:
        operation = draw.choice("++--*/")
        if operation == "+":
            change = draw.randint(2, 30)
            result = value + change
            lines.append(draw.choice((f"{friend} gives {him} {change} more {noun}.", f"Then {he} buys {change} {noun}.",
                                     f"Then {he} finds {change} more.")))  # fmt: skip
        elif operation == "-":
            if value < 4:
                return None
            change = draw.randint(1, value - 1)
            result = value - change
            lines.append(draw.choice((f"Then {he} loses {change} {noun}.", f"{capitalize(he)} gives {change} to {friend}.",
                                     f"Then {he} sells {change} {noun}.")))  # fmt: skip
        elif operation == "*":
            change = draw.choice((2, 3))
            result = value * change
            lines.append(f"Then the number of {noun} {('doubles', 'triples')[change - 2]}.")
        else:
            parts = [n for n in (2, 3, 4, 5) if value % n == 0 and value // n > 1]
            if not parts:
                return None
            change = draw.choice(parts)
            result = value // change
            lines.append(f"{capitalize(he)} splits them into {change} equal parts and keeps one.")
        if result > MAX_SUM:
            return None
        worked.append(f"{value} {operation} {change} = {result}.")
        value = result
    lines.append(draw.choice((f"How many {noun} does {name} have now?", f"How many {noun} has {name} in the end?")))
    question = f"Question: {' '.join(lines)}\nAnswer:"
    return Item(f"steps_{steps}", question, (f" {' '.join(worked)}\n#### {value}",), 0, steps)
