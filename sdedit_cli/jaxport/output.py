"""What a call of the JAX pipeline returns."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class FlaxStableDiffusionPipelineOutput:
    """`images`: an array [B, H, W, 3] in 0..1, with a leading axis of devices where the inputs had one;
    `nsfw_content_detected`: a flag each, or False where there is no checker."""

    images: np.ndarray[Any, Any]
    nsfw_content_detected: list[bool] | bool

    def replace(self, **updates: Any) -> FlaxStableDiffusionPipelineOutput:
        """A copy with other values."""
        return dataclasses.replace(self, **updates)

    def to_tuple(self) -> tuple[np.ndarray[Any, Any], list[bool] | bool]:
        return self.images, self.nsfw_content_detected

    def __getitem__(self, key: int | str) -> Any:
        return getattr(self, key) if isinstance(key, str) else self.to_tuple()[key]
