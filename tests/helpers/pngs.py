"""PNGs chunk by chunk, sound or not."""

from __future__ import annotations

import struct
import zlib

import numpy as np


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(rows: np.ndarray, bits: int, kind: int, *before: bytes, after: bytes = b"") -> bytes:
    """A PNG of rows that are packed already."""
    width = rows.shape[1] * 8 // (bits * (3 if kind == 2 else 1))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, rows.shape[0], bits, kind, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(before) + data + after + chunk(b"IEND", b"")
