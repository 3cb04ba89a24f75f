"""PNGs of 16 bits a channel, which Pillow does not write: the chunks of one of 8 bits around other pixels."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

from ..errors import OutputError
from .containers import png_chunks
from .fine import NEAR
from .readers import pillow

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    Numbers = np.ndarray[Any, Any]

_RGB, _RGBA = 2, 6
_UP = 2


def levels(shallow: Image.Image, deep: Numbers, alpha: Numbers | None) -> Numbers:
    """The samples (H, W, C) of 16 bits: `deep` (H, W, 3) in 0..1 but where the finished picture shows something else,
    and alpha (H, W) in 0..255, of which every level is one of 16 bits as well."""
    import numpy as np

    rounded = np.asarray(shallow).astype(np.float32)
    # What is this near is the same, rounded on the way.
    numbers = np.where(np.abs(deep * 255 - rounded) <= NEAR, deep * 65535, rounded * 257)
    whole = np.round(numbers).astype(np.uint16)
    if alpha is None:
        return whole
    return np.concatenate([whole, np.round(alpha * np.float32(257)).astype(np.uint16)[..., None]], axis=-1)


def deepened(shallow: bytes, samples: Numbers) -> bytes:
    """A PNG of these samples (H, W, C) with all that stands beside the pixels of `shallow`, a PNG of the same picture.

    Raises OutputError when it cannot be read back.
    """
    import numpy as np

    height, width, channels = samples.shape
    kind = _RGBA if channels == 4 else _RGB
    rows: Any = samples.astype(">u2").reshape(height, -1).view(np.uint8)
    # Of smooth pictures the difference to the row above packs best; one filter for all keeps it simple.
    above = np.concatenate([np.zeros((1, rows.shape[1]), np.uint8), rows[:-1]])
    filtered = np.concatenate([np.full((height, 1), _UP, np.uint8), rows - above], axis=1)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(filtered.tobytes(), 6))
    out, placed = [shallow[:8]], False
    for name, _, whole, _ in png_chunks(shallow):
        if name == b"IDAT":
            out += [] if placed else [body]
            placed = True
        else:
            out.append(head if name == b"IHDR" else whole)
    data = b"".join(out)
    _read_back(data, samples)
    return data


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _read_back(data: bytes, samples: Numbers) -> None:
    """Raises OutputError unless a reader that knows 8 bits sees the upper ones."""
    import numpy as np

    try:
        upper: Any = np.asarray(pillow(data))
        same = np.array_equal(upper, samples >> 8)
    except MemoryError:
        raise
    except Exception as problem:  # readers raise whatever they stumble over
        raise OutputError(f"the PNG of 16 bits cannot be read back ({problem}); nothing was written") from None
    if not same:
        raise OutputError("the PNG of 16 bits reads back as another picture; nothing was written, try --bits 8")
