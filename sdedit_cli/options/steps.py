"""The arithmetic of steps: of which schedule a strength runs how many."""

from __future__ import annotations

import math
from itertools import pairwise

from ..errors import UsageError

MAX_STEPS = 1000
BEYOND = 1_000_000


def check_length(steps: int, strength: float, total: int, run: int) -> None:
    """Raises UsageError for a schedule of `total` steps that is too long, or of which no step is run."""
    if total > MAX_STEPS:
        raise UsageError(_too_long(steps, strength, total))
    if run == 0:
        raise UsageError(
            f"strength {strength:g} of {total} steps runs no step at all; "
            f"the smallest strength that works is {smallest_strength(total):g}, or take more steps"
        )


def _too_long(steps: int, strength: float, total: int) -> str:
    """The words for a schedule of `total` steps, which is over the limit, and what to take instead."""
    need = f"{total} and more" if total == BEYOND else f"{total}"
    least, fewer = math.ceil(steps / MAX_STEPS * 1000) / 1000, int(MAX_STEPS * strength)
    instead = f", or at most {fewer} steps" if fewer else ""
    return (
        f"exact-steps: {steps} steps at strength {strength:g} need a schedule of {need}, over the limit of "
        f"{MAX_STEPS}; take a strength of at least {least:g}{instead}"
    )


def check_falling(key: str, values: tuple[float, ...]) -> None:
    """Raises UsageError, naming the option `key`, unless each value is below the one before."""
    for earlier, later in pairwise(values):
        if later >= earlier:
            raise UsageError(f"{key} must fall from one to the next, and {earlier:.15g} is followed by {later:.15g}")


def schedule_for(steps: int, strength: float) -> int:
    """The shortest schedule of which `strength` runs `steps` steps; BEYOND for every one that is longer than that."""
    if steps > strength * BEYOND:
        return BEYOND
    total = max(1, int(steps / strength) - 2)
    while int(total * strength) < steps:
        total += 1
    return total


def smallest_strength(total: int) -> float:
    """The smallest strength of at most four digits that runs one of `total` steps."""
    whole = 10 ** (len(str(total - 1)) + 3)
    return -(-whole // total) / whole
