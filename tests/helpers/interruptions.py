"""Ctrl-C at a chosen line of our code, and once more while that is dealt with; counted, so that nothing waits."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

PARTS = ("/library/", "/adapters/", "/engine/merging", "/engine/embeddings")


class Interruption:
    """KeyboardInterrupt at the `at`-th line in files of `PARTS`, and at the `again`-th call after it (0: no more).

    `hits` counts those that came. A tool for tracing is let go of when it raises, so each of the two has its own.
    """

    def __init__(self, at: int, again: int = 0) -> None:
        self._at, self._again, self.hits = at, again, 0

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        name = frame.f_code.co_filename
        is_ours = "sdedit_cli" in name and any(part in name for part in PARTS)
        return self._line if event == "call" and is_ours else None

    def _line(self, _frame: FrameType, event: str, _: Any) -> Any:
        self._at -= event == "line"
        if self._at == 0:
            self.hits += 1
            if self._again:
                sys.setprofile(self._profile)
            raise KeyboardInterrupt
        return self._line

    def _profile(self, frame: FrameType, _event: str, _: Any) -> None:
        if "sdedit_cli" in frame.f_code.co_filename:
            self._again -= 1
            if self._again == 0:
                self.hits += 1
                raise KeyboardInterrupt

    @contextmanager
    def watching(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            yield
        finally:
            sys.settrace(before)
            sys.setprofile(None)
