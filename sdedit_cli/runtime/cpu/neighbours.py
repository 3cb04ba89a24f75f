"""Threads that wait for work leave the cores to other programs while those compute.

GNU's OpenMP lets a waiting thread look for work some milliseconds before it sleeps, but next to not at all while a
program has more threads than there are cores. So a few more, which sleep, are what tells all of them. Which of them
computes what stays as it is, and with it every bit of a result.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
from collections.abc import Callable
from functools import cache

import torch

from ...waiting import SHARE, Others, can_be_told, is_said, usable

OFTEN = 0.25
"""Seconds between two looks: of what others took in less, the system's count is too coarse."""
PATIENCE = 120.0
"""Seconds after which work that nobody has told of again is over: more than a step takes."""
_MOST = 4
"""Teams that a crowd has; a program on so small a part of the cores that more were needed is in nobody's way."""
_GRAIN = 2**15
"""Elements for which torch takes one thread more."""


class Crowd:
    """More threads than cores, which sleep until `leave`: teams of OpenMP's, each of a thread that has computed."""

    def __init__(self) -> None:
        threads = torch.get_num_threads()
        missing = len(usable()) - threads + 1
        # The first of a team is not counted; a single thread, as it may be by now, waits for nobody.
        teams = -(-missing // (threads - 1)) if threads > 1 else 0
        self._may_leave = threading.Event()
        self._members: list[threading.Thread] = []
        try:
            for _ in range(teams if teams <= _MOST else 0):
                member = threading.Thread(target=self._stay, args=[threads], name="crowd", daemon=True)
                member.start()
                self._members.append(member)
        except RuntimeError:  # no more threads
            self.leave()
            raise

    def leave(self) -> None:
        self._may_leave.set()
        for member in self._members:
            member.join()

    def _stay(self, threads: int) -> None:
        torch.ones(2 * _GRAIN * threads).add_(1)
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
        self._is_over = threading.Event()

    def mind(self) -> None:
        """To be called before work that takes a while."""
        with self._lock:
            self._minded = time.monotonic()
            if self._watcher is not None or is_said() or torch.get_num_threads() == 1 or not _can_be_told():
                return
            watcher = threading.Thread(target=self._watch, name="neighbours", daemon=True)
            with contextlib.suppress(RuntimeError):  # no more threads: work goes on without
                watcher.start()
                self._watcher = watcher

    def end(self) -> None:
        """No look and no thread more from now on."""
        with self._lock:
            self._is_over.set()
            watcher = self._watcher
        if watcher is not None:
            watcher.join()

    def _watch(self) -> None:
        crowd = None
        try:
            others = self._make()
            while not self._is_over.wait(self._often):
                share = others.share()
                if share is not None and share >= SHARE:
                    crowd = crowd or Crowd()
                elif share is not None and crowd is not None:
                    crowd.leave()
                    crowd = None
                if not self._goes_on():
                    break
        except RuntimeError:
            return  # no more threads
        finally:
            if crowd is not None:
                crowd.leave()
            with self._lock:
                if self._watcher is threading.current_thread():
                    self._watcher = None

    def _goes_on(self) -> bool:
        with self._lock:
            if time.monotonic() - self._minded < self._patience:
                return True
            self._watcher = None
            return False


_can_be_told = cache(can_be_told)

NEIGHBOURS = Neighbours()
"""Those of this program: all of its networks compute on the same threads."""
# A thread that comes back from torch while the interpreter ends would end the process by a signal.
atexit.register(NEIGHBOURS.end)
