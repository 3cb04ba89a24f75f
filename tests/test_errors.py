"""Words from files in messages: printable, short, and never the work that a hostile value would make of them."""

from __future__ import annotations

import pytest

from sdedit_cli.errors import shown


def doubled(depth: int) -> list[object]:
    """A list of which `depth` lists make 2 ** depth words when it is written out."""
    value: list[object] = ["x"]
    for _ in range(depth):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a.weight", "a.weight"),
        ("red \x1b[31m\n\ud800", "red \\x1b[31m\\n\\ud800"),
        ([64, 64, 3, 3], "[64, 64, 3, 3]"),
        (None, "None"),
        (1 << 100_000, "a number of 100001 bits"),
    ],
    ids=["name", "escapes", "shape", "none", "number"],
)
def test_values_are_shown(value: object, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, ["x" * 10**6] * 100, doubled(60), {"a": doubled(60)}],
    ids=str.split("text texts lists table"),
)
def test_large_values_are_cut(value: object) -> None:
    assert len(shown(value)) <= 80
