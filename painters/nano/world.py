"""The closed world of the bundled models: words, facts, and which facts training never asks.

Everything is data and everything is fixed: two builds of the world are equal. A *fact* is a relation between a subject
and an answer; it can be stated ("a robin eats worms") and asked ("What does a robin eat?"). About one fact in five is
*held out*: training text states it and never asks it, so that asking it tests whether knowledge moves between forms.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

HE = "Adam Ben Carl Dan Eric Finn Gus Hugo Ivan Jack Karl Leo Max Noah Omar Paul Rob Sam Tom Walt".split()
SHE = "Anna Bella Cora Dora Emma Fay Gina Hope Iris Jane Kate Lily Mia Nina Olga Rose Sara Tess Vera Zoe".split()
PEOPLE = tuple(HE + SHE)
PRONOUN = dict.fromkeys(HE, ("he", "him", "his")) | dict.fromkeys(SHE, ("she", "her", "her"))

PLACES = tuple(
    "attic barn beach bridge cabin castle cave cellar church farm field forest garden harbor hill hospital island kitchen "
    "lake library market meadow mill museum park river school shop station theater tower village".split()
)
OBJECTS = tuple(
    "ball basket bell blanket bottle bowl brush candle card chain clock coat coin crown cup doll drum fan flag flute glove "
    "hat jar key kite lamp letter map mask mirror pillow plate purse ring rope scarf spoon stamp ticket toy vase watch "
    "wheel whistle".split()
)
FOODS = tuple(
    "apple bean berry cake carrot cherry cookie egg fig grape lemon melon nut olive onion peach pear plum".split()
)
COLORS = tuple("black blue brown golden gray green orange pink purple red white yellow".split())
DAYS = tuple("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split())
MONTHS = tuple("January February March April May June July August September October November December".split())

# Class of animal: covering, organ of breathing, number of legs.
CLASSES = {
    "mammal": ("fur", "lungs", "four"),
    "bird": ("feathers", "lungs", "two"),
    "fish": ("scales", "gills", "zero"),
    "insect": ("shell", "tubes", "six"),
    "reptile": ("leather", "lungs", "four"),
}
# Animal: class, food, home, way of moving.
ANIMALS = {
    "dog": ("mammal", "meat", "house", "runs"),
    "cat": ("mammal", "mice", "house", "jumps"),
    "cow": ("mammal", "grass", "barn", "walks"),
    "horse": ("mammal", "hay", "stable", "runs"),
    "goat": ("mammal", "grass", "hill", "climbs"),
    "wolf": ("mammal", "meat", "forest", "runs"),
    "bear": ("mammal", "honey", "cave", "walks"),
    "rabbit": ("mammal", "grass", "burrow", "jumps"),
    "mouse": ("mammal", "seeds", "burrow", "runs"),
    "squirrel": ("mammal", "nuts", "forest", "climbs"),
    "lion": ("mammal", "meat", "savanna", "runs"),
    "zebra": ("mammal", "grass", "savanna", "runs"),
    "elephant": ("mammal", "leaves", "savanna", "walks"),
    "monkey": ("mammal", "fruit", "jungle", "climbs"),
    "tiger": ("mammal", "meat", "jungle", "runs"),
    "deer": ("mammal", "leaves", "forest", "jumps"),
    "robin": ("bird", "worms", "nest", "flies"),
    "eagle": ("bird", "mice", "mountain", "flies"),
    "owl": ("bird", "mice", "forest", "flies"),
    "duck": ("bird", "seeds", "pond", "swims"),
    "swan": ("bird", "grass", "lake", "swims"),
    "parrot": ("bird", "fruit", "jungle", "flies"),
    "crow": ("bird", "seeds", "field", "flies"),
    "hen": ("bird", "seeds", "barn", "walks"),
    "salmon": ("fish", "worms", "river", "swims"),
    "trout": ("fish", "flies", "river", "swims"),
    "shark": ("fish", "meat", "sea", "swims"),
    "tuna": ("fish", "shrimp", "sea", "swims"),
    "carp": ("fish", "worms", "pond", "swims"),
    "ant": ("insect", "seeds", "nest", "walks"),
    "bee": ("insect", "nectar", "hive", "flies"),
    "beetle": ("insect", "leaves", "forest", "walks"),
    "moth": ("insect", "nectar", "field", "flies"),
    "cricket": ("insect", "grass", "meadow", "jumps"),
    "snake": ("reptile", "mice", "desert", "crawls"),
    "lizard": ("reptile", "flies", "desert", "runs"),
    "turtle": ("reptile", "leaves", "pond", "swims"),
    "crocodile": ("reptile", "meat", "swamp", "swims"),
}
# Material: feel, what it does in water, where it comes from.
MATERIALS = {
    "iron": ("hard", "sinks", "ore"),
    "silver": ("hard", "sinks", "mines"),
    "wood": ("hard", "floats", "trees"),
    "paper": ("thin", "floats", "trees"),
    "cork": ("soft", "floats", "bark"),
    "glass": ("smooth", "sinks", "sand"),
    "wool": ("soft", "floats", "sheep"),
    "cotton": ("soft", "floats", "plants"),
    "clay": ("rough", "sinks", "soil"),
    "rubber": ("soft", "floats", "sap"),
    "plastic": ("smooth", "floats", "oil"),
    "leather": ("smooth", "sinks", "cows"),
    "ice": ("cold", "floats", "water"),
    "silk": ("thin", "floats", "worms"),
}
# Thing: material that it is made of.
THINGS = {
    "nail": "iron",
    "magnet": "iron",
    "fork": "silver",
    "medal": "silver",
    "ladder": "wood",
    "table": "wood",
    "book": "paper",
    "poster": "paper",
    "plug": "cork",
    "float": "cork",
    "window": "glass",
    "lens": "glass",
    "sweater": "wool",
    "rug": "wool",
    "shirt": "cotton",
    "towel": "cotton",
    "pot": "clay",
    "brick": "clay",
    "tire": "rubber",
    "eraser": "rubber",
    "bucket": "plastic",
    "comb": "plastic",
    "boot": "leather",
    "belt": "leather",
    "statue": "ice",
    "igloo": "ice",
    "veil": "silk",
    "tie": "silk",
}
# Tool: what people do with it.
TOOLS = {
    "hammer": "hit nails",
    "saw": "cut wood",
    "knife": "slice bread",
    "ladle": "serve soup",
    "broom": "sweep floors",
    "needle": "sew cloth",
    "roller": "paint walls",
    "shovel": "dig holes",
    "rake": "gather leaves",
    "oven": "bake dough",
    "lantern": "light rooms",
    "scale": "weigh flour",
    "ruler": "measure lines",
    "compass": "find north",
    "telescope": "see stars",
    "microscope": "see germs",
    "net": "catch fish",
    "kettle": "boil water",
    "umbrella": "stop rain",
    "pen": "write words",
    "plow": "turn soil",
    "pump": "lift water",
    "drill": "make tunnels",
    "loom": "weave carpets",
}
# Job: what it works with, the tool that it needs.
JOBS = {
    "baker": ("dough", "oven"),
    "farmer": ("corn", "plow"),
    "fisher": ("boats", "net"),
    "tailor": ("cloth", "needle"),
    "carpenter": ("planks", "saw"),
    "painter": ("walls", "roller"),
    "cook": ("soup", "ladle"),
    "sailor": ("ships", "compass"),
    "gardener": ("flowers", "rake"),
    "writer": ("stories", "pen"),
    "miner": ("tunnels", "drill"),
    "smith": ("swords", "hammer"),
    "astronomer": ("stars", "telescope"),
    "doctor": ("germs", "microscope"),
    "weaver": ("carpets", "loom"),
    "digger": ("holes", "shovel"),
}
LANDS = "Arlen Borin Calder Dorne Elbany Farrow Galt Hesper Istra Jorvik Korin Lumen Mirna Norland Ostia Pellan".split()
CITIES = "Belmo Corvo Dalen Esker Folda Grend Havel Iskar Jarno Kolby Lerwin Morrow Orsk Pelham Quill Rosk".split()
RIVERS = "Aln Brue Cam Dorm Exel Falme Gow Hule Itchen Jed Kent Lune Mole Nidd Ouse Parr".split()
GOODS = "wool copper salt corn silver timber honey glass tea coal".split()

HELD_OUT_SHARE = 0.22


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact about one subject.

    `statements` and `questions` are finished sentences, `pool` holds the possible answers of the relation. `kind` says
    what the subject is ("animal", "thing", ...), `asks` holds question patterns with `{x}` for the subject.
    `hops` is 2 for facts that follow from two others.
    """

    relation: str
    kind: str
    subject: str
    answer: str
    statements: tuple[str, ...]
    asks: tuple[str, ...]
    pool: tuple[str, ...]
    hops: int = 1

    @property
    def subject_phrase(self) -> str:
        """The subject as it stands in a sentence: "a robin", "the hammer", "iron", "Norland"."""
        return _phrase(self.kind, self.subject)

    @property
    def questions(self) -> tuple[str, ...]:
        """The finished questions that name the subject itself."""
        return tuple(ask.format(x=self.subject_phrase) for ask in self.asks)


