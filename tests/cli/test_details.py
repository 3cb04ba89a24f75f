"""Details for the curious: what shows them leaves nothing broken behind, whenever a signal comes."""

from __future__ import annotations

import logging
import signal
import sys
from types import FrameType
from typing import Any

import pytest

from sdedit_cli.cli.details import showing_details
from sdedit_cli.cli.render import Reporter
from sdedit_cli.signals import Stop, stoppable


def interrupted_at(line: int) -> Stop | None:
    """Shows details, and is interrupted at that line of Python's logging; None where it has fewer."""
    met = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal met
        # What is called as an object dies loses its exceptions; the command line raises those again. Clearing the cache
        # comes by lines for every logger of the process.
        names = {one.f_code.co_name for one in (frame, frame.f_back) if one is not None}
        if frame.f_code.co_filename != logging.__file__ or names & {"_removeHandlerRef", "_clear_cache"}:
            return None
        if event == "line":
            met += 1
            if met == line:
                signal.raise_signal(signal.SIGINT)
        return trace

    before = sys.gettrace()
    try:
        with stoppable(), showing_details_under(trace):
            pass
    except Stop as stop:
        return stop
    finally:
        sys.settrace(before)
    return None


def showing_details_under(trace: Any) -> Any:
    sys.settrace(trace)
    return showing_details(Reporter(0))


def test_a_signal_leaves_no_handler_half_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python closes every handler at the end of a process: half of one made that end in a traceback."""
    made: list[Any] = []
    monkeypatch.setattr(logging, "_handlerList", made)  # as of a process of its own
    tried = 0
    while stop := interrupted_at(tried + 1):  # whose frames hold what was in the making, as to the end of a process
        tried += 1
        assert all(hasattr(one(), "lock") for one in made if one() is not None), (tried, stop)
        assert not logging.getLogger("sdedit").handlers, tried
    assert tried > 10
