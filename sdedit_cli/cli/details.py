"""What the library says for the curious, by Python's logging, shown to people who asked for more."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager

from .render import Reporter

_LOG = logging.getLogger("sdedit")


class _Shown(logging.Handler):
    def __init__(self, to: Reporter) -> None:
        super().__init__()
        self._to = to

    def emit(self, record: logging.LogRecord) -> None:
        self._to.detail(record.getMessage())


@contextmanager
def showing_details(to: Reporter) -> Generator[None, None, None]:
    """Within it, details go to `to`, which knows whether they are wanted."""
    handler, level = _Shown(to), _LOG.level
    _LOG.addHandler(handler)
    _LOG.setLevel(logging.INFO)
    try:
        yield
    finally:
        _LOG.removeHandler(handler)
        _LOG.setLevel(level)
