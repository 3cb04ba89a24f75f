"""What `--lora` and the tags of prompts say of a LoRA: strengths, blocks, ranks."""

from __future__ import annotations

from typing import Any

import pytest

from sdedit_cli.errors import PresetError, UsageError
from sdedit_cli.options import Edit, layer_of
from sdedit_cli.options.adapters import EMBEDDING_FILE, LORA_FILE, EmbeddingFile, LoraFile, tagged_lora
from sdedit_cli.options.blocks import BLOCKS, NAMES, block_numbers

OUTALL = "1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.safetensors", LoraFile("a.safetensors")),
        ("a:0.8", LoraFile("a", 0.8)),
        ("a:0.8:0", LoraFile("a", 0.8, 0.0)),
        ("a:-1.5:2", LoraFile("a", -1.5, 2.0)),
        ("a:te=0", LoraFile("a", 1.0, 0.0)),
        ("a:unet=0.5:te=0.25", LoraFile("a", 0.5, 0.25)),
        ("a:0.8:lbw=OUTALL", LoraFile("a", 0.8, blocks="OUTALL")),
        (f"a:lbw={OUTALL}:0.8:0.5", LoraFile("a", 0.8, 0.5, OUTALL)),
        ("a:1:dyn=4", LoraFile("a", 1.0, dyn=4)),
        (r"C:\loras\a.safetensors:0.8:0", LoraFile(r"C:\loras\a.safetensors", 0.8, 0.0)),
        (r"C:\loras\a.safetensors", LoraFile(r"C:\loras\a.safetensors")),
        ("C:a:te=1", LoraFile("C:a", 1.0, 1.0)),
        ("my style: v2.safetensors:0.5", LoraFile("my style: v2.safetensors", 0.5)),
        ("a:3:1:0.5", LoraFile("a:3", 1.0, 0.5)),
        ("a:", LoraFile("a:")),
        ("a:nan", LoraFile("a:nan")),
        (":0.5", LoraFile(":0.5")),
        ("te=1", LoraFile("te=1")),
        ("a=b:0.5", LoraFile("a=b", 0.5)),
    ],
)
def test_a_value_of_the_option(text: str, value: LoraFile) -> None:
    assert LORA_FILE.parse(text) == value
    assert LORA_FILE.parse(str(value)) == value
    assert LORA_FILE.fit(LORA_FILE.dump(value)) == value


@pytest.mark.parametrize(
    ("items", "value"),
    [
        ((), LoraFile("a", 1.0, 1.0)),
        (("0.8",), LoraFile("a", 0.8, 0.8)),
        (("0.8", "0.5"), LoraFile("a", 0.5, 0.8)),  # the text encoder comes first
        (("0.8", "0.5", "4"), LoraFile("a", 0.5, 0.8, dyn=4)),
        (("te=0.5",), LoraFile("a", 0.5, 0.5)),
        (("unet=0.5",), LoraFile("a", 0.5, 1.0)),
        (("1", "te=0.25", "unet=0.75", "dyn=2"), LoraFile("a", 0.75, 0.25, dyn=2)),
        (("1", "lbw=OUTALL"), LoraFile("a", 1.0, 1.0, "OUTALL")),
        (("1", "1", f"lbw={OUTALL}"), LoraFile("a", 1.0, 1.0, OUTALL)),
        # As older releases of the extension write it.
        (("1", "MIDD"), LoraFile("a", 1.0, 1.0, "MIDD")),
        (("1", OUTALL), LoraFile("a", 1.0, 1.0, OUTALL)),
    ],
)
def test_what_a_tag_says_is_as_web_uis_mean_it(items: tuple[str, ...], value: LoraFile) -> None:
    assert tagged_lora("a", items, "<lora:a>") == value


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (("abc",), "'abc' is no number; expected a strength such as 0.8"),
        (("",), "'' is no number"),
        (("nan",), "'nan' is no number"),
        (("1e999",), "'1e999' is no number"),
        (("1e39",), r"the strength 1e\+39 is too large"),
        (("1_0",), "'1_0' is no number"),
        (("1", "2", "3", "4"), "'4' has no meaning there; expected numbers, te=, unet=, dyn= and lbw="),
        (("tee=1",), "'tee=1' has no meaning there; did you mean 'te'"),
        (("dyn=0",), "dyn is '0'; expected the number of ranks to take, 1 or more"),
        (("dyn=x",), "dyn is 'x'"),
        (("start=5",), "'start=5' would work in some steps or layers alone, which is not supported"),
        (("lbw=MYOWN",), "'MYOWN' is no set of block weights; expected 17 or 26 numbers, or NONE, ALL, INS"),
        (("lbw=OUTAL",), "did you mean 'OUTALL'"),
        (("lbw=1,2,3",), "has 3 block weights; expected 17 or 26 finite ones, from BASE to OUT11"),
        (("lbw=" + ",".join(["1"] * 12),), "has 12 block weights .12 and 20 are for Stable Diffusion XL"),
        (("lbw=" + ",".join(["nan"] * 17),), "expected 17 or 26 finite ones"),
    ],
)
def test_what_a_tag_cannot_say_is_refused_by_name(items: tuple[str, ...], words: str) -> None:
    with pytest.raises(UsageError, match=f"^<lora:a>: .*{words}"):
        tagged_lora("a", items, "<lora:a>")


