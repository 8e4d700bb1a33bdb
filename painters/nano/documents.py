"""Documents of the closed world: training text of the bundled models, and questions of their tasks.

A *document* is a list of `Piece`s: text, and the weight of its tokens in the training loss. Words that nothing in the
document determines (which name, which object) weigh little; words that follow from the rest weigh 1. Each maker draws
only from the `random.Random` that it is given, so that a seed determines a text.

The makers with a task (`question` and `passage` here, `script`, `riddle` and `sum_problem` in `problems`) return an
`Item`: a task document before it is rendered. A text whose checksum falls into one of 16 buckets is *reserved*: tasks
are drawn only from reserved texts, training rejects them, so no task document is ever seen in training.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from painters.nano import world
from painters.nano.world import (
    COLORS,
    DAYS,
    FOODS,
    OBJECTS,
    PEOPLE,
    PLACES,
    PRONOUN,
    article,
    capitalize,
)

LOOSE, TIGHT = 0.1, 1.0
RESERVED_BUCKETS = 16
MAX_SUM = 99


class Piece(NamedTuple):
    """A stretch of text and the weight of its tokens in the loss."""

    text: str
    weight: float = LOOSE


class Item(NamedTuple):
    """A question with its answers: `context` + `options[answer]` + `suffix` is the true text.

    `options` has one element where the answer is open. `cue` is the text from which on the answer is determined
    (empty where that has no meaning), `kind` names the rule that made the item, `hops` the steps that it needs.
    """

    kind: str
    context: str
    options: tuple[str, ...]
    answer: int
    hops: int = 1
    suffix: str = ""
    cue: str = ""

    @property
    def text(self) -> str:
        """The whole true text."""
        return self.context + self.options[self.answer] + self.suffix


def reserved(text: str) -> bool:
    """Return whether `text` belongs to the tasks and may not be trained on."""
    return zlib.crc32(text.encode()) % RESERVED_BUCKETS == 0


# ---------------------------------------------------------------------------------------------------------------- facts


def question(draw: random.Random, held_out: bool | None = None) -> Item:
    """Return a question about a fact.

    `held_out` True asks only facts that are kept for the tasks, False only the others, None any. More than half of the
    items hide the subject behind the people who have it ("the animal of Anna"), so that the passage has to be read
    before the fact can be looked up.
    """
    facts, kept = world.facts(), world.held_out()
    while True:
        index = draw.randrange(len(facts))
        if held_out is None or (index in kept) == held_out:
            break
    fact = facts[index]
    options, answer = world.choices(fact, draw)
    spaced = tuple(" " + option for option in options)
    hidden = _hidden_subject(draw, fact) if fact.kind in _HIDERS and fact.hops == 1 and draw.random() < 0.6 else None
    if hidden is None:
        return Item(fact.relation, f"Question: {draw.choice(fact.questions)}\nAnswer:", spaced, answer, fact.hops)
    passage, phrase = hidden
    ask = draw.choice(fact.asks).format(x=phrase)
    return Item(f"{fact.relation}_of", f"Question: {passage} {ask}\nAnswer:", spaced, answer, fact.hops + 1)


_HIDERS: dict[str, tuple[str, str, str, Iterable[str]]] = {
    "animal": ("{n} has {x}.", "{n} feeds {x}.", "the animal of {n}", world.ANIMALS),
    "thing": ("{n} has {x}.", "{n} holds {x}.", "the thing of {n}", world.THINGS),
    "job": ("{n} is {x}.", "{n} became {x}.", "the friend {n}", world.JOBS),
    "tool": ("{n} has {x}.", "{n} took {x}.", "the tool of {n}", world.TOOLS),
    "land": ("{n} was born in {x}.", "{n} comes from {x}.", "the land of {n}", world.LANDS),
    "material": ("{n} collects {x}.", "{n} needs {x}.", "the material of {n}", world.MATERIALS),
}


def _hidden_subject(draw: random.Random, fact: world.Fact) -> tuple[str, str]:
    """Return a passage that gives three people a subject each, and a phrase for the fact's subject."""
    first, second, phrase, subjects = _HIDERS[fact.kind]
    pattern = draw.choice((first, second))
    names = draw.sample(PEOPLE, 3)
    others = draw.sample([subject for subject in subjects if subject != fact.subject], 2)
    owned = [fact.subject, *others]
    phrases = [article(s) if fact.kind in ("animal", "job") else s for s in owned]
    if fact.kind in ("thing", "tool"):
        phrases = [f"the {s}" for s in owned]
    lines = [pattern.format(n=n, x=x) for n, x in zip(names, phrases, strict=True)]
    draw.shuffle(lines)
    return " ".join(lines), phrase.format(n=names[0])


