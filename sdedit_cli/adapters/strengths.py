"""How strongly an adapter works on each of its modules: one kind of data, made of numbers by part or by block."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from ..configs.unet import UNetConfig
from ..errors import UsageError
from ..names.unet import unet_table
from .dialects import Module

Strengths: TypeAlias = Mapping[Module, float]
"""A number for each module; one that has none counts fully (1.0)."""

Weight: TypeAlias = float | Mapping[str, Any]
"""A number, or numbers by part: {"unet": ..., "text_encoder": ...} with {"down": ..., "mid": ..., "up": ...} inside."""

_PLACE = re.compile(r"(?:(down|up)_blocks\.(\d+)|(mid)_block)\.(?:attentions|resnets|\w+)\.(\d+)")
_PARTS = ("down", "mid", "up")
_ORIGINAL = re.compile(r"(input_blocks|middle_block|output_blocks)\.(\d+)")
_FIRST = {"input_blocks": 1, "output_blocks": 14}
_MIDDLE = 13


def by_part(weight: Weight, modules: Iterable[Module]) -> Strengths:
    """What a weight of the reference's `set_adapters` means for these modules: parts that are not named count fully.

    Raises UsageError for what is no weight.
    """
    _check(weight, ("unet", "text_encoder"))
    return {module: _of_part(weight, module) for module in modules}


def by_block(
    numbers: Sequence[float], unet: float, text_encoder: float, modules: Iterable[Module], config: UNetConfig
) -> Strengths:
    """Strengths of UNet and text encoder, times the 26 numbers BASE (of the text encoder), IN00..11, M00, OUT00..11.

    A module's block is that of its original name; those outside of blocks have the UNet's strength.
    """
    blocks = {ours: _block_of(pair.foreign) for pair in unet_table(config) for ours in pair.ours}

    def strength(module: Module) -> float:
        slot, name = module
        if slot != "unet":
            return text_encoder * numbers[0]
        block = blocks.get(name)
        return unet if block is None else unet * numbers[block]

    return {module: strength(module) for module in modules}


def _block_of(foreign: str) -> int | None:
    found = _ORIGINAL.match(foreign)
    if found is None:
        return None
    return _MIDDLE if found[1] == "middle_block" else _FIRST[found[1]] + int(found[2])


def _of_part(weight: Weight, module: Module) -> float:
    slot, name = module
    chosen: Any = weight.get(slot, 1.0) if isinstance(weight, Mapping) else weight
    if isinstance(chosen, Mapping):
        chosen = _in_block(cast("Mapping[str, Any]", chosen), name)
    return 1.0 if chosen is None else float(chosen)


def _in_block(parts: Mapping[str, Any], name: str) -> Any:
    found = _PLACE.match(name)
    if found is None:
        return 1.0
    part, block, layer = found[1] or found[3], found[2], int(found[4])
    chosen = parts.get(part, 1.0)
    if isinstance(chosen, Mapping):
        chosen = cast("Mapping[str, Any]", chosen).get(f"block_{block}", 1.0)
    if isinstance(chosen, (list, tuple)):
        numbers = list(cast("list[Any]", chosen))
        return numbers[layer] if layer < len(numbers) else numbers[-1]
    return chosen


def _check(weight: Any, names: tuple[str, ...]) -> None:
    if weight is None or (isinstance(weight, (int, float)) and not isinstance(weight, bool) and math.isfinite(weight)):
        return
    if isinstance(weight, (list, tuple)) and weight:
        for item in cast("list[Any]", weight):
            _check(item, ())
        return
    if not isinstance(weight, Mapping):
        raise UsageError(f"adapter weight is {weight!r}; expected a finite number, or numbers by part")
    for key, value in cast("Mapping[str, Any]", weight).items():
        if key not in names and not (names == () and re.fullmatch(r"block_\d+", key)):
            expected = ", ".join(names) or "block_0, block_1, ..."
            raise UsageError(f"adapter weights are given for '{key}'; expected {expected}")
        _check(value, _PARTS if key == "unet" else ())