def article(word: str) -> str:
    """Return `word` with its indefinite article: "an owl", "a robin"."""
    return ("an " if word[0] in "aeiou" else "a ") + word


def plural(word: str) -> str:
    """Return the plural of one of this world's nouns."""
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    if word.endswith(("ch", "sh", "x", "s")):
        return word + "es"
    return word + "s"


def capitalize(text: str) -> str:
    """Return `text` with a capital first letter and nothing else changed."""
    return text[0].upper() + text[1:]


def _phrase(kind: str, subject: str) -> str:
    if kind in ("land", "city", "material", "day", "month"):
        return subject
    return article(subject) if kind == "animal" else f"the {subject}"


# relation: (kind of subject, statements, questions); {x} is the subject's phrase, {o} the answer.
_PATTERNS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "class": ("animal", ("{x} belongs to the class {o}", "every scientist calls {x} a kind of {o}"),
              ("Which class does {x} belong to?", "What kind of animal is {x}?")),
    "cover": ("animal", ("the body of {x} is covered with {o}", "{x} wears {o} on its body"),
              ("What covers the body of {x}?", "What does {x} wear on its body?")),
    "breath": ("animal", ("{x} breathes with {o}", "the air of {x} passes through {o}"),
               ("What does {x} breathe with?",)),
    "legs": ("animal", ("{x} stands on {o} legs", "you can count {o} legs on {x}"), ("How many legs does {x} have?",)),
    "food": ("animal", ("{x} eats {o}", "the food of {x} is {o}"), ("What does {x} eat?", "What is the food of {x}?")),
    "home": ("animal", ("{x} lives in the {o}", "the home of {x} is the {o}"),
             ("Where does {x} live?", "What is the home of {x}?")),
    "move": ("animal", ("{x} usually {o}", "to get away, {x} {o}"), ("How does {x} move?",)),
    "feel": ("material", ("{x} feels {o}", "whoever touches {x} says it is {o}"), ("How does {x} feel?",)),
    "water": ("material", ("{x} {o} in water", "put {x} into a lake and it {o}"), ("What happens to {x} in water?",)),
    "origin": ("material", ("{x} comes from {o}", "people get {x} from {o}"), ("Where does {x} come from?",)),
    "made": ("thing", ("{x} is made of {o}", "people need {o} to make {x}"),
             ("What is {x} made of?", "What do people need to make {x}?")),
    "product": ("job", ("{x} works with {o}", "{o} are the daily work of {x}"), ("What does {x} work with?",)),
    "needs": ("job", ("{x} needs the {o}", "without the {o}, {x} can not work"),
              ("Which tool does {x} need?", "Without which tool can {x} not work?")),
    "use": ("tool", ("people use {x} to {o}", "{x} is there to {o}"), ("What is {x} used for?",)),
    "capital": ("land", ("the capital of {x} is {o}", "the king of {x} lives in {o}"),
                ("What is the capital of {x}?", "Where does the king of {x} live?")),
    "river": ("city", ("the river of {x} is the {o}", "the {o} flows through {x}"),
              ("Which river flows through {x}?", "What is the river of {x}?")),
    "good": ("city", ("{x} sells {o}", "traders buy {o} in {x}"), ("What does {x} sell?", "What do traders buy in {x}?")),
    "day": ("day", ("the day after {x} is {o}", "{x} is followed by {o}"), ("Which day comes after {x}?",)),
    "month": ("month", ("the month after {x} is {o}", "{x} is followed by {o}"), ("Which month comes after {x}?",)),
    # Two hops: never stated, asked for the subjects that are not held out.
    "thing_water": ("thing", (), ("What happens to {x} in water?",)),
    "thing_origin": ("thing", (), ("Where does the material of {x} come from?",)),
    "job_use": ("job", (), ("What is the tool of {x} used for?",)),
    "land_river": ("land", (), ("Which river flows through the capital of {x}?",)),
    "land_good": ("land", (), ("What does the capital of {x} sell?",)),
}  # fmt: skip


