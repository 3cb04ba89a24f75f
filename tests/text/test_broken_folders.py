"""Tokenizer folders that cannot be used: each gives a ModelError with the file and what to do, never a traceback."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.text import FOLDERS, bare, classic, complete, modern, put_json

from sdedit_cli.errors import ModelError, OutputError, UsageError
from sdedit_cli.text import Tokenizer


def edit_json(name: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        data = json.loads((folder / name).read_text(encoding="utf-8"))
        put_json(folder / name, change(data) or data)

    return apply


def put(name: str, content: str | bytes) -> Callable[[Path], None]:
    raw = content.encode() if isinstance(content, str) else content

    def apply(folder: Path) -> None:
        (folder / name).write_bytes(raw)

    return apply


def drop(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def model_part(**change: Any) -> Callable[[Path], None]:
    return edit_json("tokenizer.json", lambda data: data["model"].update(change))


def config(**change: Any) -> Callable[[Path], None]:
    return edit_json("tokenizer_config.json", lambda data: data.update(change))


BROKEN = {
    "no merges": (bare, drop("merges.txt"), "no merges.txt"),
    "no vocabulary": (bare, drop("vocab.json"), "no vocab.json"),
    "vocabulary is no JSON": (bare, put("vocab.json", "{'a': 1"), "vocab.json: cannot be read as JSON"),
    "vocabulary is a list": (bare, put("vocab.json", "[1, 2]"), "vocab.json: holds a JSON list"),
    "id is a text": (bare, edit_json("vocab.json", lambda data: data.update(x="7")), "the id of 'x' is '7'"),
    "id is negative": (bare, edit_json("vocab.json", lambda data: data.update(x=-1)), "the id of 'x' is -1"),
    "id is huge": (bare, edit_json("vocab.json", lambda data: data.update(x=2**40)), "the id of 'x'"),
    "lone surrogate": (bare, edit_json("vocab.json", lambda data: data.update({"\ud800": 5})), "do not fit"),
    "merges are bytes": (bare, put("merges.txt", b"\xff\xfe\x00"), "merges.txt: cannot be read as text"),
    "merge of three": (bare, put("merges.txt", "#version: 0.2\na b c\n"), "'a b c' is not a pair"),
    "merge longer than all tokens": (bare, put("merges.txt", f"#version: 0.2\na {'b' * 99}\n"), "'a bbb"),
    "merge of any length": (bare, put("merges.txt", f"#version: 0.2\na \x1b[2J{'b' * 10**6}\n"), "'a \\x1b[2Jbbb"),
    "merge without id": (bare, put("merges.txt", "#version: 0.2\nz qqq\n"), "do not fit"),
    "no end token": (bare, edit_json("vocab.json", lambda data: data.pop("<|endoftext|>") and None), "'<|endoftext|>'"),
    "no start token": (bare, edit_json("vocab.json", lambda data: data.pop("<|startoftext|>") and None), "bos token"),
    "pad token unknown": (
        classic,
        edit_json("special_tokens_map.json", lambda d: d.update(pad_token="<pad>")),
        "<pad>",
    ),
    "token without text": (classic, config(sep_token={"lstrip": True}), "'sep_token'"),
    "flag of another type": (classic, config(sep_token={"content": "x", "lstrip": "yes"}), "'lstrip' is 'yes'"),
    "token is a number": (classic, config(sep_token=3), "'sep_token' is 3"),
    "list of tokens is a text": (classic, config(additional_special_tokens="x"), "expected a list"),
    "added tokens are a list": (classic, config(added_tokens_decoder=[1]), "'added_tokens_decoder' is"),
    "added token at no id": (classic, config(added_tokens_decoder={"x": {"content": "y"}}), "'x' is not the id"),
    "added token has a text id": (classic, put("added_tokens.json", '{"<x>": "1914"}'), "the id of '<x>'"),
    "config is no JSON": (classic, put("tokenizer_config.json", "{"), "tokenizer_config.json: cannot be read"),
    "config is empty": (classic, put("tokenizer_config.json", ""), "tokenizer_config.json: cannot be read"),
    "length is a text": (classic, config(model_max_length="77"), "'model_max_length' is '77'"),
    "length is negative": (classic, config(model_max_length=-5), "'model_max_length' is -5"),
    "length is zero": (classic, config(model_max_length=0), "'model_max_length' is 0"),
    "length is not a number": (classic, config(model_max_length=float("nan")), "'model_max_length' is nan"),
    "length is a bool": (classic, config(model_max_length=True), "'model_max_length' is True"),
    "padding on the left": (classic, config(padding_side="left"), "'padding_side' is 'left', expected 'right'"),
    "cutting on the left": (modern, config(truncation_side="left"), "'truncation_side' is 'left', expected 'right'"),
    "side is no text": (classic, config(padding_side=["right"]), "'padding_side' is ['right'], expected 'right'"),
    "unified file is no JSON": (modern, put("tokenizer.json", "\0\0"), "tokenizer.json: cannot be read"),
    "unified file without model": (modern, edit_json("tokenizer.json", lambda d: d.pop("model") and None), "'model'"),
    "another kind of model": (modern, model_part(type="WordPiece"), "WordPiece"),
    "a kind of any length": (modern, model_part(type=["x" * 10**6] * 10), "expected byte pairs"),
    "not CLIP's byte pairs": (modern, model_part(end_of_word_suffix=""), "'</w>'"),
    "unified vocabulary missing": (modern, model_part(vocab=None), "'vocab'"),
    "unified merges missing": (modern, model_part(merges=None), "'merges'"),
    "unified merge is a number": (modern, model_part(merges=[["a", "b"], 7]), "merge 7"),
    "unified merge is long": (modern, model_part(merges=[["a", "b", "c"]]), "is not a pair"),
    "unified added tokens": (modern, edit_json("tokenizer.json", lambda d: d.update(added_tokens="x")), "added_tokens"),
    "unified added token": (
        modern,
        edit_json("tokenizer.json", lambda d: d.update(added_tokens=["x"])),
        "added_tokens",
    ),
    "another way out": (complete, put("tokenizer.json", "{"), "or delete tokenizer.json"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_folder(case: str, tmp_path: Path) -> None:
    make, spoil, words = BROKEN[case]
    folder = make(tmp_path / "tokenizer")
    spoil(folder)
    with pytest.raises(ModelError) as caught:
        Tokenizer.from_folder(folder)
    message = str(caught.value)
    assert words in message
    assert str(folder) in message
    assert message.isprintable()
    assert len(message) < 600 + len(str(folder))


def test_sides_that_are_as_usual_or_not_told_are_taken(tmp_path: Path) -> None:
    folder = classic(tmp_path / "tokenizer")
    usual = Tokenizer.from_folder(folder).encode("a cat")
    config(padding_side="right", truncation_side=None)(folder)
    assert Tokenizer.from_folder(folder).encode("a cat") == usual


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        Tokenizer.from_folder(tmp_path / "nowhere")


def test_empty_folder_says_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no vocab\.json and no merges\.txt.*tokenizer\.json instead"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("stated", "positions", "expected"),
    [
        (77, 77, 77),
        (77, None, 77),
        (32, 77, 32),
        (77, 32, 32),
        (1e30, 77, 77),
        (1e30, None, 77),
        (float("inf"), 64, 64),
        (248, 248, 248),
        (248, None, 248),
        (20.0, None, 20),
        (None, 50, 50),
        (None, None, 77),
    ],
)
def test_length_of_a_row(stated: float | None, positions: int | None, expected: int, tmp_path: Path) -> None:
    """The folder's length holds as far as the text encoder has positions for it."""
    folder = classic(tmp_path / "tokenizer")
    config(model_max_length=stated)(folder)
    tokenizer = Tokenizer.from_folder(folder, max_position_embeddings=positions)
    assert tokenizer.model_max_length == expected
    assert len(tokenizer.encode("a cat").ids) == expected


