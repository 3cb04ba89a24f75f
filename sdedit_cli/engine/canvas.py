"""Between a picture of any size and the sizes that a model works at.

A picture is worked on at its own size, grown at its right and lower edges to the model's multiple and cropped back
afterwards, so that nothing is resampled. A model that was trained small says so (`native_size`): it knows things at
that size alone, and pictures of other sizes are brought to its area, worked on, and brought back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

# A picture whose area is within these multiples of the native one is worked on as it is.
_NEAR = (0.75, 1.25)


@dataclass(frozen=True)
class Canvas:
    """Sizes (width, height) in pixels: of the picture, of the picture as worked on, and of the padded work area."""

    picture: tuple[int, int]
    work: tuple[int, int]
    padded: tuple[int, int]

    @property
    def resized(self) -> bool:
        return self.work != self.picture

    def fit(self, image: Image.Image) -> Image.Image:
        """The picture, brought to the work size and padded by repeating its edge."""
        worked = image.resize(self.work, Image.Resampling.LANCZOS) if self.resized else image
        right, lower = (padded - side for padded, side in zip(self.padded, self.work, strict=True))
        if not right and not lower:
            return worked
        return Image.fromarray(np.pad(np.asarray(worked), ((0, lower), (0, right), (0, 0)), mode="edge"))

    def restore(self, image: Image.Image) -> Image.Image:
        """The edited work area, cropped and brought back to the picture's size."""
        cropped = image.crop((0, 0, *self.work))
        return cropped.resize(self.picture, Image.Resampling.LANCZOS) if self.resized else cropped


def canvas_for(size: tuple[int, int], multiple: int, native_size: int | None = None) -> Canvas:
    """The canvas for a picture of `size` (width, height) on a model that takes sides of this multiple."""
    work = _work_size(size, native_size)
    width, height = (math.ceil(side / multiple) * multiple for side in work)
    return Canvas(size, work, (width, height))


def _work_size(size: tuple[int, int], native_size: int | None) -> tuple[int, int]:
    if native_size is None or _NEAR[0] <= size[0] * size[1] / native_size**2 <= _NEAR[1]:
        return size
    scale = native_size / math.sqrt(size[0] * size[1])
    # Of a picture that is a line, the area says nothing: no side grows beyond four native ones.
    scale = min(scale, max(1.0, 4 * native_size / max(size)))
    width, height = (max(1, round(side * scale)) for side in size)
    return width, height
