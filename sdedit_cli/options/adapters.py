"""The values of options that name adapters: a file, and how strongly it works or what it is called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from .values import composite, split_numbers

EMBEDDING_SUFFIXES = (".safetensors", ".bin", ".pt", ".ckpt", ".png")


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

    @property
    def word(self) -> str:
        """What stands for it in prompts: the token, or as web UIs have it the name of the file (or folder)."""
        path = PurePath(self.path)
        return self.token or (path.stem if path.suffix.lower() in EMBEDDING_SUFFIXES else path.name)

    def __str__(self) -> str:
        return f"{self.path}:{self.token}" if self.token else self.path


def _embedding(text: str) -> EmbeddingFile:
    path, colon, token = text.rpartition(":")
    # Neither a drive's letter nor a folder with a colon in its name makes what follows a word.
    named = colon and len(path) > 1 and token and not set(token) & set("/\\")
    return EmbeddingFile(path, token) if named else EmbeddingFile(text)


EMBEDDING_FILE = composite(EmbeddingFile, "a file with its word", "files with their words", "PATH[:TOKEN]", _embedding)
