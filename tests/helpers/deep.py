"""Colour profiles, and PNGs of 16 bits a channel read by the standard."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from PIL import ImageCms

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped() -> bytes:
    """sRGB's profile with red and blue exchanged: what it calls red is blue."""
    data = bytearray(SRGB)
    (count,) = struct.unpack_from(">I", data, 128)
    places = {bytes(data[132 + 12 * n : 136 + 12 * n]): 132 + 12 * n for n in range(count)}
    red, blue = places[b"rXYZ"], places[b"bXYZ"]
    data[red + 4 : red + 12], data[blue + 4 : blue + 12] = data[blue + 4 : blue + 12], data[red + 4 : red + 12]
    return bytes(data)


def samples(data: bytes) -> np.ndarray:
    """The samples (H, W, C) of a PNG of 16 bits, read by the standard: filters none, sub and up."""
    at, packed = 8, b""
    width = height = channels = 0
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + body) == struct.unpack_from(">I", data, at + 8 + length)[0]
        if kind == b"IHDR":
            width, height, bits, colour = struct.unpack_from(">IIBB", body)
            assert bits == 16
            channels = {2: 3, 6: 4}[colour]
        packed += body if kind == b"IDAT" else b""
        at += 12 + length
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + width * channels * 2)
    assert (rows[:, 0] == 2).all()
    lines = np.cumsum(rows[:, 1:], axis=0, dtype=np.uint8)
    return lines.view(">u2").reshape(height, width, channels)
