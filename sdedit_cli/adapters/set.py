"""Which adapters are at work, and how strongly: plain data. What it means for weights, `engine.merging` knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .dialects import Module
from .lora import Adapter
from .strengths import Strengths


@dataclass(frozen=True)
class AdapterSet:
    """Adapters by name, and the strengths of those that are at work."""

    adapters: Mapping[str, Adapter] = field(default_factory=dict[str, Adapter])
    active: Mapping[str, Strengths] = field(default_factory=dict[str, Strengths])

    def patched(self, scale: float = 1.0) -> dict[Module, tuple[tuple[Adapter, float], ...]]:
        """The adapters that change each module, with their strengths times `scale`; those of 0 are left out."""
        found: dict[Module, tuple[tuple[Adapter, float], ...]] = {}
        for name, strengths in self.active.items():
            adapter = self.adapters[name]
            for module in adapter.patches:
                if number := strengths.get(module, 1.0) * scale:
                    found[module] = (*found.get(module, ()), (adapter, number))
        return found
