"""What threads do while they wait for work, which the library under torch reads once, when torch is imported.

To wake a thread that sleeps takes as long as a small operation; one that looks for work again and again takes the core
of whoever wants it. So they look for a moment where nobody else computes, and sleep at once elsewhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping
from pathlib import Path

WAIT_VARIABLE, LOOKS_VARIABLE = "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"
LOOKS = 3000
"""Looks for work before a thread sleeps, of some ten nanoseconds each."""
_SHARE = 8
"""One other program that computes, for so many cores, is a neighbour that counts."""
_STATE = Path("/proc/stat")


def others(state: Path = _STATE) -> int | None:
    """How many other threads of the machine compute or could at this moment; None where the system does not tell.

    Sandboxes that count nobody leave out even the one that asks.
    """
    try:
        found = re.search(r"^procs_running (\d+)$", state.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) - 1 if found and int(found[1]) else None


def settle_among_others(variables: MutableMapping[str, str] = os.environ) -> None:
    """As `settle`, for one of several processes that compute on a machine, which may have what their starter found."""
    if variables.get(LOOKS_VARIABLE) == str(LOOKS):
        del variables[LOOKS_VARIABLE]
    settle([], variables)


def settle(seen: list[int | None], variables: MutableMapping[str, str] = os.environ) -> None:
    """Says in the environment what waiting threads do, unless the user has; `seen`: `others`, at some moments."""
    if WAIT_VARIABLE not in variables and LOOKS_VARIABLE not in variables and _alone(seen):
        variables[LOOKS_VARIABLE] = str(LOOKS)
    variables.setdefault(WAIT_VARIABLE, "passive")


def _alone(seen: list[int | None]) -> bool:
    known = [count for count in seen if count is not None]
    # The fewest: one moment in which something ended or began is no neighbour.
    return bool(known) and min(known) * _SHARE < _cores()


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
