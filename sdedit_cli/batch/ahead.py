"""Things got ready by a thread before their turn comes: a few at a time, in their order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, Full, Queue
from typing import Generic, TypeVar

from ..signals import began

T = TypeVar("T")
R = TypeVar("R")

_PAUSE = 0.2  # seconds between two looks at whether anybody still wants it


class Ahead(Generic[T, R]):
    """What `make` gives for each of some things, or the exception that it raised, at most so many ahead.

    One thing alone is made when it is asked for, and so is everything where the system allows no thread.
    """

    def __init__(self, things: Sequence[T], make: Callable[[T], R], most: int) -> None:
        self._things = things
        self._make = make
        self._ended = threading.Event()
        self._made: Queue[R | Exception] = Queue(most)
        # A thread that reads a pipe without a writer can be waited for by nobody.
        self._thread = threading.Thread(target=self._work, daemon=True, name="ahead")
        self._has_thread = len(things) > 1 and began(self._thread)

    def __iter__(self) -> Iterator[tuple[T, R | Exception]]:
        for thing in self._things:
            yield thing, self._next() if self._has_thread else self._outcome(thing)

    def close(self) -> None:
        """No more is made."""
        self._ended.set()

    def _next(self) -> R | Exception:
        while True:
            try:
                return self._made.get(timeout=_PAUSE)
            except Empty:
                assert self._thread.is_alive() or not self._made.empty(), "a thread that makes everything"

    def _work(self) -> None:
        for thing in self._things:
            outcome = self._outcome(thing)
            while not self._ended.is_set():
                try:
                    self._made.put(outcome, timeout=_PAUSE)
                    break
                except Full:
                    continue
            if self._ended.is_set():
                return

    def _outcome(self, thing: T) -> R | Exception:
        try:
            return self._make(thing)
        except Exception as problem:
            return problem
