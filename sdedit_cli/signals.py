"""Ctrl-C and SIGTERM end a run cleanly: files in the making are finished, and the exit code says what happened."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from .errors import Interrupted, SdeditError, Terminated


class Stop(KeyboardInterrupt):
    """A signal asked this process to end. Derives from KeyboardInterrupt so that no `except Exception` keeps it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    def as_error(self, more: str = "") -> SdeditError:
        """The error whose exit code the shell expects; `more` ends its message."""
        return Interrupted("interrupted" + more) if self.number == signal.SIGINT else Terminated("terminated" + more)


_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def _is_ignored(number: int) -> bool:
    """As `nohup` has it of SIGHUP."""
    return number not in (signal.SIGINT, signal.SIGTERM) and signal.getsignal(number) == signal.SIG_IGN


class _State:
    depth = 0
    pending = 0


_state = _State()


@contextmanager
def stoppable() -> Generator[None, None, None]:
    """Within it, SIGINT and SIGTERM raise Stop in the main thread, and so does a terminal that is closed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _on_signal) for number in _ENDING if not _is_ignored(number)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _state.pending = 0


@contextmanager
def held() -> Generator[None, None, None]:
    """Within it signals wait; the first that came raises Stop at its end. Other threads than the main one, which alone
    gets signals, hold nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _state.depth += 1
    try:
        yield
    finally:
        _state.depth -= 1
    check()


def check() -> None:
    """Raises Stop when a signal came and its exception was lost, as in a destructor or a foreign callback."""
    if _state.pending and not _state.depth:
        raise Stop(_state.pending)


def _on_signal(number: int, frame: FrameType | None) -> None:
    _state.pending = number
    if not _state.depth:
        raise Stop(number)
