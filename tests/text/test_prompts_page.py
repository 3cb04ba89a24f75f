"""The worked examples in docs/prompts.md, each checked against the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sdedit_cli.options.adapters import tagged_lora
from sdedit_cli.text import Tokenizer, encode_weighted, segments
from sdedit_cli.text.grammar import Break, parse, pieces
from sdedit_cli.text.tags import split_tags
from sdedit_cli.text.weighting import Long

PAGE = (Path(__file__).parents[2] / "docs" / "prompts.md").read_text(encoding="utf-8")


def table(name: str) -> list[list[str]]:
    """The rows below the mark `<!-- name -->`, cells without back ticks; `\\|` in a table is how a bar is written."""
    lines = PAGE.split(f"<!-- {name} -->\n", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip(" ").replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def code(cell: str) -> str:
    assert cell.startswith("`"), cell
    assert cell.endswith("`"), cell
    return cell[1:-1]


def shown(text: str) -> str:
    leaves = pieces(parse(text))
    return ", ".join("BREAK" if isinstance(leaf, Break) else f'"{leaf.text}" {leaf.weight:.7g}' for leaf in leaves)


@pytest.mark.parametrize(("prompt", "expected"), table("pieces"))
def test_pieces(prompt: str, expected: str) -> None:
    assert shown(code(prompt)) == code(expected)


@pytest.mark.parametrize(("prompt", "steps", "expected"), table("segments"))
def test_segments(prompt: str, steps: str, expected: str) -> None:
    start, found = 0, list[str]()
    for until, now in segments(code(prompt), int(steps)):
        found.append(f"{start}-{until}: {now}")
        start = until
    assert "; ".join(found) == code(expected)


@pytest.mark.parametrize(("prompt", "text", "loras"), table("tags"))
def test_tags(prompt: str, text: str, loras: str) -> None:
    plain, tags = split_tags(code(prompt))
    assert plain == code(text)
    found = [tagged_lora(tag.name, tag.items, tag.text) for tag in tags]
    assert ", ".join(f"{one.path} {one.scale:g} {one.text_scale:g}" for one in found) == code(loras)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.packaged()


def spelled_out(description: str) -> str:
    """'`word` 3 times, a comma, `BREAK`' -> 'word word word , BREAK'"""
    words: list[str] = []
    for part in description.split(", "):
        repeated = re.fullmatch(r"`(\w+)`(?: (\d+) times)?", part)
        words += [repeated[1]] * int(repeated[2] or 1) if repeated else [{"a comma": ",", "nothing": ""}[part]]
    return " ".join(words)


@pytest.mark.parametrize(("description", "truncate", "chunk"), table("rows"))
def test_rows(tokenizer: Tokenizer, description: str, truncate: str, chunk: str) -> None:
    def lengths(long: Long) -> str:
        rows = encode_weighted(tokenizer, spelled_out(description), long).ids
        return " ".join(str(row.index(tokenizer.eos_id) - 1) for row in rows)

    assert (lengths("truncate"), lengths("chunk")) == (code(truncate), code(chunk))
