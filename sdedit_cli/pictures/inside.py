"""How large the pictures inside icons (ICO, ICNS) are: Pillow decodes them whatever the icon says of them."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from .containers import PNG

_ICO, _ICNS = b"\0\0\1\0", b"icns"
_SIZ = b"\xff\x51"  # the marker of a JPEG 2000 stream before its size
_MOST = 4096


def sizes_inside(data: bytes) -> Iterator[tuple[int, int]]:
    """Width and height of every picture in an icon, as far as they can be told; of no other file any."""
    if data.startswith(_ICO):
        yield from map(_size, _of_ico(data))
    elif data.startswith(_ICNS):
        yield from map(_size, _of_icns(data))


def _of_ico(data: bytes) -> Iterator[bytes]:
    (count,) = struct.unpack_from("<H", data.ljust(6, b"\0"), 4)
    for at in range(6, 6 + 16 * min(count, _MOST), 16):
        if at + 16 <= len(data):
            (place,) = struct.unpack_from("<I", data, at + 12)
            yield data[place : place + 64]


def _of_icns(data: bytes) -> Iterator[bytes]:
    at = 8
    for _ in range(_MOST):
        if at + 8 > len(data):
            return
        (length,) = struct.unpack_from(">I", data, at + 4)
        yield data[at + 8 : at + 8 + 1024]
        at += max(length, 8)


def _size(start: bytes) -> tuple[int, int]:
    """Of a PNG, a JPEG 2000 or a bitmap by its first bytes; (0, 0) for others."""
    if start.startswith(PNG) and len(start) >= 24:
        return struct.unpack_from(">II", start, 16)
    at = start.find(_SIZ)
    if start.startswith((b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")) and 0 <= at <= len(start) - 22:
        right, bottom, left, top = struct.unpack_from(">4I", start, at + 6)
        return max(right - left, 0), max(bottom - top, 0)
    if len(start) >= 12 and struct.unpack_from("<I", start)[0] in (40, 52, 56, 64, 108, 124):
        width, height = struct.unpack_from("<ii", start, 4)
        return abs(width), abs(height) // 2  # a mask stands below the colours
    return 0, 0
