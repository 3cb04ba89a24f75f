"""The numbers of a picture beyond 8 bits: a channel each, as levels from 0 to 255 with a fraction.

They go beside the picture of 8 bits, and hold wherever that has not been changed meanwhile by more than rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .readers import pillow

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    Numbers = np.ndarray[Any, Any]

Fine = tuple["Image.Image", ...]
"""Red, green and blue in mode F, and alpha where the picture has some."""
NEAR = 1.0
GRAY, RGB, _GRAY_ALPHA, _RGB_ALPHA = 0, 2, 4, 6
_DEPTH, _KIND = 24, 25
# How Pillow is told to give the lower halves of the numbers, of which it gives the upper ones by itself.
LOWER = {RGB: "RGB;16L", _RGB_ALPHA: "RGBA;16L"}


def fine_of(levels: Numbers, alpha: Numbers | None = None) -> Fine:
    """The channels of numbers (H, W) or (H, W, 3) in 0..1, and of an alpha (H, W)."""
    import numpy as np
    from PIL import Image

    colours = [levels] * 3 if levels.ndim == 2 else [levels[..., channel] for channel in range(3)]
    wanted = colours if alpha is None else [*colours, alpha]
    return tuple(Image.fromarray(np.ascontiguousarray(one, dtype=np.float32) * np.float32(255)) for one in wanted)


def of_png(data: bytes) -> Fine | None:
    """Those of a PNG of 16 bits a channel; None of one with fewer."""
    import numpy as np

    kind = data[_KIND]
    if data[_DEPTH] != 16 or kind not in (GRAY, RGB, _GRAY_ALPHA, _RGB_ALPHA):
        return None
    if kind == GRAY:
        return fine_of(np.asarray(decoded_as(data)) / 65535)
    if kind == _GRAY_ALPHA:  # whose four bytes are read as if they were four channels
        bytes_HWC = np.asarray(decoded_as(data, "RGBA", "RGBA")).astype(np.float32)
        numbers = bytes_HWC[..., ::2] * 256 + bytes_HWC[..., 1::2]
    else:
        upper, lower = (np.asarray(decoded_as(data, raw)).astype(np.float32) for raw in ("", LOWER[kind]))
        numbers = upper * 256 + lower
    numbers /= 65535
    if kind == RGB:
        return fine_of(numbers)
    return fine_of(numbers[..., 0] if kind == _GRAY_ALPHA else numbers[..., :3], numbers[..., -1])


def decoded_as(data: bytes, raw: str = "", mode: str = "") -> Image.Image:
    """A PNG whose numbers Pillow takes for those of a raw mode, and its pixels for those of a mode."""
    image: Any = pillow(data)
    if mode:
        image._mode = mode
    if raw:
        image.tile = [(codec, box, at, raw) for codec, box, at, _ in image.tile]
    image.load()
    return image


def shown_numbers(fine: Fine | None, image: Image.Image) -> Numbers | None:
    """The numbers (H, W, 3) in 0..1 of an image that shows a picture with these finer ones; None without."""
    import numpy as np

    return None if fine is None else np.asarray(nearest(np.asarray(image), fine[:3]) / 255, dtype=np.float32)


def alpha_levels(fine: Fine | None, alpha: Image.Image | None) -> Numbers | None:
    """An alpha (H, W) in levels of 8 bits with fractions; None for an opaque picture."""
    import numpy as np

    if alpha is None:
        return None
    levels = np.asarray(alpha)
    if fine is None or len(fine) < 4:
        return levels.astype(np.float32)
    return nearest(levels[..., None], fine[3:])[..., 0]


def nearest(levels: Numbers, fine: Sequence[Image.Image]) -> Numbers:
    """Levels of 8 bits (H, W, C), with their fractions where they are still those of the finer numbers."""
    import numpy as np

    finer = np.stack([np.asarray(one) for one in fine], axis=-1).clip(0, 255)
    return np.where(np.abs(finer - levels) <= NEAR, finer, levels.astype(np.float32))
