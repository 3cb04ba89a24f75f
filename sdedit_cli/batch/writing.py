"""Finished pictures written by a thread, one after the other, while the next ones are made; told by who made them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Queue
from typing import Generic, TypeVar

from .. import signals

T = TypeVar("T")
R = TypeVar("R")

_PAUSE = 0.002  # seconds between two looks at whether the next one is written


class Writing(Generic[T, R]):
    """`write` is called with each thing in a thread; `told` hears of it and of the outcome where it was given.

    At most so many wait to be written. A signal loses nothing: what was given is written, and told by `close`. Where
    the system allows no thread, things are written when they are given.
    """

    def __init__(self, write: Callable[[T], R], told: Callable[[T, R | BaseException], None], most: int) -> None:
        self._write = write
        self._told = told
        self._most = most
        self._to_do: Queue[T | None] = Queue()
        self._done: deque[tuple[T, R | BaseException]] = deque()
        self._thread: threading.Thread | None = None
        self.pending = 0
        """How many were given and are not told yet."""

    def give(self, thing: T) -> None:
        """Has a thing written; waits where too many do."""
        with signals.held():
            self.pending += 1
            if self._has_thread():
                self._to_do.put(thing)
            else:
                self._do(thing)
        while self.pending > self._most:
            self._tell_next()

    def collect(self) -> None:
        """Tells of what is written by now."""
        while self._done:
            self._tell_next()

    def drain(self) -> None:
        """Waits until all is written, and tells of it."""
        while self.pending:
            self._tell_next()

    def close(self) -> None:
        """As `drain`, whatever is raised meanwhile; the first of that at the end. The thread ends."""
        problems: list[BaseException] = []
        while self.pending:
            try:
                self._tell_next()
            except BaseException as problem:
                problems.append(problem)
        if self._thread is not None:
            self._to_do.put(None)
            self._thread.join()
            self._thread = None
        if problems:
            raise problems[0]

    def _has_thread(self) -> bool:
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="writing")
            self._thread = thread if signals.began(thread) else None
        return self._thread is not None

    def _tell_next(self) -> None:
        while not self._done:
            time.sleep(_PAUSE)
        with signals.held():
            thing, outcome = self._done.popleft()
            self.pending -= 1
            self._told(thing, outcome)

    def _work(self) -> None:
        while (thing := self._to_do.get()) is not None:
            self._do(thing)
            del thing  # nothing of a picture is kept while the next one is waited for

    def _do(self, thing: T) -> None:
        try:
            outcome: R | BaseException = self._write(thing)
        except BaseException as problem:  # it concerns who gave the thing
            outcome = problem
        self._done.append((thing, outcome))
