"""What a pipeline call returns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass
class StableDiffusionPipelineOutput:
    """`images`: PIL pictures, or an array or tensor of them; `nsfw_content_detected`: a flag each, or None."""

    images: Any
    nsfw_content_detected: list[bool] | None

    def to_tuple(self) -> tuple[Any, list[bool] | None]:
        return self.images, self.nsfw_content_detected

    def keys(self) -> tuple[str, str]:
        return "images", "nsfw_content_detected"

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str) and key not in self.keys():
            raise KeyError(key)
        return getattr(self, key) if isinstance(key, str) else self.to_tuple()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def __contains__(self, key: object) -> bool:
        return key in self.keys()
