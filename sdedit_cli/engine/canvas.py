"""Between a picture of any size and the sizes that a model works at.

A picture is worked on at its own size, grown at its right and lower edges to the model's multiple and cropped back
afterwards, so that nothing is resampled. A model that was trained small says so (`native_size`): it knows things at
that size alone, and pictures of other sizes are brought to its area, worked on, and brought back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..options import Edit, tile_of

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    Numbers = np.ndarray[Any, Any]

# Lanczos looks at three pixels of the coarser picture around one of the finer.
_REACH = 4
# A picture whose area is within these multiples of the native one is worked on as it is.
_NEAR = (0.75, 1.25)
# One whose area is beyond these multiples of what a model was trained at is warned of.
_FAR = (0.25, 3.0)


@dataclass(frozen=True)
class Canvas:
    """Sizes (width, height) in pixels: of the picture, of the picture as worked on, and of the padded work area; and
    whether its left and right, and its upper and lower edges meet."""

    picture: tuple[int, int]
    work: tuple[int, int]
    padded: tuple[int, int]
    wrap: tuple[bool, bool] = (False, False)

    def fit(self, image: Image.Image) -> Image.Image:
        """The picture, brought to the work size and padded by repeating its edge."""
        import numpy as np
        from PIL import Image

        worked = self._scaled(image, self.work)
        right, lower = (padded - side for padded, side in zip(self.padded, self.work, strict=True))
        if not right and not lower:
            return worked
        return Image.fromarray(np.pad(np.asarray(worked), ((0, lower), (0, right), (0, 0)), mode="edge"))

    def fit_numbers(self, x_HWC: Numbers) -> Numbers:
        """As `fit`, of a picture as numbers in 0..1."""
        import numpy as np

        worked = self._scaled_numbers(x_HWC, self.work)
        right, lower = (padded - side for padded, side in zip(self.padded, self.work, strict=True))
        return np.pad(worked, ((0, lower), (0, right), (0, 0)), mode="edge")

    def restore(self, image: Image.Image) -> Image.Image:
        """The edited work area, cropped and brought back to the picture's size."""
        return self._scaled(image.crop((0, 0, *self.work)), self.picture)

    def _scaled(self, image: Image.Image, size: tuple[int, int]) -> Image.Image:
        """The image in that size; where its edges meet, each is scaled with the other one behind it."""
        import numpy as np
        from PIL import Image

        if image.size == size:
            return image
        # In pixels of the image as it is, which is coarser or finer than the one to be made.
        reach = [_REACH * max(1, -(-own // side)) for own, side in zip(image.size, size, strict=True)]
        x, y = (far if wraps else 0 for far, wraps in zip(reach, self.wrap, strict=True))
        if x or y:
            pixels = np.asarray(image)
            image = Image.fromarray(np.pad(pixels, [(y, y), (x, x), (0, 0)][: pixels.ndim], mode="wrap"))
        box = (x, y, image.width - x, image.height - y)
        return image.resize(size, Image.Resampling.LANCZOS, box=box)

    def restore_numbers(self, x_HWC: Numbers) -> Numbers:
        """As `restore`, of the edited work area as numbers in 0..1."""
        width, height = self.work
        return self._scaled_numbers(x_HWC[:height, :width], self.picture)

    def part(self, x_HWC: Numbers) -> Numbers:
        """What of a picture is worked on, in its own size: all of it."""
        return x_HWC

    def laid(self, image: Image.Image) -> Image.Image:
        """What was restored in its place in the picture."""
        return image

    def laid_numbers(self, x_HWC: Numbers) -> Numbers:
        """As `laid`, of numbers in 0..1."""
        return x_HWC

    def _scaled_numbers(self, x_HWC: Numbers, size: tuple[int, int]) -> Numbers:
        import numpy as np
        from PIL import Image

        numbers = x_HWC.astype(np.float32)
        if numbers.shape[1::-1] == size:
            return numbers
        channels = (Image.fromarray(np.ascontiguousarray(numbers[..., c])) for c in range(numbers.shape[-1]))
        resized = [np.asarray(self._scaled(one, size)) for one in channels]
        return np.clip(np.stack(resized, axis=-1), 0, 1)


def numbers_of(image: Image.Image) -> Numbers:
    """A picture of 8 bits as numbers in 0..1."""
    import numpy as np

    return np.asarray(np.asarray(image) / 255, dtype=np.float32)


def canvas_for(
    size: tuple[int, int],
    multiple: int,
    native_size: int | None = None,
    wrap: tuple[bool, bool] = (False, False),
    even: int = 1,
) -> Canvas:
    """The canvas for a picture of `size` (width, height) on a model that takes sides of this multiple.

    A side that wraps is brought to the nearest multiple of `even`: what is added to a side breaks its period.
    """
    work = _work_size(size, native_size)
    work_width, work_height = (
        max(1, round(side / even)) * even if wraps else side for side, wraps in zip(work, wrap, strict=True)
    )
    width, height = (math.ceil(side / multiple) * multiple for side in (work_width, work_height))
    return Canvas(size, (work_width, work_height), (width, height), wrap)


def native_for(edit: Edit, size: tuple[int, int], native_size: int | None) -> int | None:
    """The native size that an edit goes by: none where nothing shall be scaled, or where tiles have that size."""
    larger = native_size is not None and size[0] * size[1] > native_size**2
    return None if edit.resize == "none" or (edit.tile is not None and larger) else native_size


def _work_size(size: tuple[int, int], native_size: int | None) -> tuple[int, int]:
    if native_size is None or _NEAR[0] <= size[0] * size[1] / native_size**2 <= _NEAR[1]:
        return size
    scale = native_size / math.sqrt(size[0] * size[1])
    # Of a picture that is a line, the area says nothing: no side grows beyond four native ones.
    scale = min(scale, max(1.0, 4 * native_size / max(size)))
    width, height = (max(1, round(side * scale)) for side in size)
    return width, height


def advice(edit: Edit, size: tuple[int, int], native_size: int | None, trained_at: int | None) -> str:
    """What to know of a picture of `size` on a model: that it is brought to the native size, or that it is far from
    what the model was trained at; '' when there is nothing to say."""
    goes_by = native_for(edit, size, native_size)
    work = _work_size(size, goes_by)
    if work != size:
        return (
            f"this model was trained at {native_size} px: the picture is worked on at {work[0]} x {work[1]} "
            "and brought back to its size"
        )
    best = trained_at or native_size
    if goes_by is not None or best is None:
        return ""
    what = "is"
    if edit.tile is not None:
        side, _ = tile_of(edit.tile)
        what, size = ("has tiles of", (side, side)) if max(size) > side else ("is", size)
    share = size[0] * size[1] / best**2
    far = f"{what} {size[0]} x {size[1]}, far from the {best} x {best} that this model was trained at"
    if what != "is" and not _FAR[0] <= share <= _FAR[1]:
        return f"{far}; try --tile {best}"
    if share > _FAR[1]:
        side = _side(best * math.sqrt(max(size) / min(size)))
        return (
            f"{far}: it may show things twice, and takes much time and memory; try --max-side {side}, "
            f"or --tile {best} to keep its size"
        )
    if share < _FAR[0]:
        grown = (_side(side / math.sqrt(share)) for side in size)
        return f"{far}: expect no clear shapes; try --size {'x'.join(map(str, grown))}"
    return ""


def _side(side: float) -> int:
    return max(8, round(side / 8) * 8)
