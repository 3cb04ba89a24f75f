"""How strongly an IP-Adapter works on each layer: a number, or numbers by block; blocks that are not named count 0."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from ..errors import UsageError
from .ip_layers import ImageLayer
from .strengths import is_strength, one_or_more

Scale = float | Mapping[str, Any] | Sequence[float]
"""A number, numbers by block ({"down": {"block_2": [0, 1]}, "up": ..., "mid": ...}), or one a masked picture."""

_PARTS = ("down", "mid", "up")
_BLOCK = re.compile(r"block_(\d+)")


def by_layer(scale: Any, layers: Sequence[ImageLayer]) -> tuple[tuple[float, ...], ...]:
    """The numbers for each layer: one, or one a masked picture. Raises UsageError for what says none.

    A list by block has one number an attention of it, or one for all of them.
    """
    if isinstance(scale, Mapping):
        numbers = _of_blocks(cast("Mapping[str, Any]", scale), layers)
        return tuple((number,) for number in numbers)
    listed = one_or_more(scale)
    if not listed:
        raise UsageError("an IP-Adapter's scale is an empty list; give a number, or one for each masked picture")
    return (tuple(_number(item) for item in listed),) * len(layers)


def _number(value: Any) -> float:
    if not is_strength(value):
        raise UsageError(f"an IP-Adapter's scale is {value!r}; expected a finite number, or numbers by block")
    return float(value)


def _of_blocks(parts: Mapping[str, Any], layers: Sequence[ImageLayer]) -> list[float]:
    chosen = dict.fromkeys(layers, 0.0)
    for part, value in parts.items():
        if part not in _PARTS:
            raise UsageError(f"an IP-Adapter's scales are given for {part!r}; expected {', '.join(_PARTS)}")
        mine = [layer for layer in layers if layer.part == part]
        whole = {f"block_{layer.block}": value for layer in mine}
        given = cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else whole
        for name, wanted in given.items():
            chosen |= _of_block(part, name, wanted, mine)
    return list(chosen.values())


def _of_block(part: str, name: str, wanted: Any, layers: Sequence[ImageLayer]) -> dict[ImageLayer, float]:
    number = _BLOCK.fullmatch(name)
    mine = [layer for layer in layers if number and layer.block == int(number[1])]
    if not mine:
        known = ", ".join(f"block_{i}" for i in sorted({layer.block for layer in layers})) or "none"
        raise UsageError(f"an IP-Adapter's scales are given for {part} {name!r}; those that read a picture are {known}")
    count = len({layer.attention for layer in mine})
    listed = one_or_more(wanted)
    numbers = listed * count if len(listed) == 1 else listed
    if len(numbers) != count:
        raise UsageError(f"an IP-Adapter's scales of {part} {name} are {len(numbers)}; expected {count}, one a layer")
    return {layer: _number(numbers[layer.attention]) for layer in mine}
