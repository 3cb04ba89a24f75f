"""What makes networks quick on a CPU: pictures with their channels last, weights as its kernels want them, sums that
take no memory of their own."""

from __future__ import annotations

from typing import Any

from ...nn.base import Model
from . import in_place, packed
from .attention import attention, is_faster
from .packed import NEVER
from .wide import widens

__all__ = ["NEVER", "attention", "is_faster", "put_into", "take_out", "widens"]


def put_into(network: Model[Any], patience: int | None = 0) -> None:
    """Has a network compute as is best here, while it wants no gradients; `patience`: calls that it is not worth much
    preparing for, None for all."""
    if patience is None:
        packed.take_out(network)
    else:
        packed.put_into(network, patience)
    in_place.put_into(network.ops)


def take_out(network: Model[Any]) -> None:
    """Has its layers compute plainly again, as anything that traces them needs."""
    packed.take_out(network)
    in_place.take_out(network.ops)
