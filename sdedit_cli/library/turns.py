"""A pipeline in several threads, and in a forked process: each asks in turn, and gets what it would get alone.

A call keeps what it is about in the pipeline (guidance, strengths of adapters), and weights are the same for all who
use them: so one method is at work at a time, and others wait. Properties never wait; `interrupt` is for other threads.
"""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar
from weakref import WeakSet

from ..runtime import threads

T = TypeVar("T", bound=type)


class Turn:
    """Whose turn it is. A copy, what comes out of a pickle, and a forked process begin with nobody's."""

    def __init__(self) -> None:
        self._renew()
        _turns.add(self)

    def _renew(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __deepcopy__(self, memo: Any) -> Turn:
        return Turn()

    def __reduce__(self) -> tuple[type[Turn], tuple[()]]:
        return Turn, ()


_turns: WeakSet[Turn] = WeakSet()


def in_turn(cls: T) -> T:
    """The class, each public method of which waits for the instance's `_turn`, a Turn."""
    for name in dir(cls):
        method = inspect.getattr_static(cls, name)
        if inspect.isfunction(method) and (not name.startswith("_") or name == "__call__"):
            setattr(cls, name, _waiting(method))
    return cls


def _waiting(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def waits(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self._turn:
            return method(self, *args, **kwargs)

    return waits


def _in_child() -> None:
    """The threads of the parent are not there any more: neither those that held a turn, nor those that computed with
    it, for whom OpenMP would wait for ever."""
    for turn in _turns:
        turn._renew()  # pyright: ignore[reportPrivateUsage]
    threads.use(1)


if hasattr(os, "register_at_fork"):  # Windows has none
    os.register_at_fork(after_in_child=_in_child)
