"""The grammar of prompts: everything parses, printing is faithful, weights multiply, schedules choose."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from sdedit_cli.text.grammar import (
    DOWN,
    MAX_DEPTH,
    UP,
    Alternation,
    Break,
    Emphasis,
    Piece,
    Prompt,
    Schedule,
    Text,
    parse,
    pieces,
    write,
)
from sdedit_cli.text.prompt_schedule import at_step, is_scheduled, segments

WORDS = [
    "(",
    ")",
    "[",
    "]",
    ":",
    "|",
    "\\",
    "BREAK",
    " BREAK ",
    " ",
    "a",
    "cat",
    "B",
    "0.5",
    "1.3",
    "-2",
    "3",
    ",",
    "é",
    "\n",
]
TEXTS = st.one_of(st.lists(st.sampled_from(WORDS), max_size=30).map("".join), st.text(max_size=30))
PLAIN = st.text(st.characters(exclude_characters="()[]:|\\B"), min_size=1, max_size=10)
WEIGHTS = st.integers(-3000, 3000).map(lambda thousandths: thousandths / 1000)


def depth(prompt: Prompt) -> int:
    def inner(prompts: tuple[Prompt, ...]) -> int:
        return 1 + max(map(depth, prompts), default=0)

    found = [0]
    for node in prompt:
        match node:
            case Emphasis(body, _):
                found.append(inner((body,)))
            case Schedule(before, after, _):
                found.append(inner((before, after)))
            case Alternation(options):
                found.append(inner(options))
            case _:
                pass
    return max(found)


@given(TEXTS)
@example("(((")
@example("[a:b:" + "9" * 400 + "]")
@example("(x:" + "9" * 400 + ")")
@example("(x:0.0000001)")
@example("\\")
@example("BREAKBREAK BREAK")
@example("(x:-0)")
def test_any_text_parses_and_prints_the_same_tree(text: str) -> None:
    tree = parse(text)
    assert parse(write(tree)) == tree


@given(TEXTS, st.integers(1, 12))
def test_any_text_resolves_at_every_step(text: str, steps: int) -> None:
    """No step leaves a schedule, and the segments say the same as each step by itself."""
    runs = segments(text, steps)
    assert [until for until, _ in runs] == sorted({until for until, _ in runs})
    assert runs[-1][0] == steps
    for step in range(steps):
        now = next(prompt for until, prompt in runs if step < until)
        resolved = at_step(parse(text), step, steps)
        assert now == (write(resolved) if is_scheduled(parse(text)) else text)
        assert not is_scheduled(resolved)
        assert all(isinstance(leaf, Break) or math.isfinite(leaf.weight) for leaf in pieces(resolved))


@given(TEXTS)
def test_text_without_syntax_is_not_lost(text: str) -> None:
    """Escaped as a whole, any text without BREAK comes back as the one piece it is."""
    escaped = "".join("\\" + letter if letter in "()[]:|\\" else letter for letter in text.replace("BREAK", ""))
    expected = text.replace("BREAK", "")
    assume("BREAK" not in expected)
    assert pieces(parse(escaped)) == ([Piece(expected, 1.0)] if expected else [])
    assert pieces(parse(f"({escaped}:1.5)")) == ([Piece(expected, 1.5)] if expected else [Piece("(:1.5)", 1.0)])


@given(PLAIN, st.lists(WEIGHTS, max_size=8))
def test_nested_weights_multiply(text: str, weights: list[float]) -> None:
    nested = text
    for weight in reversed(weights):
        nested = f"({nested}:{weight:f})"
    (piece,) = pieces(parse(nested))
    assert isinstance(piece, Piece)
    assert piece.text == text
    assert piece.weight == pytest.approx(math.prod(weights))


@given(PLAIN, st.integers(0, 10), st.integers(0, 10))
def test_round_and_square_brackets_undo_each_other(text: str, ups: int, downs: int) -> None:
    (piece,) = pieces(parse("(" * ups + "[" * downs + text + "]" * downs + ")" * ups))
    assert isinstance(piece, Piece)
    assert (piece.text, piece.weight) == (text, pytest.approx(UP**ups * DOWN**downs))


@pytest.mark.parametrize("opening", "([")
@pytest.mark.parametrize("count", [MAX_DEPTH, MAX_DEPTH + 1, 5000])
def test_deep_nesting_is_bounded(opening: str, count: int) -> None:
    """Deeper pairs are text, so that no prompt exhausts the stack."""
    closing = {"(": ")", "[": "]"}[opening]
    tree = parse(opening * count + "x" + closing * count)
    assert depth(tree) == MAX_DEPTH
    extra = count - MAX_DEPTH
    (piece,) = pieces(tree)
    assert isinstance(piece, Piece)
    assert piece.text == opening * extra + "x" + closing * extra
    assert parse(write(tree)) == tree


ENDLESS = {
    "opening": "(" * 50_000,
    "closing": ")" * 50_000,
    "empty pairs": "()" * 25_000,
    "crossing pairs": "([" * 25_000 + ")" * 25_000,
    "spaces": " " * 50_000,
    "words": "a " * 25_000,
    "colons": ":" * 50_000,
    "options": "[" + "a|" * 25_000 + "]",
    "colons in a pair": "[" + "a:" * 25_000 + "]",
    "backslashes": "\\" * 50_001,
    "breaks": "BREAK " * 10_000,
    "nearly breaks": "B" * 50_000,
}


@pytest.mark.parametrize("text", ENDLESS.values(), ids=list(ENDLESS))
def test_long_texts_parse_in_linear_time(text: str) -> None:
    """Quadratic work on these would take minutes; the suite's patience is the limit, not a clock."""
    tree = parse(text)
    assert parse(write(tree)) == tree


def test_tree_of_every_kind_of_node() -> None:
    assert parse("a (b:1.5) BREAK [c:d:0.5] [e|f] [:g:2]") == (
        Text("a "),
        Emphasis((Text("b"),), 1.5),
        Break(),
        Schedule((Text("c"),), (Text("d"),), 0.5),
        Text(" "),
        Alternation(((Text("e"),), (Text("f"),))),
        Text(" "),
        Schedule((), (Text("g"),), 2.0),
    )


@pytest.mark.parametrize("text", ["a cat", "(cat:1.2) 16:9 | :)", "", "a [b:c] \\(d\\) [e:f:g:1]"])
def test_a_text_without_schedule_comes_back_untouched(text: str) -> None:
    assert segments(text, 10) == [(10, text)]


def test_emphasis_that_a_schedule_empties_leaves_nothing() -> None:
    """'()' would be text."""
    assert segments("a ([cat::2]:1.3)", 4) == [(2, "a (cat:1.3)"), (4, "a ")]


def test_fraction_of_the_steps_is_not_hurt_by_rounding() -> None:
    assert segments("[a:b:0.29]", 100) == [(29, "a"), (100, "b")]
