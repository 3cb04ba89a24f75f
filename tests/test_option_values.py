"""Options with values of a type of their own, declared outside of Edit: every derivation holds for them too."""

from __future__ import annotations

import json
from dataclasses import dataclass

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from sdedit_cli.cli.flags import GroupedCommand, Value, field_option
from sdedit_cli.errors import PresetError, UsageError
from sdedit_cli.options import (
    MAX_CHARACTERS,
    composite,
    declare,
    environment,
    fields,
    fit_values,
    kept,
    layer_of,
    split_numbers,
    with_hashes,
)


@dataclass(frozen=True, slots=True)
class Scaled:
    path: str
    scale: float = 1.0
    text_scale: float | None = None

    def __str__(self) -> str:
        numbers = [self.scale] if self.text_scale is None else [self.scale, self.text_scale]
        return ":".join([self.path, *(f"{number:.15g}" for number in numbers)])


def scaled(text: str) -> Scaled:
    path, numbers = split_numbers(text, 2)
    if not path:
        raise ValueError
    return Scaled(path, *numbers)


SCALED = composite(Scaled, "a file with its scales", "files with their scales", "PATH[:SCALE[:SCALE]]", scaled)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    lora: tuple[Scaled, ...] = declare((), "Adapters.", "Model", kind=SCALED, path=True)
    word: tuple[str, ...] = declare((), "Words.", "Model", pixels=False)
    size: int | None = declare(None, "A size.", "Model", low=1, high=9)

    def __post_init__(self) -> None:
        fit_values(self)


LORA, WORD, SIZE = fields(Choice)
PAIR = (Scaled("my file.safetensors", 0.8), Scaled("b", 0.5, 0.25))


def test_the_declaration_is_read_as_that_of_an_edit() -> None:
    assert [(f.name, f.kind.name, f.many, f.repeated) for f in (LORA, WORD, SIZE)] == [
        ("lora", "Scaled", True, True),
        ("word", "str", True, True),
        ("size", "int", False, False),
    ]
    assert LORA.expected == "a list of files with their scales"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("my file.safetensors:0.8", ("my file.safetensors", (0.8,))),
        ("a.safetensors", ("a.safetensors", ())),
        ("a:-1:0.5", ("a", (-1.0, 0.5))),
        ("a:3:1:0.5", ("a:3", (1.0, 0.5))),
        (r"C:\x.safetensors:0.8", (r"C:\x.safetensors", (0.8,))),
        (r"C:\x.safetensors", (r"C:\x.safetensors", ())),
        ("C:/x:1:.5", ("C:/x", (1.0, 0.5))),
        ("a:", ("a:", ())),
        ("a:nan", ("a:nan", ())),
        (":0.5", (":0.5", ())),
        ("0.5", ("0.5", ())),
    ],
)
def test_numbers_are_split_from_the_end_of_a_path(text: str, parts: tuple[str, tuple[float, ...]]) -> None:
    assert split_numbers(text, 2) == parts


@given(st.builds(Scaled, st.text("ab:/\\. ", min_size=1).map(lambda s: s + "x"), st.floats(-9, 9), st.floats(0, 1)))
def test_the_text_of_a_value_reads_back(value: Scaled) -> None:
    again = scaled(str(value))
    assert again.path == value.path
    assert (again.scale, again.text_scale) == pytest.approx((value.scale, value.text_scale), rel=1e-12)


