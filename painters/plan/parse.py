"""Reading a plan's text: linear in its length, no recursion, every size checked before anything is built."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import chain, islice

from painters.plan.steps import (
    HALVES,
    MAX_BRACKETS,
    MAX_LAYER_RUNS,
    MAX_LAYERS,
    MAX_NESTING,
    MAX_TEXT,
    MAX_TOKENS,
    MERGES,
    Half,
    Layer,
    Merge,
    Parallel,
    PlanError,
    Step,
)

_TOKEN = re.compile(r"[ \t\r\n\f\v]*([0-9]+|[A-Za-z_][A-Za-z_0-9]*|[^ \t\r\n\f\v]|\Z)", re.DOTALL)
_CLOSES = {"(": ")", "{": "}"}
_WINDOW = 72
_HOW = "A plan is layers (7), ranges (0-14), groups ({15-17}) and repeats ((15-17)*2), separated by spaces."
_HINTS = {
    ",": "Separate steps with spaces.",
    ";": "Separate steps with spaces.",
    "-": "Layers are numbered from 0; a range has a layer on both sides of '-', such as 0-14.",
    "*": "Put the step to repeat before '*', such as 16*3, (15-17)*2 or {15-17}*3.",
    ":": "Put the merge right after a group, such as {15-17}:sum.",
    ".": "Put the half right after a layer or a range, such as 16.attn or 3-5.mlp.",
    "\N{MULTIPLICATION SIGN}": "Write a repeat with '*', such as 16*3.",
    "[": "Write a sequence as (3 4) and a parallel group as {3 4}.",
    "]": "Write a sequence as (3 4) and a parallel group as {3 4}.",
}


def error_text(problem: str, text: str, place: int, remedy: str) -> str:
    """`problem`, the text (72 characters of it) with a caret under `place`, and `remedy`: four lines."""
    start = max(0, min(place - _WINDOW // 2, len(text) - _WINDOW))
    shown = text[start : start + _WINDOW]
    # One column per character, whatever was typed, so that the caret stands where it should.
    shown = "".join(" " if c.isspace() else c if " " < c <= "~" else "?" for c in shown)
    before = "..." if start else ""
    after = "..." if start + _WINDOW < len(text) else ""
    return f"{problem}\n  {before}{shown}{after}\n  {' ' * (len(before) + place - start)}^\n{remedy}"


@dataclass(slots=True)
class _Frame:
    """An open bracket (none at the top), the number of its token, and the step sequences read inside it."""

    bracket: str
    place: int
    items: list[tuple[Step, ...]] = field(default_factory=list)
    runs: int = 0
    nesting: int = 0  # groups that are open, this one included


def parse_steps(text: str) -> tuple[Step, ...]:
    """The steps that `text` describes, repeats and ranges written out; raises PlanError."""
    if not isinstance(text, str):
        raise PlanError(f"a plan is read from text, not {type(text).__name__}: give a str such as '0-11'")
    if len(text) > MAX_TEXT:
        raise PlanError(f"plan text has {len(text)} characters: at most {MAX_TEXT} are read; use ranges and repeats")
    return _Reader(text).read()


class _Reader:
    """One pass over the text with one token in hand."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[str] = _TOKEN.findall(text)  # the last one is empty
        if len(self.tokens) > MAX_TOKENS:
            raise PlanError(
                f"plan text has {len(self.tokens) - 1} numbers, words and signs: at most {MAX_TOKENS - 1} are read; "
                f"use ranges and repeats, and no brackets that group nothing"
            )
        self.token = self.tokens[0]
        self.place = 0  # the number of the token; the character is looked up when an error needs it
        self.runs = 0  # of all frames together, so that the limit holds before any step is built
        self.stack = [_Frame("", 0)]
        self.known: dict[tuple[int, Half | None], tuple[Step, ...]] = {}

    def advance(self) -> None:
        self.place += 1
        self.token = self.tokens[self.place]

    def character(self, place: int) -> int:
        """Where in the text the token number `place` starts."""
        return next(islice(_TOKEN.finditer(self.text), place, None)).start(1)

    def error(self, problem: str, remedy: str, place: int | None = None) -> PlanError:
        """The error to raise, with the caret under the token number `place` (the one in hand)."""
        place = self.character(self.place if place is None else place)
        return PlanError(error_text(problem, self.text, place, remedy))

    def read(self) -> tuple[Step, ...]:
        while self.token:
            if self.token in _CLOSES:
                self.open_bracket()
            elif self.token in (")", "}"):
                self.close_bracket()
            elif self.token[0] in "0123456789":
                self.layers()
            else:
                what = ascii(self.token[:20])[1:-1] + ("..." if len(self.token) > 20 else "")
                where = " in a plan" if self.token not in "-*:." else " here"
                raise self.error(f"unexpected '{what}'{where}", _HINTS.get(self.token, _HOW))
        frame = self.stack[-1]
        if frame.bracket:
            raise self.error(
                f"this '{frame.bracket}' is never closed", f"Add the '{_CLOSES[frame.bracket]}'.", frame.place
            )
        if not frame.items:
            raise self.error("plan is empty", _HOW)
        return tuple(chain.from_iterable(frame.items))

    def open_bracket(self) -> None:
        if len(self.stack) > MAX_BRACKETS:
            raise self.error("too many open brackets", f"At most {MAX_BRACKETS} may be open at once.")
        nesting = self.stack[-1].nesting + (self.token == "{")
        if nesting > MAX_NESTING:
            raise self.error("parallel groups are nested too deep", f"A plan may nest {MAX_NESTING} groups.")
        self.stack.append(_Frame(self.token, self.place, nesting=nesting))
        self.advance()

    def close_bracket(self) -> None:
        frame = self.stack[-1]
        if not frame.bracket:
            raise self.error(f"this '{self.token}' closes nothing", "Remove it, or open a bracket before it.")
        if self.token != _CLOSES[frame.bracket]:
            close, place = _CLOSES[frame.bracket], self.character(frame.place) + 1
            raise self.error(
                f"'{self.token}' cannot close '{frame.bracket}'",
                f"Close the '{frame.bracket}' at character {place} with '{close}'.",
            )
        if not frame.items:
            raise self.error(
                f"'{frame.bracket}{self.token}' is empty",
                "Put at least one layer between the brackets.",
                frame.place,
            )
        self.stack.pop()
        self.advance()
        merge = self.merge() if frame.bracket == "{" else None
        if merge is None or len(frame.items) == 1:  # a group of one branch is that branch
            steps = tuple(chain.from_iterable(frame.items))
        else:
            steps = (Parallel(tuple(frame.items), merge),)
        self.runs -= frame.runs
        self.add([steps], frame.runs, frame.place)

    def merge(self) -> Merge:
        if self.token != ":":
            return "mean"
        self.advance()
        for merge in MERGES:
            if self.token == merge:
                self.advance()
                return merge
        raise self.error("':' is not followed by a merge", "The merges are :mean (the default) and :sum.")

    def layers(self) -> None:
        """Reads a layer or a range, with its half."""
        place = self.place
        first = last = self.number("layer", MAX_LAYERS - 1)
        if self.token == "-":
            self.advance()
            if not self.token or self.token[0] not in "0123456789":
                raise self.error(f"the range {first}- has no last layer", "Write both ends, such as 0-14 or 17-15.")
            last = self.number("layer", MAX_LAYERS - 1)
        half = self.half()
        count = abs(last - first) + 1
        if self.token == "*" and count > 1:
            suffix = f".{half}" if half else ""
            raise self.error(
                "a range cannot be repeated without brackets",
                f"Write ({first}-{last}{suffix})*n to repeat all of it.",
            )
        self.refuse(count, place)
        step = 1 if last >= first else -1
        self.add([self.layer(index, half) for index in range(first, last + step, step)], count, place)

    def layer(self, index: int, half: Half | None) -> tuple[Step, ...]:
        """The layer alone as a sequence, made once however often it runs."""
        found = self.known.get((index, half))
        if found is None:
            found = self.known[index, half] = (Layer(index, half),)
        return found

    def half(self) -> Half | None:
        if self.token != ".":
            return None
        self.advance()
        for half in HALVES:
            if self.token == half:
                self.advance()
                return half
        raise self.error("'.' is not followed by a half of a layer", "The halves are .attn and .mlp.")

    def number(self, what: str, most: int) -> int:
        digits = self.token.lstrip("0") or "0"
        # Long digit strings are compared by length: Python refuses to convert some of them.
        if len(digits) > len(str(most)) or int(digits) > most:
            raise self.error(f"{what} number is too large", f"The largest {what} number is {most}.")
        self.advance()
        return int(digits)

    def add(self, items: list[tuple[Step, ...]], runs: int, place: int) -> None:
        """Puts items of `runs` layer runs, found to be few enough, into the open frame, as often as a repeat says."""
        if self.token == "*":
            self.advance()
            star = self.place
            if not self.token or self.token[0] not in "0123456789":
                raise self.error("'*' is not followed by a number", "Write how often the step runs, such as 16*3.")
            times = self.number("repeat", MAX_LAYER_RUNS)
            if times == 0:
                raise self.error(
                    "a step cannot be repeated 0 times",
                    "Leave the step out, or repeat it at least once.",
                    star,
                )
            if self.token == "*":
                raise self.error("a step has two repeats", "Multiply them into one, such as 16*6 for 16*2*3.")
            runs *= times
            self.refuse(runs, place)
            items = [items[0] * times]
        self.runs += runs
        self.stack[-1].runs += runs
        self.stack[-1].items += items

    def refuse(self, runs: int, place: int) -> None:
        if self.runs + runs > MAX_LAYER_RUNS:
            raise self.error(
                f"plan runs layers {self.runs + runs} times up to here",
                f"At most {MAX_LAYER_RUNS} layer runs are allowed, repeats counted.",
                place,
            )
