"""What the first bytes of a file tell of the picture in it."""

from __future__ import annotations

import math
import os
import stat
import struct

from .codec import open_picture
from .containers import PNG
from .source import read_bytes

# Formats that are not told by their first bytes are small files, or have all that is asked for at their start.
_START = 1 << 20
_HEADER = struct.Struct(">II")
_BEFORE = len(PNG) + 8  # the length and the name of the first chunk


def size_of_file(source: str, name: str, limit: float) -> tuple[int, int]:
    """The (width, height) of the picture in a file, as it is stored. Raises PictureError, as `open_picture`.

    Of a PNG the header alone is read: whether the rest is sound is found out by who decodes it.
    """
    size = _png_size(source)
    if size is None or size[0] * size[1] > limit * 1e6:
        return open_picture(read_bytes(source), name, limit).size
    return size


def begins_as_picture(source: str) -> bool:
    """Whether a file begins as one of the formats that are read. Raises OSError.

    Some have no mark of their own, so that is asked last of a file that may be something else too.
    """
    with open(source, "rb") as file:
        start = file.read(_START)
    try:
        open_picture(start, source, math.inf)
    except Exception:  # whatever a decoder stumbles over
        return False
    return True


def _png_size(source: str) -> tuple[int, int] | None:
    try:
        if not stat.S_ISREG(os.stat(source).st_mode):
            return None
        with open(source, "rb", buffering=0) as file:
            head = file.read(_BEFORE + _HEADER.size)
    except (OSError, ValueError):
        return None  # whoever reads it says why
    if not head.startswith(PNG) or head[_BEFORE - 4 : _BEFORE] != b"IHDR" or len(head) < _BEFORE + _HEADER.size:
        return None
    width, height = _HEADER.unpack_from(head, _BEFORE)
    return (width, height) if width and height else None
