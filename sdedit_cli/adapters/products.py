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


# The least rank whose products take longer to make than to read: 2 x 64 operations for each four bytes.
_RANK = 64


def takes_longer_to_make(adapter: Adapter, module: Module) -> bool:
    """Whether it takes less to read an adapter's change of a weight than to make it."""
    leaves = adapter.patches[module].leaves
    return is_product(leaves) and leaves["down"].shape[0] >= _RANK


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
    """The changes at strength 1 that are kept, by adapter and module; `keep` names them.

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

    @property
    def nbytes(self) -> int:
        """The memory that they take."""
        return sum(product.nbytes for product in self._kept.values())

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
        up, down = factors(patch.on(flat.device), parameter, patch.scaling)
        product = self._new(key, flat)
        if product is None:
            return lambda at: torch.mm(up[at], down, out=room.of(flat[at]))

        def made(at: slice) -> Tensor:
            rows = torch.mm(up[at], down, out=product[at])
            if at.stop >= len(flat):
                self._kept[key] = product
            return rows

        return made

    def _new(self, key: Key, flat: Tensor) -> Tensor | None:
        """Memory for a product that is to be kept; a GPU makes them faster than it could read them."""
        if key not in self._wanted or flat.device.type != "cpu":
            return None
        try:
            return torch.empty(flat.shape, dtype=torch.float32)
        except RuntimeError:  # there is none after all
            return None
