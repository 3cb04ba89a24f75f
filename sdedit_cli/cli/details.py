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
    level = _LOG.level
    try:
        # logging keeps a list of handlers for the end of the process: half of one there would end it with a traceback.
        with held():
            _LOG.addHandler(_Shown(to))
            _LOG.setLevel(logging.INFO)
        yield
    finally:
        with held():
            for shown in [one for one in _LOG.handlers if isinstance(one, _Shown)]:
                _LOG.removeHandler(shown)
            _LOG.setLevel(level)