def statements(draw: random.Random) -> list[Piece]:
    """Return a few stated facts, about one subject or about several."""
    facts, table = world.facts(), world.by_subject()
    if draw.random() < 0.6:
        indices = list(table[draw.choice(list(table))])
        draw.shuffle(indices)
        indices = indices[:5]
    else:
        subjects = draw.sample(list(table), draw.randint(2, 5))
        indices = [draw.choice(table[subject]) for subject in subjects]
    pieces: list[Piece] = []
    for i in indices:
        stated = (" " if pieces else "") + capitalize(draw.choice(facts[i].statements)) + "."
        pieces += _weigh(stated, facts[i].answer)
    return pieces


def _weigh(sentence: str, answer: str) -> list[Piece]:
    """Return `sentence` cut so that the words of `answer` weigh 1."""
    before, words, after = sentence.rpartition(" " + answer)
    if not words:
        return [Piece(sentence, 0.5)]
    return [Piece(before), Piece(words, TIGHT), Piece(after)]


# ------------------------------------------------------------------------------------------------------------- passages

_OPENINGS = (
    "One day",
    "Last week",
    "In the morning",
    "Long ago",
    "On a cold day",
    "Before lunch",
    "After the rain",
)
_FILLERS = (
    "The sun was warm and the wind was soft.",
    "It rained a little before noon.",
    "Birds sang in the old trees.",
    "Far away somebody rang a bell twice.",
    "Nobody was in a hurry that day.",
    "The sky turned gray and the air grew cold.",
    "They talked about the weather for a while.",
    "Some children played near the road.",
    "Everybody ate bread and drank fresh milk.",
    "The hours were long and quiet.",
    "Snow covered the narrow path.",
    "A small stream ran along the road.",
    "They laughed and told old stories.",
    "The road was empty and full of dust.",
    "Later the moon came out and it was dark.",
)


def passage(draw: random.Random) -> tuple[list[str], list[Item]]:
    """Return the sentences of a scene and the items that it answers.

    The text of an item ends with the answer. It holds only its prompt (`context`) and its answer: `render_passage` puts
    scene, fillers and prompt together.
    """
    return draw.choice(_SCENES)(draw)


def render_passage(scene: Sequence[str], item: Item, draw: random.Random, fillers: int) -> Item:
    """Return the item with its passage in front: opening, scene, `fillers` irrelevant sentences, prompt."""
    lines = [*scene, *draw.sample(_FILLERS, fillers)]
    opening = draw.choice(_OPENINGS)
    return item._replace(context=f"{opening}, {' '.join(lines)} {item.context}")


def _three(draw: random.Random) -> tuple[list[str], list[str], list[str]]:
    """Return three people, three objects and three places."""
    return draw.sample(PEOPLE, 3), draw.sample(OBJECTS, 3), draw.sample(PLACES, 3)


def _item(kind: str, prompt: str, word: str, cue: str, hops: int = 1) -> Item:
    return Item(kind, prompt, (" " + word,), 0, hops, cue=cue)


def _owners(draw: random.Random) -> tuple[list[str], list[Item]]:
    people, objects, places = _three(draw)
    verb = draw.choice(("found", "bought", "carried", "made", "kept", "liked"))
    lines = [f"{p} {verb} the {o} in the {q}." for p, o, q in zip(people, objects, places, strict=True)]
    asks = ("In the end everyone knew that the {o} belonged to", "They saw the {o} and thanked",
            "Somebody asked about the {o}, and the answer was")  # fmt: skip
    items = [_item("owner", draw.choice(asks).format(o=o), p, line)
             for p, o, line in zip(people, objects, lines, strict=True)]  # fmt: skip
    return lines, items


