"""Tiles as values of options: `512` or `512:128`, their side and what neighbours share, in pixels."""

from __future__ import annotations

import re

from .values import ValueType

_STEP = 8
_LEAST, _MOST = 16, 8192
_PATTERN = r"([0-9]{1,5})(?::([0-9]{1,5}))?"


def tile_of(text: str) -> tuple[int, int]:
    """Side and overlap of a tile that was read."""
    side, _, overlap = text.partition(":")
    return int(side), int(overlap)


def _parse(text: str) -> str:
    match = re.fullmatch(_PATTERN, text.strip(), re.ASCII)
    side = int(match[1]) if match else 0
    overlap = int(match[2]) if match and match[2] else max(_STEP, side // 4 // _STEP * _STEP)
    # Beyond a half, every place would be in more than four tiles.
    if not (_LEAST <= side <= _MOST and _STEP <= overlap <= side // 2) or side % _STEP or overlap % _STEP:
        raise ValueError
    return f"{side}:{overlap}"


def _fit(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError
    return _parse(value)


TILE = ValueType(
    "tile",
    f"a side from {_LEAST} to {_MOST}, and after a colon the overlap, at most half of it, such as 512 or 512:128; both "
    f"multiples of {_STEP}",
    "tiles",
    "SIZE[:OVERLAP]",
    {
        "anyOf": [
            {"type": "string", "pattern": f"^{_PATTERN}$"},
            {"type": "integer", "minimum": _LEAST, "maximum": _MOST},
        ]
    },
    _parse,
    _fit,
)
