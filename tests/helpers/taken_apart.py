"""Files of pictures as lists of their pieces (kind, body), and back: what stands beside pixels can be changed alone."""

from __future__ import annotations

import struct
import zlib

Pieces = list[tuple[bytes, bytes]]
_SCAN = 0xDA


def pieces_of(data: bytes) -> Pieces:
    """The pieces of a PNG, JPEG or WebP."""
    return {b"\x89": _of_png, b"\xff": _of_jpeg, b"R": _of_webp}[data[:1]](data)


def put_together(pieces: Pieces, like: bytes) -> bytes:
    """The file of these pieces, of the kind of the file `like`; all lengths and checksums are right."""
    if like[:1] == b"\x89":
        return like[:8] + b"".join(png_chunk(*piece) for piece in pieces)
    if like[:1] == b"\xff":
        return b"\xff\xd8" + b"".join(_segment(*piece) for piece in pieces)
    body = b"".join(kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2) for kind, body in pieces)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _of_png(data: bytes) -> Pieces:
    found, at = Pieces(), 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def _of_jpeg(data: bytes) -> Pieces:
    found, at = Pieces(), 2
    while data[at + 1] != _SCAN:
        (length,) = struct.unpack_from(">H", data, at + 2)
        found.append((data[at : at + 2], data[at + 4 : at + 2 + length]))
        at += 2 + length
    return [*found, (b"", data[at:])]


def _segment(marker: bytes, body: bytes) -> bytes:
    return marker + struct.pack(">H", len(body) % 65_534 + 2) + body if marker else body


def _of_webp(data: bytes) -> Pieces:
    found, at = Pieces(), 12
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        found.append((data[at : at + 4], data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return found
