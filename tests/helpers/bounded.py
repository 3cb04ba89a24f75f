"""Bounds on what one case may cost: time of the processor and address space, taken back behind it."""

from __future__ import annotations

import resource
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

LONGEST = 5.0  # seconds of this process's own work: how busy the machine is does not count


class TooLong(BaseException):
    """A case took longer than allowed. No `except Exception` keeps it."""


@contextmanager
def in_time(seconds: float = LONGEST) -> Generator[None, None, None]:
    """Raises TooLong when what is within it works for longer."""

    def ring(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def in_memory(more: int) -> Generator[None, None, None]:
    """Within it the process gets no more than `more` bytes beyond what it has: a MemoryError for what asks for them."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
