"""How much room Pillow makes for what is inside a file, whatever that says of itself: pictures in icons (ICO, ICNS),
the frames of a GIF, and the canvas of a WebP. And how often a JPEG has it go over the pixels."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator

from .containers import PNG, gif_start
from .quiet import quiet

_ICO, _ICNS = b"\0\0\1\0", b"icns"
_JPEG_2000 = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
_BITMAP_HEADS, _OLD_BITMAP_HEAD = (40, 52, 56, 64, 108, 124), 12
_RUN_LENGTHS = (1, 2)
_MOST, _MOST_CHUNKS = 4096, 256
_WEBP, _CANVAS = b"RIFF", b"WEBPVP8X"
_JPEG, _SCAN, _END_OF_JPEG = b"\xff\xd8\xff", b"\xda", b"\xd9"
# Those that begin a segment: no stuffed byte, no restart, nothing that stands alone.
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
_GIF_HEAD = 13
_EXTENSION, _FRAME, _END = b"!,;"
_COMMENT, _APPLICATION, _TURNS = 0xFE, 0xFF, b"NETSCAPE2.0"


def sizes_inside(data: bytes) -> Iterator[tuple[int, int]]:
    """Width and height of every picture in an icon, as far as they can be told, and of a WebP's canvas; of no other
    file any.

    Raises ValueError, with what it is, for one that says so too late or would take too long to unpack.
    """
    if data.startswith(_WEBP) and data[8:16] == _CANVAS and len(data) >= 30:
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        yield width, height
    is_ico = data.startswith(_ICO)
    places = _of_ico(data) if is_ico else _of_icns(data) if data.startswith(_ICNS) else ()
    for begin, end in dict.fromkeys(places):
        yield _size(data, begin, end) or (_size_of_bitmap(data, begin) if is_ico else (0, 0))


def reach_of_frames(data: bytes) -> Iterator[tuple[int, int]]:
    """How far to the right and down a GIF reaches with each further frame; of no other file any.

    Pillow makes room for as much, for the first when it opens the file. Blocks are passed over as it does that: it
    reads on behind an extension whose first block is empty.
    """
    if not data.startswith(b"GIF8") or len(data) < _GIF_HEAD:
        return
    at, is_first = gif_start(data), True
    right, lower = struct.unpack_from("<HH", data, 6)
    while at + 10 < len(data) and data[at] != _END:
        kind, at = data[at], at + 1
        if kind == _EXTENSION:
            label, length, start = data[at], data[at + 1], data[at + 2 : at + 13]
            at = _behind_block(data, at + 1)
            if label == _COMMENT and not length:
                continue
            if label == _APPLICATION and is_first and length >= len(_TURNS) and start == _TURNS:
                at = _behind_block(data, at)
            at = _behind_blocks(data, at)
        elif kind == _FRAME:
            left, top, width, height, flags = struct.unpack_from("<4HB", data, at)
            right, lower = max(right, left + width), max(lower, top + height)
            yield right, lower
            # Behind a table of colours there is one byte more.
            at += 10 + (3 << (flags % 8 + 1) if flags & 0x80 else 0)
            at, is_first = _behind_blocks(data, at), False


def scans_of(data: bytes) -> int:
    """How many scans a JPEG has: each goes over all pixels, however short it is. 0 for other files."""
    scans, at = 0, 2
    while data.startswith(_JPEG) and (found := _MARKER.search(data, at)) and found[1] != _END_OF_JPEG:
        scans += found[1] == _SCAN
        # As a reader does, past the segment; behind that of a scan are its bits, in which there are no such markers.
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    return scans


def _behind_block(data: bytes, at: int) -> int:
    return at + 1 + data[at] if at < len(data) else at


def _behind_blocks(data: bytes, at: int) -> int:
    """Behind the empty block that ends a row of them."""
    length = len(data)
    while at < length and (size := data[at]):
        at += 1 + size
    return at + 1


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
