"""The tokenizer against transformers' CLIPTokenizer, on every kind of folder and on text of every kind."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers.text import FOLDERS, STARTER, classic, exclamation
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from sdedit_cli.errors import UsageError
from sdedit_cli.text import Tokenizer

TEXTS = [
    "",
    " ",
    "a photo of a cat",
    "Hello, World! it's I'LL they've 'S don't 'dangling",
    "a<|endoftext|>b <|EndOfText|> <|startoftext|> <|startoftext",
    "a <Cat> <cat> xx<dog>s <DOG> <s> <S> <Word> <Word>s <wide> end",
    "日本語 テスト 한국어 漢字123",
    "😀👍🏽 👨\u200d👩\u200d👧 🇫🇷",
    "\x00\x01\x1f abc\x7f\u200b\ufeffx",
    "e\u0301 \u00e9 İ ß ŉ ﬁ ẞ ΣΑΣ",
    " \t\n\u3000\u00a0 x\u0085y\u2028z",
    "1234 ½ Ⅷ ٣ 3.14",
    "a__b-c.d (round:1.2) [square] #hash @at 50% </w> Ġ Ã",
    "the quick brown fox " * 30,
]
# Letters that normalisation, contractions, and added tokens trip over, more often than chance would have it.
ALPHABET = st.one_of(
    st.sampled_from("ab'SsTtrReEvVmMlLdD<|>!,.() \t\n0½é\u0301\u0345İςΣ日😀\u200d\ufe0f\u0000\u00a0\u3000ẞ𝔄"),
    st.characters(exclude_categories=["Cs"]),
)
PROMPTS = st.one_of(
    st.text(ALPHABET, max_size=60),
    st.lists(st.sampled_from(["a", "photo", "<|endoftext|>", "<|startoftext|>", "'s", "<Cat>", "!", " "])).map("".join),
)


@dataclass
class Pair:
    """Ours, and the oracle's tokenizer of the same folder."""

    ours: Tokenizer
    oracle: Any  # CLIPTokenizer, whose methods have no types

    def check(self, text: str) -> None:
        length = self.ours.model_max_length
        padded = self.oracle(text, padding="max_length", max_length=length, truncation=True).input_ids
        assert self.ours.encode(text).ids == padded


@pytest.fixture(scope="module")
def packaged() -> Tokenizer:
    return Tokenizer.packaged()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory, packaged: Tokenizer) -> dict[str, Pair]:
    root = tmp_path_factory.mktemp("folders")
    packaged.save(root / "packaged")
    folders = {name: make(root / name) for name, make in FOLDERS.items()} | {"packaged": root / "packaged"}
    return {
        name: Pair(Tokenizer.from_folder(path), CLIPTokenizer.from_pretrained(path)) for name, path in folders.items()
    }


KINDS = [*FOLDERS, "packaged"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TEXTS)
def test_ids_equal_the_oracles(pairs: dict[str, Pair], kind: str, text: str) -> None:
    pairs[kind].check(text)


@pytest.mark.parametrize("kind", KINDS)
def test_ids_equal_the_oracles_on_any_text(pairs: dict[str, Pair], kind: str) -> None:
    @settings(max_examples=150, deadline=None, database=None)
    @given(PROMPTS)
    def check(text: str) -> None:
        pairs[kind].check(text)

    check()


def test_packaged_vocabulary_is_that_of_clip(packaged: Tokenizer) -> None:
    """Ids known from the published checkpoints: the order of bytes, merges and special tokens is right."""
    assert packaged.encode("a photo of a cat").ids[:8] == [49406, 320, 1125, 539, 320, 2368, 49407, 49407]
    assert packaged.ids("!") == [256]
    assert (packaged.bos_id, packaged.eos_id, packaged.pad_id, len(packaged)) == (49406, 49407, 49407, 49408)
    assert packaged.id_of("<|endoftext|>") == 49407
    assert packaged.id_of("no such token") is None


def test_packaged_with_the_padding_of_2x_equals_the_oracle(tmp_path: Path) -> None:
    tokenizer = Tokenizer.packaged(pad="!")
    tokenizer.save(tmp_path)
    pair = Pair(tokenizer, CLIPTokenizer.from_pretrained(tmp_path))
    assert tokenizer.pad_id == 0
    for text in TEXTS:
        pair.check(text)


def test_line_ends_of_windows_are_line_ends(tmp_path: Path) -> None:
    """As git makes them there of a model's folder."""
    plain = Tokenizer.packaged()
    plain.save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    merges = tmp_path / "merges.txt"
    merges.write_bytes(merges.read_bytes().replace(b"\n", b"\r\n"))
    found = Tokenizer.from_folder(tmp_path)
    assert found.agrees_with(plain)
    assert [found.ids(text) for text in TEXTS] == [plain.ids(text) for text in TEXTS]


