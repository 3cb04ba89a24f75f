"""The key of a picture: a hash of all that makes it what it is, and of nothing else, so that equal keys mean no work.

Options come from their declaration (`Edit.identity`), so that a new one cannot be forgotten; the place of every path is
taken by the hash of what lies there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, cast

from ..disk.hashes import model_hash, remembered_hash
from ..errors import ModelError
from ..options import Edit
from ..options.adapters import IMAGE_ENCODER
from ..options.files import USUAL
from .request import Request

# Counts up when the same request gives another picture than before on the same machine, if only by rounding.
NUMERIC_VERSION = 10
_MOST = 64
_LONGEST = 1 << 20
_INDEX = "model_index.json"
# Begins the names of weights that are told by the config beside them.
_COMPONENT = "diffusion_pytorch_model."
_OF_INDEX = ("scheduler", "_native_size")
# Options that change a file and not what is edited.
BESIDE = ("lossless", "strip", "metadata")
# What each picture has for itself, in the order of the key.
_OWN = ("input", "negative_prompt", "prompt", "seed")
_NUMBERS = frozenset((bool, int, float))
_as_json = json.JSONEncoder(sort_keys=True, default=str).encode


class Contents:
    """The hashes of files and folders by path, and what models say of themselves and have, each looked at once."""

    def __init__(self) -> None:
        self.hash_of = cache(hash_of)
        self.said_of = cache(said_of)
        self.said_beside = cache(said_beside)
        self.has_part = cache(has_part)


def hash_of(name: str) -> str:
    """The hash of a model, an adapter or a picture; the name of what is no path here, and of a file that is closed.

    Raises ModelError for a folder that cannot be read in full: what can be is used, and may change.
    """
    path = Path(name)
    try:
        if os.path.exists(path):
            return model_hash(path, remembered_hash)
    except OSError as problem:
        if os.path.isdir(path):
            raise ModelError(f"{path}: cannot be read ({problem.strerror})") from None
    return f"name:{path}"  # of the Hub, or not there, or closed: the run says so of the pictures that it is for


def said_of(model: Path) -> str | None:
    """What a model says of itself beside its components and weights, that pictures depend on: in its index which
    scheduler and size, in the `.yaml` of a single file what its UNet predicts; None for nothing."""
    if not model.is_dir():
        return _text(model.with_suffix(".yaml"))
    index = _index(model)
    return None if index is None else _as_json({name: index[name] for name in _OF_INDEX if name in index})


def said_beside(weights: Path) -> str | None:
    """The config that tells of the weights of an autoencoder's folder, given by their file; None for none."""
    is_such = weights.name.startswith(_COMPONENT) and not os.path.isdir(weights)
    return _text(weights.with_name("config.json")) if is_such else None


def has_part(model: Path, name: str) -> bool:
    """Whether a model has a part such as a safety checker, as its reader takes it: a folder that its index names, or
    that is there where a whole model has no index."""
    if not (model / name).is_dir():
        return False
    if not (model / _INDEX).is_file():
        return not (model / "config.json").is_file()
    index = _index(model) or {}
    named = index.get(name)
    is_null = isinstance(named, list) and all(item is None for item in cast("list[object]", named))
    return name in index and not is_null


def _index(model: Path) -> dict[str, Any] | None:
    """The index of a model folder, empty where it is no table; None where there is none that can be read."""
    text = _text(model / _INDEX)
    if text is None:
        return None
    try:
        told: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", told) if isinstance(told, dict) else {}


def _text(path: Path) -> str | None:
    try:
        # Nothing else is so large, and what is no file may never end.
        if not path.is_file() or path.stat().st_size > _LONGEST:
            return None
        return path.read_text("utf-8", "replace")
    except (OSError, ValueError):
        return None


