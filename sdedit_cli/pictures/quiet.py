"""What other people's readers say beside their errors left out: of the run, it is we who tell people.

Warnings are left out in the thread that reads, and in no other: `warnings.catch_warnings` is of the whole process, and
two threads that leave it out of turn would leave it for good.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any


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


@cache
def silence_log() -> None:
    """Has Pillow's log go where the program that we are in sends it, and to stderr only then."""
    logging.getLogger("PIL").addHandler(logging.NullHandler())


@cache
def silence_libtiff() -> None:
    """Has libtiff write no lines of its own to stderr, from now on and in the whole process: what it gives up on is
    raised by Pillow all the same. Where it is not to be reached (on Windows) it goes on writing."""
    import ctypes

    from PIL import Image

    with suppress(OSError, AttributeError):
        core: Any = Image.core
        library = ctypes.CDLL(core.__file__)
        library.TIFFSetErrorHandler.argtypes = (ctypes.c_void_p,)
        library.TIFFSetErrorHandler.restype = ctypes.c_void_p
        library.TIFFSetErrorHandler(None)
