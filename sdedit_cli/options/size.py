"""Sizes of pictures as options name them: `640x480`."""

from __future__ import annotations

import re

from .values import ValueType, written

MAX_SIDE = 16_384
_PATTERN = r"([0-9]{1,5})[xX×]([0-9]{1,5})"


def _parse(text: str) -> str:
    match = re.fullmatch(_PATTERN, text.strip())
    width, height = map(int, match.groups()) if match else (0, 0)
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise ValueError
    return f"{width}x{height}"


SIZE = ValueType(
    "size",
    f"a size such as 640x480, with sides of 1 to {MAX_SIDE}",
    "sizes",
    "WxH",
    {"type": "string", "pattern": f"^{_PATTERN}$"},
    _parse,
    written(_parse),
)