def _hiding(draw: random.Random) -> tuple[list[str], list[Item]]:
    people, objects, places = _three(draw)
    verb = draw.choice(("hid", "put", "left", "lost"))
    lines = [f"{p} {verb} the {o} in the {q}." for p, o, q in zip(people, objects, places, strict=True)]
    items = []
    for p, o, q, line in zip(people, objects, places, lines, strict=True):
        he = PRONOUN[p][0]
        prompt = draw.choice((f"The next day {p} wanted the {o} again, so {he} went back to the",
                              f"To find the {o}, they had to look in the",
                              f"{p} told a friend that the {o} was still in the"))  # fmt: skip
        items.append(_item("place", prompt, q, line))
    return lines, items


def _colors(draw: random.Random) -> tuple[list[str], list[Item]]:
    people, objects, _ = _three(draw)
    colors = draw.sample(COLORS, 3)
    lines = [f"{p} had {article(c)} {o}." for p, c, o in zip(people, colors, objects, strict=True)]
    items = []
    for p, c, o, line in zip(people, colors, objects, lines, strict=True):
        prompt = draw.choice((f"They all remembered the {o} of {p} because it was so",
                              f"Asked about the {o}, {p} said that its color was"))  # fmt: skip
        items.append(_item("color", prompt, c, line))
    return lines, items


def _errands(draw: random.Random) -> tuple[list[str], list[Item]]:
    people, objects, places = _three(draw)
    lines = [f"{p} went to the {q} to get the {o}." for p, q, o in zip(people, places, objects, strict=True)]
    items = []
    for p, q, o, line in zip(people, places, objects, lines, strict=True):
        prompt = draw.choice((f"In the evening {p} came home and showed them the",
                              f"The one who had been in the {q} brought the"))  # fmt: skip
        items.append(_item("errand", prompt, o, line))
    return lines, items


def _handing_on(draw: random.Random) -> tuple[list[str], list[Item]]:
    people, objects, _ = _three(draw)
    thing, steps = objects[0], draw.randint(1, 2)
    lines = [f"{people[0]} had the {thing}."]
    lines += [f"{people[i]} gave the {thing} to {people[i + 1]}." for i in range(steps)]
    if steps == 1:
        lines.append(f"{people[2]} was there too.")
    prompt = draw.choice((f"Now the {thing} belonged to", f"In the end the {thing} was with"))
    return lines, [_item("handed_on", prompt, people[steps], lines[steps], steps + 1)]


def _moving(draw: random.Random) -> tuple[list[str], list[Item]]:
    people, objects, places = _three(draw)
    who, thing = people[0], objects[0]
    lines = [f"{who} took the {thing} to the {places[0]}.", f"Then {who} took it to the {places[1]}."]
    if draw.random() < 0.5:
        lines.append(f"Then {who} took it to the {places[2]}.")
    last = places[len(lines) - 1]
    prompt = draw.choice((f"So at night the {thing} was in the", f"Whoever wanted the {thing} had to go to the"))
    return lines, [_item("moved", prompt, last, lines[-1], len(lines))]


def _wanted_tool(draw: random.Random) -> tuple[list[str], list[Item]]:
    (a, b), tools = draw.sample(PEOPLE, 2), draw.sample(list(world.TOOLS), 1)
    lines = [f"{a} wanted to {world.TOOLS[tools[0]]} in the {draw.choice(PLACES)}."]
    he = PRONOUN[a][0]
    prompt = draw.choice((f"Now {a} only needed the right tool, so {b} brought the",
                          f"In the shed {he} looked for the"))  # fmt: skip
    return lines, [_item("tool", prompt, tools[0], lines[0], 2)]


def _worker(draw: random.Random) -> tuple[list[str], list[Item]]:
    job = draw.choice(list(world.JOBS))
    product, tool = world.JOBS[job]
    name = draw.choice(PEOPLE)
    lines = [f"{name} worked with {product} all day and never forgot the {tool}."]
    prompt = draw.choice((f"{name} was a good", "Everybody in the village asked for the"))
    return lines, [_item("job", prompt, job, lines[0], 2)]