@pytest.mark.parametrize("length", [2, 0, -1])
def test_no_room_for_a_word(length: int) -> None:
    with pytest.raises(UsageError, match="no room"):
        Tokenizer.packaged(model_max_length=length)


def test_saving_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        Tokenizer.from_folder(bare(tmp_path / "tokenizer")).save(tmp_path / "file" / "tokenizer")


ATOMS = [*rb'null true -1 1e30 [] {} "" "x" 99999999999999999999 { } , : " \ud800 NaN <|endoftext|>'.split(), b"\xff"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_damaged_bytes_give_a_tokenizer_or_a_model_error(seed: int, tmp_path: Path) -> None:
    """Whatever a broken download leaves behind: no traceback, no panic of the library."""
    chance = random.Random(seed)
    folders = [make(tmp_path / kind) for kind, make in FOLDERS.items()]
    ends: Counter[str] = Counter()
    for _ in range(150):
        folder = chance.choice(folders)
        file = chance.choice(sorted(folder.iterdir()))
        whole = file.read_bytes()
        file.write_bytes(_damaged(whole, chance))
        try:
            tokenizer = Tokenizer.from_folder(folder, 77)
        except ModelError:
            ends["refused"] += 1
        else:
            ends["read"] += 1
            assert len(tokenizer.encode("a cat é 日本 <|endoftext|>! 😀").ids) == tokenizer.model_max_length
        file.write_bytes(whole)
    assert min(ends["refused"], ends["read"]) >= 10, ends


def _damaged(whole: bytes, chance: random.Random) -> bytes:
    data = bytearray(whole)
    for _ in range(chance.randint(1, 3)):
        # half of the damage goes to the head, where a large file keeps its structure
        at = chance.randrange(min(len(data), chance.choice([1500, len(data)])) + 1)
        match chance.randrange(4):
            case 0:
                data[at : at + chance.randint(1, 12)] = chance.choice(ATOMS)
            case 1:
                data[at:at] = chance.choice(ATOMS)
            case 2:
                del data[at : at + chance.randint(1, 200)]
            case _:
                data[at : at + 1] = chance.randbytes(1)
    return bytes(data)
