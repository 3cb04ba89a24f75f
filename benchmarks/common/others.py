"""What other programs took of the cores meanwhile: numbers of a machine that is not idle are to be doubted."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Processes of ours that still run: those that ended are in the system's account of this one.
alive: set[int] = set()
CALM, LOOK = 0.15, 0.5


@dataclass
class Patience:
    """Seconds that a run may still wait for other programs to leave the cores alone."""

    left: float = 0.0

    def wait(self) -> None:
        """Until they take less than CALM of the cores for LOOK seconds, or there is no patience left."""
        while self.left > 0:
            share = watched()
            time.sleep(LOOK)
            self.left -= LOOK
            if (share() or 0.0) < CALM:
                return


patience = Patience()


def watched() -> Callable[[], float | None]:
    """Call what it returns for the share of all cores that others had since then; None where it cannot be told."""
    began, before = time.monotonic(), _others()

    def share() -> float | None:
        after, seconds = _others(), time.monotonic() - began
        if before is None or after is None:
            return None
        return min(1.0, max(0.0, (after - before) / max(seconds, 1e-9) / (os.cpu_count() or 1)))

    return share


def _others() -> float | None:
    """Seconds of CPU of everything that is not ours, since the machine started."""
    try:
        fields = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:]
        mine = sum(_seconds(pid) for pid in alive)
    except (OSError, IndexError):
        return None
    tick = os.sysconf("SC_CLK_TCK")
    user, nice, system, _idle, _wait, interrupts, soft = map(int, fields[:7])
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        used = resource.getrusage(who)
        mine += used.ru_utime + used.ru_stime
    return (user + nice + system + interrupts + soft) / tick - mine


def _seconds(pid: int) -> float:
    """Of a process of ours and its children that ended."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, after_name[11:15])) / os.sysconf("SC_CLK_TCK")