def test_documents_name_a_value_by_text_or_by_table() -> None:
    table = {"lora": ["my file.safetensors:0.8", {"path": "b", "scale": 0.5, "text_scale": 0.25}]}
    assert layer_of(table, "p.toml", of=Choice).values == {"lora": PAIR}
    assert layer_of({"lora": "b:0.5:0.25"}, "p.toml", of=Choice).values == {"lora": PAIR[1:]}
    assert Choice(lora=("b:1:0",)).lora == (Scaled("b", 1.0, 0.0),)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (3, "lora is .*expected a list of files with their scales"),
        (["a"], "lora is .*expected a list of files with their scales"),
        ("", "lora is .*expected a list of files with their scales"),
        ({}, "lora: a table has no 'path'; expected a file with its scales"),
        ({"scale": 1.0}, "lora: a table has no 'path'"),
        ({"path": 3}, "lora: 'path' of a table is 3; expected a path or a name"),
        ({"path": ""}, "lora: 'path' of a table is ''; expected a path or a name"),
        ({"path": "a", "scale": "b"}, "lora: 'scale' of a table is 'b'; expected a number"),
        ({"path": "a", "x": 1}, "lora: a table has 'x'; expected some of path, scale, text_scale"),
        ({"path": "a", "scael": 1}, "a table has 'scael'; did you mean 'scale'"),
    ],
)
def test_a_table_that_is_no_value_is_refused(item: object, said: str) -> None:
    """By the member that is wrong."""
    with pytest.raises(PresetError, match=rf"p.toml: {said}" if said.startswith("lora") else said):
        layer_of({"lora": [item]}, "p.toml", of=Choice)


def test_the_environment_holds_one_a_line() -> None:
    layer = environment({"SDEDIT_LORA": "my file.safetensors:0.8\nb:0.5:0.25", "SDEDIT_WORD": "one, two"}, of=Choice)
    assert layer.values == {"lora": PAIR, "word": ("one, two",)}


def test_what_is_kept_is_read_back_and_paths_are_hashed() -> None:
    choice = Choice(lora=PAIR, size=3)
    facts = json.loads(json.dumps(kept(choice, lambda option: option.pixels)))
    assert facts == {
        "lora": [{"path": "my file.safetensors", "scale": 0.8}, {"path": "b", "scale": 0.5, "text_scale": 0.25}],
        "size": 3,
    }
    assert Choice(**layer_of(facts, "x", of=Choice).values) == choice
    assert kept(Choice(), lambda option: True) == {}
    hashed = with_hashes(kept(choice, lambda option: option.pixels), Choice, str.upper)
    assert [item["path"] for item in hashed["lora"]] == ["MY FILE.SAFETENSORS", "B"]


def test_the_schema_has_both_ways_to_write_a_value() -> None:
    items = {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "properties": {
                    "path": {"type": "string", "minLength": 1},
                    "scale": {"type": "number"},
                    "text_scale": {"type": "number"},
                },
                "required": ["path"],
                "additionalProperties": False,
            },
        ]
    }
    many = {"type": "array", "items": items, "maxItems": 1000}
    alone = {"type": "string", "maxLength": MAX_CHARACTERS}
    assert LORA.schema() == {"anyOf": [many, alone], "description": "Adapters."}


def given_on(*words: str) -> dict[str, object]:
    """What a command with the three options is given."""
    found: dict[str, object] = {}

    def callback(**values: object) -> None:
        found.update(values)

    command = click.Command("x", callback=callback)
    for field in (SIZE, WORD, LORA):
        command = field_option(field)(command)
    command.params.reverse()
    result = CliRunner().invoke(command, words, catch_exceptions=False, standalone_mode=False)
    if result.exception:
        raise result.exception
    return found


def test_the_command_line_repeats_it() -> None:
    words = ["--lora", "my file.safetensors:0.8", "--lora", "b:0.5:0.25", "--word", "one, two", "--size", "3"]
    assert given_on(*words) == {"lora": PAIR, "word": ("one, two",), "size": 3}
    assert given_on() == {"lora": (), "word": (), "size": None}
    with pytest.raises(UsageError, match="--lora is ''; expected a file with its scales"):
        given_on("--lora", "")


def test_the_help_page_and_completion_know_it() -> None:
    command = GroupedCommand("x")
    for field in (LORA, WORD):
        field_option(field)(command)
    page = CliRunner().invoke(command, ["--help"]).output
    assert "--lora PATH[:SCALE[:SCALE]]" in " ".join(page.split())
    ctx = click.Context(command)
    (item,) = Value(LORA).shell_complete(ctx, command.params[0], "my f")
    assert (item.type, item.value) == ("file", "my f")
    assert not Value(WORD).shell_complete(ctx, command.params[0], "o")
