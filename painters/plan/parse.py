"""A parser for the text of a plan.

Its time is linear in the length of the text, it does not recurse, and it checks sizes before it builds anything.
"""

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

# A number, a word, a single sign, or the empty token at the end of the text.
_TOKEN = re.compile(r"[ \t\r\n\f\v]*([0-9]+|[A-Za-z_][A-Za-z_0-9]*|[^ \t\r\n\f\v]|\Z)", re.DOTALL)
_CLOSING = {"(": ")", "{": "}"}
_DIGITS = "0123456789"
_SHOWN_CHARACTERS = 72  # of the text, in an error message
_NOTATION = "A plan is layers (7), ranges (0-14), groups ({15-17}) and repeats ((15-17)*2), separated by spaces."
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


def parse_steps(text: str) -> tuple[Step, ...]:
    """Return the steps that `text` describes, with repeats and ranges written out.

    Raises:
        PlanError: The text is not a plan. The message shows the text with a caret under the mistake.
    """
    if not isinstance(text, str):
        raise PlanError(f"a plan is read from text, not {type(text).__name__}: give a str such as '0-11'")
    if len(text) > MAX_TEXT:
        raise PlanError(f"plan text has {len(text)} characters: at most {MAX_TEXT} are read; use ranges and repeats")
    return _Parser(text).parse()


