"""Which shapes a file may speak of."""

from __future__ import annotations

from math import prod
from typing import cast

DIMENSION_LIMIT = 32
SIZE_LIMIT = 2**63


def sides(value: object) -> tuple[int, ...] | None:
    """The items of a list of non-negative integers, or None when it is anything else."""
    if not isinstance(value, list):
        return None
    items = cast("list[object]", value)
    numbers = tuple(item for item in items if type(item) is int and item >= 0)
    return numbers if len(numbers) == len(items) else None


def is_possible(shape: tuple[int, ...]) -> bool:
    """Whether a tensor may have this shape. Sides of 0 don't make the others harmless: strides are made of them."""
    # Sides are looked at one by one first: the product of many long ones takes the machine for hours.
    if len(shape) > DIMENSION_LIMIT or any(side >= SIZE_LIMIT for side in shape):
        return False
    return prod(side for side in shape if side) < SIZE_LIMIT
