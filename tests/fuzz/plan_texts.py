"""Texts of plans: by the grammar, mutated, and hostile; each is a plan that prints and reads back, or a PlanError."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from fuzz.running import Part, Watch, Wrong
from painters import variants
from painters.plan import MAX_LAYER_RUNS, Plan, PlanError
from painters.plan.shapes import text_of
from painters.variants import VARIANTS, VariantError

CORPUS = (
    "7",
    "0-14",
    "17-15",
    "{15-17}",
    "{3 5 9}",
    "{(3 4) (5 6)}",
    "{15-17}:sum",
    "(15-17)*2",
    "{15-17}*3",
    "16.attn 16.mlp",
    "0-14 {15-17}*3 18-31",
    "0 {(1 2) {3 (4 {5 6}:sum)} 1} 7",
    "((0-3)*2 {4 (5.attn 5.mlp)*2}:sum)*3 9",
    "({0-3.attn}:mean)*4",
    "\t0-2\n{3-8}*3\r\n9-11\n",
    "9999",
)
ALPHABET = "0123456789" * 3 + "-*.:(){}   " * 3 + "attnmlpsumean,;[]+/\\'\"\t\n\r\f\v\0\x1b\x7f"
STRANGE = "\u0663\u0660\uff11\u00b2\u00d7\u2013\u2028\u2029\u00a0\u200b\u202e\ufeff\U0001f600\ud800\u4e00\u1d7d8"
NUMBERS = ("0", "1", "7", "12", "31", "00", "007", "99", "-1", "")
LARGE = ("9999", "10000", "10001", "4294967296", "999999999999", "1" + "0" * 30, "9" * 5000)
ERROR = re.compile(r"[^\n]+\n  [ -~]*\n *\^\n[^\n]+")


def grammar(random: Random, size: int, nesting: int = 0) -> str:
    """A legal text, but for layers and repeats that may be too many."""
    return random.choice((" ", " ", "  ", "\n", "")).join(step(random, size, nesting) for _ in range(size)) or "0"


def step(random: Random, size: int, nesting: int) -> str:
    kind = random.random()
    layer = random.choice((3, 12, 12, 32, 32, 32, 100)) if random.random() < 0.999 else 9999
    if kind < 0.35 or nesting > 6:
        text = str(random.randrange(layer))
    elif kind < 0.6:
        text = f"{random.randrange(layer)}-{random.randrange(layer)}"
        return text + random.choice(("", "", ".attn", ".mlp"))
    elif kind < 0.8:
        text = f"({grammar(random, random.randint(1, max(1, size // 2)), nesting + 1)})"
    else:
        inside = " ".join(step(random, size // 2, nesting + 1) for _ in range(random.randint(1, 4)))
        text = f"{{{inside}}}" + random.choice(("", "", ":sum", ":mean"))
    if text.isdecimal() and random.random() < 0.2:
        text += random.choice((".attn", ".mlp"))
    return text + (f"*{random.choice((1, 2, 2, 2, 3, 3, 5))}" if random.random() < 0.25 else "")


def mutated(random: Random, text: str) -> str:
    """The text after a few changes of any kind."""
    for _ in range(random.choice((1, 1, 2, 3, 8))):
        place = random.randrange(len(text) + 1)
        end = min(len(text), place + random.choice((1, 1, 2, 5, 20)))
        match random.randrange(9):
            case 0:
                text = text[:place] + text[end:]
            case 1:
                text = text[:place] + random.choice(ALPHABET) + text[place:]
            case 2:
                text = text[:place] + random.choice(ALPHABET) + text[end:]
            case 3:
                text = text[:place] + text[place:end] * random.choice((2, 3, 50)) + text[end:]
            case 4:
                text = text[:place] + random.choice(CORPUS) + text[place:]
            case 5:
                text = text[:place] + random.choice(NUMBERS if random.random() < 0.9 else LARGE) + text[end:]
            case 6:
                text = text[:place] + random.choice(STRANGE) + text[end:]
            case 7:
                opened = random.choice("({")
                text = (
                    opened
                    + text
                    + {"(": ")", "{": "}"}[opened]
                    + random.choice(("", "*2", "*2", "*9", ":sum", "*9999"))
                )
            case _:
                text = text[end:] + text[:place]
    return text


def hostile(random: Random) -> str:
    """A text that would be large, deep or slow if it were taken at its word."""
    n = random.choice((10, 40, 100, 101, 1000, random.randint(1, 30_000)))
    big = random.choice(("9999", "10000", "999999999999", "1" + "0" * random.randint(5, 5000)))
    many = min(n, 300_000 // len(big))  # so that the text itself is no hundred megabytes
    bracket = random.choice("({")
    texts: tuple[Callable[[], str], ...] = (
        lambda: f"0-{big}",
        lambda: f"{big}-0",
        lambda: f"(0)*{big}",
        lambda: f"(0)*10**{random.randint(2, 99)}",
        lambda: "(" * many + "0" + f"*{big})" * many,
        lambda: f"(((0*{big})*{big})*{big})*{big}",
        lambda: f"{{{{(0-99)*{n}}}*{n}}}*{n}",
        lambda: bracket * n,
        lambda: bracket * n + "5" + {"(": ")", "{": "}"}[bracket] * n,
        lambda: "({" * n + "0" + "})" * n,
        lambda: f"{{0-{random.randint(0, 9999)}}} " * n,
        lambda: "{1 2}" * n,
        lambda: "{1 2 (3 4)}*3 " * n,
        lambda: random.choice(ALPHABET) * n,
        lambda: random.choice(STRANGE) * n,
        lambda: "0 " * n + random.choice(ALPHABET),
        lambda: "(0 1)" * n,
        lambda: " ".join(str(random.randrange(10)) for _ in range(min(n, 9999))),
        lambda: " ".join(random.choice(("0 1", "0 1 2", "{0 1}", "3")) for _ in range(min(n, 3000))),
        lambda: "0" * n * 7,
        lambda: "{" * 32 + "0 " * n + "}" * 32,
        lambda: "".join(random.choice(ALPHABET) for _ in range(n)),
        lambda: "".join(chr(random.choice((random.randrange(0xD800), random.randrange(256)))) for _ in range(n)),
        lambda: "0 " * 100_001,
        lambda: mutated(random, "(0-9999)"),
        lambda: mutated(random, "{0-9}*1000"),
        lambda: nested(min(n, 300)),
        lambda: f"{{0.attn 1.mlp}}:sum*{n} " * 3,
    )
    return random.choice(texts)()


def nested(times: int) -> str:
    """Groups of 32 inside one another, so many times: of all plans these have the longest texts."""
    return " ".join("{0.attn " * 31 + "{1.attn 2.mlp}:sum" + "}:sum" * 31 for _ in range(times))


def text(random: Random) -> str:
    """A text of any of these kinds."""
    kind = random.random()
    if kind < 0.35:
        return grammar(random, random.choice((1, 2, 3, 5, 9)))
    if kind < 0.7:
        return mutated(random, random.choice(CORPUS))
    if kind < 0.998:
        return mutated(random, grammar(random, random.choice((1, 2, 4))))
    return hostile(random) if random.random() < 0.9 else mutated(random, hostile(random))


def check(text: str, watch: Watch) -> str:
    """`a plan` or `refused`; reading and printing are timed."""
    try:
        with watch:
            plan = Plan.parse(text)
    except PlanError as error:
        told = str(error)
        if len(told) > 500 or not (ERROR.fullmatch(told) or told.startswith("plan text has ")):
            raise Wrong(f"refused with an odd message: {told[:600]!r}") from error
        return "refused"
    with watch:
        printed = str(plan)
    again = Plan.parse(printed)
    if again != plan or hash(again) != hash(plan):
        raise Wrong(f"printed as {printed[:300]!r}, which is another plan")
    text_of.cache_clear()
    if str(again) != printed:
        raise Wrong(f"has two texts, one of which is {printed[:300]!r}")
    if not 1 <= plan.depth <= plan.layer_runs <= MAX_LAYER_RUNS or not printed.isascii() or "\n" in printed:
        raise Wrong(f"has {plan.layer_runs} runs, depth {plan.depth} and the text {printed[:300]!r}")
    return "plans"


VALUES = (0, 1, 2, 3, 5, 12, 32, 80, 9999, 10_000, 10_001, -1, 10**9, 10**30, 1.5, float("nan"), True, None, "block",
          "layer", "3", "\x1b[31m", "[red]", [], {})  # fmt: skip


def request(random: Random) -> tuple[str, dict[str, object]]:
    """The name of a variant and values for its parameters, sound and not."""
    name = random.choice((*VARIANTS, *VARIANTS, "middle_repeat", "paralel", "", "\0", "a" * 5000, "[red]"))
    named = ("start", "layer", "loops", "seed", "by", "num_layers", "size", "")
    known = list(VARIANTS[name].parameters) if name in VARIANTS else []
    chosen = [p for p in known if random.random() < 0.7] + [random.choice(named)] * (random.random() < 0.1)
    given = {param: random.choice(VALUES[: 8 if random.random() < 0.6 else None]) for param in chosen}
    given.pop("num_layers", None)
    sizes = VALUES if random.random() < 0.1 else (1, 2, 3, 12, 32, 80)
    return name, {"num_layers": random.choice(sizes), **given}


def check_variant(given: tuple[str, dict[str, object]], watch: Watch) -> str:
    """`plans` or `refused`."""
    name, params = given
    try:
        with watch:
            plan = variants.build(name, **params)  # type: ignore[arg-type]
    except (VariantError, PlanError) as error:
        if "\n" in str(error) or len(str(error)) > 400:
            raise Wrong(f"refused with an odd message: {str(error)[:600]!r}") from error
        return "refused"
    if Plan.parse(str(plan)) != plan:
        raise Wrong("prints as another plan")
    return "plans"


PLANS = Part("plans", "texts of plans", 1_000_000, text, check, megabytes=64, traced=1000)
RULES = Part("variants", "parameters of variants", 100_000, request, check_variant, megabytes=64, traced=1000)
