"""How large the pictures inside icons (ICO, ICNS) are: Pillow decodes them whatever the icon says of them."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

from .containers import PNG
from .quiet import quiet

_ICO, _ICNS = b"\0\0\1\0", b"icns"
_JPEG_2000 = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
_BITMAP_HEADS = (40, 52, 56, 64, 108, 124)
_MOST = 4096


def sizes_inside(data: bytes) -> Iterator[tuple[int, int]]:
    """Width and height of every picture in an icon, as far as they can be told; of no other file any."""
    places = _of_ico(data) if data.startswith(_ICO) else _of_icns(data) if data.startswith(_ICNS) else ()
    for begin, end in dict.fromkeys(places):
        yield _size(data, begin, end)


def _of_ico(data: bytes) -> Iterator[tuple[int, int]]:
    (count,) = struct.unpack_from("<H", data.ljust(6, b"\0"), 4)
    for at in range(6, 6 + 16 * min(count, _MOST), 16):
        if at + 16 <= len(data):
            (place,) = struct.unpack_from("<I", data, at + 12)
            yield place, len(data)


def _of_icns(data: bytes) -> Iterator[tuple[int, int]]:
    at = 8
    for _ in range(_MOST):
        if at + 8 > len(data):
            return
        (length,) = struct.unpack_from(">I", data, at + 4)
        yield at + 8, at + length
        at += max(length, 8)


def _size(data: bytes, begin: int, end: int) -> tuple[int, int]:
    """Of a PNG, a JPEG 2000 or a bitmap by its header; (0, 0) for others, and where it is broken."""
    from PIL import Jpeg2KImagePlugin, PngImagePlugin

    start = data[begin : begin + 16]
    if len(start) == 16 and struct.unpack_from("<I", start)[0] in _BITMAP_HEADS:
        width, height = struct.unpack_from("<ii", start, 4)
        return abs(width), abs(height) // 2  # a mask stands below the colours
    file = io.BytesIO(data)
    file.seek(begin)
    try:
        with quiet():
            if start.startswith(PNG):
                return PngImagePlugin.PngImageFile(file).size
            if start.startswith(_JPEG_2000):
                return Jpeg2KImagePlugin.Jpeg2KImageFile(io.BytesIO(data[begin:end])).size
    except Exception:  # a damaged one raises whatever its reader stumbles over, and again when it is decoded
        return 0, 0
    return 0, 0
