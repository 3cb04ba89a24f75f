"""The vocabulary of a CLIP tokenizer: byte pairs from a folder's files, or the packaged ones.

Formats: `vocab.json` (token -> id) beside `merges.txt` (a version line, then one pair a line, best first), or
both inside the `model` part of a `tokenizer.json`. The packaged file is a gzipped merges.txt: the vocabulary
of CLIP follows from the order of its merges.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ..configs.base import read_json, read_text
from ..errors import ModelError, quoted, shown

BOS = "<|startoftext|>"
EOS = "<|endoftext|>"
END_OF_WORD = "</w>"

Merge = tuple[str, str]


@dataclass(frozen=True)
class Vocabulary:
    """Ids of all tokens, the merges in order of preference, the file they came from (for messages), and the added
    tokens that a tokenizer.json lists beside them, unread."""

    ids: dict[str, int]
    merges: list[Merge]
    source: str
    added: tuple[Any, ...] = ()

    def checked(self) -> Vocabulary:
        """This vocabulary. Raises ModelError when a merge makes a token without id: the library would panic on it."""
        for left, right in self.merges:
            if left + right not in self.ids:
                raise self.misfit(f"the merge '{shown(left)} {shown(right)}' makes a token that has no id")
        return self

    def misfit(self, reason: str) -> ModelError:
        return ModelError(
            f"{self.source}: vocabulary and merges do not fit each other ({shown(reason, 300)}); take both from the "
            "same checkpoint"
        )


def packaged_vocabulary() -> Vocabulary:
    """The vocabulary of CLIP ViT-L/14: 256 bytes, the same ending a word, 48,894 merges, start and end of text."""
    asset = Path(__file__).parent.parent / "assets" / "clip_merges.txt.gz"
    merges = _parse_merges(gzip.decompress(asset.read_bytes()).decode("utf-8"), asset.name)
    letters = _byte_letters()
    tokens = [*letters, *(letter + END_OF_WORD for letter in letters), *map("".join, merges), BOS, EOS]
    return Vocabulary(dict(zip(tokens, range(len(tokens)), strict=True)), merges, asset.name)


def read_vocabulary(folder: Path) -> Vocabulary:
    """The vocabulary of a tokenizer folder; tokenizer.json is preferred, as it holds both halves.

    Raises ModelError when files are missing, broken, or do not fit each other.
    """
    unified = folder / "tokenizer.json"
    if unified.is_file():
        return _from_unified(unified)
    vocab, merges = folder / "vocab.json", folder / "merges.txt"
    missing = [path.name for path in (vocab, merges) if not path.is_file()]
    if missing:
        raise ModelError(
            f"{folder}: no {' and no '.join(missing)}; a tokenizer folder has both, or tokenizer.json instead"
        )
    ids = _checked_ids(read_json(vocab), str(vocab))
    try:
        lines = read_text(merges)
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{merges}: cannot be read as text ({error}); copy the file from the checkpoint again"
        ) from None
    return Vocabulary(ids, _parse_merges(lines, str(merges)), str(merges)).checked()


def _from_unified(path: Path) -> Vocabulary:
    try:
        return _from_model_part(read_json(path), str(path))
    except ModelError as error:
        if (path.parent / "vocab.json").is_file() and (path.parent / "merges.txt").is_file():
            raise ModelError(f"{error}; or delete tokenizer.json: vocab.json and merges.txt are there too") from None
        raise


def _from_model_part(data: dict[str, Any], source: str) -> Vocabulary:
    model = data.get("model")
    if not isinstance(model, dict):
        raise ModelError(f"{source}: has no 'model' object, expected a byte pair vocabulary; copy the file again")
    facts = cast("dict[str, Any]", model)
    kind = facts.get("type", "BPE")
    if kind != "BPE" or facts.get("end_of_word_suffix", END_OF_WORD) != END_OF_WORD:
        raise ModelError(
            f"{source}: holds a {shown(kind)} tokenizer that is not CLIP's, expected byte pairs with '</w>'"
        )
    ids, merges = facts.get("vocab"), facts.get("merges")
    if not isinstance(ids, dict) or not isinstance(merges, list):
        raise ModelError(f"{source}: 'model' has no 'vocab' object or no 'merges' list; copy the file again")
    pairs = [_pair(item, source) for item in cast("list[Any]", merges)]
    added: object = data.get("added_tokens") or ()
    if not isinstance(added, (list, tuple)):
        raise ModelError(f"{source}: 'added_tokens' is {quoted(added)}, expected a list")
    checked = _checked_ids(cast("dict[str, Any]", ids), source)
    return Vocabulary(checked, pairs, source, tuple(cast("list[Any]", added))).checked()


def _pair(item: Any, source: str) -> Merge:
    try:
        left, right = item.split(" ") if isinstance(item, str) else item
    except (TypeError, ValueError):
        left = right = None
    if not isinstance(left, str) or not isinstance(right, str):
        raise ModelError(f"{source}: the merge {quoted(item)} is not a pair of tokens; copy the file again")
    return left, right


def _parse_merges(text: str, source: str) -> list[Merge]:
    # split("\n"), as splitlines() would also cut at letters that stand for bytes
    lines = [line for line in text.replace("\r\n", "\n").split("\n") if line and not line.startswith("#version")]
    pairs = [tuple(line.split(" ")) for line in lines]
    if set(map(len, pairs)) <= {2}:  # quick, as a packaged tokenizer is a part of every cold start
        return cast("list[Merge]", pairs)
    return [_pair(line, source) for line in lines]


def _checked_ids(ids: dict[str, Any], source: str) -> dict[str, int]:
    for token, index in ids.items():
        if type(index) is not int or not 0 <= index < 2**31:
            raise ModelError(f"{source}: the id of '{shown(token)}' is {quoted(index)}, expected a number from 0")
    return ids


def _byte_letters() -> list[str]:
    """A printable letter for each byte, in the order of CLIP's vocabulary: bytes that print as themselves come first,
    the other 68 are numbered from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(code) for code in (*printable, *range(0x100, 0x100 + 256 - len(printable)))]
