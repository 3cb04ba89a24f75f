"""Events for programs: one JSON object a line on stdout, the last of them `end`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, BinaryIO

SCHEMA = "sdedit.event/1"


class ReaderGone(Exception):
    """The program that read our stdout has closed it."""


@contextmanager
def claimed_stdout() -> Generator[BinaryIO, None, None]:
    """The real stdout for our own bytes alone; whatever else prints meanwhile goes to stderr."""
    sys.stdout.flush()
    own = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        with os.fdopen(own, "wb", closefd=False) as stream:
            yield stream
    except BrokenPipeError:
        raise ReaderGone from None
    finally:
        os.dup2(own, sys.stdout.fileno())
        os.close(own)


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
            self.stream.write(line.encode("ascii") + b"\n")
            self.stream.flush()
        except (BrokenPipeError, ValueError):
            self.stream = None
            raise ReaderGone from None

    def end(self, exit_code: int, error: str = "") -> None:
        """The last event of a run."""
        facts: dict[str, Any] = {"ok": exit_code == 0, **self.counts, "exit_code": exit_code}
        self.emit("end", **facts, **({"error": error} if error else {}))
