"""How much stands out where tiles or the edges of a texture meet, beside what is within a picture.

A step across a line is the mean of |difference| of the pixels on both sides of it. The measure of the seams at some
lines is the mean of their steps; within a picture every other line has one.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

PERCENTILE = 98


def steps(pixels: np.ndarray, axis: int) -> np.ndarray:
    """The step before each column (axis 1) or row (axis 0); before the first one, that from the other edge."""
    values = np.asarray(pixels, dtype=np.float64)
    gaps = np.abs(values - np.roll(values, 1, axis=axis))
    return gaps.mean(axis=tuple(k for k in range(gaps.ndim) if k != axis))


def seam(pixels: np.ndarray, axis: int, lines: Collection[int]) -> tuple[float, float]:
    """The mean step at `lines`, and the 98th percentile of those elsewhere within the picture.

    Line 0 is where the edges meet.
    """
    all_steps = steps(pixels, axis)
    inside = [step for line, step in enumerate(all_steps) if line and line not in lines]
    return float(all_steps[list(lines)].mean()), float(np.percentile(inside, PERCENTILE))


def borders(starts: Collection[int], side: int, length: int) -> list[int]:
    """The lines within a picture where tiles begin or end."""
    ends = {start % length for start in starts} | {(start + side) % length for start in starts}
    return sorted(ends - {0})