def test_folder_that_pads_with_an_exclamation_mark(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(exclamation(tmp_path / "sd2"))
    assert tokenizer.pad_id == 0
    assert tokenizer.encode("a cat").ids[-3:] == [0, 0, 0]
    assert tokenizer.ids("hi!")[-1] == 0


@given(PROMPTS)
@settings(max_examples=200, deadline=None)
@example("e\u0301 " * 40)
@example("日本" * 40)
@example("0" * 30 + "\x1f")
def test_truncated_is_the_exact_rest_of_the_text(text: str) -> None:
    tokenizer = Tokenizer.from_folder(STARTER)
    encoded = tokenizer.encode(text)
    assert len(encoded.ids) == tokenizer.model_max_length
    assert (encoded.truncated != "") == (len(tokenizer.ids(text)) > tokenizer.model_max_length - 2)
    assert text.rstrip().endswith(encoded.truncated) or text.endswith(encoded.truncated)


def test_truncated_keeps_the_spelling_of_the_prompt(packaged: Tokenizer) -> None:
    assert packaged.encode("word " * 75 + "Big RED  Bus, É! ").truncated == "Big RED  Bus, É!"


def test_bytes_that_are_no_text_become_replacement_characters(packaged: Tokenizer) -> None:
    """A shell argument with broken UTF-8 arrives as lone surrogates."""
    assert packaged.ids("caf\udce9") == packaged.ids("caf\ufffd")


@pytest.mark.parametrize("kind", ["bare", "classic", "exclamation", "packaged", "added"])
def test_added_tokens_equal_the_oracles(pairs: dict[str, Pair], kind: str, tmp_path: Path) -> None:
    new = ["<Cat-Toy>", "sks", "<new>"]
    before = pairs[kind].ours
    pairs[kind].ours.save(tmp_path / "copy")
    after = before.with_added_tokens(new)
    pair = Pair(after, CLIPTokenizer.from_pretrained(tmp_path / "copy"))
    pair.oracle.add_tokens(new)
    for text in ["a <Cat-Toy>, <cat-toy>s", "sks sksx SKS", "a<new>b <|endoftext|>", *TEXTS]:
        pair.check(text)
    assert len(after) == len(before) + 3
    assert after.id_of("<new>") == len(before) + 2


def test_adding_tokens_leaves_the_tokenizer_as_it_was(packaged: Tokenizer) -> None:
    ids = packaged.ids("a <new> cat")
    more = packaged.with_added_tokens(["<new>"]).with_added_tokens(["<newer>"])
    assert more.ids("<new> <newer>") == [49408, 49409]
    assert packaged.ids("a <new> cat") == ids
    assert len(packaged) == 49408


@pytest.mark.parametrize("token", ["", "  ", "<|endoftext|>", "cat</w>", "\ud800"])
def test_tokens_that_cannot_be_added_are_refused(packaged: Tokenizer, token: str) -> None:
    with pytest.raises(UsageError):
        packaged.with_added_tokens(["<fine>", token])


def test_the_same_token_cannot_be_added_twice(packaged: Tokenizer) -> None:
    with pytest.raises(UsageError, match="already"):
        packaged.with_added_tokens(["<a>", "<a>"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unified", [True, False], ids=["tokenizer.json", "vocab+merges"])
def test_a_saved_folder_encodes_the_same(pairs: dict[str, Pair], kind: str, unified: bool, tmp_path: Path) -> None:
    """Ours and the oracle read what was saved, added tokens included, from either generation of files."""
    ours = pairs[kind].ours.with_added_tokens(["<Mine>", "plainest"])
    ours.save(tmp_path)
    if not unified:
        (tmp_path / "tokenizer.json").unlink()
    again = Tokenizer.from_folder(tmp_path)
    pair = Pair(again, CLIPTokenizer.from_pretrained(tmp_path))
    for text in [*TEXTS, "<Mine> <mine> plainest PLAINEST"]:
        assert again.encode(text) == ours.encode(text)
        pair.check(text)
    assert (again.model_max_length, len(again)) == (ours.model_max_length, len(ours))


def test_saving_does_not_change_a_saved_folder(tmp_path: Path) -> None:
    Tokenizer.from_folder(classic(tmp_path / "in")).save(tmp_path / "one")
    Tokenizer.from_folder(tmp_path / "one").save(tmp_path / "two")
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_copies_and_pickles_encode_the_same() -> None:
    """Workers of a cluster get the tokenizer by pickle."""
    tokenizer = Tokenizer.from_folder(STARTER).with_added_tokens(["<new>"])
    for twin in (copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):
        assert [twin.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]
        assert twin.ids("a <new>") == tokenizer.ids("a <new>")


def test_import_stays_light() -> None:
    """Importing the package of prompts costs neither torch nor the tokenizers library."""
    heavy = ("torch", "numpy", "tokenizers", "transformers")
    code = f"import sys, sdedit_cli.text; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
