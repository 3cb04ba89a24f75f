"""What the library says for the curious, by Python's logging, shown to people who asked for more."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager

from ..signals import held
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
    handler, level = None, _LOG.level
    try:
        # logging closes every handler at the end of the process; one that a signal left half made raises there.
        with held():
            handler = _Shown(to)
            _LOG.addHandler(handler)
            _LOG.setLevel(logging.INFO)
        yield
    finally:
        with held():
            if handler is not None:
                _LOG.removeHandler(handler)
            _LOG.setLevel(level)