def error_text(problem: str, text: str, position: int, remedy: str) -> str:
    """Return four lines: the problem, up to 72 characters of the text, a caret, and the remedy.

    Args:
        problem: What is wrong.
        text: The text of the plan.
        position: The index in `text` of the character that the caret points at.
        remedy: What to do about it.
    """
    start = max(0, min(position - _SHOWN_CHARACTERS // 2, len(text) - _SHOWN_CHARACTERS))
    shown = text[start : start + _SHOWN_CHARACTERS]
    # Every character takes one column, whatever it is, so that the caret stands under the right one.
    shown = "".join(" " if c.isspace() else c if " " < c <= "~" else "?" for c in shown)
    before = "..." if start else ""
    after = "..." if start + _SHOWN_CHARACTERS < len(text) else ""
    return f"{problem}\n  {before}{shown}{after}\n  {' ' * (len(before) + position - start)}^\n{remedy}"


@dataclass(slots=True)
class _Frame:
    """The inside of an open bracket, or of the whole text.

    Attributes:
        bracket: "(" or "{"; empty for the whole text.
        token_index: The number of the bracket's token.
        items: The step sequences read inside it. In a group each is a branch.
        runs: The layer runs of these items.
        nesting: The number of groups that are open, this one included.
    """

    bracket: str
    token_index: int
    items: list[tuple[Step, ...]] = field(default_factory=list)
    runs: int = 0
    nesting: int = 0


class _Parser:
    """One pass over the tokens of a text, with a stack of open brackets in place of recursion."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[str] = _TOKEN.findall(text)  # the last one is empty
        if len(self.tokens) > MAX_TOKENS:
            raise PlanError(
                f"plan text has {len(self.tokens) - 1} numbers, words and signs: at most {MAX_TOKENS - 1} are read; "
                f"use ranges and repeats, and no brackets that group nothing"
            )
        self.token = self.tokens[0]
        self.token_index = 0  # characters are only looked up for an error
        self.runs = 0  # of all frames together, so that the limit is checked before any step is built
        self.frames = [_Frame("", 0)]
        self.layer_steps: dict[tuple[int, Half | None], tuple[Step, ...]] = {}

    def parse(self) -> tuple[Step, ...]:
        """Read the whole text and return its steps."""
        while self.token:
            if self.token in _CLOSING:
                self.open_bracket()
            elif self.token in (")", "}"):
                self.close_bracket()
            elif self.token[0] in _DIGITS:
                self.read_layers()
            else:
                shown = ascii(self.token[:20])[1:-1] + ("..." if len(self.token) > 20 else "")
                where = " in a plan" if self.token not in "-*:." else " here"
                raise self.error(f"unexpected '{shown}'{where}", _HINTS.get(self.token, _NOTATION))
        frame = self.frames[-1]
        if frame.bracket:
            raise self.error(
                f"this '{frame.bracket}' is never closed", f"Add the '{_CLOSING[frame.bracket]}'.", frame.token_index
            )
        if not frame.items:
            raise self.error("plan is empty", _NOTATION)
        return tuple(chain.from_iterable(frame.items))

    def advance(self) -> None:
        """Go on to the next token."""
        self.token_index += 1
        self.token = self.tokens[self.token_index]

    def position(self, token_index: int) -> int:
        """Return the index in the text of the first character of a token."""
        return next(islice(_TOKEN.finditer(self.text), token_index, None)).start(1)

    def error(self, problem: str, remedy: str, token_index: int | None = None) -> PlanError:
        """Return an error with the caret under a token; the current one by default."""
        position = self.position(self.token_index if token_index is None else token_index)
        return PlanError(error_text(problem, self.text, position, remedy))

    def open_bracket(self) -> None:
        """Read "(" or "{" and open its frame."""
        if len(self.frames) > MAX_BRACKETS:
            raise self.error("too many open brackets", f"At most {MAX_BRACKETS} may be open at once.")
        nesting = self.frames[-1].nesting + (self.token == "{")
        if nesting > MAX_NESTING:
            raise self.error("parallel groups are nested too deep", f"A plan may nest {MAX_NESTING} groups.")
        self.frames.append(_Frame(self.token, self.token_index, nesting=nesting))
        self.advance()

    def close_bracket(self) -> None:
        """Read ")" or "}", and a merge and a repeat behind it, and add the steps to the frame around."""
        frame = self.frames[-1]
        if not frame.bracket:
            raise self.error(f"this '{self.token}' closes nothing", "Remove it, or open a bracket before it.")
        if self.token != _CLOSING[frame.bracket]:
            close, character = _CLOSING[frame.bracket], self.position(frame.token_index) + 1
            raise self.error(
                f"'{self.token}' cannot close '{frame.bracket}'",
                f"Close the '{frame.bracket}' at character {character} with '{close}'.",
            )
        if not frame.items:
            raise self.error(
                f"'{frame.bracket}{self.token}' is empty",
                "Put at least one layer between the brackets.",
                frame.token_index,
            )
        self.frames.pop()
        self.advance()
        merge = self.read_merge() if frame.bracket == "{" else None
        if merge is None or len(frame.items) == 1:  # a group of one branch is that branch
            steps = tuple(chain.from_iterable(frame.items))
        else:
            steps = (Parallel(tuple(frame.items), merge),)
        self.runs -= frame.runs  # `add` counts them again, as often as they are repeated
        self.add([steps], frame.runs, frame.token_index)

    def read_merge(self) -> Merge:
        """Read ":mean" or ":sum", if it is there, and return the merge."""
        if self.token != ":":
            return "mean"
        self.advance()
        for merge in MERGES:
            if self.token == merge:
                self.advance()
                return merge
        raise self.error("':' is not followed by a merge", "The merges are :mean (the default) and :sum.")

    def read_layers(self) -> None:
        """Read a layer or a range, its half and its repeat, and add the steps to the current frame."""
        token_index = self.token_index
        first = last = self.read_number("layer", MAX_LAYERS - 1)
        if self.token == "-":
            self.advance()
            if not self.token or self.token[0] not in _DIGITS:
                raise self.error(f"the range {first}- has no last layer", "Write both ends, such as 0-14 or 17-15.")
            last = self.read_number("layer", MAX_LAYERS - 1)
        half = self.read_half()
        count = abs(last - first) + 1
        if self.token == "*" and count > 1:
            suffix = f".{half}" if half else ""
            raise self.error(
                "a range cannot be repeated without brackets",
                f"Write ({first}-{last}{suffix})*n to repeat all of it.",
            )
        self.check_runs(count, token_index)
        direction = 1 if last >= first else -1
        indices = range(first, last + direction, direction)
        self.add([self.layer(index, half) for index in indices], count, token_index)

    def layer(self, index: int, half: Half | None) -> tuple[Step, ...]:
        """Return a sequence of one layer, the same object each time the layer runs."""
        steps = self.layer_steps.get((index, half))
        if steps is None:
            steps = self.layer_steps[index, half] = (Layer(index, half),)
        return steps

    def read_half(self) -> Half | None:
        """Read ".attn" or ".mlp", if it is there, and return the half."""
        if self.token != ".":
            return None
        self.advance()
        for half in HALVES:
            if self.token == half:
                self.advance()
                return half
        raise self.error("'.' is not followed by a half of a layer", "The halves are .attn and .mlp.")

    def read_number(self, name: str, largest: int) -> int:
        """Read the number in hand, at most `largest`; error messages call it `name`."""
        digits = self.token.lstrip("0") or "0"
        # Long digit strings are compared by length: Python refuses to convert some of them.
        if len(digits) > len(str(largest)) or int(digits) > largest:
            raise self.error(f"{name} number is too large", f"The largest {name} number is {largest}.")
        self.advance()
        return int(digits)

    def add(self, items: list[tuple[Step, ...]], runs: int, token_index: int) -> None:
        """Read a repeat, if there is one, and add the items to the current frame as often as it says.

        Args:
            items: The step sequences to add; exactly one if a repeat follows.
            runs: Their layer runs, already checked against the limit.
            token_index: The number of the token at which the items begin, for an error.
        """
        if self.token == "*":
            self.advance()
            number_index = self.token_index
            if not self.token or self.token[0] not in _DIGITS:
                raise self.error("'*' is not followed by a number", "Write how often the step runs, such as 16*3.")
            times = self.read_number("repeat", MAX_LAYER_RUNS)
            if times == 0:
                raise self.error(
                    "a step cannot be repeated 0 times",
                    "Leave the step out, or repeat it at least once.",
                    number_index,
                )
            if self.token == "*":
                raise self.error("a step has two repeats", "Multiply them into one, such as 16*6 for 16*2*3.")
            runs *= times
            self.check_runs(runs, token_index)
            items = [items[0] * times]
        self.runs += runs
        self.frames[-1].runs += runs
        self.frames[-1].items += items

    def check_runs(self, runs: int, token_index: int) -> None:
        """Raise PlanError, with the caret under a token, if `runs` more layer runs are too many."""
        if self.runs + runs > MAX_LAYER_RUNS:
            raise self.error(
                f"plan runs layers {self.runs + runs} times up to here",
                f"At most {MAX_LAYER_RUNS} layer runs are allowed, repeats counted.",
                token_index,
            )
