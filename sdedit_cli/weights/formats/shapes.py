"""Which shapes a file may speak of."""

from __future__ import annotations

from math import prod

DIMENSION_LIMIT = 32
SIZE_LIMIT = 2**63


def is_possible(shape: tuple[int, ...]) -> bool:
    """Whether a tensor may have this shape. Sides of 0 don't make the others harmless: strides are made of them."""
    # Sides are looked at one by one first: the product of many long ones takes the machine for hours.
    if len(shape) > DIMENSION_LIMIT or any(side >= SIZE_LIMIT for side in shape):
        return False
    return prod(side for side in shape if side) < SIZE_LIMIT
