"""Events for programs: one JSON object a line on stdout, the last of them `end`."""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from .. import signals
from ..errors import InternalError, OutputError, SdeditError, as_error, first_line
from ..signals import Stop

SCHEMA = "sdedit.event/1"
# A pipe that has room takes so many bytes at once, and never a part of them.
_AT_ONCE = getattr(select, "PIPE_BUF", 512)
_PATIENCE = 1000  # milliseconds


class ReaderGone(Exception):
    """The program that read our stdout has closed it."""


@contextmanager
def claimed_stdout() -> Generator[BinaryIO, None, None]:
    """The real stdout for our own bytes alone; whatever else prints meanwhile goes to stderr."""
    if sys.__stdout__ is None:  # so it is when started with it closed
        raise OutputError("stdout is closed; it is wanted for --json or -o -")
    sys.stdout.flush()
    own = os.dup(sys.stdout.fileno())
    os.dup2(_others_go_to(), sys.stdout.fileno())
    try:
        # Unbuffered: what a full disk or a closed pipe refused must not be tried again on closing.
        with os.fdopen(own, "wb", buffering=0, closefd=False) as stream:
            yield stream
    finally:
        os.dup2(own, sys.stdout.fileno())
        os.close(own)


def _others_go_to() -> int:
    try:
        return sys.stderr.fileno()
    except (AttributeError, ValueError, OSError):
        return os.open(os.devnull, os.O_WRONLY)


def write_all(stream: BinaryIO, data: bytes) -> None:
    """Writes all of `data` to our stdout. Raises ReaderGone when it is closed, OutputError when it is full.

    A signal ends the waiting for a reader who does not read, wherever else signals wait.
    """
    rest = memoryview(data)
    try:
        while rest:
            _wait_for_room(stream)
            rest = rest[stream.write(rest[:_AT_ONCE]) or 0 :]
    except BrokenPipeError:
        raise ReaderGone from None
    except OSError as problem:
        raise OutputError(f"stdout: cannot be written ({problem.strerror})") from None


def _wait_for_room(stream: BinaryIO) -> None:
    """Returns when a write to the stream would not block. Raises Stop for a signal meanwhile."""
    try:
        handle = stream.fileno()
    except (OSError, ValueError):
        return  # in memory
    if not hasattr(select, "poll"):  # Windows has it for sockets alone
        return
    poll = select.poll()
    poll.register(handle, select.POLLOUT)
    # Who is to go waits a little for a reader that is slow, and not for one that does not read.
    if poll.poll(0) or (signals.came() and poll.poll(_PATIENCE)):
        return
    with signals.released():
        poll.poll()


class Events:
    """Writes events to a stream; without one, drops them. `saved`, `skipped` and `failed` are counted either way."""

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self.stream = stream
        self.counts = {"saved": 0, "skipped": 0, "failed": 0}
        self.planned = 0

    def emit(self, event: str, **facts: Any) -> None:
        """Writes one event at once. Raises ReaderGone when nobody reads any more."""
        if event in self.counts:
            self.counts[event] += 1
        self.planned += event == "plan"
        if self.stream is None:
            return
        line = json.dumps({"schema": SCHEMA, "event": event, **facts}, default=str)
        data = line.encode("ascii") + b"\n"
        # Signals wait for the end of the line, but where a reader does not read: that one ends the waiting, no other.
        with signals.held():
            stream, self.stream = self.stream, None
            try:
                write_all(stream, data)
            except Stop:
                # A line that may be there in part is followed by no other.
                self.stream = stream if len(data) <= _AT_ONCE else None
                raise
            self.stream = stream

    def failed(self, source: str, problem: SdeditError, output: str = "") -> None:
        """Tells what spoke against an input, or against one `output` of it."""
        facts = {"output": output} if output else {}
        self.emit("failed", input=source, **facts, error=str(problem), word=problem.word, exit_code=problem.exit_code)

    def end(self, error: SdeditError | None = None, told: str = "") -> None:
        """The last event of a run, with what ended it, in the words `told` where they are others."""
        facts: dict[str, Any] = {"ok": error is None, **self.counts, "exit_code": error.exit_code if error else 0}
        why = {"error": first_line(told or error), "word": error.word} if error else {}
        self.emit("end", **facts, **why)


@contextmanager
def ended(events: Events) -> Generator[None, None, None]:
    """Emits `end` whichever way the block is left, and raises the error that it tells of, `reported`.

    A signal becomes Interrupted or Terminated.
    """
    try:
        yield
        signals.settle()
    except ReaderGone:
        raise
    except (Stop, Exception) as problem:
        signals.settle()
        kept = events.counts["saved"]
        more = f"; {kept} finished {'picture is' if kept == 1 else 'pictures are'} kept" if kept else ""
        error = problem if isinstance(problem, Stop) else as_error(problem)
        if isinstance(error, InternalError):
            error = signals.came() or error  # what was interrupted made another exception of it
        error = error.as_error(more) if isinstance(error, Stop) else error
        _tell_end(events, error)
        error.reported = True
        if error is problem:
            raise
        raise error from problem
    _tell_end(events)


def _tell_end(events: Events, error: SdeditError | None = None) -> None:
    # Whoever does not read it while a signal asks us to go has only the exit code.
    with suppress(Stop):
        events.end(error)
