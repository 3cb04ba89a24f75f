"""A picture as a stroke painting: a median filter, then a palette of few colours.

That is how SDEdit (arXiv 2108.01073) simulates what people paint: a median of 23 pixels on a picture of 256, and 6
colours. Here the filter grows with the picture.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..options import Edit
from .codec import Picture

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

_SIDE, _KERNEL = 256, 23


def with_strokes(picture: Picture, edit: Edit) -> Picture:
    """The picture as the model is shown it: painted with as many colours as an edit asks for, or as it is."""
    if edit.strokes is None:
        return picture
    # What a mask keeps is the picture's own.
    return replace(picture, rgb=painted(picture.rgb, edit.strokes), colours=picture.colours or picture.rgb)


def painted(image: Image.Image, colours: int) -> Image.Image:
    """An RGB picture in so many colours at most, in strokes of about a tenth of its side; always the same."""
    import numpy as np
    from PIL import Image

    side = math.sqrt(image.width * image.height)
    small = image
    if side > _SIDE:
        width, height = (max(1, round(length * _SIDE / side)) for length in image.size)
        small = image.resize((width, height), Image.Resampling.BOX)
    reach = round(_KERNEL / _SIDE * min(side, _SIDE)) // 2
    strokes = Image.fromarray(_median(np.asarray(small), reach))
    limited = strokes.quantize(colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    palette = np.array(limited.getpalette() or [], dtype=np.uint8).reshape(-1, 3)
    return Image.fromarray(palette[_grown(np.asarray(limited), image.size)])


def _median(levels: npt.NDArray[np.uint8], reach: int) -> npt.NDArray[np.uint8]:
    """Of every pixel and channel the median of a square of `2 * reach + 1` around it, from sums over thresholds.

    It takes one time whatever the square's size, as Pillow's filter does not.
    """
    import numpy as np

    size = 2 * reach + 1
    wide = np.pad(levels, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    low, high = int(wide.min()), int(wide.max())
    found = np.full(levels.shape, low, dtype=np.uint8)
    for level in range(low, high):
        sums: Any = np.pad(wide <= level, ((1, 0), (1, 0), (0, 0))).cumsum(0, dtype=np.int32).cumsum(1, dtype=np.int32)
        within = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
        found += within <= size * size // 2
    return found


def _grown(labels: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Labels at another size, with smooth edges and no third label between two."""
    import numpy as np
    from PIL import Image

    if labels.shape == (size[1], size[0]):
        return labels
    best = np.full((size[1], size[0]), -1.0, dtype=np.float32)
    grown = np.zeros((size[1], size[0]), dtype=np.uint8)
    for label in range(int(labels.max()) + 1):
        alone = Image.fromarray((labels == label).astype(np.float32))
        share = np.asarray(alone.resize(size, Image.Resampling.BICUBIC))
        grown = np.where(share > best, np.uint8(label), grown)
        best = np.maximum(share, best)
    return grown
