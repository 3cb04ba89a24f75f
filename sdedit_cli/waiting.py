"""What threads do while they wait for work, and who else computes.

To wake a thread that sleeps takes as long as a small operation; one that looks for work takes the core of whoever wants
it. GNU's OpenMP, which torch brings along for Linux, can be told on the way which of both is wanted
(`runtime.cpu.neighbours`). Any other reads the environment when torch is imported, and nothing later.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, MutableMapping
from importlib.util import find_spec
from pathlib import Path

WAIT_VARIABLE, LOOKS_VARIABLE = "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"
SHARE = 1 / 8
"""Of the cores: others that take as much are neighbours who count."""
_STATE = Path("/proc/stat")
_TAKEN = (0, 1, 2, 5, 6)
"""Columns of a core's time: user, nice, system, interrupts of both kinds."""


class Others:
    """What other programs took of the cores that this one may use; nothing of it where the system does not tell."""

    def __init__(self, state: Path = _STATE) -> None:
        self._state = state
        self._before = self._now()

    def share(self) -> float | None:
        """The share of the cores that they took since the last call, the first time since this object was made."""
        before, self._before = self._before, self._now()
        if before is None or self._before is None:
            return None
        seconds, taken, mine = (now - then for now, then in zip(self._before, before, strict=True))
        return max(0.0, taken - mine) / max(seconds, 1e-9) / len(usable())

    def are_told(self) -> bool:
        return self._before is not None

    def _now(self) -> tuple[float, float, float] | None:
        """The time, the seconds of the cores that were taken since the system began, and those that this one took."""
        names = {f"cpu{number}" for number in usable()}
        try:
            lines = [line.split() for line in self._state.read_text(encoding="utf-8").splitlines()]
            taken = sum(
                int(words[1 + column]) for words in lines if words[:1] and words[0] in names for column in _TAKEN
            )
        except (OSError, ValueError, IndexError):
            return None
        # Some sandboxes have the file and count nobody in it.
        return (time.monotonic(), taken / os.sysconf("SC_CLK_TCK"), time.process_time()) if taken else None


def usable() -> set[int]:
    """The numbers of the cores that this program may use; where that is not told, of all."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def is_said(variables: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment says what waiting threads do."""
    return bool(variables.get(WAIT_VARIABLE) or variables.get(LOOKS_VARIABLE))


def can_be_told() -> bool:
    """Whether threads can be told on the way: others are counted here, and torch brings GNU's OpenMP, as its own
    releases for Linux do. Torch is not imported for that."""
    found = find_spec("torch")
    places = [Path(place) for place in (found and found.submodule_search_locations) or ()]
    folders = [folder for place in places for folder in (place / "lib", place.parent / "torch.libs")]
    return Others().are_told() and any(any(folder.glob("libgomp*")) for folder in folders)


def settle(variables: MutableMapping[str, str] = os.environ) -> None:
    """Has waiting threads sleep where nobody could tell them to on the way, unless the user has said what they do."""
    if not can_be_told():
        have_them_sleep(variables)


def have_them_sleep(variables: MutableMapping[str, str] = os.environ) -> None:
    """Has waiting threads sleep, unless the user has said what they do: one of several processes that compute."""
    if not is_said(variables):
        variables[WAIT_VARIABLE] = "passive"