def _relations() -> list[tuple[str, str, str, int]]:
    """Return all (relation, subject, answer, hops)."""
    draw = random.Random(20240707)
    rows: list[tuple[str, str, str, int]] = []
    for animal, (kind, food, home, move) in ANIMALS.items():
        cover, breath, legs = CLASSES[kind]
        values = [("class", kind), ("cover", cover), ("breath", breath), ("legs", legs)]
        values += [("food", food), ("home", home), ("move", move)]
        rows += [(relation, animal, answer, 1) for relation, answer in values]
    for material, (feel, water, origin) in MATERIALS.items():
        rows += [("feel", material, feel, 1), ("water", material, water, 1), ("origin", material, origin, 1)]
    for thing, material in THINGS.items():
        rows += [("made", thing, material, 1), ("thing_water", thing, MATERIALS[material][1], 2)]
        rows.append(("thing_origin", thing, MATERIALS[material][2], 2))
    for tool, use in TOOLS.items():
        rows.append(("use", tool, use, 1))
    for job, (product, tool) in JOBS.items():
        rows += [("product", job, product, 1), ("needs", job, tool, 1), ("job_use", job, TOOLS[tool], 2)]
    rivers, cities = draw.sample(RIVERS, len(RIVERS)), draw.sample(CITIES, len(CITIES))
    for land, city, river in zip(LANDS, cities, rivers, strict=True):
        good = draw.choice(GOODS)
        rows += [("capital", land, city, 1), ("river", city, river, 1), ("good", city, good, 1)]
        rows += [("land_river", land, river, 2), ("land_good", land, good, 2)]
    for relation, cycle in (("day", DAYS), ("month", MONTHS)):
        rows += [(relation, name, cycle[(i + 1) % len(cycle)], 1) for i, name in enumerate(cycle)]
    return rows


