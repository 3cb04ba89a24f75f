r"""The grammar of prompts that users of web UIs know, as a tree; any text parses.

    (x)  weight 1.1        [x]  weight 1/1.1       (x:1.3)  weight 1.3       nested weights multiply
    BREAK  a new chunk     [a:b:when]  a, then b    [a:when]  nothing, then a    [a::when]  a, then nothing
    [a|b]  a and b in turn     \( \) \[ \] \: \| \\  the character itself

Brackets without a partner, around nothing, or nested deeper than 64 are text like any other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from typing import TypeAlias

UP = 1.1
DOWN = 1 / UP
MAX_DEPTH = 64  # no prompt means more; a bound keeps the tree printable and comparable by recursion


@dataclass(frozen=True)
class Text:
    """Text as it is meant: escapes resolved."""

    content: str


@dataclass(frozen=True)
class Break:
    """The end of a chunk of tokens."""


@dataclass(frozen=True)
class Emphasis:
    body: Prompt
    weight: float


@dataclass(frozen=True)
class Schedule:
    """`before` until `when`, `after` from then on; `when` is a fraction of the steps below 1, else their number."""

    before: Prompt
    after: Prompt
    when: float


@dataclass(frozen=True)
class Alternation:
    """One option a step, in turn."""

    options: tuple[Prompt, ...]


Node: TypeAlias = "Text | Break | Emphasis | Schedule | Alternation"
Prompt: TypeAlias = "tuple[Node, ...]"


@dataclass(frozen=True)
class Piece:
    """Text of one weight."""

    text: str
    weight: float


_TOKEN = re.compile(
    r"""
      (?P<escape>\\[()\[\]:|\\])
    | (?P<stop>\s*\bBREAK\b\s*)
    | (?P<mark>[()\[\]:|])
    | \s+ | [^\s()\[\]:|\\B]+ | .
    """,
    re.VERBOSE | re.DOTALL,
)
_OPENING = {")": "(", "]": "["}
# One way to read any run of digits: with two, a long one that turns out to be none takes time by its square.
_NUMBER = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*", re.ASCII)
_SIGNED = re.compile(r"\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*", re.ASCII)


def parse(text: str) -> Prompt:
    """The tree of a prompt. Never fails: what is not syntax is text."""
    tokens = [_Token.of(match) for match in _TOKEN.finditer(text)]
    return _Parser(tokens, _partners(tokens)).prompt(0, len(tokens))


def write(prompt: Prompt, *, inside: bool = False) -> str:
    """A text that parses to this tree, for every tree that `parse` gives; `inside` of brackets more is escaped."""
    return "".join(_write_node(node, inside) for node in prompt)


def pieces(prompt: Prompt) -> list[Piece | Break]:
    """The texts of a prompt without schedules, with their weights; neighbours of equal weight are one piece."""
    found: list[Piece | Break] = []
    for weight, run in groupby(_leaves(prompt, 1.0), lambda leaf: leaf.weight if isinstance(leaf, Piece) else None):
        leaves = list(run)
        found += leaves if weight is None else [Piece("".join(map(_text, leaves)), weight)]
    return found


def _text(leaf: Piece | Break) -> str:
    return leaf.text if isinstance(leaf, Piece) else ""


def _leaves(prompt: Prompt, weight: float) -> Iterable[Piece | Break]:
    for node in prompt:
        match node:
            case Text(content):
                yield Piece(content, weight)
            case Break():
                yield node
            case Emphasis(body, factor):
                yield from _leaves(body, weight * factor)
            case Schedule() | Alternation():
                raise AssertionError("resolve the schedule first: prompt_schedule.at_step")


@dataclass(frozen=True)
class _Token:
    kind: str  # "text", "stop", or the mark itself
    text: str

    @classmethod
    def of(cls, match: re.Match[str]) -> _Token:
        text, kind = match.group(), match.lastgroup
        if kind == "escape":
            return cls("text", text[1:])
        return cls(text if kind == "mark" else kind or "text", text)


def _partners(tokens: Sequence[_Token]) -> dict[int, int]:
    """Indices of opening brackets -> their closing ones. A bracket that closes an outer pair leaves the inner alone."""
    partners: dict[int, int] = {}
    waiting: list[int] = []
    open_count = {"(": 0, "[": 0}
    for index, token in enumerate(tokens):
        if token.kind in open_count:
            waiting.append(index)
            open_count[token.kind] += 1
        elif open_count.get(_OPENING.get(token.kind, ""), 0):
            while tokens[waiting[-1]].kind != _OPENING[token.kind]:
                open_count[tokens[waiting.pop()].kind] -= 1
            open_count[_OPENING[token.kind]] -= 1
            partners[waiting.pop()] = index
    return _shallow(partners)


def _shallow(partners: dict[int, int]) -> dict[int, int]:
    kept: dict[int, int] = {}
    enclosing: list[int] = []
    for start, end in sorted(partners.items()):
        while enclosing and enclosing[-1] < start:
            enclosing.pop()
        if len(enclosing) < MAX_DEPTH:
            kept[start] = end
        enclosing.append(end)
    return kept


@dataclass(frozen=True)
class _Parser:
    tokens: Sequence[_Token]
    partners: dict[int, int]

    def prompt(self, start: int, end: int) -> Prompt:
        nodes: list[Node] = []
        index = start
        while index < end:
            token = self.tokens[index]
            close = self.partners.get(index)
            group = None if close is None else self.group(index + 1, close, token.kind)
            if group is not None and close is not None:
                nodes.append(group)
                index = close
            else:
                nodes.append(Break() if token.kind == "stop" else Text(token.text))
            index += 1
        return _joined(nodes)

    def group(self, start: int, end: int, bracket: str) -> Node | None:
        """What the bracket around tokens start..end means; None when it is only text."""
        colons = self.split(start, end, ":")
        if bracket == "(":
            weight = self.number(*colons[-1], _SIGNED) if len(colons) > 1 else None
            return self.emphasis(start, end, UP) if weight is None else self.emphasis(start, colons[-1][0] - 1, weight)
        bars = self.split(start, end, "|")
        if len(bars) > 1:
            return Alternation(tuple(self.prompt(*span) for span in bars))
        when = self.number(*colons[-1], _NUMBER) if len(colons) in (2, 3) else None
        if when is None:
            return self.emphasis(start, end, DOWN)
        before = self.prompt(*colons[0]) if len(colons) == 3 else ()
        return Schedule(before, self.prompt(*colons[-2]), when)

    def emphasis(self, start: int, end: int, weight: float) -> Emphasis | None:
        return Emphasis(self.prompt(start, end), weight) if start < end else None

    def split(self, start: int, end: int, mark: str) -> list[tuple[int, int]]:
        """The spans between the marks that belong to no inner bracket."""
        spans: list[tuple[int, int]] = []
        index = first = start
        while index < end:
            if self.tokens[index].kind == mark:
                spans.append((first, index))
                first = index + 1
            index = self.partners.get(index, index) + 1
        return [*spans, (first, end)]

    def number(self, start: int, end: int, pattern: re.Pattern[str]) -> float | None:
        found = pattern.fullmatch("".join(token.text for token in self.tokens[start:end]))
        value = float(found.group(1)) if found else math.inf
        return value if math.isfinite(value) else None


def _joined(nodes: Iterable[Node]) -> Prompt:
    joined: list[Node] = []
    for is_text, run in groupby(nodes, lambda node: isinstance(node, Text)):
        group = list(run)
        joined += [Text("".join(node.content for node in group if isinstance(node, Text)))] if is_text else group
    return tuple(joined)


_SPECIAL = re.compile(r"[()\[\]\\]")
_SPECIAL_INSIDE = re.compile(r"[()\[\]:|\\]")


def _write_node(node: Node, inside: bool) -> str:
    match node:
        case Text(content):
            return (_SPECIAL_INSIDE if inside else _SPECIAL).sub(r"\\\g<0>", content)
        case Break():
            return " BREAK "
        case Emphasis(body, weight):
            return _write_emphasis(write(body, inside=True), weight)
        case Schedule(before, after, when):
            return f"[{write(before, inside=True)}:{write(after, inside=True)}:{_decimal(when)}]"
        case Alternation(options):
            return f"[{'|'.join(write(option, inside=True) for option in options)}]"


def _write_emphasis(body: str, weight: float) -> str:
    if weight == UP:
        return f"({body})"
    return f"[{body}]" if weight == DOWN else f"({body}:{_decimal(weight)})"


def _decimal(number: float) -> str:
    """The number without an exponent, which the grammar does not have."""
    return format(Decimal(repr(number)).normalize(), "f")
