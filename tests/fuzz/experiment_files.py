"""Experiment files: shipped ones and grown ones, mutated as text and as data, and hostile YAML. Each is an experiment
whose cells can be listed, or an ExperimentError that names a line."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import yaml

from fuzz.running import Part, Watch, Wrong
from painters.experiment import ExperimentError, cells, load, shipped
from painters.variants import VARIANTS

FOLDER = tempfile.TemporaryDirectory(prefix="painters-fuzz-")
SHIPPED = [path.read_text(encoding="utf-8") for path in shipped().values()]
FIELDS = (
    "title figure models tasks variants protocol quick kv encoder similarity include name plan start layer loops seed "
    "by limit shots batch_size dtype exact_batching revision num_layers tuning epochs documents inputs modes encoders "
    "rate"
).split()
SCALARS = (
    0, 1, 2, 12, -1, 1000, 10**6, 2**31, 2**32, 2**63, 10**30, 0.5, float("nan"), float("inf"), True, None, "", "all",
    "0..9", "0..9999", "0..99999", "9..0", "0..999999999", "1e999", "0x10", "0o7", "1_000", "12:30:45", "2024-02-30",
    "nano-llama", "nano_arc", "parallel", "skip-layer", "0-3 {4-7}*3 8-11", "(0)*10**12", "exact", "averaged", "token",
    "../x.yaml", "/etc/passwd", "/etc/x.yaml", "..", "a/../../b.yaml", "x\u202ey", "\u0663", "<script>", "=1+1",
    "[red]", "{{ 7*7 }}", "${HOME}", "!!python/object:os.system", "n" * 400, "\x85", "\u2028", "yes", "~", "block",
)  # fmt: skip
ALPHABET = "abc019-_:,.[]{}&*!|>%@`'\"#?\\/<= \n\n\t\r\0\x1b\x85\u2028\ufeff\u0663\U0001f600"
LINE = re.compile(r"line \d+|longer than \d+ bytes")


def experiment(random: Random) -> dict[str, Any]:
    """The fields of a sound experiment, or nearly."""
    found: dict[str, Any] = {
        "title": random.choice(("a title", "windows of T layers", "ein Titel: ja")),
        "models": random.choice(("nano-llama", ["nano-llama"], [{"name": "m/x", "num_layers": random.randint(2, 60)}])),
        "tasks": random.sample(["nano_arc", "nano_lambada", {"name": "nano_gsm8k", "limit": 9}], random.randint(1, 3)),
        "variants": [variant(random) for _ in range(random.choice((1, 1, 2, 5)))],
    }
    if random.random() < 0.4:
        found["protocol"] = {"limit": random.choice((None, 10, 100)), "batch_size": random.choice((1, 8))}
    if random.random() < 0.3:
        found["quick"] = {"limit": 10, "start": random.choice(("0..9", [1, 3], 2))}
    if random.random() < 0.3:
        found["kv"] = ["exact", "averaged"]
    if random.random() < 0.2:
        found["similarity"] = {"models": "nano-llama", "inputs": "nano_lambada", "modes": ["token", "flat"]}
    if random.random() < 0.2:
        found["encoder"] = {"models": "nano-bert", "tasks": "nano_sst2", "tuning": ["frozen", {"protocol": "operated"}]}
    return found


def variant(random: Random) -> Any:
    if random.random() < 0.2:
        return {"plan": random.choice(("0-3 {4-7}*3 8-11", "0", "{0 1}:sum", "0-11"))}
    name = random.choice(list(VARIANTS))
    values = {"start": ("all", 1, [0, 2], "0..3"), "layer": ("all", 0, "0..5"), "loops": (1, [1, 3], "1..9"),
              "seed": (0, "0..9"), "by": ("block", ["block", "layer"])}  # fmt: skip
    given = {param: random.choice(values[param]) for param in VARIANTS[name].parameters if random.random() < 0.8}
    return {"name": name, **given} if given or random.random() < 0.5 else name


def places(data: Any) -> list[tuple[Any, Any]]:
    """Every container with each of its keys."""
    found = []
    todo = [data]
    while todo:
        one = todo.pop()
        keys = list(one) if isinstance(one, dict) else list(range(len(one))) if isinstance(one, list) else []
        found += [(one, key) for key in keys]
        todo += [one[key] for key in keys]
    return found


def changed(random: Random, data: dict[str, Any]) -> dict[str, Any]:
    """The data with a few values of another kind, fields too many, too few or elsewhere."""
    for _ in range(random.choice((1, 1, 2, 4))):
        known = places(data)
        if not known:
            return {"title": "x"}
        holder, key = random.choice(known)
        match random.randrange(7):
            case 0:
                holder[key] = random.choice(SCALARS)
            case 1:
                holder[key] = [random.choice(SCALARS) for _ in range(random.randint(0, 3))]
            case 2:
                holder[key] = {random.choice(FIELDS): random.choice(SCALARS)}
            case 3:
                del holder[key]
            case 4:
                data[random.choice(FIELDS)] = random.choice(SCALARS)
            case 5:
                if isinstance(holder, dict):
                    holder[random.choice((*FIELDS, *SCALARS))] = random.choice(SCALARS)
            case _:
                holder[key] = [holder[key]] if random.random() < 0.5 else {random.choice(FIELDS): holder[key]}
    return data


def mutated(random: Random, text: str) -> str:
    """The text with a few characters, lines or pieces changed."""
    for _ in range(random.choice((1, 1, 2, 5))):
        place = random.randrange(len(text) + 1)
        end = min(len(text), place + random.choice((1, 1, 3, 10, 60)))
        match random.randrange(7):
            case 0:
                text = text[:place] + text[end:]
            case 1:
                text = text[:place] + random.choice(ALPHABET) + text[place:]
            case 2:
                text = text[:place] + random.choice(ALPHABET) + text[end:]
            case 3:
                lines = text.split("\n")
                lines.insert(random.randrange(len(lines)), random.choice(lines))
                text = "\n".join(lines)
            case 4:
                text = text[:place] + str(random.choice(SCALARS)) + text[end:]
            case 5:
                text = text[:place] + text[place:end] * random.choice((2, 20)) + text[end:]
            case _:
                text = text[:place] + random.choice(hostile_pieces(random)) + text[place:]
    return text


def hostile_pieces(random: Random) -> list[str]:
    n = random.choice((3, 9, 50, 1000, 10_000))
    return [
        "[" * n, "{" * n, "- " * n, "? " * n, "[" * n + "]" * n, "{a: " * n + "1" + "}" * n, "&a [*a]", "&a {b: *a}",
        "<<: {title: x}\n", "<<: *a\n", "!!python/object/apply:os.system [ls]", "!!binary aGVsbG8=", "!!set {a, b}",
        "!!timestamp 2024-01-01", "!!float 1e999", "!!int 0b1", "%YAML 9.9\n---\n", "---\n", "...\n", "--- a\n--- b\n",
        "9" * n, "0" * n, "-" * n, "1:" + "59:" * n + "1", "1e" + "9" * n, "." * n, " " * n + "x", "\t" * n, "|\n" * n,
        "'" * n, '"\\x41\\u2028\\U0010FFFF"', '"' + "\\\n" * n + '"', "#" * n, "\n" * n, "a" * n + ": 1\n", "*" * n,
        "&" + "a" * n + " x", "!" + "a" * n + " x", "0x" + "f" * n, "1_" * n + "1", "\ufeff", "\x85" * n, "=", ": " * n,
    ]  # fmt: skip


def laughs(random: Random) -> str:
    """The billion laughs, in lists or in mappings."""
    lines = ["a0: &a0 [lol, lol]"]
    for number in range(1, random.choice((3, 9, 40))):
        lines.append(f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 9)}]")
    return "\n".join(lines) + "\ntitle: *a1\n"


def wide(random: Random) -> str:
    """A sound file whose grid is as large as its lines can ask for."""
    n = random.choice((2, 20, 200, 1500))
    ranges = ("1..9999", "1..30", "1", "1..3", "[" + ", ".join(map(str, range(n))) + "]")
    rules = {"parallel": ("start", "loops"), "loop": ("start", "loops"), "shuffle": ("start", "seed"),
             "skip": ("start",), "skip-layer": ("layer",)}  # fmt: skip
    entries = ""
    for name in random.choices(list(rules), k=random.choice((1, 2, 60))):
        values = "".join(f", {param}: {random.choice(ranges)}" for param in rules[name])
        entries += f"  - {{name: {name}{values}}}\n"
    models = ", ".join(f"{{name: m{i}, num_layers: {random.choice((4, 32, 1000))}}}" for i in range(min(n, 20)))
    tasks = ", ".join(f"t{i}" for i in range(n))
    return f"title: wide\nmodels: [{models}]\ntasks: [{tasks}]\nkv: [exact, averaged]\nvariants:\n{entries}"


def file(random: Random) -> bytes:
    """The bytes of a file of any of these kinds."""
    kind = random.random()
    if kind < 0.15:
        text = dumped(random, experiment(random))
    elif kind < 0.45:
        text = dumped(random, changed(random, experiment(random)))
    elif kind < 0.6:
        text = mutated(random, dumped(random, experiment(random)))
    elif kind < 0.75:
        text = mutated(random, random.choice(SHIPPED))
    elif kind < 0.85:
        read = yaml.safe_load(random.choice(SHIPPED))
        text = dumped(random, changed(random, read))
    elif kind < 0.9:
        text = random.choice((laughs, wide, wide))(random)
    elif kind < 0.95:
        text = random.choice(hostile_pieces(random)) + random.choice(("", "\n", "\ntitle: x\n"))
    else:
        text = "".join(random.choice(ALPHABET) for _ in range(random.choice((0, 1, 5, 100, 5000))))
    data = text.encode("utf-8", "surrogatepass")
    if random.random() < 0.05:
        place = random.randrange(len(data) + 1)
        data = data[:place] + random.randbytes(random.choice((1, 4, 100))) + data[place:]
    if random.random() < 0.02:
        data = text.encode(random.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7")), "replace")
    return data


def dumped(random: Random, data: Any) -> str:
    flow = random.choice((None, False, True))
    return str(yaml.safe_dump(data, default_flow_style=flow, sort_keys=False, allow_unicode=random.random() < 0.5))


def read(data: bytes, watch: Watch) -> Any:
    """The experiment in a file of these bytes, or None where it is refused as it should be."""
    path = Path(FOLDER.name, "given.yaml")
    path.write_bytes(data)
    try:
        with watch:
            return load(path)
    except ExperimentError as error:
        told = str(error)
        if not LINE.search(told) or len(told) > 2000 or not told.startswith("experiment given.yaml"):
            raise Wrong(f"refused with an odd message: {told[:1000]!r}") from error
        return None


def check(data: bytes, watch: Watch) -> str:
    """`experiments` or `refused`."""
    return "refused" if read(data, watch) is None else "experiments"


def check_grid(data: bytes, watch: Watch) -> str:
    """`grids`, `too large or unfit` or `refused`."""
    found = read(data, Watch())
    if found is None:
        return "refused"
    try:
        with watch:
            made = cells(found, lambda model: model.num_layers or 12)
    except ExperimentError as error:
        if "experiment " not in str(error) or len(str(error)) > 2000:
            raise Wrong(f"refused with an odd message: {str(error)[:1000]!r}") from error
        return "too large or unfit"
    if len({cell.key for cell in made}) != len(made):
        raise Wrong("has a cell twice")
    return "grids"


FILES = Part("experiments", "experiment files", 10_000, file, check, megabytes=64, traced=20)
GRIDS = Part("grids", "grids of experiment files", 1_000, file, check_grid, seconds=30, megabytes=600, traced=20)
