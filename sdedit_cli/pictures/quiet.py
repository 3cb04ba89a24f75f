"""Warnings of other people's readers left out in the thread that reads, and in no other.

`warnings.catch_warnings` is of the whole process: two threads that leave it out of turn would leave it for good.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager


class _Here(threading.local):
    depth = 0


_here = _Here()


class _InThisThread(type):
    """The type of a category that every warning belongs to, in threads that are quiet."""

    def __subclasscheck__(cls, subclass: type) -> bool:
        return _here.depth > 0


class _Any(Warning, metaclass=_InThisThread):
    pass


@contextmanager
def quiet() -> Generator[None, None, None]:
    """Within it, this thread's warnings are ignored."""
    warnings.simplefilter("ignore", _Any)
    _here.depth += 1
    try:
        yield
    finally:
        _here.depth -= 1
