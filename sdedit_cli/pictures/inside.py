"""How large the pictures inside icons (ICO, ICNS) are: Pillow decodes them whatever the icon says of them."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

from .containers import PNG
from .quiet import quiet

_ICO, _ICNS = b"\0\0\1\0", b"icns"
_JPEG_2000 = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
_BITMAP_HEADS, _OLD_BITMAP_HEAD = (40, 52, 56, 64, 108, 124), 12
_RUN_LENGTHS = (1, 2)
_MOST, _MOST_CHUNKS = 4096, 256


def sizes_inside(data: bytes) -> Iterator[tuple[int, int]]:
    """Width and height of every picture in an icon, as far as they can be told; of no other file any.

    Raises ValueError, with what it is, for one that says so too late or would take too long to unpack.
    """
    is_ico = data.startswith(_ICO)
    places = _of_ico(data) if is_ico else _of_icns(data) if data.startswith(_ICNS) else ()
    for begin, end in dict.fromkeys(places):
        yield _size(data, begin, end) or (_size_of_bitmap(data, begin) if is_ico else (0, 0))


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


def _size(data: bytes, begin: int, end: int) -> tuple[int, int] | None:
    """Of a PNG or a JPEG 2000, (0, 0) where it is broken; None for others."""
    if data.startswith(PNG, begin):
        return _size_of_png(data, begin + len(PNG))
    if data.startswith(_JPEG_2000, begin):
        return _size_of_jpeg_2000(data[begin:end])
    return None


def _size_of_bitmap(data: bytes, begin: int) -> tuple[int, int]:
    """By its header; (0, 0) for what is none, and where it is broken."""
    start = data[begin : begin + 20]
    head = struct.unpack_from("<I", start.ljust(4, b"\0"))[0]
    if head == _OLD_BITMAP_HEAD:
        width, height = struct.unpack_from("<HH", start.ljust(8, b"\0"), 4)
        return width, height // 2  # a mask stands below the colours, here and in the others
    if len(start) == 20 and head in _BITMAP_HEADS:
        width, height, packing = struct.unpack_from("<II4xI", start, 4)
        if packing in _RUN_LENGTHS:
            raise ValueError("a bitmap packed by run lengths, as no icon is")
        # As Pillow takes it: below 0 is a height only where its uppermost byte is full.
        return width, ((1 << 32) - height if height >> 24 == 0xFF else height) // 2
    return 0, 0


def _size_of_png(data: bytes, at: int) -> tuple[int, int]:
    """The largest that any header before the pixels says: Pillow takes the last one, wherever it stands."""
    sizes = [(0, 0)]
    for _ in range(_MOST_CHUNKS):
        length, kind = struct.unpack(">I4s", data[at : at + 8].ljust(8, b"\0"))
        if kind in (b"IDAT", b"IEND", bytes(4)):
            return max(sizes, key=lambda size: size[0] * size[1])
        if kind == b"IHDR":
            sizes.append(struct.unpack(">II", data[at + 8 : at + 16].ljust(8, b"\0")))
        at += 12 + length
    raise ValueError(f"a PNG of more than {_MOST_CHUNKS} chunks before its pixels")


def _size_of_jpeg_2000(data: bytes) -> tuple[int, int]:
    from PIL import Jpeg2KImagePlugin

    try:
        with quiet():
            return Jpeg2KImagePlugin.Jpeg2KImageFile(io.BytesIO(data)).size
    except Exception:  # a damaged one raises whatever its reader stumbles over, and again when it is decoded
        return 0, 0
