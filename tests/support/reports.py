"""Records to report on, and the statistics of a report checked by hand."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from support.fake_records import LAYERS, record

from painters import variants
from painters.plan import Plan
from painters.results import Record, scoring

INTACT = Plan.identity(LAYERS)


HOSTILE = (
    """</script><script>document.title='owned'</script><img src=x onerror="document.title='owned'">'"&{{7*7}}`$x^{"""
)


DRAWS, SEED = 2000, 2407


def some_records() -> list[Record]:
    plans = {"skip": INTACT, "reverse": variants.reverse(num_layers=LAYERS, start=4)}
    plans["skip"] = variants.skip(num_layers=LAYERS, start=4)
    made = []
    for task in ("fake_arc", "fake_gsm8k"):
        made.append(record(INTACT, task, 1.0))
        made += [record(plan, task, 0.6, variant=name, params={"start": 4}, asked=None) for name, plan in plans.items()]
    return made


def hostile_records() -> list[Record]:
    fields: dict[str, object] = dict.fromkeys(("model", "task", "metric", "device", "attention", "kv"), HOSTILE)
    fields |= {"versions": {HOSTILE: HOSTILE}, "variant": HOSTILE, "params": {HOSTILE: HOSTILE}, "requests": HOSTILE}
    made = [record(INTACT, "fake_arc", 1.0), record(Plan.parse("0-3"), "fake_arc", 0.5)]
    made = [Record.model_validate(one.model_dump() | fields) for one in made]
    return [*made, made[1].model_copy(update={"plan": HOSTILE})]


class Tags(HTMLParser):
    """The tags of a page, and what its scripts hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts[-1] += data
        else:
            self.words.append(data)


def data_of(page: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Tags(page).scripts[0])
    return found


def random_numbers(seed: int) -> Any:
    """The generator of statistics.js, written again: the 32 bits of Marsaglia's xorshift."""
    state = (seed ^ 0x9E3779B9) & 0xFFFFFFFF or 1
    count = 0
    while True:
        state ^= (state << 13) & 0xFFFFFFFF
        state ^= state >> 17
        state ^= (state << 5) & 0xFFFFFFFF
        count += 1
        if count > 16:
            yield state


def interval(aggregation: str, one: np.ndarray, other: np.ndarray) -> list[float]:
    if aggregation == "mean" and {*one, *other} <= {0, 1}:
        return list(scoring.paired_interval(one.tolist(), other.tolist()) or ())
    numbers = random_numbers(SEED)
    n = len(one)
    chosen = np.array([[next(numbers) * n >> 32 for _ in range(n)] for _ in range(DRAWS)])
    means = one[chosen].mean(axis=1), other[chosen].mean(axis=1)
    found = means[0] - means[1] if aggregation == "mean" else np.exp(-means[0]) - np.exp(-means[1])
    return [float(value) for value in np.percentile(found, [2.5, 97.5])]


CASES = {
    "mean": [
        (np.linspace(0, 1, 30), np.linspace(0, 1, 30) ** 2),
        (np.ones(30), np.ones(30)),
        ((np.arange(40) % 3 > 0) * 1.0, (np.arange(40) % 5 > 0) * 1.0),
        (np.ones(5), np.zeros(5)),
    ],
    "perplexity": [(-np.linspace(0.1, 2.0, 30), -(np.linspace(0.3, 1.5, 30) ** 2))],
}


def check_statistics(run: Any) -> None:
    """Check the statistics of the page; `run` returns the value of an expression of JavaScript and statistics.js."""
    for aggregation, pairs in CASES.items():
        for one, other in pairs:
            arguments = f"{json.dumps(aggregation)}, {one.tolist()}, {other.tolist()}"
            values = [
                float(np.exp(-x.mean())) if aggregation == "perplexity" else float(x.mean()) for x in (one, other)
            ]
            error = scoring.difference_stderr(aggregation, one.tolist(), values[0], other.tolist(), values[1])
            assert run(f"pairedError({arguments})") == pytest.approx(error, abs=1e-12)
            assert run(f"pairedInterval({arguments})") == pytest.approx(interval(aggregation, one, other), abs=1e-9)
    for first, second in ((0, 0), (1, 0), (3, 3), (2, 9), (40, 90), (0, 700)):
        one = [1] * first + [0] * second + [1, 0]
        other = [0] * first + [1] * second + [1, 0]
        p = binomtest(min(first, second), first + second, 0.5).pvalue if first + second else 1.0
        found = run(f"mcnemar({one}, {other})")
        assert (found["first"], found["second"]) == (first, second)
        assert math.isclose(found["p"], p, rel_tol=1e-9, abs_tol=1e-300)
    assert run("mcnemar([0.5, 1], [1, 1])") is None
    assert run("[pairedError('mean', [1], [0]), pairedInterval('mean', [1], [0])]") == [None, None]
    assert run("[median([]), median([3, 1, 2]), median([4, 1, 2, 3])]") == [None, 2, 2.5]
