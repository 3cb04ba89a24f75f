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

from ...waiting import SHARE, Others, is_said

OFTEN = 0.25
"""Seconds between two looks: of what others took in less, the system's count is too coarse."""
PATIENCE = 10.0
"""Seconds after which work that nobody has told of again is over, or one long step."""
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
    """Looks now and then whether others compute, while this program does."""

    def __init__(
        self, make: Callable[[], Others] = Others, *, often: float = OFTEN, patience: float = PATIENCE
    ) -> None:
        self._make, self._often, self._patience = make, often, patience
        self._minded = 0.0
        self._watcher: threading.Thread | None = None
        self._lock = threading.Lock()

    def mind(self) -> None:
        """To be called before work that takes a while."""
        self._minded = time.monotonic()
        if self._watcher is not None or is_said() or torch.get_num_threads() == 1:
            return
        with self._lock:
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="neighbours", daemon=True)
                self._watcher.start()

    def _watch(self) -> None:
        others, crowd = self._make(), None
        while self._goes_on():
            time.sleep(self._often)
            share = others.share()
            if share is None:
                continue
            if share >= SHARE:
                crowd = crowd or Crowd()
            elif crowd is not None:
                crowd = crowd.leave()
        if crowd is not None:
            crowd.leave()

    def _goes_on(self) -> bool:
        with self._lock:
            if time.monotonic() - self._minded < self._patience:
                return True
            self._watcher = None
            return False


NEIGHBOURS = Neighbours()
"""Those of this program: all of its networks compute on the same threads."""
