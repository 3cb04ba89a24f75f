"""Which adapters are at work, and how strongly: plain data. What it means for weights, `engine.merging` knows."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from ..errors import UsageError
from .dialects import Module
from .lora import Adapter

Weight = float | Mapping[str, Any]
"""A number, or numbers by part: {"unet": ..., "text_encoder": ...} with {"down": ..., "mid": ..., "up": ...} inside."""

_PLACE = re.compile(r"(?:(down|up)_blocks\.(\d+)|(mid)_block)\.(?:attentions|resnets|\w+)\.(\d+)")
_PARTS = ("down", "mid", "up")


@dataclass(frozen=True)
class Strength:
    """How strongly an adapter works on each module. Parts that are not named count fully."""

    weight: Weight = 1.0

    def __post_init__(self) -> None:
        _check(self.weight, ("unet", "text_encoder"))

    def of(self, module: Module) -> float:
        """The number for a module."""
        slot, name = module
        whole = self.weight
        chosen: Any = whole.get(slot, 1.0) if isinstance(whole, Mapping) else whole
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


@dataclass(frozen=True)
class AdapterSet:
    """Adapters by name, and the strengths of those that are at work."""

    adapters: Mapping[str, Adapter] = field(default_factory=dict[str, Adapter])
    active: Mapping[str, Strength] = field(default_factory=dict[str, Strength])

    def patched(self, scale: float = 1.0) -> dict[Module, tuple[tuple[Adapter, float], ...]]:
        """The adapters that change each module, with their strengths times `scale`; those of 0 are left out."""
        found: dict[Module, tuple[tuple[Adapter, float], ...]] = {}
        for name, strength in self.active.items():
            adapter = self.adapters[name]
            for module in adapter.patches:
                if number := strength.of(module) * scale:
                    found[module] = (*found.get(module, ()), (adapter, number))
        return found
