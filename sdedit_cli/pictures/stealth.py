"""The text that some programs hide in the lowest bits of a picture's alpha or colours, column by column.

A word of 15 bytes tells the kind, 32 bits how many bits follow, and these are the text or its gzip.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from .containers import MAX_UNFOLDED

if TYPE_CHECKING:
    from PIL import Image

# Word -> the channels that it stands in, and whether the text is packed.
_KINDS = {
    b"stealth_pnginfo": (("RGBA",), slice(3, 4), False),
    b"stealth_pngcomp": (("RGBA",), slice(3, 4), True),
    b"stealth_rgbinfo": (("RGB", "RGBA"), slice(0, 3), False),
    b"stealth_rgbcomp": (("RGB", "RGBA"), slice(0, 3), True),
}
_FORMATS = ("PNG", "WEBP")
_WORD, _COUNT = 15, 4
_GZIP = 16 + zlib.MAX_WBITS
_MOST_PIXELS = 40_000_000


def hidden_text(image: Image.Image) -> str:
    """The text hidden in a picture, which is decoded for it; '' where there is none, or where it is broken."""
    if image.format not in _FORMATS or image.mode not in ("RGB", "RGBA") or image.width * image.height > _MOST_PIXELS:
        return ""
    try:
        image.load()
    except Exception:  # a damaged file raises whatever its decoder stumbles over; who needs the pixels says so
        return ""
    for channels in dict.fromkeys((part.start, part.stop) for modes, part, _ in _KINDS.values() if image.mode in modes):
        word = _bytes(image, slice(*channels), 0, _WORD)
        if word in _KINDS:
            return _told(image, slice(*channels), packed=_KINDS[word][2])
    return ""


def _told(image: Image.Image, channels: slice[int, int, None], *, packed: bool) -> str:
    bits = int.from_bytes(_bytes(image, channels, _WORD, _COUNT), "big")
    body = _bytes(image, channels, _WORD + _COUNT, min(bits // 8, MAX_UNFOLDED))
    if not packed:
        return body.decode("utf-8", "replace")
    try:
        return zlib.decompressobj(_GZIP).decompress(body, MAX_UNFOLDED).decode("utf-8", "replace")
    except zlib.error:
        return ""


def _bytes(image: Image.Image, channels: slice[int, int, None], begin: int, count: int) -> bytes:
    """Some of the bytes that the lowest bits of these channels make."""
    import numpy as np

    a_column: int = image.height * (channels.stop - channels.start)
    first, last = 8 * begin // a_column, -(-8 * (begin + count) // a_column)
    if first >= image.width:
        return b""
    part = image.crop((first, 0, min(last, image.width), image.height))
    columns: Any = np.asarray(part, dtype=np.uint8)[:, :, channels]
    bits = (columns & 1).transpose(1, 0, 2).ravel()[8 * begin - first * a_column :]
    return np.packbits(bits[: 8 * count]).tobytes()[:count]