def _animal(draw: random.Random) -> tuple[list[str], list[Item]]:
    animal = draw.choice(list(world.ANIMALS))
    kind, food, home, move = world.ANIMALS[animal]
    name = draw.choice(PEOPLE)
    lines = [f"{name} saw something in the {home}.", f"It had {world.CLASSES[kind][0]} and it ate {food}.",
             f"When {PRONOUN[name][0]} came near, it {_PAST[move]} away."]  # fmt: skip
    prompt = draw.choice((f"At home {name} said that it was the", "Clearly, it was the"))
    return lines, [_item("animal", prompt, animal, lines[1], 3)]


_PAST = {"runs": "ran", "jumps": "jumped", "walks": "walked", "climbs": "climbed", "flies": "flew", "swims": "swam",
         "crawls": "crawled"}  # fmt: skip


def _later_day(draw: random.Random) -> tuple[list[str], list[Item]]:
    (a, b), i = draw.sample(PEOPLE, 2), draw.randrange(7)
    ahead = draw.randint(1, 3)
    lines = [f"{a} met {b} at the {draw.choice(PLACES)} on {DAYS[i]}."]
    count = ("one day", "two days", "three days")[ahead - 1]
    prompt = f"They wanted to meet again {count} later, on"
    return lines, [_item("day", prompt, DAYS[(i + ahead) % 7], lines[0], ahead)]


def _made_of(draw: random.Random) -> tuple[list[str], list[Item]]:
    things = draw.sample(list(world.THINGS), 3)
    people = draw.sample(PEOPLE, 3)
    lines = [f"{p} brought the {t}." for p, t in zip(people, things, strict=True)]
    items = [_item("made", f"What {p} brought was made of", world.THINGS[t], line, 2)
             for p, t, line in zip(people, things, lines, strict=True)]  # fmt: skip
    return lines, items


_SCENES = (
    _owners, _owners, _hiding, _hiding, _colors, _errands, _handing_on, _moving,
    _wanted_tool, _worker, _animal, _later_day, _made_of,
)  # fmt: skip


def story(draw: random.Random) -> list[Piece]:
    """Return a training passage: a scene, perhaps fillers, then one or all prompts with their answers."""
    scene, items = passage(draw)
    order = list(items)
    draw.shuffle(order)
    if draw.random() < 0.4:
        order = order[:1]
    whole = render_passage(scene, order[0], draw, draw.choice((0, 0, 1, 2, 3, 4)))
    if reserved(whole.text):
        return story(draw)
    pieces = [Piece(whole.context), Piece(whole.options[0], TIGHT), Piece(".", LOOSE)]
    for item in order[1:]:
        pieces += [Piece(" " + item.context), Piece(item.options[0], TIGHT), Piece(".", LOOSE)]
    return pieces


# -------------------------------------------------------------------------------------------------------------- copying


def repeats(draw: random.Random) -> list[Piece]:
    """Return random words, then the same again: the simplest text that rewards looking back."""
    words = draw.choices(OBJECTS + FOODS + PEOPLE + PLACES + COLORS, k=draw.randint(5, 20))
    line = "Words: " + " ".join(words)
    again = " " + " ".join(words)
    return [Piece(line, 0.02), *(Piece(again, TIGHT) for _ in range(draw.randint(1, 2)))]


def recall(draw: random.Random) -> list[Piece]:
    """Return pairs, then the same pairs in other orders: the shortest form of "who had what?"."""
    count = draw.randint(3, 6)
    left = draw.sample(PEOPLE if draw.random() < 0.5 else OBJECTS, count)
    right = draw.sample(draw.choice((FOODS, PLACES, COLORS)), count)
    verb = draw.choice((" has the", " in the", " and the", ":"))
    pairs = list(zip(left, right, strict=True))
    pieces = [Piece("Pairs:" + "".join(f" {a}{verb} {b}." for a, b in pairs), 0.02)]
    for _ in range(draw.randint(1, 2)):
        draw.shuffle(pairs)
        for a, b in pairs:
            pieces += [Piece(f" {a}{verb}", 0.02), Piece(f" {b}", TIGHT), Piece(".", 0.02)]
    return pieces