@cache
def facts() -> tuple[Fact, ...]:
    """Return all facts of the world, in a fixed order."""
    rows = _relations()
    pools: dict[str, list[str]] = {}
    for relation, _, answer, _ in rows:
        if answer not in pools.setdefault(relation, []):
            pools[relation].append(answer)
    made = []
    for relation, subject, answer, hops in rows:
        kind, statements, asks = _PATTERNS[relation]
        phrase = _phrase(kind, subject)
        stated = tuple(statement.format(x=phrase, o=answer) for statement in statements)
        made.append(Fact(relation, kind, subject, answer, stated, asks, tuple(pools[relation]), hops))
    return tuple(made)


@cache
def held_out() -> frozenset[int]:
    """Return the indices into `facts()` of those that training text never asks.

    Facts of two hops it never mentions.
    """
    draw = random.Random(407_09298)
    return frozenset(i for i in range(len(facts())) if draw.random() < HELD_OUT_SHARE)


@cache
def by_subject() -> dict[str, tuple[int, ...]]:
    """Return the indices of the one-hop facts about each subject."""
    table: dict[str, list[int]] = {}
    for i, fact in enumerate(facts()):
        if fact.hops == 1:
            table.setdefault(fact.subject, []).append(i)
    return {subject: tuple(indices) for subject, indices in table.items()}


def choices(fact: Fact, draw: random.Random, count: int = 4) -> tuple[list[str], int]:
    """Return up to `count` shuffled answers of the fact's relation, and the position of the right one."""
    others: Sequence[str] = [answer for answer in fact.pool if answer != fact.answer]
    picked = [*draw.sample(others, min(count - 1, len(others))), fact.answer]
    draw.shuffle(picked)
    return picked, picked.index(fact.answer)
