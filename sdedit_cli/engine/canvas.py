"""Between a picture of any size and the sizes that a model works at.

A picture is worked on at its own size, grown at its right and lower edges to the model's multiple and cropped back
afterwards, so that nothing is resampled. A model that was trained small says so (`native_size`): it knows things at
that size alone, and pictures of other sizes are brought to its area, worked on, and brought back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    Numbers = np.ndarray[Any, Any]

# A picture whose area is within these multiples of the native one is worked on as it is.
_NEAR = (0.75, 1.25)
# One whose area is beyond these multiples of what a model was trained at is warned of.
_FAR = (0.25, 3.0)


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
        import numpy as np
        from PIL import Image

        worked = image.resize(self.work, Image.Resampling.LANCZOS) if self.resized else image
        right, lower = (padded - side for padded, side in zip(self.padded, self.work, strict=True))
        if not right and not lower:
            return worked
        return Image.fromarray(np.pad(np.asarray(worked), ((0, lower), (0, right), (0, 0)), mode="edge"))

    def restore(self, image: Image.Image) -> Image.Image:
        """The edited work area, cropped and brought back to the picture's size."""
        from PIL import Image

        cropped = image.crop((0, 0, *self.work))
        return cropped.resize(self.picture, Image.Resampling.LANCZOS) if self.resized else cropped

    def restore_numbers(self, x_HWC: Numbers) -> Numbers:
        """As `restore`, of the edited work area as numbers in 0..1."""
        import numpy as np
        from PIL import Image

        width, height = self.work
        cropped = x_HWC[:height, :width].astype(np.float32)
        if not self.resized:
            return cropped
        channels = (Image.fromarray(np.ascontiguousarray(cropped[..., c])) for c in range(cropped.shape[-1]))
        resized = [np.asarray(one.resize(self.picture, Image.Resampling.LANCZOS)) for one in channels]
        return np.clip(np.stack(resized, axis=-1), 0, 1)


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


def advice(size: tuple[int, int], native_size: int | None, trained_at: int | None) -> str:
    """What to know of a picture of `size` on a model: that it is brought to the native size, or that it is far from
    what the model was trained at; '' when there is nothing to say."""
    work = _work_size(size, native_size)
    if work != size:
        return (
            f"this model was trained at {native_size} px: the picture is worked on at {work[0]} x {work[1]} "
            "and brought back to its size"
        )
    if native_size is not None or trained_at is None:
        return ""
    share = size[0] * size[1] / trained_at**2
    far = f"is {size[0]} x {size[1]}, far from the {trained_at} x {trained_at} that this model was trained at"
    if share > _FAR[1]:
        side = _side(trained_at * math.sqrt(max(size) / min(size)))
        return f"{far}: it may show things twice, and takes much time and memory; try --max-side {side}"
    if share < _FAR[0]:
        grown = (_side(side / math.sqrt(share)) for side in size)
        return f"{far}: expect no clear shapes; try --size {'x'.join(map(str, grown))}"
    return ""


def _side(side: float) -> int:
    return max(8, round(side / 8) * 8)
