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
from ..errors import ModelError, quoted, shown
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
_SIDES = ("padding_side", "truncation_side")


def read_settings(folder: Path, vocabulary: Vocabulary, max_position_embeddings: int | None = None) -> Settings:
    """The settings of a tokenizer folder with this vocabulary; what no file says is as in CLIP.

    A length that is missing, absurd, or more than the text encoder has positions for becomes
    `max_position_embeddings` (77 when that is not given either). Raises ModelError for files that cannot be meant.
    """
    path = folder / "tokenizer_config.json"
    config, numbered = _read_tokens(path, vocabulary)
    for side in _SIDES:
        if config.get(side) not in (None, "right"):
            raise ModelError(f"{path}: '{side}' is {quoted(config[side])}, expected 'right', as of all CLIP tokenizers")
    known = {token.content: token for token in numbered.values()}
    named: dict[str, AddedToken] = {}
    for role in (*_ROLES, *_OTHER_ROLES):
        value = config.get(f"{role}_token") or _ROLES.get(role)
        if value is not None:
            named[role] = _token(value, path, f"{role}_token")
    for role in _ROLES:
        _require(named[role].content, role, vocabulary, known)
    everything = {token.content: token for _, token in sorted(numbered.items())}
    for token in (*named.values(), *_tokens_listed(config, "extra_special_tokens", path)):
        if token.content not in known:
            everything[token.content] = replace(token, special=True)
    roles = {role: named[role].content for role in _ROLES}
    length = _length(config.get("model_max_length"), max_position_embeddings, path)
    return Settings(**roles, added=tuple(everything.values()), model_max_length=length)


def _read_tokens(path: Path, vocabulary: Vocabulary) -> tuple[dict[str, Any], dict[int, AddedToken]]:
    """tokenizer_config.json with what older files say beside it, and the added tokens by id."""
    config = _renamed(_optional_json(path))
    if "added_tokens_decoder" in config:
        return config, _numbered(_object(config["added_tokens_decoder"], path, "added_tokens_decoder"), path)
    beside = _optional_json(path.with_name("special_tokens_map.json"))
    # The list in special_tokens_map.json by its old name makes no token of added_tokens.json special, as in
    # transformers: ids must not depend on who reads the folder.
    config = config | beside
    special = {_token(config[key], path, key).content for key in config if key.endswith("_token") and config[key]}
    special |= {token.content for token in _tokens_listed(config, "extra_special_tokens", path)}
    file = path.with_name("added_tokens.json")
    numbered: dict[int, AddedToken] = {}
    for content, index in _optional_json(file).items():
        if type(index) is not int or not 0 <= index < 2**31:
            raise ModelError(f"{file}: the id of '{shown(content)}' is {quoted(index)}, expected a number")
        numbered[index] = AddedToken(content, normalized=content not in special, special=content in special)
    for item in vocabulary.added:
        entry = _object(item, Path(vocabulary.source), "added_tokens")
        numbered |= _numbered({str(entry.get("id")): entry}, Path(vocabulary.source))
    return _renamed(config), numbered


def _renamed(config: dict[str, Any]) -> dict[str, Any]:
    """The list of further special tokens by its present name."""
    listed = config.get("extra_special_tokens") or config.get("additional_special_tokens")
    return config | {"extra_special_tokens": listed or []}


def _tokens_listed(config: Mapping[str, Any], key: str, path: Path) -> list[AddedToken]:
    listed = config[key]
    if isinstance(listed, dict):
        listed = list(cast("dict[str, Any]", listed).values())
    if not isinstance(listed, list):
        raise ModelError(f"{path}: '{key}' is {quoted(listed)}, expected a list of tokens")
    return [_token(item, path, key) for item in cast("list[Any]", listed)]


def _require(content: str, role: str, vocabulary: Vocabulary, known: Mapping[str, AddedToken]) -> None:
    if content not in vocabulary.ids and content not in known:
        raise ModelError(
            f"{vocabulary.source}: the {role} token '{shown(content)}' is not in the vocabulary; "
            "take tokenizer_config.json, special_tokens_map.json and the vocabulary from the same checkpoint"
        )


def _numbered(entries: Mapping[str, Any], path: Path) -> dict[int, AddedToken]:
    numbered: dict[int, AddedToken] = {}
    for index, entry in entries.items():
        if not (index.isascii() and index.isdecimal() and len(index) < 11):
            raise ModelError(f"{path}: '{shown(index)}' is not the id of a token, expected a number from 0")
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
    raise ModelError(f"{path}: '{key}' is {quoted(cast('object', value))}, expected a token such as '{EOS}'")


def _length(value: Any, positions: int | None, path: Path) -> int:
    fallback = positions or DEFAULT_LENGTH
    if value is None:
        return fallback
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 3:
        raise ModelError(f"{path}: 'model_max_length' is {quoted(value)}, expected a number such as {fallback}")
    return fallback if value > (positions or LONGEST_LENGTH) else int(value)


def _optional_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _object(value: Any, path: Path, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ModelError(f"{path}: '{key}' is {quoted(value)}, expected an object")
    return cast("dict[str, Any]", value)
