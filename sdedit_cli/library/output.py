"""What a pipeline call returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass
class StableDiffusionPipelineOutput(Mapping[str, Any]):
    """`images`: PIL pictures, or an array or tensor of them; `nsfw_content_detected`: a flag each, or None."""

    images: Any
    nsfw_content_detected: list[bool] | None

    def to_tuple(self) -> tuple[Any, list[bool] | None]:
        return self.images, self.nsfw_content_detected

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str) and key not in self:
            raise KeyError(key)
        return getattr(self, key) if isinstance(key, str) else self.to_tuple()[key]

    def __iter__(self) -> Iterator[str]:
        return (field.name for field in fields(self))

    def __len__(self) -> int:
        return len(fields(self))

    def __contains__(self, key: object) -> bool:
        # An index gives something, and is no name.
        return key in tuple(self)
