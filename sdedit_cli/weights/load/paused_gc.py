"""Loads without Python's collector of cycles: a load makes some 100,000 objects that all stay, and the collector would
look through them, and through all of torch, again and again (a third of the time that a mapped file takes)."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def paused_collector() -> Generator[None, None, None]:
    """Collects no cycles inside, in any thread. Also a decorator."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
