"""The value of --lora: a file and how strongly it works."""

from __future__ import annotations

from dataclasses import dataclass

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


def _parse(text: str) -> LoraFile:
    path, numbers = split_numbers(text, 2)
    return LoraFile(path, *numbers)


LORA_FILE = composite(
    LoraFile, "a file with its strength", "files with their strengths", "PATH[:SCALE[:TE_SCALE]]", _parse
)
