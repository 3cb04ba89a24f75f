"""Sizes of pictures as options name them: `640x480`."""

from __future__ import annotations

import re

from .values import ValueType

MAX_SIDE = 16_384
_PATTERN = r"([0-9]{1,5})[xX×]([0-9]{1,5})"


def _parse(text: str) -> str:
    match = re.fullmatch(_PATTERN, text.strip())
    width, height = map(int, match.groups()) if match else (0, 0)
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise ValueError
    return f"{width}x{height}"


def _fit(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    return _parse(value)


SIZE = ValueType(
    "size",
    f"a size such as 640x480, with sides of 1 to {MAX_SIDE}",
    "sizes",
    "WxH",
    {"type": "string", "pattern": f"^{_PATTERN}$"},
    _parse,
    _fit,
)


def fitted(size: tuple[int, int], wanted: str | None, max_side: int | None) -> tuple[int, int]:
    """`size` (width, height) brought to the wanted one, or scaled down until no side is longer than `max_side`."""
    if wanted is not None:
        width, _, height = wanted.partition("x")
        return int(width), int(height)
    longest = max(size)
    if max_side is None or longest <= max_side:
        return size
    width, height = (max(1, round(side * max_side / longest)) for side in size)
    return width, height
