"""What threads do while they wait for work, and who else computes.

To wake a thread that sleeps takes as long as a small operation; one that looks for work takes the core of whoever wants
it. GNU's OpenMP, which torch brings along for Linux, can be told on the way which of both is wanted
(`runtime.cpu.neighbours`). What others do is settled by the environment, when torch is imported.
"""

from __future__ import annotations

import os
import time
from collections.abc import MutableMapping
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
        return max(0.0, taken - mine) / max(seconds, 1e-9) / _cores()

    def _now(self) -> tuple[float, float, float] | None:
        """The time, the seconds of the cores that were taken since the system began, and those that this one took."""
        try:
            lines = [line.split() for line in self._state.read_text(encoding="utf-8").splitlines()]
        except OSError:
            return None
        usable = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        taken = sum(int(words[1 + column]) for words in lines if words[:1] and words[0] in usable for column in _TAKEN)
        # Some sandboxes have the file and count nobody in it.
        return (time.monotonic(), taken / os.sysconf("SC_CLK_TCK"), time.process_time()) if taken else None

    def are_told(self) -> bool:
        return self._before is not None


def is_said(variables: MutableMapping[str, str] = os.environ) -> bool:
    """Whether the environment says what waiting threads do."""
    return WAIT_VARIABLE in variables or LOOKS_VARIABLE in variables


def settle(variables: MutableMapping[str, str] = os.environ) -> None:
    """Has waiting threads sleep where nobody could tell them to on the way, unless the user has said what they do."""
    if not is_said(variables) and not (Others().are_told() and _listens()):
        settle_among_others(variables)


def settle_among_others(variables: MutableMapping[str, str] = os.environ) -> None:
    """Has them sleep, for one of several processes that compute on a machine."""
    variables.setdefault(WAIT_VARIABLE, "passive")


def _listens() -> bool:
    """Whether torch brings GNU's OpenMP, as its own releases for Linux do; it is not imported for that."""
    found = find_spec("torch")
    return any(any(Path(place, "lib").glob("libgomp*")) for place in (found and found.submodule_search_locations) or ())


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
