"""Small pictures for a page: bounded in size, as text that stands in it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache

from ..errors import PictureError
from ..pictures.codec import pixel_limit, read_picture
from ..pictures.profiles import seen_in_srgb
from .html_parts import data_uri

# Up to so many jobs, so many pixels on the longer side: a page stays one that a browser opens.
_SIDES = ((100, 384), (2000, 256), (5000, 160))
_SMALLEST_SIDE = 96
# Below it, a picture is drawn pixel by pixel, and nothing of it is lost.
_SMALL = 96


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture as a data: URI, and its size; `is_pixels` where each of its pixels counts."""

    uri: str
    width: int
    height: int
    is_pixels: bool


def side_of(jobs: int) -> int:
    """How large the thumbnails of a page of so many jobs may be."""
    return next((side for most, side in _SIDES if jobs <= most), _SMALLEST_SIDE)


@lru_cache(maxsize=8)  # one input of a matrix comes many times in a row
def thumbnail(path: str, side: int) -> Thumbnail | None:
    """The picture in a file, no larger than `side`; None where there is none that can be read."""
    from PIL import Image

    # A pipe would wait for a writer.
    if not os.path.isfile(path):
        return None
    try:
        picture = read_picture(path, pixel_limit(os.environ))
    except PictureError:
        return None
    image = seen_in_srgb(picture.rgb, picture.icc)
    is_pixels = max(image.size) <= _SMALL
    if picture.alpha is not None:
        image = image.copy()
        image.putalpha(picture.alpha)
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return Thumbnail(data_uri(image, "webp", quality=80, method=2, lossless=is_pixels), *image.size, is_pixels)
