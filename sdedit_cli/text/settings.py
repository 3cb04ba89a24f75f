"""What a tokenizer folder says beside its vocabulary: special tokens, added tokens, the longest prompt.

Several generations of files say it: `tokenizer_config.json` alone (with `added_tokens_decoder`), or together with
`special_tokens_map.json` (which then wins), `added_tokens.json` and the `added_tokens` of `tokenizer.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from ..configs.base import from_mapping, read_json
from ..errors import ModelError
from .vocabulary import BOS, EOS, Vocabulary

DEFAULT_LENGTH = 77
# Folders of tokenizers without a limit say 1e30; no text encoder of this family comes near this many positions.
LONGEST_LENGTH = 100_000


@dataclass(frozen=True)
class AddedToken:
    """A token that is looked for in the text before it is split; `normalized`: after it was lower-cased."""

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False
    special: bool = True


@dataclass(frozen=True)
class Settings:
    """Special tokens by name, every added token in the order of its id, and the length of a row of ids."""

    bos: str = BOS
    eos: str = EOS
    unk: str = EOS
    pad: str = EOS
    added: tuple[AddedToken, ...] = (AddedToken(BOS), AddedToken(EOS))
    model_max_length: int = DEFAULT_LENGTH


_ROLES = {"bos": BOS, "eos": EOS, "unk": EOS, "pad": EOS}
# Other roles that a folder may name; they count as added tokens.
_OTHER_ROLES = ("sep", "cls", "mask")


def read_settings(folder: Path, vocabulary: Vocabulary, max_position_embeddings: int | None = None) -> Settings:
    """The settings of a tokenizer folder with this vocabulary; what no file says is as in CLIP.

    A length that is missing, absurd, or more than the text encoder has positions for becomes
    `max_position_embeddings` (77 when that is not given either). Raises ModelError for files that cannot be meant.
    """
    path = folder / "tokenizer_config.json"
    config = read_json(path) if path.is_file() else {}
    numbered: dict[int, AddedToken] = {}
    if "added_tokens_decoder" in config:
        numbered = _numbered(_object(config["added_tokens_decoder"], path, "added_tokens_decoder"), path)
    else:
        config = config | _optional_json(folder / "special_tokens_map.json")
        numbered = _older_added_tokens(folder, config)
    by_content = {token.content: token for token in numbered.values()}
    named: dict[str, AddedToken] = {}
    for role in (*_ROLES, *_OTHER_ROLES):
        value = config.get(f"{role}_token")
        if value is None and role in _OTHER_ROLES:
            continue
        token = _token(_ROLES[role] if value is None else value, path, f"{role}_token")
        named[role] = by_content.get(token.content, replace(token, special=True))
    extra = _extra_tokens(config, path)
    everything = {token.content: token for _, token in sorted(numbered.items())}
    for token in (*named.values(), *extra):
        if token.content not in by_content:
            everything[token.content] = replace(token, special=True)
    roles = {role: named[role].content for role in _ROLES}
    for role, content in roles.items():
        if content not in vocabulary.ids and content not in by_content:
            raise ModelError(
                f"{vocabulary.source}: the {role} token '{content}' is not in the vocabulary; "
                "take tokenizer_config.json, special_tokens_map.json and the vocabulary from the same checkpoint"
            )
    length = _length(config.get("model_max_length"), max_position_embeddings, path)
    return Settings(**roles, added=tuple(everything.values()), model_max_length=length)


def _older_added_tokens(folder: Path, config: Mapping[str, Any]) -> dict[int, AddedToken]:
    path = folder / "added_tokens.json"
    special = {
        _token(value, path, key).content
        for key, value in config.items()
        if key.endswith("_token") and value is not None
    }
    special |= {token.content for token in _extra_tokens(config, path)}
    numbered: dict[int, AddedToken] = {}
    for content, index in _optional_json(path).items():
        if type(index) is not int:
            raise ModelError(f"{path}: the id of '{content}' is {index!r}, expected a number")
        numbered[index] = AddedToken(content, normalized=content not in special, special=content in special)
    unified = folder / "tokenizer.json"
    added = _optional_json(unified).get("added_tokens")
    for item in cast("list[Any]", added) if isinstance(added, list) else []:
        entry = _object(item, unified, "added_tokens")
        numbered |= _numbered({str(entry.get("id")): entry}, unified)
    return numbered


def _extra_tokens(config: Mapping[str, Any], path: Path) -> list[AddedToken]:
    listed: Any = config.get("extra_special_tokens") or config.get("additional_special_tokens") or list[Any]()
    if isinstance(listed, dict):
        listed = list(cast("dict[str, Any]", listed).values())
    if not isinstance(listed, list):
        raise ModelError(f"{path}: 'additional_special_tokens' is {listed!r}, expected a list of tokens")
    return [_token(item, path, "additional_special_tokens") for item in cast("list[Any]", listed)]


def _numbered(entries: Mapping[str, Any], path: Path) -> dict[int, AddedToken]:
    numbered: dict[int, AddedToken] = {}
    for index, entry in entries.items():
        if not index.isdecimal():
            raise ModelError(f"{path}: '{index}' is not the id of a token, expected a number from 0")
        numbered[int(index)] = _token(entry, path, f"added token {index}")
    return numbered


def _token(value: Any, path: Path, key: str) -> AddedToken:
    """A token from its text, or from an object with its text and flags; flags not given are those of plain text."""
    if isinstance(value, str) and value:
        return AddedToken(value)
    if isinstance(value, dict):
        facts = cast("dict[str, Any]", value)
        special = bool(facts.get("special", False))
        token = from_mapping(
            AddedToken, {"content": "", "normalized": not special, "special": special} | facts, str(path)
        )
        if token.content:
            return token
    raise ModelError(f"{path}: '{key}' is {value!r}, expected a token such as '{EOS}'")


def _length(value: Any, positions: int | None, path: Path) -> int:
    fallback = positions or DEFAULT_LENGTH
    if value is None:
        return fallback
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 3:
        raise ModelError(f"{path}: 'model_max_length' is {value!r}, expected a number such as {fallback}")
    return fallback if value > (positions or LONGEST_LENGTH) else int(value)


def _optional_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _object(value: Any, path: Path, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ModelError(f"{path}: '{key}' is {value!r}, expected an object")
    return cast("dict[str, Any]", value)
