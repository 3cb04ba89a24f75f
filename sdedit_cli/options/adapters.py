"""The values of options that name adapters: a file, and how strongly it works or what it is called."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from ..errors import UsageError, did_you_mean, shown
from .blocks import NAMES, block_numbers
from .values import composite, named, split_numbers

LORA_SUFFIXES = (".safetensors", ".bin", ".pt", ".ckpt")
# Words before an '=' -> the member that they set.
_NAMED = {"te": "te_scale", "unet": "scale", "dyn": "dyn", "lbw": "blocks"}
# What the extension for block weights knows beyond numbers.
_TIMED = ("start", "stop", "step", "lbwe")

_LARGEST = 3.4e38  # float32, which weights are made in, ends there

IMAGE_ENCODER = "image_encoder"
"""The folder of an image encoder, in a model or beside an IP-Adapter."""
EMBEDDING_SUFFIXES = (".safetensors", ".bin", ".pt", ".ckpt", ".png")


@dataclass(frozen=True, slots=True)
class LoraFile:
    """A LoRA's path, its strength, that for the text encoder where it is another, numbers by block, and the ranks used.

    `blocks` is a text of 17 or 26 numbers or a name of some (`blocks.block_numbers`), '' for none; they multiply the
    strengths. `dyn` is how many ranks of each pair of factors count, None for all. Raises UsageError for others.
    """

    path: str
    scale: float = 1.0
    te_scale: float | None = None
    blocks: str = ""
    dyn: int | None = None

    def __post_init__(self) -> None:
        _check_strengths(self.path, self.scale, self.text_scale)
        if self.blocks:
            block_numbers(self.blocks, self.path)
        if self.dyn is not None and self.dyn < 1:
            raise UsageError(f"{self.path}: dyn is {self.dyn}; expected the number of ranks to take, 1 or more")

    @property
    def name(self) -> str:
        """What records call it: the name of the file or folder."""
        path = PurePath(self.path)
        return path.stem if path.suffix.lower() in LORA_SUFFIXES else path.name

    @property
    def text_scale(self) -> float:
        return self.scale if self.te_scale is None else self.te_scale

    def __str__(self) -> str:
        numbers = [self.scale] if self.te_scale is None else [self.scale, self.te_scale]
        more = [f"lbw={self.blocks}"] * bool(self.blocks) + [f"dyn={self.dyn}"] * (self.dyn is not None)
        return ":".join([self.path, *(f"{number:.15g}" for number in numbers), *more])


def _check_strengths(label: str, *strengths: float) -> None:
    for strength in strengths:
        if abs(strength) > _LARGEST:
            raise UsageError(f"{label}: the strength {strength:g} is too large; expected a number such as 0.8")


def _lora(text: str) -> LoraFile:
    """Read from behind: colons may be in a path too, and what is left of it is never empty, as `C:` is part of one."""
    items: list[str] = []
    path, most = text, 2
    while True:
        rest, colon, last = path.rpartition(":")
        is_number = _is_number(last)
        if not (rest and colon) or not (last.partition("=")[0].strip() in _NAMED or (is_number and most)):
            break
        most -= is_number
        items.insert(0, last)
        path = rest
    return LoraFile(named(path), **_strengths(items, ("scale", "te_scale"), path))


def tagged_lora(path: str, items: Sequence[str], label: str) -> LoraFile:
    """The LoRA of a tag in a prompt: its first number is for the text encoder, the second for the UNet, by default the
    same; a third is `dyn`. Raises UsageError, beginning with `label`, for what has no meaning here."""
    values = _strengths(items, ("te_scale", "scale", "dyn"), label)
    te_scale = values.pop("te_scale", 1.0)
    return LoraFile(path, values.pop("scale", te_scale), te_scale, **values)


def no_strength(path: str) -> str:
    """For an error: that what stands behind the colon of a path that is nowhere is no strength; '' without a colon."""
    before, colon, behind = path.rpartition(":")
    if before and _is_number(behind):
        return f"; '{shown(behind)}' is one strength too many ({shown(before)}:0.8)"
    if not (before and colon) or set(behind) & set("/\\") or behind.lower().endswith(LORA_SUFFIXES):
        return ""
    return f"; '{shown(behind)}' is no number, as a strength would be ({shown(before)}:0.8)"


def _strengths(items: Sequence[str], order: Sequence[str], label: str) -> dict[str, Any]:
    """The members that items such as `0.8`, `te=0.5` and `lbw=OUTALL` set; numbers without a word follow `order`."""
    values: dict[str, Any] = {}
    places = list(order)
    for item in items:
        word, equals, value = (part.strip() for part in item.partition("="))
        if equals:
            member = _NAMED.get(word.lower())
        elif "," in item or word.upper() in NAMES:
            member, value = "blocks", word
        else:
            member, value = places.pop(0) if places else None, word
        if member is None:
            raise UsageError(f"{label}: '{shown(item)}' {_unknown(word, bool(equals))}")
        values[member] = _value(member, value, label)
    return values


def _unknown(word: str, named: bool) -> str:
    if word.lower() in _TIMED:
        return "would work in some steps or layers alone, which is not supported; leave it out"
    hint = did_you_mean(word, tuple(_NAMED)) if named else ""
    return f"has no meaning there{hint}; expected numbers, te=, unet=, dyn= and lbw="


def _value(member: str, text: str, label: str) -> Any:
    if member == "blocks":
        block_numbers(text, label)
        return text
    if member == "dyn":
        if not (text.isascii() and text.isdecimal() and 0 < int(text[:9]) < 10**6):
            raise UsageError(f"{label}: dyn is '{shown(text)}'; expected the number of ranks to take, 1 or more")
        return int(text)
    if not _is_number(text):
        raise UsageError(f"{label}: '{shown(text)}' is no number; expected a strength such as 0.8")
    number = float(text)
    _check_strengths(label, number)
    return number


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and "_" not in text
    except ValueError:
        return False


LORA_FILE = composite(
    LoraFile, "a file with its strength", "files with their strengths", "PATH[:SCALE[:TE_SCALE]]", _lora
)


@dataclass(frozen=True, slots=True)
class EmbeddingFile:
    """An embedding's path, and the word for it where that is not the file's name."""

    path: str
    token: str = ""

    @property
    def word(self) -> str:
        """What stands for it in prompts: the token, or as web UIs have it the name of the file (or folder)."""
        path = PurePath(self.path)
        return self.token or (path.stem if path.suffix.lower() in EMBEDDING_SUFFIXES else path.name)

    def __str__(self) -> str:
        return f"{self.path}:{self.token}" if self.token else self.path


def _embedding(text: str) -> EmbeddingFile:
    path, colon, token = named(text).rpartition(":")
    # Neither a drive's letter nor a folder or file with a colon in its name makes what follows a word.
    is_path = set(token) & set("/\\") or token.lower().endswith(EMBEDDING_SUFFIXES)
    is_named = colon and len(path) > 1 and token and not is_path
    return EmbeddingFile(path, token) if is_named else EmbeddingFile(text)


EMBEDDING_FILE = composite(EmbeddingFile, "a file with its word", "files with their words", "PATH[:TOKEN]", _embedding)


@dataclass(frozen=True, slots=True)
class IPAdapterFile:
    """An IP-Adapter's path, and its strength."""

    path: str
    scale: float = 1.0

    def __post_init__(self) -> None:
        _check_strengths(self.path, self.scale)

    def __str__(self) -> str:
        return f"{self.path}:{self.scale:.15g}"

    @property
    def encoder_beside(self) -> Path:
        """Where its image encoder is looked for if neither the edit nor the model has one."""
        path = Path(self.path)
        return (path if path.is_dir() else path.parent) / IMAGE_ENCODER


def _ip_adapter(text: str) -> IPAdapterFile:
    path, numbers = split_numbers(text, 1)
    return IPAdapterFile(named(path), *numbers)


IP_ADAPTER_FILE = composite(
    IPAdapterFile, "a file with its strength", "files with their strengths", "PATH[:SCALE]", _ip_adapter
)


def pictures_of(adapters: Sequence[IPAdapterFile], pictures: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The pictures of each adapter: all of them for a single one, else one each. Raises UsageError."""
    if bool(adapters) != bool(pictures):
        raise UsageError(
            "ip-adapter needs a picture to look at; give one with ip-image"
            if adapters
            else "ip-image needs an IP-Adapter that looks at it; give one with ip-adapter"
        )
    if len(adapters) > 1 and len(pictures) != len(adapters):
        raise UsageError(
            f"{len(pictures)} of ip-image for {len(adapters)} of ip-adapter; give a picture for each, in their order"
        )
    return (tuple(pictures),) if len(adapters) == 1 else tuple((picture,) for picture in pictures)
