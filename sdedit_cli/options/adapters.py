"""The values of options that name adapters: a file, and how strongly it works or what it is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import UsageError
from .values import composite, split_numbers


@dataclass(frozen=True, slots=True)
class LoraFile:
    """A LoRA's path, its strength, and that for the text encoder where it is another."""

    path: str
    scale: float = 1.0
    te_scale: float | None = None

    def __str__(self) -> str:
        numbers = [self.scale] if self.te_scale is None else [self.scale, self.te_scale]
        return ":".join([self.path, *(f"{number:.15g}" for number in numbers)])


def _lora(text: str) -> LoraFile:
    path, numbers = split_numbers(text, 2)
    return LoraFile(path, *numbers)


LORA_FILE = composite(
    LoraFile, "a file with its strength", "files with their strengths", "PATH[:SCALE[:TE_SCALE]]", _lora
)


@dataclass(frozen=True, slots=True)
class EmbeddingFile:
    """An embedding's path, and the word for it where that is not the file's name."""

    path: str
    token: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.token}" if self.token else self.path


def _embedding(text: str) -> EmbeddingFile:
    path, colon, token = text.rpartition(":")
    # Neither a drive's letter nor a folder with a colon in its name makes what follows a word.
    named = colon and len(path) > 1 and token and not set(token) & set("/\\")
    return EmbeddingFile(path, token) if named else EmbeddingFile(text)


EMBEDDING_FILE = composite(EmbeddingFile, "a file with its word", "files with their words", "PATH[:TOKEN]", _embedding)


@dataclass(frozen=True, slots=True)
class IPAdapterFile:
    """An IP-Adapter's path, and its strength."""

    path: str
    scale: float = 1.0

    def __str__(self) -> str:
        return f"{self.path}:{self.scale:.15g}"


def _ip_adapter(text: str) -> IPAdapterFile:
    path, numbers = split_numbers(text, 1)
    return IPAdapterFile(path, *numbers)


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
            f"{len(pictures)} pictures (ip-image) for {len(adapters)} IP-Adapters; give one for each, in their order"
        )
    return (tuple(pictures),) if len(adapters) == 1 else tuple((picture,) for picture in pictures)
