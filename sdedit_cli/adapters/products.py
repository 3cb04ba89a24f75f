"""Changes that are products of two factors: made for a block of a weight's rows after the other, or kept as a whole.

With a product that is kept, another strength is a sum alone: at a rank of 128 the products take longer than all else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Set
from typing import Any

import torch
from torch import Tensor

from .deltas import is_product
from .dialects import Module
from .kinds.lora import factors
from .lora import Adapter

Key = tuple[Adapter, Module]
Rows = Callable[[slice], Tensor]
"""Some rows of a change at strength 1, float32, until the next are asked for."""


# Ranks whose products take longer to make than to read: 2 x 64 operations for each four bytes.
_WORTH = 64


def is_worth_keeping(adapter: Adapter, module: Module) -> bool:
    """Whether an adapter's change of a weight is a product that takes longer to make than to read."""
    leaves = adapter.patches[module].leaves
    return is_product(leaves) and leaves["down"].shape[0] >= _WORTH


class Room:
    """Memory in float32 for one block of a weight after the other: new memory for each takes longer than the sums."""

    def __init__(self) -> None:
        self._held = torch.empty(0)

    def of(self, like: Tensor) -> Tensor:
        """A tensor of this shape, and on this device, that holds anything, until the next is asked for."""
        if self._held.numel() < like.numel() or self._held.device != like.device:
            self._held = torch.empty(like.numel(), dtype=torch.float32, device=like.device)
        return self._held[: like.numel()].view(like.shape)


class Products:
    """The changes at strength 1 of adapters that stay at work, by adapter and module; `keep` names those to be kept.

    One that is kept has the bits that would be computed anew: what a weight becomes says nothing of what it was before.
    """

    def __init__(self) -> None:
        self._kept: dict[Key, Tensor] = {}
        self._wanted: frozenset[Key] = frozenset()

    def __reduce__(self) -> tuple[Any, ...]:  # copies, and what is pickled, begin without any
        return Products, ()

    @property
    def kept(self) -> Set[Key]:
        return self._kept.keys()

    def keep(self, wanted: Collection[Key]) -> None:
        """From now on these are kept once they are made, and no others."""
        self._wanted = frozenset(wanted)
        self._kept = {key: product for key, product in self._kept.items() if key in self._wanted}

    def rows(self, adapter: Adapter, module: Module, parameter: Tensor, room: Room) -> Rows:
        """The rows of an adapter's change of a weight, by slices of equal length from the first to the last.

        Raises Misfit for factors that do not fit the weight.
        """
        flat, key = parameter.view(len(parameter), -1), (adapter, module)
        kept = self._kept.get(key)
        if kept is not None and (kept.shape, kept.device) == (flat.shape, flat.device):
            return kept.__getitem__
        self._kept.pop(key, None)
        patch = adapter.patches[module]
        on_device = {name: tensor.to(parameter.device) for name, tensor in patch.leaves.items()}
        up, down = factors(on_device, parameter, patch.scaling)
        if key not in self._wanted or flat.device.type != "cpu":  # a GPU makes them faster than it could read them
            return lambda at: torch.mm(up[at], down, out=room.of(flat[at]))
        product = torch.empty(flat.shape, dtype=torch.float32, device=flat.device)

        def made(at: slice) -> Tensor:
            rows = torch.mm(up[at], down, out=product[at])
            if at.stop >= len(flat):
                self._kept[key] = product
            return rows

        return made
