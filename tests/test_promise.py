"""Whether `--like` can promise the same bytes: every fact that a picture records of its making is compared."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sdedit_cli.options import Edit
from sdedit_cli.pictures.promise import other_making, other_settings
from sdedit_cli.pictures.record import Ingredient, Record, block, parse_block

LORA = Ingredient("lora", "a", "1" * 64, 0.5, payload="2" * 64)
MADE_ON = {"torch": "2.0", "device": "cpu", "threads": "2", "numeric": "1", "pillow": "11"}
EDIT = Edit(prompt="a pond", seed=3, strength=0.5, dtype="fp32")
RECORD = Record(
    EDIT.saved(),
    64,
    48,
    (
        Ingredient("model", "m", "a" * 64),
        Ingredient("vae", "v", "b" * 64),
        LORA,
        Ingredient("embedding", "e", "c" * 64),
    ),
    "ef" * 32,
    "Euler",
    version="1.0",
    made_on=MADE_ON,
)
FOUND = parse_block(block(RECORD), "x.png")


def test_the_same_edit_is_promised() -> None:
    assert other_making(FOUND, RECORD) == ()
    assert other_settings(FOUND, EDIT) == ()
    assert other_settings(FOUND, replace(EDIT, count=3, seed=8)) == ()  # each has a seed of its own


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("torch", "2.1+cpu", "torch 2.1+cpu (was 2.0)"),
        ("device", "cuda", "device cuda (was cpu)"),
        ("threads", "8", "threads 8 (was 2)"),
        ("numeric", "2", "numeric version 2 (was 1)"),
        ("pillow", "12", "Pillow 12 (was 11)"),
        ("together", "4", "pictures at a time 4 (was 1)"),
    ],
)
def test_another_place_is_named(name: str, value: str, said: str) -> None:
    assert other_making(FOUND, replace(RECORD, made_on={**MADE_ON, name: value})) == (said,)


def test_another_version_is_named_and_one_that_says_nothing_of_its_making() -> None:
    assert other_making(FOUND, replace(RECORD, version="1.1")) == ("sdedit 1.1 (was 1.0)",)
    silent = parse_block(block(replace(RECORD, made_on={})), "x.png")
    assert "does not say" in other_making(silent, RECORD)[0]
    on_gpu = {"device": "cuda", "threads": ""}
    assert other_making(FOUND, replace(RECORD, made_on={**MADE_ON, **on_gpu})) == ("device cuda (was cpu)",)


@pytest.mark.parametrize("kind", ["model", "vae", "lora", "embedding"])
def test_another_file_is_named_and_a_missing_one(kind: str) -> None:
    other = tuple(replace(one, sha256="9" * 64, payload="") if one.kind == kind else one for one in RECORD.ingredients)
    assert other_making(FOUND, replace(RECORD, ingredients=other)) == (
        f"it was made with another {kind} than this one",
    )
    without = tuple(one for one in RECORD.ingredients if one.kind != kind)
    (missing,) = other_making(FOUND, replace(RECORD, ingredients=without))
    assert missing.startswith(f"it was made with {kind} '")
    without_theirs = parse_block(block(replace(RECORD, ingredients=without)), "x.png")
    assert other_making(without_theirs, RECORD)[0].startswith(f"it was made without {kind} '") or kind == "model"


def test_other_strengths_and_orders_are_named() -> None:
    louder = (*RECORD.ingredients[:2], replace(LORA, scale=0.7), RECORD.ingredients[3])
    assert other_making(FOUND, replace(RECORD, ingredients=louder)) == (
        "its lora 'a' had other strengths, or another order",
    )


def test_what_another_tool_wrote_is_compared_by_the_hashes_that_it_has() -> None:
    theirs = replace(
        FOUND,
        exact=False,
        ingredients=(Ingredient("model", "m", "a" * 10), Ingredient("vae"), Ingredient("lora", "a", "2" * 12)),
    )
    assert other_making(theirs, RECORD) == ()
    other = replace(theirs, ingredients=(Ingredient("model", "m", "b" * 10),))
    assert other_making(other, RECORD) == ("it was made with another model than this one",)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"strength": 0.7}, "strength 0.7 (was 0.5)"),
        ({"prompt": "a lake"}, "prompt 'a lake' (was 'a pond')"),
        ({"seed": 4}, "seed 4 (was 3)"),
        ({"sampler": "euler"}, "sampler euler (was not set)"),
        ({"weighting": False}, "weighting off (was on)"),
        ({"dtype": "bf16"}, "dtype bf16 (was fp32)"),
        ({"prompt": "x" * 10_000}, f"prompt {'x' * 37}... (was 'a pond')"),
    ],
)
def test_other_settings_are_named(change: dict[str, object], said: str) -> None:
    assert other_settings(FOUND, replace(EDIT, **change)) == (said,)