@pytest.mark.parametrize("value", [{"path": "a", "blocks": "1,2"}, {"path": "a", "dyn": 0}, "a:lbw=X", "a:dyn=-1"])
def test_presets_are_held_to_the_same(value: Any) -> None:
    with pytest.raises(PresetError, match=r"^p.toml: lora: a: "):
        layer_of({"lora": [value]}, "p.toml")


def test_a_table_names_all_of_it() -> None:
    table = {"path": "a", "scale": 0.5, "te_scale": 0, "blocks": "OUTALL", "dyn": 4}
    assert Edit(**layer_of({"lora": [table]}, "p").values).lora == (LoraFile("a", 0.5, 0.0, "OUTALL", 4),)


def test_seventeen_numbers_are_of_the_blocks_that_a_plain_lora_changes() -> None:
    """The others get 0, as in the extension."""
    numbers = dict(zip(BLOCKS, block_numbers(",".join(str(n) for n in range(1, 18)), "x"), strict=True))
    named = {block: number for block, number in numbers.items() if number}
    assert named == {
        "BASE": 1,
        "IN01": 2,
        "IN02": 3,
        "IN04": 4,
        "IN05": 5,
        "IN07": 6,
        "IN08": 7,
        "M00": 8,
        **{f"OUT{n:02}": n + 6 for n in range(3, 12)},
    }
    assert len(numbers) == 26
    assert block_numbers(",".join(map(str, range(26))), "x") == tuple(range(26))


# As the extension lists them.
PRESETS = {
    "NONE": "0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0",
    "ALL": "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1",
    "INS": "1,1,1,1,0,0,0,0,0,0,0,0,0,0,0,0,0",
    "IND": "1,0,0,0,1,1,1,0,0,0,0,0,0,0,0,0,0",
    "INALL": "1,1,1,1,1,1,1,0,0,0,0,0,0,0,0,0,0",
    "MIDD": "1,0,0,0,1,1,1,1,1,1,1,1,0,0,0,0,0",
    "OUTD": "1,0,0,0,0,0,0,0,1,1,1,1,0,0,0,0,0",
    "OUTS": "1,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1,1",
    "OUTALL": OUTALL,
    "ALL0.5": ",".join(["0.5"] * 17),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_stand_for_the_extensions_numbers(name: str) -> None:
    assert PRESETS.keys() == set(NAMES)
    assert block_numbers(f" {name.lower()} ", "x") == block_numbers(PRESETS[name], "x")


def test_a_colon_in_the_name_of_an_embedding_makes_no_word() -> None:
    for text, path, token in (
        ("a/neg:ative.pt", "a/neg:ative.pt", ""),
        ("a/neg:ative.PT:<me>", "a/neg:ative.PT", "<me>"),
        ("C:\\word.bin", "C:\\word.bin", ""),
        ("word.bin:me", "word.bin", "me"),
    ):
        assert EMBEDDING_FILE.parse(text) == EmbeddingFile(path, token)
