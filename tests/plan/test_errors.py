"""What is no plan: each error points at its place, says what to do, and comes at once."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from painters.plan import MAX_NESTING, Layer, Parallel, Plan, PlanError

# text -> what the message says, and the character (from 0) under which the caret stands
ERRORS = {
    "": ("plan is empty", 0),
    "   ": ("plan is empty", 3),
    "()": ("'()' is empty", 0),
    "0 {}": ("'{}' is empty", 2),
    "{3 ()}": ("'()' is empty", 3),
    "0-": ("the range 0- has no last layer", 2),
    "0-X": ("the range 0- has no last layer", 2),
    "0- 1.attn-2": ("unexpected '-' here", 9),
    "4 -3": None,
    "-3": ("unexpected '-' here", 0),
    "0-1-2": ("unexpected '-' here", 3),
    "*3": ("unexpected '*' here", 0),
    "3*": ("'*' is not followed by a number", 2),
    "3*0": ("a step cannot be repeated 0 times", 2),
    "3*x": ("'*' is not followed by a number", 2),
    "3*X": ("'*' is not followed by a number", 2),
    "3*~": ("'*' is not followed by a number", 2),
    "3*-1": ("'*' is not followed by a number", 2),
    "9**9": ("'*' is not followed by a number", 2),
    "3*2*2": ("a step has two repeats", 3),
    "9*99999": ("repeat number is too large", 2),
    "0-1*2": ("a range cannot be repeated without brackets", 3),
    "0-3*2": ("a range cannot be repeated without brackets", 3),
    "3-5.attn*2": ("a range cannot be repeated without brackets", 8),
    "3.foo": ("'.' is not followed by a half of a layer", 2),
    "3.": ("'.' is not followed by a half of a layer", 2),
    "3.attn.mlp": ("unexpected '.' here", 6),
    "{3}:max": ("':' is not followed by a merge", 4),
    "{3}:": ("':' is not followed by a merge", 4),
    "3:sum": ("unexpected ':' here", 1),
    "(3 4):sum": ("unexpected ':' here", 5),
    "{3}*2:sum": ("unexpected ':' here", 5),
    "3,4": ("unexpected ',' in a plan", 1),
    "0-3;5": ("unexpected ';' in a plan", 3),
    "[3]": ("unexpected '[' in a plan", 0),
    "X": ("unexpected 'X' in a plan", 0),
    "a" * 20: (f"unexpected '{'a' * 20}' in a plan", 0),
    "a" * 21: (f"unexpected '{'a' * 20}...' in a plan", 0),
    "attn": ("unexpected 'attn' in a plan", 0),
    "0 1e3": ("unexpected 'e3' in a plan", 3),
    "plan=3": ("unexpected 'plan' in a plan", 0),
    "3\N{MULTIPLICATION SIGN}2": (r"unexpected '\xd7' in a plan", 1),
    "\N{ARABIC-INDIC DIGIT THREE}": (r"unexpected '\u0663' in a plan", 0),
    "3 \N{SUPERSCRIPT TWO}": (r"unexpected '\xb2' in a plan", 2),
    "3 \0": (r"unexpected '\x00' in a plan", 2),
    "3\N{NO-BREAK SPACE}4": (r"unexpected '\xa0' in a plan", 1),
    "\ud800": (r"unexpected '\ud800' in a plan", 0),
    "(3}": ("'}' cannot close '('", 2),
    "{3 (4 5}": ("'}' cannot close '('", 7),
    "3)": ("this ')' closes nothing", 1),
    "0 }": ("this '}' closes nothing", 2),
    "0 (3 4": ("this '(' is never closed", 2),
    "{3 (4 5)": ("this '{' is never closed", 0),
    "10000": ("layer number is too large", 0),
    "9999-10000": ("layer number is too large", 5),
    "0-999999999": ("layer number is too large", 2),
    "0 1*10000": ("plan runs layers 10001 times up to here", 2),
    "5*1 (0-9999) 3": ("plan runs layers 10001 times up to here", 5),
    "0 ((0-99)*100)*100": ("plan runs layers 10001 times up to here", 3),
    "(0-4999 1)*3": ("plan runs layers 15003 times up to here", 0),
    "{(0-999)*9 (0-999)*9}": ("plan runs layers 18000 times up to here", 11),
}


@pytest.mark.parametrize(("text", "expected"), ERRORS.items())
def test_errors_point_at_their_place(text: str, expected: tuple[str, int] | None) -> None:
    if expected is None:
        # "4 -3" reads as the range 4-3: spaces around '-' do not matter.
        assert Plan.parse(text) == Plan.of(4, 3)
        return
    problem, place = expected
    with pytest.raises(PlanError) as caught:
        Plan.parse(text)
    lines = str(caught.value).split("\n")
    assert len(lines) == 4
    assert lines[0] == problem
    assert lines[1] == "  " + "".join(c if " " <= c <= "~" else " " if c.isspace() else "?" for c in text)
    assert lines[2] == " " * (2 + place) + "^"
    assert lines[3].endswith(".")
    assert str(caught.value).isascii()


REMEDIES = {
    "3,4": "Separate steps with spaces.",
    "3;4": "Separate steps with spaces.",
    "-3": "Layers are numbered from 0; a range has a layer on both sides of '-', such as 0-14.",
    "*3": "Put the step to repeat before '*', such as 16*3, (15-17)*2 or {15-17}*3.",
    "3:sum": "Put the merge right after a group, such as {15-17}:sum.",
    ".attn": "Put the half right after a layer or a range, such as 16.attn or 3-5.mlp.",
    "3\N{MULTIPLICATION SIGN}2": "Write a repeat with '*', such as 16*3.",
    "[3 4]": "Write a sequence as (3 4) and a parallel group as {3 4}.",
    "3 ]": "Write a sequence as (3 4) and a parallel group as {3 4}.",
    "x": "A plan is layers (7), ranges (0-14), groups ({15-17}) and repeats ((15-17)*2), separated by spaces.",
    "{3}:max": "The merges are :mean (the default) and :sum.",
    "3.foo": "The halves are .attn and .mlp.",
    "2-5*3": "Write (2-5)*n to repeat all of it.",
    "2-5.mlp*3": "Write (2-5.mlp)*n to repeat all of it.",
    "3*2*2": "Multiply them into one, such as 16*6 for 16*2*3.",
    "3*0": "Leave the step out, or repeat it at least once.",
    "3*": "Write how often the step runs, such as 16*3.",
    "0-": "Write both ends, such as 0-14 or 17-15.",
    "0 (3}": "Close the '(' at character 3 with ')'.",
    "{3": "Add the '}'.",
    "3)": "Remove it, or open a bracket before it.",
    "()": "Put at least one layer between the brackets.",
    "99999": "The largest layer number is 9999.",
    "3*99999": "The largest repeat number is 10000.",
    "(0-9999)*2": "At most 10000 layer runs are allowed, repeats counted.",
}


@pytest.mark.parametrize(("text", "remedy"), REMEDIES.items())
def test_errors_say_what_to_do(text: str, remedy: str) -> None:
    with pytest.raises(PlanError) as caught:
        Plan.parse(text)
    assert str(caught.value).split("\n")[3] == remedy


@pytest.mark.parametrize(("before", "after"), [(0, 500), (500, 500), (500, 0), (10, 500), (500, 10)])
def test_a_long_text_is_shown_around_the_caret(before: int, after: int) -> None:
    with pytest.raises(PlanError) as caught:
        Plan.parse("0 " * before + "x" + " 1" * after)
    _, shown, caret, _ = str(caught.value).split("\n")
    assert shown[caret.index("^")] == "x"
    assert len(shown[2:].strip(".")) == 72
    if before == after:
        assert caret.index("^") == len("  ...") + 36
    assert shown.startswith("  ...") == (before > 36)
    assert shown.endswith("...") == (after > 36)


def test_brackets_are_bounded() -> None:
    for bracket, limit, problem, remedy in (
        ("{", MAX_NESTING, "parallel groups are nested too deep", "A plan may nest 32 groups."),
        ("(", 100, "too many open brackets", "At most 100 may be open at once."),
    ):
        close = {"{": "}", "(": ")"}[bracket]
        assert Plan.parse(bracket * limit + "5" + close * limit) == Plan.of(5)
        with pytest.raises(PlanError) as caught:
            Plan.parse(bracket * (limit + 1) + "5" + close * (limit + 1))
        assert str(caught.value).startswith(f"{problem}\n")
        assert str(caught.value).endswith(f"\n{remedy}")


def test_a_text_has_so_many_signs_at_most() -> None:
    most = "(((0)))" * 4_996 + "((((0))))" * 5_003
    assert len(most) == 79_999
    assert Plan.parse(most).layer_runs == 9_999
    with pytest.raises(PlanError) as caught:
        Plan.parse(most + "1")
    assert str(caught.value) == (
        "plan text has 80000 numbers, words and signs: at most 79999 are read; use ranges and repeats, and no brackets "
        "that group nothing"
    )


ADVERSARIAL = {
    "open groups": "{" * 10_000,
    "open brackets": "(" * 10_000,
    "mixed brackets": "({" * 5_000,
    "closed brackets": "(" * 4_999 + "5" + ")" * 4_999,
    "closing": ")" * 10_000,
    "digits": "1" * 10_000,
    "digits of a repeat": "1*" + "9" * 9_000,
    "digits of a range": "0-" + "9" * 9_000,
    "power": "9**9",
    "tower": "(" * 50 + "9" + "*9)" * 50,
    "tower of hundreds": "((((0-99)*100)*100)*100)*100",
    "full frames": "(0-9999" * 1_000,
    "wide": "{0-9999}" * 1_000,
    "stars": "*" * 10_000,
    "minuses": "0-" * 5_000,
    "spaces": " " * 10_000,
    "dots": "." * 10_000,
    "nulls": "\0" * 10_000,
    "letters": "a" * 10_000,
    "superscripts": "\N{SUPERSCRIPT TWO}" * 10_000,
    "error at the end": "0 " * 4_999 + "x",
    "groups of one": "{{{{0}}}}" * 9_999,
    "groups of one repeated": "{{{0}*1}*1}*1" * 9_999,
    "groups in groups of one": ("{" * 12 + "0 1" + "}" * 12) * 5_000,
    "brackets": "(((((0)))))" * 9_999,
}
LEGAL = {
    "zeros": "0" * 10_000,
    "pairs": "{1 2}" * 2_000,
    "spliced often": "{" * 31 + "0-9999" + "}" * 31,
    "ten thousand runs": "(((0-9)*10)*10)*10",
    "runs one by one": "0 1 " * 2_500,
    "brackets everywhere": "(5)" * 3_333,
    "groups of two": "{0 (1)}" * 5_000,
    "a wide group": "{0-9999}",
    "no repeat anywhere": "0-9999",
}


# Under `make coverage` every line is traced, and takes several times as long.
LIMIT = 0.1 if sys.gettrace() is None else 1.0


def seconds(text: str) -> float:
    """Of processor time: what else the machine does is not counted."""
    start = time.process_time()
    with contextlib.suppress(PlanError):
        Plan.parse(text)
    return time.process_time() - start


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_hostile_texts_are_refused_at_once(name: str) -> None:
    with pytest.raises(PlanError) as caught:
        Plan.parse(ADVERSARIAL[name])
    assert len(str(caught.value)) < 400
    assert min(seconds(ADVERSARIAL[name]) for _ in range(7)) < LIMIT


@pytest.mark.parametrize("name", LEGAL)
def test_large_texts_are_read_in_time(name: str) -> None:
    assert Plan.parse(str(Plan.parse(LEGAL[name]))) == Plan.parse(LEGAL[name])
    assert min(seconds(LEGAL[name]) for _ in range(7)) < LIMIT


@given(st.one_of(st.text(max_size=10_000), st.text("0123456789-*.:(){} \n\u0663attnmlpsume,", max_size=10_000)))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_plan_or_a_plan_error(text: str) -> None:
    message = None
    try:
        plan = Plan.parse(text)
    except PlanError as error:
        message = str(error)
    if message is None:
        assert Plan.parse(str(plan)) == plan
    else:
        assert re.fullmatch(r".+\n  .*\n *\^\n.+", message)
        assert message.isascii()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Layer(-1), "layer -1 is out of range: layers are numbered 0 to 9999"),
        (lambda: Layer(10_000), "layer 10000 is out of range: layers are numbered 0 to 9999"),
        (lambda: Layer(True), "layer True is not an int: give the layer's place in the stack, from 0"),
        (lambda: Layer(1, "ffn"), "layer 1 has no half 'ffn': the halves are 'attn' and 'mlp'"),
        (
            lambda: Parallel(()),
            "a parallel group has no branches: give it at least one, such as ((Layer(3),),)",
        ),
        (
            lambda: Parallel(((Layer(1),),), "max"),
            "a parallel group cannot merge by 'max': the merges are 'mean' and 'sum'",
        ),
        (lambda: Parallel(((),)), "a branch of a parallel group is empty: it must run at least one layer"),
        (
            lambda: Parallel((Layer(3),)),
            "a branch of a parallel group is Layer(index=3, half=None): it must be a tuple of steps, such as "
            "(Layer(3), Layer(4))",
        ),
        (lambda: Plan(()), "plan is empty: it must run at least one layer"),
        (lambda: Plan((3,)), "plan holds 3: a step is a Layer or a Parallel"),
        (
            lambda: Plan.of(*[Parallel.of(*range(100))] * 101),
            "plan runs layers 10100 times: at most 10000 runs are allowed, repeats counted",
        ),
        (
            lambda: Plan.identity(10_001),
            "plan runs layers 10001 times: at most 10000 runs are allowed, repeats counted",
        ),
        (lambda: Plan.identity(0), "a model of 0 layers has nothing to run: num_layers must be at least 1"),
        (lambda: Plan.parse(3), "a plan is read from text, not int: give a str such as '0-11'"),
        (
            lambda: Plan.parse(" " * 200_001),
            "plan text has 200001 characters: at most 200000 are read; use ranges and repeats",
        ),
    ],
)
def test_values_that_are_no_plans(build: Callable[[], object], message: str) -> None:
    with pytest.raises(PlanError) as caught:
        build()
    assert str(caught.value) == message
