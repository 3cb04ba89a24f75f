"""The one door to Pillow's readers: of all that Pillow knows, the formats that hold a picture and nothing else.

Left out are those that have another program or reader take over what lies inside, whatever that is (EPS, IPTC, WMF,
BLP, FITS, FlashPix, the stubs of HDF5, GRIB and BUFR), and those that nobody edits.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from .quiet import quiet, silence_libtiff, silence_log
from .refusals import is_tiff

if TYPE_CHECKING:
    from PIL import Image

_READ = """
PNG JPEG WEBP TIFF GIF BMP DIB AVIF JPEG2000 QOI PPM TGA ICO ICNS CUR PSD DDS PCX DCX SGI SUN XBM XPM MSP
"""
FORMATS = frozenset(_READ.split())
_BIG_ENDIAN = re.compile(r";(16|32)B")


def pillow(data: bytes) -> Image.Image:
    """The picture in `data`, opened by Pillow and not yet decoded; raises whatever Pillow does."""
    from PIL import Image

    # Our limit replaces Pillow's own, whose warning starts at another size.
    Image.MAX_IMAGE_PIXELS = None
    silence_log()
    if is_tiff(data):
        silence_libtiff()
    with quiet():
        image: Any = _opened(data)
    _check_sides(image.size)
    # libtiff gives numbers in the order of the machine, and Pillow turns those of big-endian files once more.
    image.tile = [
        getattr(tile, "_make", tuple)((codec, box, at, (_BIG_ENDIAN.sub(r";\1N", args[0]), *args[1:])))
        if codec == "libtiff"
        else tile
        for tile in getattr(image, "tile", [])
        for codec, box, at, args in [tile]
    ]
    return image


def _opened(data: bytes) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    Image.preinit()  # the common ones alone; all of them take a while to import
    try:
        return Image.open(io.BytesIO(data), formats=_known())
    except UnidentifiedImageError:
        Image.init()
        return Image.open(io.BytesIO(data), formats=_known())


def _known() -> tuple[str, ...]:
    """Those that are imported, in Pillow's order: some have no mark of their own, and take what no other took."""
    from PIL import Image

    return tuple(name for name in Image.ID if name in FORMATS)


def _check_sides(size: object) -> None:
    """Raises ValueError for a size that is none: some readers take it from the file as it stands there."""
    match size:
        case (int(), int()):
            return
        case _:
            raise ValueError("it does not say its width and height in two whole numbers")


def is_run_length_bitmap(image: Any) -> bool:
    """Whether the pixels of an opened bitmap (BMP, DIB, CUR) are packed by run lengths."""
    return any(tile[0] == "bmp_rle" for tile in image.tile)
