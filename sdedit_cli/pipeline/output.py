"""What a pipeline call returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class StableDiffusionPipelineOutput:
    """`images`: PIL pictures, or an array or tensor of them; `nsfw_content_detected`: a flag each, or None."""

    images: Any
    nsfw_content_detected: list[bool] | None

    def to_tuple(self) -> tuple[Any, list[bool] | None]:
        return self.images, self.nsfw_content_detected

    def __getitem__(self, key: int | str) -> Any:
        return getattr(self, key) if isinstance(key, str) else self.to_tuple()[key]
