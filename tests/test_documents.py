"""Which documents count: the first ones, or a draw that depends on the seed and the positions alone."""

from __future__ import annotations

import math

import pytest

from painters.documents import ALL_DOCUMENTS, DocumentSelection


def test_the_first_documents() -> None:
    assert ALL_DOCUMENTS.positions(4) == [0, 1, 2, 3]
    assert DocumentSelection(limit=3).positions(10) == [0, 1, 2]
    assert DocumentSelection(limit=30).positions(2) == [0, 1]
    for total in (1, 9, 10, 11, 500):
        expected = math.ceil(total * 0.1)  # lm-eval's number
        assert DocumentSelection(limit=0.1).positions(total) == list(range(expected))
        assert DocumentSelection(limit=0.1).count(total) == expected


def test_a_draw_is_the_same_everywhere() -> None:
    """Digests, no random generator: these numbers may never change, for records name them by their seed alone."""
    assert DocumentSelection(sample=5).positions(10042) == [2710, 4782, 6026, 8277, 8295]
    assert DocumentSelection(sample=5, seed=1).positions(10042) == [590, 601, 3494, 8966, 9793]


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_a_larger_sample_holds_the_smaller_one(seed: int) -> None:
    smaller: set[int] = set()
    for size in range(1, 41):
        drawn = DocumentSelection(sample=size, seed=seed).positions(40)
        assert drawn == sorted(set(drawn))
        assert len(drawn) == size
        assert smaller < set(drawn)
        smaller = set(drawn)
    assert smaller == set(range(40))


def test_every_document_is_drawn_equally_often() -> None:
    counts = [0] * 20
    for seed in range(2000):
        for position in DocumentSelection(sample=5, seed=seed).positions(20):
            counts[position] += 1
    deviation = math.sqrt(2000 * 0.25 * 0.75)
    assert max(abs(count - 500) for count in counts) < 4 * deviation


def test_more_than_there_are() -> None:
    selection = DocumentSelection(sample=1001, seed=7)
    assert selection.positions(3) == [0, 1, 2]
    assert selection.drawn_by(3) is None  # nothing was drawn
    assert selection.note(3, "arc") == "arc: a sample of 1,001 documents was asked for, and it has 3: all of them count"
    assert selection.drawn_by(2000) == 7
    assert selection.note(1001, "arc") is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "limit 0: give a whole number of documents, 1 or more, or a share"),
        ({"limit": 1.0}, "limit 1.0: give"),
        ({"limit": 0.0}, "limit 0.0: give"),
        ({"limit": float("nan")}, "limit nan: give"),
        ({"limit": True}, "limit True: give"),
        ({"limit": "3"}, "limit '3': give"),
        ({"sample": 0}, "sample 0: give a whole number, 1 or more"),
        ({"sample": 2.5}, "sample 2.5: give"),
        ({"sample": 3, "seed": -1}, "sample_seed -1: give a whole number, 0 or more"),
        ({"limit": 3, "sample": 4}, "limit 3 and sample 4: limit takes the first documents and sample draws"),
    ],
)
def test_options_that_no_selection_can_have(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DocumentSelection.checked(**options)  # type: ignore[arg-type]
