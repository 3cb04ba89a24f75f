"""Ctrl-C and SIGTERM end a run cleanly: files in the making are finished, and the exit code says what happened.

A command line is in one of three states. At work, a signal raises Stop. While a file gets its name (`held`) signals
wait. Once the outcome is settled (`settle`: it is about to be told, or the last file is in place) they change nothing
any more, so that what was told, what is on the disk, and the exit code agree.
"""

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
_ALARM: signal.Signals | None = getattr(signal, "SIGALRM", None)  # Windows has none
_SOON = 0.02  # seconds


def _is_ignored(number: int) -> bool:
    """As `nohup` has it of SIGHUP."""
    return number not in (signal.SIGINT, signal.SIGTERM) and signal.getsignal(number) == signal.SIG_IGN


def began(thread: threading.Thread) -> bool:
    """Starts a thread; False where the system allows no more of them, or has no memory for one."""
    try:
        thread.start()
    except RuntimeError:
        return False
    return True


class _State:
    active = False
    depth = 0
    pending = 0
    raised = False
    settled = False
    open_ended = False  # within `released`


_state = _State()


@contextmanager
def stoppable() -> Generator[None, None, None]:
    """Within it, SIGINT and SIGTERM raise Stop in the main thread, and so does a terminal that is closed."""
    if _state.active or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _ENDING if not _is_ignored(number)}
    try:
        _catch()
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if _ALARM is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(_ALARM, signal.SIG_DFL)
        _state.active = _state.settled = _state.raised = False
        _state.pending = 0


@contextmanager
def caught() -> Generator[None, None, None]:
    """As `stoppable`, but to the end of the process: what is around it must expect Stop too."""
    _catch()
    yield


def _catch() -> None:
    _state.active = True
    for number in _ENDING:
        if not _is_ignored(number):
            signal.signal(number, _on_signal)
    if _ALARM is not None:
        signal.signal(_ALARM, _on_alarm)


def ignore() -> None:
    """Signals do nothing from now on, not even while Python shuts down, when handlers of its own are gone already."""
    for number in [*_ENDING, *([] if _ALARM is None else [_ALARM])]:
        signal.signal(number, signal.SIG_IGN)


def settle() -> None:
    """The outcome is decided: signals raise nothing any more. Outside of `stoppable` this does nothing."""
    _state.settled = _state.active


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


@contextmanager
def released() -> Generator[None, None, None]:
    """Within it, and even within `held` or after `settle`, a signal raises Stop, one that came before too: for waiting
    on others, such as a reader who may never read."""
    if not _state.active or threading.current_thread() is not threading.main_thread():
        yield
        return
    _state.open_ended = True
    try:
        if _state.pending:
            raise Stop(_state.pending)
        yield
    finally:
        _state.open_ended = False


def check() -> None:
    """Raises Stop when a signal came and its exception was lost, as in a destructor or a foreign callback."""
    if _state.pending and not _state.depth and not _state.settled:
        _state.raised = True
        raise Stop(_state.pending)


def came() -> Stop | None:
    """The signal that came, whether or not its exception was lost or turned into another one."""
    return Stop(_state.pending) if _state.pending else None


def lost() -> None:
    """Says that a Stop was raised where Python drops exceptions, as in a destructor: it comes again."""
    _state.raised = False
    _come_again()


def _on_signal(number: int, frame: FrameType | None) -> None:
    _state.pending = _state.pending or number
    if _state.open_ended:
        raise Stop(_state.pending)
    _deliver(frame)


def _on_alarm(number: int, frame: FrameType | None) -> None:
    if _state.pending and not _state.raised:
        _deliver(frame)


def _deliver(frame: FrameType | None) -> None:
    if _state.depth or _state.settled:
        return
    if _imports(frame):
        _come_again()
        return
    # The first ends the work, the second what is tidied up after it; more would only end the telling.
    _state.settled = _state.raised
    _state.raised = True
    raise Stop(_state.pending)


def _imports(frame: FrameType | None) -> bool:
    """Whether a module is being imported: compiled ones end the process when an exception comes from outside."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _come_again() -> None:
    if _ALARM is not None and _state.active:
        signal.setitimer(signal.ITIMER_REAL, _SOON)
