"""Threads that wait for work leave the cores to other programs while those compute.

GNU's OpenMP lets a waiting thread look for work some milliseconds before it sleeps, but next to not at all while a
program has more threads than there are cores. So one thread more, which sleeps, is what tells all of them. Which of
them computes what stays as it is, and with it every bit of a result.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import torch

from ...waiting import OTHERS, SHARE, Others, is_said

OFTEN = 0.25
"""Seconds between two looks: of what others took in less, the system's count is too coarse."""
_ENOUGH = 2**20
"""Elements of an operation that is cut for all threads."""


class Crowd:
    """A thread that has had an operation of its own computed, by threads of its own, and sleeps until `leave`."""

    def __init__(self) -> None:
        self._may_leave = threading.Event()
        self._thread = threading.Thread(target=self._stay, name="crowd", daemon=True)
        self._thread.start()

    def leave(self) -> None:
        self._may_leave.set()
        self._thread.join()

    def _stay(self) -> None:
        torch.ones(_ENOUGH).add_(1)
        self._may_leave.wait()


class Neighbours:
    """Looks now and then whether others compute."""

    def __init__(self, others: Others = OTHERS, clock: Callable[[], float] = time.monotonic) -> None:
        self._others, self._clock = others, clock
        self._next = clock()
        self._crowd: Crowd | None = None
        self._lock = threading.Lock()

    def mind(self) -> None:
        """To be called before work that takes a while; costs nothing where the last look is no OFTEN ago."""
        with self._lock:
            if (now := self._clock()) < self._next:
                return
            self._next = now + OFTEN
            share = self._others.share()
            if share is not None and not is_said() and torch.get_num_threads() > 1:
                self._settle(share >= SHARE)

    def _settle(self, crowded: bool) -> None:
        if crowded and self._crowd is None:
            self._crowd = Crowd()
        elif not crowded and self._crowd is not None:
            self._crowd.leave()
            self._crowd = None


NEIGHBOURS = Neighbours()
"""Those of this program: all of its networks compute on the same threads."""
