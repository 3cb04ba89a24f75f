"""Events for programs: one JSON object a line on stdout, the last of them `end`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, BinaryIO

from ..errors import OutputError, as_error
from ..signals import Stop

SCHEMA = "sdedit.event/1"


class ReaderGone(Exception):
    """The program that read our stdout has closed it."""


@contextmanager
def claimed_stdout() -> Generator[BinaryIO, None, None]:
    """The real stdout for our own bytes alone; whatever else prints meanwhile goes to stderr."""
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]  (so it is when started with it closed)
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
    """Writes all of `data` to our stdout. Raises ReaderGone when it is closed, OutputError when it is full."""
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[stream.write(rest) or 0 :]
    except BrokenPipeError:
        raise ReaderGone from None
    except OSError as problem:
        raise OutputError(f"stdout: cannot be written ({problem.strerror})") from None


class Events:
    """Writes events to a stream; without one, drops them. `saved`, `skipped` and `failed` are counted either way."""

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self.stream = stream
        self.counts = {"saved": 0, "skipped": 0, "failed": 0}

    def emit(self, event: str, **facts: Any) -> None:
        """Writes one event at once. Raises ReaderGone when nobody reads any more."""
        if event in self.counts:
            self.counts[event] += 1
        if self.stream is None:
            return
        line = json.dumps({"schema": SCHEMA, "event": event, **facts}, default=str)
        try:
            write_all(self.stream, line.encode("ascii") + b"\n")
        except (ReaderGone, OutputError):
            self.stream = None
            raise

    def end(self, exit_code: int, error: str = "") -> None:
        """The last event of a run."""
        facts: dict[str, Any] = {"ok": exit_code == 0, **self.counts, "exit_code": exit_code}
        self.emit("end", **facts, **({"error": error} if error else {}))


@contextmanager
def ended(events: Events) -> Generator[None, None, None]:
    """Emits `end` whichever way the block is left, and raises the error that it tells of, `reported`.

    A signal becomes Interrupted or Terminated.
    """
    try:
        yield
    except ReaderGone:
        raise
    except (Stop, Exception) as problem:
        kept = events.counts["saved"]
        more = f"; {kept} finished {'picture is' if kept == 1 else 'pictures are'} kept" if kept else ""
        error = problem.as_error(more) if isinstance(problem, Stop) else as_error(problem)
        events.end(error.exit_code, str(error).split("\n")[0])
        error.reported = True
        if error is problem:
            raise
        raise error from problem
    events.end(0)