def _image_encoder(edit: Edit, contents: Contents, model: Path) -> str | None:
    """The image encoder by which image prompts are read where the edit names none, else None."""
    if not edit.ip_adapter or edit.ip_encoder is not None:
        return None
    is_own = contents.has_part(model, IMAGE_ENCODER)
    return str(model / IMAGE_ENCODER if is_own else edit.ip_adapter[0].encoder_beside)


def facts_of(edit: Edit, contents: Contents, *, model: Path, input_sha256: str, format: str) -> dict[str, str]:
    """What a picture is made of, by parts, each short: to say later which of them changed. Raises ModelError."""
    identity = edit.identity(contents.hash_of)
    made_of: dict[str, Any] = {**identity, "model": contents.hash_of(str(model)), "input": input_sha256}
    made_of |= {"model_says": contents.said_of(model), "format": format, "version": NUMERIC_VERSION}
    if format != "png":
        made_of["quality"] = edit.quality
    # Named where they are not as usual.
    made_of |= {name: value for name in BESIDE if (value := getattr(edit, name)) != USUAL[name]}
    told = [contents.said_beside(Path(name)) for name in (edit.vae, edit.tiny_vae) if name]
    if any(told):
        made_of["vae_says"] = told
    if encoder := _image_encoder(edit, contents, model):
        made_of["image_encoder"] = contents.hash_of(encoder)
    if edit.c2pa:
        made_of["c2pa"] = contents.hash_of(edit.c2pa)
    return {
        name: value if type(value) is str and len(value) <= _MOST else _short(value)
        for name, value in made_of.items()
        if value is not None
    }


@dataclass(frozen=True, slots=True)
class _Common:
    """What pictures of the same `settings` have in common: facts, and the text of their key between those that each
    has for itself."""

    settings: Edit
    facts: dict[str, str]
    between: tuple[str, ...]


class Facts:
    """The facts of pictures with their keys; those of equal settings are worked out once."""

    def __init__(self) -> None:
        self.contents = Contents()
        self._known: dict[tuple[int, Path, str], _Common] = {}

    def of(
        self, request: Request, seed: int, *, model: Path, input_sha256: str, format: str
    ) -> tuple[Mapping[str, str], str]:
        """As `facts_of` and `key_of`, of the picture of a request with that seed. Raises ModelError."""
        settings, words = request.settings, request.words
        place = id(settings), model, format
        common = self._known.get(place)
        if common is None:
            common = self._known[place] = self._common(settings, model, format)
        own = {
            "input": input_sha256,
            "negative_prompt": _short(words.get("negative_prompt", settings.negative_prompt)),
            "prompt": _short(words.get("prompt", settings.prompt)),
            "seed": _number(seed),
        }
        pieces = zip(common.between, [*map(_as_json, own.values()), ""], strict=True)
        key = hashlib.sha256("".join(chain.from_iterable(pieces)).encode()).hexdigest()
        return ChainMap(own, common.facts), key

    def _common(self, settings: Edit, model: Path, format: str) -> _Common:
        facts = facts_of(settings, self.contents, model=model, input_sha256="", format=format)
        gap = "\0"  # which JSON has not
        texts = {name: f'"{name}": {_as_json(value)}' for name, value in facts.items()}
        texts |= {name: f'"{name}": {gap}' for name in _OWN}
        between = ("{" + ", ".join(texts[name] for name in sorted(texts)) + "}").split(gap)
        return _Common(settings, facts, tuple(between))


def _short(value: Any) -> str:
    """A value as it is where it is short, else its hash."""
    if type(value) in _NUMBERS:
        return _number(value)
    text = value if isinstance(value, str) else _as_json(value)
    return text if len(text) <= _MOST else "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@lru_cache(maxsize=1024, typed=True)  # most jobs of a batch have most of them in common
def _number(value: float) -> str:
    return _as_json(value)


def key_of(facts: Mapping[str, str]) -> str:
    """The key of these facts."""
    return hashlib.sha256(_as_json(facts).encode()).hexdigest()
