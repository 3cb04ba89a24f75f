"""Words from files in messages: printable, short, and never the work that a hostile value would make of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdedit_cli import errors
from sdedit_cli.errors import SdeditError, shortened, shown

PAGE = Path(__file__).parents[1] / "docs" / "batch.md"
WORDS = {
    "all-failed",
    "bad-request",
    "blocked-by-safety",
    "cluster-unusable",
    "failed",
    "input-unusable",
    "internal-error",
    "interrupted",
    "job-unusable",
    "mask-unusable",
    "model-unusable",
    "not-finite",
    "out-of-memory",
    "output-unwritable",
    "preset-unusable",
    "some-failed",
    "stale-outputs",
    "terminated",
    "unsafe-file",
    "worker-lost",
}


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


@pytest.mark.parametrize("limit", [40, 160])
def test_long_names_lose_their_middle(limit: int) -> None:
    for length in (limit, limit + 1, 1000):
        text = shortened(f"a{'x' * (length - 2)}z", limit)
        assert len(text) <= limit
        assert (text[0], text[-1], "..." in text) == ("a", "z", length > limit)


def test_every_failure_has_a_word_that_stays() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, SdeditError)]
    assert {one.word for one in classes} == WORDS, "programs ask for these words: add some, and keep those that are"
    page = PAGE.read_text(encoding="utf-8")
    assert [word for word in WORDS if f"`{word}`" not in page] == []
