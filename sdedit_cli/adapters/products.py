"""Changes that are products of two factors: made for a block of a weight's rows after the other, or kept as a whole.

With a product that is kept, another strength is a sum alone: at a rank of 128 the products take longer than all else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Set
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


def _takes_longer_to_make(adapter: Adapter, module: Module) -> bool:
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
    """The changes at strength 1 of adapters that stay at work, by adapter and module; `keep` names those to be kept.

    One that is kept has the bits that would be computed anew: what a weight becomes says nothing of what it was before.
    """

    def __init__(self) -> None:
        self._kept: dict[Key, Tensor] = {}
        self._wanted: frozenset[Key] = frozenset()
        self._strengths: Mapping[Key, tuple[float, ...]] = {}  # the last few of those at work

    def __reduce__(self) -> tuple[Any, ...]:  # copies, and what is pickled, begin without any
        return Products, ()

    @property
    def kept(self) -> Set[Key]:
        return self._kept.keys()

    def worth_keeping(self, at_work: Mapping[Key, float]) -> set[Key]:
        """Those of the adapters with these strengths that are not kept, and are likely to be needed again: to say how
        strong an adapter is after it is loaded, or for one call, is not taken for more."""
        before = {key: self._strengths.get(key, ()) for key in at_work}
        changed = {key for key, strength in at_work.items() if before[key][-1:] != (strength,)}
        self._strengths = before | {key: (*before[key][-2:], at_work[key]) for key in changed}
        again = {key for key in changed if len(before[key]) + (at_work[key] not in before[key]) > 2}
        return {key for key in again - self.kept if _takes_longer_to_make(*key)}

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
